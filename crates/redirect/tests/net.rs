//! Rules against the kernel: what is installed, what it does to real connections, and what it leaves alone.
//!
//! Every test makes network namespaces of its own: a "pod", and where packets matter a "neighbour" behind a veth pair.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns::NetNs;
use nix::unistd::{Uid, setfsuid};
use redirect::kernel::{apply_with, remove_with, verify_with};
use redirect::rules::{Family, Ruleset, normalise};
use redirect::{Backend, Config, Hook, Packet, Policy, Protocol, Verdict};
use rstest::rstest;

const NFT: (Backend, &str) = (Backend::IptablesNft, "nft");
const LEGACY: (Backend, &str) = (Backend::IptablesLegacy, "legacy");

/// Generous: only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

const POD: &str = "10.9.0.1";
const NEIGHBOUR: &str = "10.9.0.2";
const APP_UID: u32 = 1000;

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

fn config() -> Config {
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

fn with_dns(dual_stack: bool) -> Config {
    let server = if dual_stack { "::1" } else { "127.0.0.1" };
    Config { consul_dns_ip: server.into(), consul_dns_port: 8600, ..config() }
}

fn policy(config: &Config, dual_stack: bool) -> Policy {
    Policy::from_config(config, dual_stack).expect("a valid configuration")
}

/// Runs a shell script in the namespace and returns what it printed.
fn sh(namespace: &NetNs, script: &str) -> String {
    let output = namespace
        .run(|| Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output())
        .expect("enter the namespace")
        .expect("start sh");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All rules of a family, without the comments that carry the time and without packet counts.
fn dump(namespace: &NetNs, variant: &str, family: Family) -> String {
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

fn in_force(namespace: &NetNs, backend: Backend, policy: &Policy) {
    namespace.run(|| apply_with(backend, policy)).expect("enter").expect("apply");
}

#[rstest]
fn the_kernel_holds_exactly_what_the_policy_demands(
    #[values(NFT, LEGACY)] (backend, variant): (Backend, &str),
    #[values(false, true)] dual_stack: bool,
    #[values(false, true)] dns: bool,
) {
    let namespace = NetNs::create().expect("namespace");
    let policy = policy(&if dns { with_dns(dual_stack) } else { config() }, dual_stack);
    let rules = Ruleset::of(&policy);
    in_force(&namespace, backend, &policy);
    for family in [Family::V4, Family::V6] {
        let first = dump(&namespace, variant, family);
        assert_eq!(normalise(&first), rules.expected(family), "{family}");
    }
    let drift = namespace.run(|| verify_with(backend, &policy)).expect("enter").expect("verify");
    assert_eq!(drift, []);
}

#[rstest]
fn applying_twice_is_applying_once(#[values(NFT, LEGACY)] (backend, variant): (Backend, &str)) {
    let namespace = NetNs::create().expect("namespace");
    let policy = policy(&with_dns(true), true);
    let dumps = [1, 2].map(|_| {
        in_force(&namespace, backend, &policy);
        [Family::V4, Family::V6].map(|family| dump(&namespace, variant, family))
    });
    assert_eq!(dumps[0], dumps[1]);
}

#[rstest]
fn the_rendered_script_alone_brings_the_same_rules(#[values("nft", "legacy")] variant: &str) {
    let namespace = NetNs::create().expect("namespace");
    let rules = Ruleset::of(&policy(&with_dns(false), false));
    let script = rules.restore_script(Family::V4);
    sh(&namespace, &format!("iptables-{variant}-restore --noflush <<'END'\n{script}END"));
    assert_eq!(normalise(&dump(&namespace, variant, Family::V4)), rules.expected(Family::V4));
}

/// What a run of Consul's own commands that stopped half way, and an older configuration of ours, may leave.
const LEFTOVER: &str = "\
iptables-VARIANT -t nat -A OUTPUT -p tcp --dport 1 -j RETURN
for c in CONSUL_PROXY_INBOUND CONSUL_PROXY_IN_REDIRECT CONSUL_PROXY_OUTPUT CONSUL_PROXY_REDIRECT; do
  iptables-VARIANT -t nat -N $c
done
iptables-VARIANT -t nat -A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-port 9999
iptables-VARIANT -t nat -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
iptables-VARIANT -t nat -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
iptables-VARIANT -t nat -A CONSUL_PROXY_OUTPUT -m owner --uid-owner 77 -j RETURN
iptables-VARIANT -t nat -A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT
iptables-VARIANT -t nat -A OUTPUT -p tcp --dport 2 -j RETURN
iptables-VARIANT -t nat -N FOREIGN
iptables-VARIANT -t nat -A FOREIGN -p udp -j RETURN
iptables-VARIANT -t nat -A PREROUTING -p udp -j FOREIGN
iptables-VARIANT -A OUTPUT -p tcp --dport 25 -j DROP
";

#[rstest]
fn leftovers_converge_and_foreign_rules_stay(#[values(NFT, LEGACY)] (backend, variant): (Backend, &str)) {
    let namespace = NetNs::create().expect("namespace");
    let policy = policy(&with_dns(false), false);
    sh(&namespace, &LEFTOVER.replace("VARIANT", variant));
    let foreign =
        |text: &str| text.lines().filter(|line| !line.contains("CONSUL_")).map(str::to_owned).collect::<Vec<_>>();
    let before = foreign(&dump(&namespace, variant, Family::V4));

    let drift = namespace.run(|| verify_with(backend, &policy)).expect("enter").expect("verify");
    let told: Vec<String> = drift.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|d| d == "IPv4: missing -N CONSUL_DNS_REDIRECT"), "{told:#?}");
    assert!(told.iter().any(|d| d == "IPv4: extra -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT"), "{told:#?}");

    in_force(&namespace, backend, &policy);
    let after = dump(&namespace, variant, Family::V4);
    assert_eq!(normalise(&after), Ruleset::of(&policy).expected(Family::V4));
    assert_eq!(foreign(&after), before);

    namespace.run(|| remove_with(backend, &[Family::V4])).expect("enter").expect("remove");
    assert_eq!(foreign(&dump(&namespace, variant, Family::V4)).join("\n"), before.join("\n"));
    assert_eq!(normalise(&dump(&namespace, variant, Family::V4)), Vec::<String>::new());
}

#[rstest]
fn many_at_once_in_one_namespace_are_one(#[values(NFT, LEGACY)] (backend, variant): (Backend, &str)) {
    let namespace = NetNs::create().expect("namespace");
    let policy = policy(&with_dns(false), false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| in_force(&namespace, backend, &policy));
        }
    });
    assert_eq!(normalise(&dump(&namespace, variant, Family::V4)), Ruleset::of(&policy).expected(Family::V4));
}

