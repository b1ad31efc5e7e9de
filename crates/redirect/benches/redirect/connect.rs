//! What the rules cost each new TCP connection.
//!
//! Everything is on the loopback interface of one namespace and on one thread, which sends and receives in the same breath, so
//! that little but the kernel's work for a connection is in its processor time: dial 127.0.0.2, which rules redirect as they do
//! any address but 127.0.0.1, accept, reset. Time in which the thread had to wait for a processor is not counted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use netns::NetNs;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Uid, setfsuid};
use redirect::Backend;
use socket2::{Domain, Socket, Type};

use crate::bed::{self, BACKENDS, OUTBOUND, PROXY};
use measure::{Report, Samples};

/// So many blocks, and as many ports.
const COUNTS: [u16; 3] = [0, 10, 1000];
/// Connections of one turn.
const CONNECTIONS: u32 = 250;
/// A user that no rule is about.
const APP: u32 = 1000;
/// Where the dials go.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 80);

/// A namespace with its listeners.
struct Pod {
    namespace: NetNs,
    direct: TcpListener,
    outbound: TcpListener,
    times: [Samples; 2],
}

impl Pod {
    fn build() -> Self {
        let namespace = bed::namespace();
        bed::command(&namespace, &["ip", "link", "set", "lo", "up"]);
        let listen = |address| {
            let listener = namespace.tcp_listen(address).expect("listen");
            listener.set_nonblocking(false).expect("a plain listener");
            listener
        };
        let direct = listen(PEER);
        let outbound = listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), OUTBOUND));
        Self { namespace, direct, outbound, times: Default::default() }
    }

    /// Connects again and again as a user, and says how much processor time a connection takes.
    fn turn(&self, uid: u32, to: &TcpListener) -> Duration {
        let took = self.namespace.run(|| {
            // the owner of a socket is the filesystem user of the thread that makes it
            setfsuid(Uid::from_raw(uid));
            let start = used();
            for _ in 0..CONNECTIONS {
                connect(to);
            }
            used() - start
        });
        took.expect("enter the namespace") / CONNECTIONS
    }
}

/// Processor time of the calling thread.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has one").into()
}

/// Both ends reset, so that no port is waited for.
fn connect(listener: &TcpListener) {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    client.set_linger(Some(Duration::ZERO)).expect("linger");
    client.connect(&PEER.into()).expect("connect");
    let (server, _) = listener.accept().expect("it has arrived where it should");
    drop(client);
    drop(server);
}

/// Every backend with every number of exclusions, and a namespace without rules, take turns.
pub(crate) fn measure(report: &mut Report, rounds: usize) {
    let mut pods: Vec<(Option<(Backend, u16)>, Pod)> = vec![(None, Pod::build())];
    let mut refused = Vec::new();
    for count in COUNTS {
        for backend in BACKENDS {
            let pod = Pod::build();
            match bed::install(&pod.namespace, backend, &bed::excluding(count)) {
                Ok(_) => pods.push((Some((backend, count)), pod)),
                Err(error) => refused.push(format!("{backend} with {count}: {error}")),
            }
        }
    }
    for round in 0..=rounds {
        for (rules, pod) in &mut pods {
            let redirected = if rules.is_some() { &pod.outbound } else { &pod.direct };
            let (app, proxy) = (pod.turn(APP, redirected), pod.turn(PROXY, &pod.direct));
            if round > 0 {
                pod.times[0].push(app);
                pod.times[1].push(proxy);
            }
        }
    }
    report.section(&format!("TCP connections over loopback, {rounds} turns of {CONNECTIONS}: processor time of each"));
    refused.iter().for_each(|text| report.note(&format!("refused: {text}")));
    let told = |rules: &Option<(Backend, u16)>| match rules {
        None => "no rules".to_owned(),
        Some((backend, count)) => format!("{backend}, {count} + {count}"),
    };
    let kinds = ["application, redirected", "proxy, direct"];
    for (kind, index) in kinds.iter().zip(0..) {
        for (rules, pod) in &pods {
            report.times(&format!("{}: {kind}", told(rules)), &pod.times[index]);
        }
    }
    for (kind, index) in kinds.iter().zip(0..) {
        let (_, plain) = &pods[0];
        for (rules, pod) in &pods[1..] {
            let text = format!("{}: {kind}: as many per second", told(rules));
            report.ratio(&text, &plain.times[index], &pod.times[index], None);
        }
    }
}
