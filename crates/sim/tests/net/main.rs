//! The lab's network in a real kernel: who reaches whom, by which address, and what is left afterwards.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use netns::NetNs;
use rstest::rstest;
use serde_json::json;
use sim::api::{ApiOptions, ApiServer};
use sim::net::{Network, dns, service_proxy};
use sim::{Dial, Families, ImageTable, LabOptions, NoObserver, Ranges, SandboxInfo, Station};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

mod joins;

/// Long enough for a loaded machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Less than a lost packet costs: TCP repeats a SYN after one second.
const AT_ONCE: Duration = Duration::from_millis(900);

fn options(nodes: usize, families: Families) -> LabOptions {
    LabOptions {
        name: "net".to_owned(),
        nodes,
        families,
        node_prefix: String::new(),
        ranges: Ranges::default(),
        scratch: PathBuf::new(),
        artifacts: PathBuf::new(),
        images: ImageTable::default(),
        observer: Arc::new(NoObserver),
        tempo: 40.0,
        lacks: Vec::new(),
        tamper: None,
        hands_over_annotations: true,
    }
}

async fn network(nodes: usize, families: Families) -> Network {
    Network::build(&options(nodes, families)).await.expect("a network")
}

async fn pod(network: &Network, node: &str, name: &str) -> SandboxInfo {
    network.attach_pod(node, "default", name, name).await.expect("a pod's network")
}

/// Accepts connections for ever; to each it says who it is and who the client is.
fn serve(netns: &NetNs, address: SocketAddr, name: &'static str) -> JoinHandle<()> {
    let listener = TcpListener::from_std(netns.tcp_listen(address).expect("a listener")).expect("a listener");
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let _ = stream.write_all(format!("{name} sees {}", peer.ip()).as_bytes()).await;
        }
    })
}

/// What a server says.
async fn ask(from: &NetNs, to: SocketAddr) -> io::Result<String> {
    let exchange = async {
        let mut stream = from.dial(to).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// How many SYNs, and answers to one, had to be sent again from a namespace since it exists.
fn repeated_syns(netns: &NetNs) -> u64 {
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"));
    let text = text.expect("the namespace").expect("proc");
    // A line of names, then one of numbers.
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:")).map(str::split_whitespace);
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let (_, number) = names.zip(numbers).find(|(name, _)| *name == "TCPSynRetrans").expect("the counter");
    number.parse().expect("a number")
}

/// Names of links and of routes in a namespace.
fn inventory(netns: &NetNs) -> BTreeSet<String> {
    let read = || {
        let links = std::fs::read_dir("/proc/sys/net/ipv4/conf")?;
        let mut found: BTreeSet<_> =
            links.flatten().map(|link| link.file_name().to_string_lossy().into_owned()).collect();
        for table in ["route", "arp"] {
            let table = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
            found.extend(table.lines().map(str::to_owned));
        }
        Ok::<_, io::Error>(found)
    };
    netns.run(read).expect("the namespace").expect("proc")
}

#[rstest]
#[case::v4(Families::V4)]
#[case::v6(Families::V6)]
#[case::dual(Families::Dual)]
#[case::unannounced(Families::UnannouncedV6)]
#[tokio::test]
async fn pods_reach_each_other_and_see_each_others_addresses(#[case] families: Families) {
    let network = network(2, families).await;
    let near = pod(&network, "node-0", "near").await;
    let far = pod(&network, "node-1", "far").await;
    let both = matches!(families, Families::Dual | Families::UnannouncedV6);
    assert_eq!(near.addresses.len(), if both { 2 } else { 1 });
    assert_eq!(network.announced(&near.addresses).len(), if families == Families::Dual { 2 } else { 1 });
    for (client, server) in [(&near, &far), (&far, &near)] {
        for (source, target) in client.addresses.iter().zip(&server.addresses) {
            let address = SocketAddr::new(*target, 80);
            let server = serve(&server.netns, address, "server");
            let said = ask(&client.netns, address).await.expect("an answer");
            assert_eq!(said, format!("server sees {source}"));
            server.abort();
        }
    }
    // A time would not tell: on a laden machine an exchange may take long without a loss.
    for sandbox in [&near, &far] {
        assert_eq!(repeated_syns(&sandbox.netns), 0, "a first packet of {} was lost", sandbox.pod);
    }
}

#[tokio::test]
async fn a_node_and_its_pod_reach_each_other_by_their_own_addresses() {
    let network = network(1, Families::V4).await;
    let node = &network.nodes()[0];
    let sandbox = pod(&network, "node-0", "web").await;
    let (node_ip, pod_ip) = (node.addresses[0], sandbox.addresses[0]);
    let _web = serve(&sandbox.netns, SocketAddr::new(pod_ip, 80), "pod");
    let _kubelet = serve(&node.netns, SocketAddr::new(node_ip, 10250), "node");
    assert_eq!(ask(&node.netns, SocketAddr::new(pod_ip, 80)).await.expect("a probe"), format!("pod sees {node_ip}"));
    let said = ask(&sandbox.netns, SocketAddr::new(node_ip, 10250)).await.expect("an answer");
    assert_eq!(said, format!("node sees {pod_ip}"));
}

#[tokio::test]
async fn any_user_may_ping_in_a_pod() {
    let network = network(2, Families::V4).await;
    let near = pod(&network, "node-0", "near").await;
    let far = pod(&network, "node-1", "far").await;
    let target = SocketAddr::new(far.addresses[0], 0);
    let answer = near
        .netns
        .run(|| {
            use socket2::{Domain, Protocol, Socket, Type};
            // Datagram echo sockets exist only for groups in ping_group_range.
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], &target.into())?;
            let mut answer = [0; 64];
            let length = io::Read::read(&mut &socket, &mut answer)?;
            Ok::<_, io::Error>(answer[..length].to_vec())
        })
        .expect("the namespace")
        .expect("an answer");
    assert_eq!(answer[0], 0, "an echo reply");
}

