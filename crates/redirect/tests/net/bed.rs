//! Network namespaces for tests: a "pod", and where packets matter a "neighbour" behind a veth pair.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns::NetNs;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use redirect::kernel::{Line, apply_with, verify_with};
use redirect::rules::{Family, normalise};
use redirect::{Applied, Backend, Config, Policy};
use socket2::{Domain, Protocol, Socket, Type};

/// The three that do something.
pub(crate) const BACKENDS: [Backend; 3] = [Backend::Nftables, Backend::IptablesNft, Backend::IptablesLegacy];
/// Generous: only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
pub(crate) const POD: &str = "10.9.0.1";
pub(crate) const NEIGHBOUR: &str = "10.9.0.2";
pub(crate) const APP_UID: u32 = 1000;

/// Calls again when a signal has cut the call short: of a socket with a time-out, the kernel does not go on by itself (signal(7)).
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

pub(crate) fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

pub(crate) fn config() -> Config {
    Config {
        proxy_user_id: "5995".into(),
        proxy_inbound_port: 20000,
        proxy_outbound_port: 15001,
        exclude_inbound_ports: list(&["9090", "20300"]),
        exclude_outbound_ports: list(&["8200", "8443"]),
        exclude_outbound_cidrs: list(&["3.3.3.0/24", "fd00:3::/32", "10.2.3.4"]),
        exclude_uids: list(&["5996", "1234"]),
        ..Config::default()
    }
}

pub(crate) fn with_dns(dual_stack: bool) -> Config {
    let server = if dual_stack { "::1" } else { "127.0.0.1" };
    Config { consul_dns_ip: server.into(), consul_dns_port: 8600, ..config() }
}

pub(crate) fn policy(config: &Config, dual_stack: bool) -> Policy {
    Policy::from_config(config, dual_stack).expect("a valid configuration")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

/// Runs a shell script in the namespace and returns what it printed.
pub(crate) fn sh(namespace: &NetNs, script: &str) -> String {
    let output = namespace
        .run(|| Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output())
        .expect("enter the namespace")
        .expect("start sh");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Infix of the programs of an iptables backend.
pub(crate) fn infix(backend: Backend) -> &'static str {
    if backend == Backend::IptablesLegacy { "legacy" } else { "nft" }
}

/// All rules of a family, without the comments that carry the time and without packet counts.
pub(crate) fn dump(namespace: &NetNs, variant: &str, family: Family) -> String {
    let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
    let text = sh(namespace, &format!("{program}-{variant}-save"));
    let mut kept = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let counts = if line.starts_with(':') { line.find(" [") } else { None };
        kept.push_str(&line[..counts.unwrap_or(line.len())]);
        kept.push('\n');
    }
    kept
}

/// What a namespace holds of ours, by any backend, as lines: what the library says, which other programs must confirm.
pub(crate) fn held(namespace: &NetNs) -> Vec<String> {
    let held: Vec<Line> = namespace.run(redirect::kernel::held).expect("enter").expect("readable");
    for family in Family::BOTH {
        let mut seen = Vec::new();
        for variant in ["nft", "legacy"] {
            seen.extend(normalise(&dump(namespace, variant, family)));
        }
        let told: Vec<&str> =
            held.iter().filter(|line| line.place == family.into()).map(|line| line.text.as_str()).collect();
        assert_eq!(told, seen, "what the library reads is what iptables-save prints");
    }
    held.iter().map(Line::to_string).collect()
}

/// What a namespace holds of ours when a backend has put a policy in force, and nothing else.
pub(crate) fn expected(backend: Backend, policy: &Policy) -> Vec<String> {
    redirect::kernel::demanded(backend, policy).iter().map(Line::to_string).collect()
}

pub(crate) fn in_force(namespace: &NetNs, backend: Backend, policy: &Policy) -> Applied {
    namespace.run(|| apply_with(backend, policy)).expect("enter").expect("apply")
}

/// The differences that a backend sees, as text.
pub(crate) fn drift(namespace: &NetNs, backend: Backend, policy: &Policy) -> Vec<String> {
    let verified = namespace.run(|| verify_with(backend, policy)).expect("enter").expect("verify");
    verified.drift.iter().map(ToString::to_string).collect()
}

/// A pod and its neighbour, joined, with addresses of both families and routes to each other.
pub(crate) fn street() -> (NetNs, NetNs) {
    let (pod, neighbour) = (NetNs::create().expect("pod"), NetNs::create().expect("neighbour"));
    for namespace in [&pod, &neighbour] {
        // who sends from an address of another link asks for its neighbour by its link-local one, which would not be ready yet
        sh(namespace, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    }
    sh(
        &pod,
        &format!(
            "ip link set lo up
             ip link add eth0 type veth peer name street netns {street}
             ip addr add {POD}/24 dev eth0; ip addr add fd00:9::1/64 dev eth0 nodad
             ip link set eth0 up
             ip route add default via {NEIGHBOUR}; ip route add default via fd00:9::2",
            street = neighbour.proc_path().display()
        ),
    );
    sh(
        &neighbour,
        &format!(
            "ip link set lo up
             ip addr add {NEIGHBOUR}/24 dev street; ip addr add fd00:9::2/64 dev street nodad
             ip link set street up"
        ),
    );
    (pod, neighbour)
}

/// A server on every address of the namespace that tells each client its name.
pub(crate) fn serve(namespace: &NetNs, port: u16, name: &'static str) {
    let listener = namespace.tcp_listen(SocketAddr::new(ip("::"), port)).expect("listen");
    listener.set_nonblocking(false).expect("a thread of its own may block");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // a client that is gone already learns nothing
            let _ = (&client).write_all(name.as_bytes());
        }
    });
}

/// Connects as a user and group and returns who answered. The owner of a socket is the filesystem user of the thread that made
/// it.
pub(crate) fn ask(namespace: &NetNs, peer: SocketAddr, uid: u32, gid: u32) -> String {
    ask_from(namespace, unspecified_like(peer), peer, uid, gid)
}

/// [`ask`] from an address of the namespace; the unspecified one leaves the choice to the kernel.
pub(crate) fn ask_from(namespace: &NetNs, source: IpAddr, peer: SocketAddr, uid: u32, gid: u32) -> String {
    let answer = namespace.run(|| {
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
        dial_from(source, peer)
    });
    answer.expect("enter")
}

/// Connects from where the thread is and returns who answered, or what became of it.
pub(crate) fn dial(peer: SocketAddr) -> String {
    dial_from(unspecified_like(peer), peer)
}

fn unspecified_like(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A connection from an address of the thread's namespace.
pub(crate) fn connected(source: IpAddr, peer: SocketAddr, deadline: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&peer.into(), deadline)?;
    Ok(socket.into())
}

fn dial_from(source: IpAddr, peer: SocketAddr) -> String {
    let answer = connected(source, peer, DEADLINE).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut name = String::new();
        stream.read_to_string(&mut name).map(|_| name)
    });
    answer.unwrap_or_else(|error| format!("{:?}", error.kind()))
}