/// iptables-nft sends a transaction as one message, whose size an unprivileged user namespace cannot raise.
#[rstest]
fn a_large_policy_goes_in_whole(
    #[values((NFT, 400), (LEGACY, 2000))] ((backend, variant), count): ((Backend, &str), u32),
) {
    let namespace = NetNs::create().expect("namespace");
    let ports = (1..=count).map(|port: u32| port.to_string()).collect();
    let policy = policy(&Config { exclude_outbound_ports: ports, ..config() }, false);
    in_force(&namespace, backend, &policy);
    let found = sh(&namespace, &format!("iptables-{variant}-save -t nat"));
    assert_eq!(normalise(&found), Ruleset::of(&policy).expected(Family::V4));
}

#[test]
fn a_table_that_iptables_cannot_read_is_left_alone() {
    let namespace = NetNs::create().expect("namespace");
    sh(
        &namespace,
        "nft 'add table ip nat; add set ip nat s { type ipv4_addr; }; add chain ip nat own; \
         add rule ip nat own ip daddr @s tcp dport 80 redirect to 9'",
    );
    let before = sh(&namespace, "nft list ruleset");
    let policy = policy(&config(), false);
    let error = namespace.run(|| apply_with(Backend::IptablesNft, &policy)).expect("enter").expect_err("refused");
    assert!(error.to_string().contains("nft list table ip nat"), "{error}");
    assert_eq!(sh(&namespace, "nft list ruleset"), before);
}