#[tokio::test]
async fn stations_have_any_address_and_are_unreachable_once_removed() {
    let network = network(1, Families::V4).await;
    let client = pod(&network, "node-0", "client").await;
    let addresses = ["198.51.100.10", "198.51.100.20", "3.3.3.0", "3.3.3.255", "240.0.0.9"];
    for (name, address) in ["a", "b", "c", "d", "e"].into_iter().zip(addresses) {
        let address: IpAddr = address.parse().expect("an address");
        let station = network.station(name, &[address]).await.expect("a station");
        let at = SocketAddr::new(address, 80);
        let server = serve(&station.netns, at, name);
        let said = ask(&client.netns, at).await.expect("an answer");
        assert_eq!(said, format!("{name} sees {}", client.addresses[0]));
        server.abort();
    }
    let twice = network.station("a", &["192.0.2.1".parse().expect("an address")]).await;
    assert!(matches!(twice, Err(sim::net::Error::StationExists(_))), "{twice:?}");
    network.remove_station("a").await.expect("it was there");
    unreachable(&client.netns, "198.51.100.10:80").await;
    network.station("a", &["198.51.100.10".parse().expect("an address")]).await.expect("the address is free again");
}

#[rstest]
#[case::class_e("240.0.0.1:80")]
#[case::internet("8.8.8.8:53")]
#[case::no_pod("10.244.1.77:80")]
#[case::no_pod_on_this_node("10.244.0.77:80")]
#[case::no_service("10.96.44.44:80")]
#[case::no_node("172.18.0.99:22")]
#[tokio::test]
async fn an_address_that_nobody_has_is_unreachable_at_once(#[case] target: &str) {
    let network = network(2, Families::V4).await;
    let client = pod(&network, "node-0", "client").await;
    // Often: refusals must not be rationed.
    for _ in 0..12 {
        unreachable(&client.netns, target).await;
    }
    // For the nodes too, as when a probe is late.
    unreachable(&network.nodes()[0].netns, target).await;
}

