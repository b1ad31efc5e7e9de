//! Two Pods joined by a link, with the rules of a mesh in them, recorded at every interface.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use capture::{Host, Place, ProxyPorts, Recorder, Tap, Vantage};
use netns::NetNs;

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(crate) const CLIENT_NAME: &str = "default/client";
pub(crate) const SERVER_NAME: &str = "default/server";
pub(crate) const PORTS: ProxyPorts = ProxyPorts { outbound: 15001, inbound: 20000, dns: 8600 };
/// Mark of the proxy's own connections, where a real one has a user of its own.
pub(crate) const PROXY_MARK: u32 = 77;

const CLIENT_RULES: &str = "*nat\n\
    -A OUTPUT -d 127.0.0.1 -p udp --dport 53 -j REDIRECT --to-ports 8600\n\
    -A OUTPUT -m mark --mark 77 -j RETURN\n\
    -A OUTPUT -d 127.0.0.1 -j RETURN\n\
    -A OUTPUT -p tcp --dport 8200 -j RETURN\n\
    -A OUTPUT -p tcp -j REDIRECT --to-ports 15001\n\
    COMMIT\n";
const SERVER_RULES: &str = "*nat\n\
    -A PREROUTING -i lo -j RETURN\n\
    -A PREROUTING -p tcp --dport 8200 -j RETURN\n\
    -A PREROUTING -p tcp -j REDIRECT --to-ports 20000\n\
    COMMIT\n";

/// The two Pods.
pub(crate) struct Pods {
    pub(crate) client: NetNs,
    pub(crate) server: NetNs,
    pub(crate) recorder: Recorder,
    pub(crate) taps: Vec<Tap>,
    _files: tempfile::TempDir,
}

impl Pods {
    pub(crate) async fn new() -> Self {
        Self::recorded(|recorder| recorder).await
    }

    pub(crate) async fn with_buffer(bytes: usize) -> Self {
        Self::recorded(|recorder| recorder.with_buffer(bytes)).await
    }

    async fn recorded(set: impl FnOnce(Recorder) -> Recorder) -> Self {
        let (client, server) = (NetNs::create().expect("run as root"), NetNs::create().expect("run as root"));
        let peer = server.proc_path().display().to_string();
        blocking(&client, move || {
            ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &peer]);
            set_up("10.9.0.1/24", CLIENT_RULES);
        })
        .await;
        blocking(&server, || set_up("10.9.0.2/24", SERVER_RULES)).await;

        // a link that has just come up loses its neighbours once more when the kernel notices
        for namespace in [&client, &server] {
            while !blocking(namespace, || output("ip", &["link", "show", "eth0"]).contains("state UP")).await {}
        }
        let files = tempfile::tempdir().expect("a directory");
        let recorder = set(Recorder::new(files.path(), PORTS).expect("it starts").with_marker("c4n4ry-"));
        let mut taps = Vec::new();
        for (namespace, interface, host, place) in [
            (&client, "lo", CLIENT_NAME, Place::Loopback),
            (&client, "eth0", CLIENT_NAME, Place::Eth0),
            // the far end of the link is where a node would be
            (&server, "eth0", CLIENT_NAME, Place::Veth),
            (&server, "lo", SERVER_NAME, Place::Loopback),
            (&server, "eth0", SERVER_NAME, Place::Eth0),
        ] {
            let vantage = Vantage { host: host.to_owned(), place };
            taps.push(recorder.tap(namespace, interface, vantage).await.expect("it is recorded"));
        }
        Self { client, server, recorder, taps, _files: files }
    }
}

pub(crate) fn client_host() -> Host {
    Host::new(CLIENT_NAME, [IpAddr::from(CLIENT)])
}

pub(crate) fn server_host() -> Host {
    Host::new(SERVER_NAME, [IpAddr::from(SERVER)])
}

/// Does something that waits, in a namespace, without keeping the test's other work from running.
pub(crate) async fn blocking<T: Send + 'static>(namespace: &NetNs, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.clone();
    let done = tokio::task::spawn_blocking(move || namespace.run(work)).await;
    done.expect("no panic").expect("the namespace can be entered")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(arguments: &[&str]) {
    output("ip", arguments);
}

fn set_up(address: &str, rules: &str) {
    ip(&["link", "set", "lo", "up"]);
    ip(&["address", "add", address, "dev", "eth0"]);
    ip(&["link", "set", "eth0", "up"]);
    let mut restore = Command::new("iptables-restore")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("iptables-restore is installed");
    std::io::Write::write_all(&mut restore.stdin.take().expect("piped"), rules.as_bytes()).expect("written");
    assert!(restore.wait().expect("it ends").success(), "{rules}");
}