/// A pod and its neighbour, and servers that say who they are. `Auto` rules for `config` are in force in the pod.
struct Street {
    pod: NetNs,
    neighbour: NetNs,
    policy: Policy,
}

impl Street {
    fn build(config: &Config, backend: Backend) -> Self {
        let (pod, neighbour) = (NetNs::create().expect("pod"), NetNs::create().expect("neighbour"));
        let street = neighbour.proc_path();
        sh(
            &pod,
            &format!(
                "ip link set lo up
                 ip link add eth0 type veth peer name street netns {street}
                 ip addr add {POD}/24 dev eth0; ip addr add fd00:9::1/64 dev eth0 nodad
                 ip link set eth0 up
                 ip route add default via {NEIGHBOUR}; ip route add default via fd00:9::2",
                street = street.display()
            ),
        );
        sh(
            &neighbour,
            &format!(
                "ip link set lo up
                 ip addr add {NEIGHBOUR}/24 dev street; ip addr add fd00:9::2/64 dev street nodad
                 for a in 3.3.3.3 3.3.4.3 10.2.3.4 10.2.3.5 198.51.100.10 240.0.0.1; do ip addr add $a/32 dev lo; done
                 for a in fd00:3::3 fd00:4::3; do ip addr add $a/128 dev lo nodad; done
                 ip link set street up"
            ),
        );
        for (port, name) in [(15001, "outbound"), (20000, "inbound"), (80, "pod"), (9090, "pod"), (9091, "pod")] {
            serve(&pod, port, name);
        }
        for port in [80, 8200, 8201, 8443] {
            serve(&neighbour, port, "neighbour");
        }
        let policy = policy(config, true);
        in_force(&pod, backend, &policy);
        Self { pod, neighbour, policy }
    }

    /// Who answers a TCP connection, and who the policy says should.
    fn compare(&self, packet: Packet, direct: &str) {
        let (namespace, uid) = match packet.hook {
            Hook::Output => (&self.pod, packet.uid.expect("a process has a user")),
            Hook::Prerouting => (&self.neighbour, 0),
        };
        let expected = match self.policy.verdict(&packet) {
            Verdict::Accept => direct,
            Verdict::RedirectTo(15001) => "outbound",
            Verdict::RedirectTo(20000) => "inbound",
            other => panic!("{packet:?} cannot become {other:?} here"),
        };
        let peer = SocketAddr::new(packet.destination, packet.destination_port);
        let rules = || dump(&self.pod, "nft", packet.family());
        assert_eq!(ask(namespace, peer, uid), expected, "{packet:?}\n{}", rules());
    }
}

/// A server on every address of the namespace that tells each client its name.
fn serve(namespace: &NetNs, port: u16, name: &'static str) {
    let listener = namespace.tcp_listen(SocketAddr::new("::".parse().expect("literal"), port)).expect("listen");
    listener.set_nonblocking(false).expect("a thread of its own may block");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // a client that is gone already learns nothing
            let _ = (&client).write_all(name.as_bytes());
        }
    });
}