async fn unreachable(from: &NetNs, target: &str) {
    let begun = Instant::now();
    let error = ask(from, target.parse().expect("an address")).await.expect_err("nobody is there");
    let expected = [io::ErrorKind::NetworkUnreachable, io::ErrorKind::HostUnreachable];
    assert!(expected.contains(&error.kind()), "{error:?}");
    assert!(begun.elapsed() < AT_ONCE, "after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_detached_pod_leaves_nothing() {
    let network = network(1, Families::V4).await;
    let node = network.nodes()[0].netns.clone();
    let other = pod(&network, "node-0", "other").await;
    let before = inventory(&node);
    let first = pod(&network, "node-0", "first").await;
    assert_ne!(inventory(&node), before);
    network.detach_pod(&first).await.expect("it was attached");
    assert_eq!(inventory(&node), before);
    network.detach_pod(&first).await.expect("twice is once");
    unreachable(&other.netns, &format!("{}:80", first.addresses[0])).await;
    let second = pod(&network, "node-0", "second").await;
    assert_ne!(first.addresses, second.addresses, "an address rests");
}

#[tokio::test]
async fn many_pods_at_once() {
    let network = network(2, Families::V4).await;
    let begun = Instant::now();
    let pods = (0..40).map(|number| {
        let network = &network;
        async move { pod(network, &format!("node-{}", number % 2), &format!("p{number}")).await }
    });
    let pods = futures::future::join_all(pods).await;
    tracing::info!(each = ?begun.elapsed() / 40, "attached");
    let addresses: BTreeSet<_> = pods.iter().map(|pod| pod.addresses[0]).collect();
    assert_eq!(addresses.len(), 40);
    let (first, last) = (&pods[0], &pods[39]);
    let at = SocketAddr::new(last.addresses[0], 80);
    let _server = serve(&last.netns, at, "last");
    ask(&first.netns, at).await.expect("an answer");
}

/// A cluster without controllers: Services and endpoints are what the test says.
struct Cluster {
    network: Network,
    api: ApiServer,
    proxy: service_proxy::ServiceProxy,
    _artifacts: tempfile::TempDir,
}

impl Cluster {
    async fn start(families: Families) -> Self {
        let cidrs = match families {
            Families::V4 | Families::UnannouncedV6 => vec!["10.96.0.0/16"],
            Families::V6 => vec!["fd00:10:96::/112"],
            Families::Dual => vec!["10.96.0.0/16", "fd00:10:96::/112"],
        };
        Self::over(network(2, families).await, &cidrs).await
    }

    async fn over(network: Network, service_cidrs: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let artifacts = tempfile::tempdir().expect("a directory");
        let node = network.nodes()[0].clone();
        let api = ApiServer::start(ApiOptions {
            artifacts: artifacts.path().to_owned(),
            listeners: Vec::new(),
            advertise: vec![SocketAddr::new(node.addresses[0], 6443)],
            dial: Arc::new(node.netns.clone()),
            tamper: None,
            service_cidrs: service_cidrs.iter().map(|cidr| cidr.parse().expect("a network")).collect(),
        })
        .await
        .expect("an API server");
        let proxy = service_proxy::start(&api.client(), network.nodes());
        tokio::time::timeout(PATIENCE, proxy.synced()).await.expect("rules are installed");
        Self { network, api, proxy, _artifacts: artifacts }
    }

    /// Makes a Service of port 80 and its endpoints' port 8080, and returns its first address.
    async fn service(&self, name: &str, spec: serde_json::Value, endpoints: &[(&SandboxInfo, bool)]) -> IpAddr {
        let mut service = json!({
            "metadata": { "name": name },
            "spec": { "ports": [
                { "name": "web", "port": 80, "targetPort": 8080 },
                { "name": "echo", "port": 80, "targetPort": 8080, "protocol": "UDP" },
            ] },
        });
        if let (Some(into), Some(more)) = (service["spec"].as_object_mut(), spec.as_object()) {
            into.extend(more.clone());
        }
        let service: Service = serde_json::from_value(service).expect("a service");
        let services: Api<Service> = Api::namespaced(self.api.client(), "default");
        let made = services.create(&PostParams::default(), &service).await.expect("a service");
        self.endpoints(name, endpoints).await;
        let ip = made.spec.and_then(|spec| spec.cluster_ip).expect("an address");
        ip.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    async fn endpoints(&self, name: &str, endpoints: &[(&SandboxInfo, bool)]) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.api.client(), "default");
        let _ = slices.delete(name, &kube::api::DeleteParams::default()).await;
        let v4 = endpoints.first().is_none_or(|(pod, _)| pod.addresses[0].is_ipv4());
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(pod, ready)| {
                json!({ "addresses": [pod.addresses[0]], "conditions": { "ready": ready }, "nodeName": pod.node, "hostname": pod.pod })
            })
            .collect();
        let slice = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
            "addressType": if v4 { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": [
                { "name": "web", "port": 8080, "protocol": "TCP" },
                { "name": "echo", "port": 8080, "protocol": "UDP" },
            ],
        });
        let slice: EndpointSlice = serde_json::from_value(slice).expect("a slice");
        slices.create(&PostParams::default(), &slice).await.expect("a slice");
    }
}

/// Asks until the answer is as wanted: rules follow objects after a moment.
async fn eventually(from: &NetNs, to: SocketAddr, wanted: impl Fn(&io::Result<String>) -> bool) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(from, to).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "the last answer was {answer:?}");
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[case::v4(Families::V4)]
#[case::v6(Families::V6)]
#[tokio::test]
async fn a_service_leads_to_its_ready_endpoints(#[case] families: Families) {
    let cluster = Cluster::start(families).await;
    let client = pod(&cluster.network, "node-0", "client").await;
    let one = pod(&cluster.network, "node-0", "one").await;
    let two = pod(&cluster.network, "node-1", "two").await;
    let idle = pod(&cluster.network, "node-1", "idle").await;
    let _servers = [(&one, "one"), (&two, "two"), (&idle, "idle")]
        .map(|(pod, name)| serve(&pod.netns, SocketAddr::new(pod.addresses[0], 8080), name));
    let ip = cluster.service("web", json!({}), &[(&one, true), (&two, true), (&idle, false)]).await;
    let at = SocketAddr::new(ip, 80);
    eventually(&client.netns, at, Result::is_ok).await.expect("an answer");

    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(ask(&client.netns, at).await.expect("an answer"));
    }
    let source = client.addresses[0];
    assert_eq!(seen, BTreeSet::from([format!("one sees {source}"), format!("two sees {source}")]));

    // A node is a client too, of endpoints on itself and elsewhere.
    let node = &cluster.network.nodes()[1];
    eventually(&node.netns, at, Result::is_ok).await.expect("an answer");
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(ask(&node.netns, at).await.expect("an answer"));
    }
    let source = node.addresses[0];
    assert_eq!(seen, BTreeSet::from([format!("one sees {source}"), format!("two sees {source}")]));

    // Nobody is left: refused, not silent.
    cluster.endpoints("web", &[(&idle, false)]).await;
    let refused =
        |answer: &io::Result<String>| matches!(answer, Err(e) if e.kind() == io::ErrorKind::ConnectionRefused);
    let _ = eventually(&client.netns, at, refused).await;
    cluster.proxy.stop().await;
}

#[tokio::test]
async fn a_pod_that_reaches_itself_through_its_service_sees_the_node() {
    let cluster = Cluster::start(Families::V4).await;
    let one = pod(&cluster.network, "node-0", "one").await;
    let _server = serve(&one.netns, SocketAddr::new(one.addresses[0], 8080), "one");
    let ip = cluster.service("web", json!({}), &[(&one, true)]).await;
    let said = eventually(&one.netns, SocketAddr::new(ip, 80), Result::is_ok).await.expect("an answer");
    assert_eq!(said, format!("one sees {}", cluster.network.nodes()[0].addresses[0]));
}

#[tokio::test]
async fn a_node_port_leads_to_an_endpoint_on_another_node() {
    let cluster = Cluster::start(Families::V4).await;
    let outside =
        cluster.network.station("outside", &["198.51.100.7".parse().expect("an address")]).await.expect("a station");
    let two = pod(&cluster.network, "node-1", "two").await;
    let _server = serve(&two.netns, SocketAddr::new(two.addresses[0], 8080), "two");
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "web", "port": 80, "targetPort": 8080, "nodePort": 30080 }] });
    cluster.service("web", spec, &[(&two, true)]).await;
    let node = cluster.network.nodes()[0].addresses[0];
    let said = eventually(&outside.netns, SocketAddr::new(node, 30080), Result::is_ok).await.expect("an answer");
    assert_eq!(said, format!("two sees {node}"), "the answer must come back through the first node");
}

#[tokio::test]
async fn datagrams_go_through_a_service() {
    let cluster = Cluster::start(Families::V4).await;
    let client = pod(&cluster.network, "node-0", "client").await;
    let one = pod(&cluster.network, "node-1", "one").await;
    let echo = one.netns.udp_bind(SocketAddr::new(one.addresses[0], 8080)).expect("a socket");
    let echo = UdpSocket::from_std(echo).expect("a socket");
    let ip = cluster.service("echo", json!({}), &[(&one, true)]).await;
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, peer)) = echo.recv_from(&mut buffer).await {
            let _ = echo.send_to(&buffer[..length], peer).await;
        }
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A new port each time: a refused one stays refused while the kernel remembers the flow.
        let socket = client.netns.udp_bind(SocketAddr::new(client.addresses[0], 0)).expect("a socket");
        let socket = UdpSocket::from_std(socket).expect("a socket");
        socket.connect(SocketAddr::new(ip, 80)).await.expect("a route");
        let mut buffer = [0; 64];
        let exchange = async {
            socket.send(b"hello").await?;
            socket.recv(&mut buffer).await
        };
        if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(100), exchange).await {
            assert_eq!(&buffer[..length], b"hello");
            break;
        }
        assert!(Instant::now() < deadline, "no answer");
    }
}