/// Connects as a user and returns who answered. The owner of a socket is the filesystem user of the thread that made it.
fn ask(namespace: &NetNs, peer: SocketAddr, uid: u32) -> String {
    let answer = namespace.run(|| {
        setfsuid(Uid::from_raw(uid));
        let mut stream = TcpStream::connect_timeout(&peer, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut name = String::new();
        stream.read_to_string(&mut name).map(|_| name)
    });
    answer.expect("enter").unwrap_or_else(|error| format!("connect to {peer} as {uid}: {error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

#[rstest]
fn connections_go_where_the_verdict_says(#[values(NFT, LEGACY)] (backend, _): (Backend, &str)) {
    let street = Street::build(&config(), backend);
    let out = |to: &str, port: u16, uid: u32, direct: &str| {
        street.compare(Packet::tcp_out(ip(to), port, uid), direct);
    };
    // captured: a service address, an external one, the pod's own, another loopback one
    for to in ["240.0.0.1", "198.51.100.10", POD, "127.0.0.2", "fd00:4::3", "fd00:9::1"] {
        out(to, 80, APP_UID, "never direct");
    }
    // each exclusion, and its neighbour
    for (to, port, uid, direct) in [
        ("198.51.100.10", 8200, APP_UID, "neighbour"),
        ("198.51.100.10", 8201, APP_UID, "never direct"),
        ("198.51.100.10", 8443, APP_UID, "neighbour"),
        ("3.3.3.3", 80, APP_UID, "neighbour"),
        ("3.3.4.3", 80, APP_UID, "never direct"),
        ("10.2.3.4", 80, APP_UID, "neighbour"),
        ("10.2.3.5", 80, APP_UID, "never direct"),
        ("fd00:3::3", 80, APP_UID, "neighbour"),
        ("fd00:9::2", 8443, APP_UID, "neighbour"),
        ("198.51.100.10", 80, 1234, "neighbour"),
        ("198.51.100.10", 80, 1235, "never direct"),
        ("198.51.100.10", 80, 5995, "neighbour"),
        ("fd00:4::3", 80, 5995, "neighbour"),
        ("198.51.100.10", 80, 0, "never direct"),
        ("127.0.0.1", 80, APP_UID, "pod"),
        ("::1", 80, APP_UID, "pod"),
    ] {
        out(to, port, uid, direct);
    }
    let inward = |from: &str, to: &str, port: u16| {
        street.compare(Packet::tcp_in(ip(from), ip(to), port), "pod");
    };
    for (from, to) in [(NEIGHBOUR, POD), ("fd00:9::2", "fd00:9::1")] {
        for port in [80, 9090, 9091, 20000] {
            inward(from, to, port);
        }
    }
}

#[rstest]
fn only_queries_to_the_resolver_address_reach_the_mesh_dns(
    #[values(NFT, LEGACY)] (backend, _): (Backend, &str),
    #[values(APP_UID, 5995, 1234)] uid: u32,
) {
    let pod = NetNs::create().expect("namespace");
    sh(&pod, "ip link set lo up");
    let policy = policy(&with_dns(false), false);
    in_force(&pod, backend, &policy);
    let dns = pod.udp_bind("127.0.0.1:8600".parse().expect("literal")).expect("dns");
    let other = pod.udp_bind("127.0.0.2:53".parse().expect("literal")).expect("other resolver");
    for socket in [&dns, &other] {
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    }
    for (to, receiver) in [("127.0.0.1", &dns), ("127.0.0.2", &other)] {
        let packet = Packet { protocol: Protocol::Udp, ..Packet::tcp_out(ip(to), 53, uid) };
        let expected = match policy.verdict(&packet) {
            Verdict::DnsTo(server) => server,
            _ => SocketAddr::new(ip(to), 53),
        };
        assert_eq!(receiver.local_addr().expect("bound"), expected);
        pod.run(|| {
            setfsuid(Uid::from_raw(uid));
            let client = UdpSocket::bind("127.0.0.1:0")?;
            client.send_to(to.as_bytes(), (to, 53))
        })
        .expect("enter")
        .expect("send");
        let mut buffer = [0; 64];
        let (length, _) = receiver.recv_from(&mut buffer).expect("the query arrives");
        assert_eq!(&buffer[..length], to.as_bytes());
    }
}