/// Asks a DNS server: the response code, and the answers as text.
async fn resolve(
    from: &SandboxInfo,
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    tcp: bool,
) -> (ResponseCode, Vec<String>) {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.parse::<Name>().expect("a name"), kind));
    let bytes = query.to_vec().expect("a message");
    let answer = async {
        if tcp {
            let mut stream = from.netns.dial(server).await?;
            stream.write_u16(u16::try_from(bytes.len()).expect("short")).await?;
            stream.write_all(&bytes).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            return Ok::<_, io::Error>(answer);
        }
        let socket = from.netns.udp_bind(SocketAddr::new(from.addresses[0], 0))?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").expect("an answer");
    let answer = Message::from_vec(&answer).expect("a message");
    assert_eq!(answer.metadata.id, 7);
    let records = answer.answers.iter().map(|record| record.data.to_string()).collect();
    (answer.metadata.response_code, records)
}

#[rstest]
#[case::udp(false)]
#[case::tcp(true)]
#[tokio::test]
async fn names_of_services_are_resolved(#[case] tcp: bool) {
    let cluster = Cluster::start(Families::V4).await;
    let address: IpAddr = "172.18.255.3".parse().expect("an address");
    let station: Station = cluster.network.station("cluster-dns", &[address]).await.expect("a station");
    let dns = dns::start(&cluster.api.client(), &station).expect("a DNS server");
    let server = SocketAddr::new(address, 53);
    let client = pod(&cluster.network, "node-0", "client").await;
    let one = pod(&cluster.network, "node-1", "one").await;
    let ip = cluster.service("web", json!({}), &[(&one, true)]).await;
    cluster.service("db", json!({ "clusterIP": "None" }), &[(&one, true), (&client, false)]).await;

    let deadline = Instant::now() + PATIENCE;
    let name = "one.db.default.svc.cluster.local.";
    let expected = (ResponseCode::NoError, vec![one.addresses[0].to_string()]);
    while resolve(&client, server, name, RecordType::A, tcp).await != expected {
        assert!(Instant::now() < deadline, "{name} is not resolved");
    }
    let (code, answers) = resolve(&client, server, "web.default.svc.cluster.local.", RecordType::A, tcp).await;
    assert_eq!((code, answers), (ResponseCode::NoError, vec![ip.to_string()]));
    let (code, answers) = resolve(&client, server, "web.default.svc.cluster.local.", RecordType::AAAA, tcp).await;
    assert_eq!((code, answers), (ResponseCode::NoError, vec![]), "the name exists, without such an address");
    let (code, _) = resolve(&client, server, "kubernetes.default.svc.cluster.local.", RecordType::A, tcp).await;
    assert_eq!(code, ResponseCode::NoError);
    let begun = Instant::now();
    let (code, _) = resolve(&client, server, "example.com.", RecordType::A, tcp).await;
    assert_eq!(code, ResponseCode::NXDomain);
    assert!(begun.elapsed() < AT_ONCE);

    // A domain of another server: this one, asked back for a name that it was given.
    dns.set_host("web.service.example", &["198.51.100.10".parse().expect("an address")]);
    let (_, answers) = resolve(&client, server, "web.service.example.", RecordType::A, tcp).await;
    assert_eq!(answers, ["198.51.100.10"]);
    let other: IpAddr = "172.18.255.9".parse().expect("an address");
    let elsewhere = cluster.network.station("other-dns", &[other]).await.expect("a station");
    let second = dns::start(&cluster.api.client(), &elsewhere).expect("a DNS server");
    second.set_host("api.service.consul", &["240.0.0.7".parse().expect("an address")]);
    dns.set_stub_domain("consul", Some(SocketAddr::new(other, 53)));
    // The other server may not have read the cluster's services yet.
    while resolve(&client, server, "api.service.consul.", RecordType::A, tcp).await.1 != ["240.0.0.7"] {
        assert!(Instant::now() < deadline, "the question is not passed on");
    }
    // What is asked over TCP is passed on over TCP, and its answer need not fit a datagram.
    let many: Vec<IpAddr> = (1..=60).map(|i| IpAddr::from([240, 0, 1, i])).collect();
    second.set_host("many.service.consul", &many);
    let (_, answers) = resolve(&client, server, "many.service.consul.", RecordType::A, tcp).await;
    assert_eq!(answers.len(), if tcp { many.len() } else { 0 });
    second.stop().await;
    dns.stop().await;
}
