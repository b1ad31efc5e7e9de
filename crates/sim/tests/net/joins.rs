//! Labs that are joined: who reaches whom across, by which address, and what does not cross.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use netns::NetNs;
use rstest::rstest;
use serde_json::json;
use sim::net::Network;
use sim::{Families, Join, LabOptions, Ranges, RangesText, Reach};
use tokio::net::UdpSocket;

use crate::{Cluster, PATIENCE, ask, eventually, inventory, options, pod, repeated_syns, serve, unreachable};

/// The router of a lab that has the default networks.
const ROUTERS: [&str; 2] = ["172.18.0.1", "fd00:172:18::1"];

const PODS: Join = Join { reach: Reach::Pods, delay: None };
const NODES: Join = Join { reach: Reach::Nodes, delay: None };

async fn lab(name: &str, families: Families, pods: &str, services: &str, site: &str) -> Network {
    let [pods, services, site] = [pods, services, site].map(str::to_owned);
    let ranges = Ranges::try_from(RangesText { pods, services, site }).expect("possible");
    let options = LabOptions { name: name.to_owned(), ranges, ..options(2, families) };
    Network::build(&options).await.expect("a network")
}

/// A lab with the default networks.
async fn east(families: Families) -> Network {
    lab("east", families, "10.244.0.0/16", "10.96.0.0/16", "172.18.0.0/16").await
}

/// A lab in which everything differs.
async fn west(families: Families) -> Network {
    lab("west", families, "10.245.0.0/16", "10.97.0.0/16", "172.19.0.0/16").await
}

/// Asserts that what listens at an address sees the client under another.
async fn sees(client: &NetNs, server: &NetNs, at: IpAddr, source: IpAddr) {
    // Another one each time: a program that a test beside this one just starts keeps a port taken for a moment.
    static PORT: AtomicU16 = AtomicU16::new(1000);
    let at = SocketAddr::new(at, PORT.fetch_add(1, Ordering::Relaxed));
    let server = serve(server, at, "server");
    let said = ask(client, at).await.unwrap_or_else(|error| panic!("{at} does not answer: {error}"));
    assert_eq!(said, format!("server sees {source}"));
    server.abort();
}

/// The links of joins in a fabric.
fn joints(fabric: &Network) -> Vec<String> {
    inventory(fabric.fabric()).into_iter().filter(|entry| entry.starts_with("join") && !entry.contains(' ')).collect()
}

/// Has a fabric send packets for a network over its only join, whatever it may reach of the other lab.
fn send_across(network: &Network, to: &str, router: &str) {
    let link = joints(network).pop().expect("a join");
    let family = if to.contains(':') { "-6" } else { "-4" };
    let words = [family, "route", "replace", to, "via", router, "dev", &link, "onlink"];
    let output = network.fabric().run(|| Command::new("ip").args(words).output());
    let output = output.expect("the namespace").expect("ip (package iproute2)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[rstest]
#[case::v4(Families::V4)]
#[case::v6(Families::V6)]
#[case::dual(Families::Dual)]
#[case::unannounced(Families::UnannouncedV6)]
#[tokio::test]
async fn where_pods_are_reached_everybody_keeps_its_address(#[case] families: Families) {
    let (east, west) = (east(families).await, west(families).await);
    east.join(&west, PODS).await.expect("they can be joined");
    let (near, far) = (pod(&east, "node-1", "near").await, pod(&west, "node-1", "far").await);
    let (here, there) = (&east.nodes()[0], &west.nodes()[0]);
    for (source, target) in near.addresses.iter().zip(&far.addresses) {
        sees(&near.netns, &far.netns, *target, *source).await;
        sees(&far.netns, &near.netns, *source, *target).await;
    }
    for ((node, pod), (other_node, other_pod)) in [((here, &near), (there, &far)), ((there, &far), (here, &near))] {
        for (source, target) in pod.addresses.iter().zip(&other_node.addresses) {
            sees(&pod.netns, &other_node.netns, *target, *source).await;
        }
        for (source, target) in node.addresses.iter().zip(&other_pod.addresses) {
            sees(&node.netns, &other_pod.netns, *target, *source).await;
        }
    }
    for netns in [&near.netns, &far.netns, &here.netns, &there.netns] {
        assert_eq!(repeated_syns(netns), 0, "a first packet was lost");
    }
}

#[rstest]
#[case::v4(Families::V4, "172.19.77.1")]
#[case::v6(Families::V6, "fd00:172:19::4d01")]
#[case::dual(Families::Dual, "172.19.77.1")]
#[case::unannounced(Families::UnannouncedV6, "fd00:172:19::4d01")]
#[tokio::test]
async fn where_nodes_are_reached_pods_come_from_their_router(#[case] families: Families, #[case] station: IpAddr) {
    let east = east(families).await;
    let west = lab("west", families, "10.244.0.0/16", "10.96.0.0/16", "172.19.0.0/16").await;
    east.join(&west, NODES).await.expect("their Pod networks do not matter");
    // Their addresses are the same.
    let (near, far) = (pod(&east, "node-0", "near").await, pod(&west, "node-0", "far").await);
    assert_eq!(near.addresses, far.addresses);
    let (here, there) = (&east.nodes()[1], &west.nodes()[1]);
    for target in &there.addresses {
        let router = ROUTERS[usize::from(target.is_ipv6())].parse().expect("an address");
        sees(&near.netns, &there.netns, *target, router).await;
    }
    for target in &here.addresses {
        let router = ROUTERS[usize::from(target.is_ipv6())].replace("18", "19").parse().expect("an address");
        sees(&far.netns, &here.netns, *target, router).await;
    }
    for (source, target) in here.addresses.iter().zip(&there.addresses) {
        sees(&here.netns, &there.netns, *target, *source).await;
    }
    let server = west.station("station", &[station]).await.expect("a station");
    let router = ROUTERS[usize::from(station.is_ipv6())].parse().expect("an address");
    sees(&near.netns, &server.netns, station, router).await;
    for netns in [&near.netns, &far.netns, &here.netns] {
        assert_eq!(repeated_syns(netns), 0, "a first packet was lost");
    }
}

#[rstest]
#[case::v4(Families::V4, "10.245.0.0/16", "172.19.0.1")]
#[case::v6(Families::V6, "fd00:10:245::/48", "fd00:172:19::1")]
#[tokio::test]
async fn where_nodes_are_reached_pods_are_not(
    #[case] families: Families,
    #[case] far_pods: &str,
    #[case] router: &str,
) {
    let (east, west) = (east(families).await, west(families).await);
    east.join(&west, NODES).await.expect("they can be joined");
    let (near, far) = (pod(&east, "node-0", "near").await, pod(&west, "node-0", "far").await);
    let at = SocketAddr::new(far.addresses[0], 80);
    let _server = serve(&far.netns, at, "server");
    refused(&near.netns, at).await;
    assert_eq!(ask(&far.netns, at).await.expect("its own lab reaches it"), format!("server sees {}", at.ip()));
    // Not even by a router that knows the way, and then the refusal comes from the other lab, in time.
    send_across(&east, far_pods, router);
    let begun = Instant::now();
    refused(&near.netns, at).await;
    assert!(begun.elapsed() < crate::AT_ONCE, "after {:?}", begun.elapsed());
}

/// Asserts that somebody says no.
async fn refused(from: &NetNs, at: SocketAddr) {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let error = ask(from, at).await.expect_err("nobody may reach it");
    assert!([ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&error.kind()), "{error:?}");
}

#[rstest]
#[case::nodes(NODES)]
#[case::pods(PODS)]
#[tokio::test]
async fn a_service_is_reached_across_by_its_node_port_only(#[case] join: Join) {
    let east = east(Families::V4).await;
    let cluster = Cluster::over(west(Families::V4).await, &["10.97.0.0/16"]).await;
    east.join(&cluster.network, join).await.expect("they can be joined");
    let near = pod(&east, "node-0", "near").await;
    let [local, one] = [("node-0", "local"), ("node-1", "one")].map(|(node, name)| pod(&cluster.network, node, name));
    let (local, one) = futures::future::join(local, one).await;
    let _server = serve(&one.netns, SocketAddr::new(one.addresses[0], 8080), "one");
    let spec =
        json!({ "type": "NodePort", "ports": [{ "name": "web", "port": 80, "targetPort": 8080, "nodePort": 30080 }] });
    let ip = cluster.service("web", spec, &[(&one, true)]).await;
    assert!(ip.to_string().starts_with("10.97."), "{ip}");
    let service = SocketAddr::new(ip, 80);
    eventually(&local.netns, service, Result::is_ok).await.expect("its own lab reaches it");
    unreachable(&near.netns, &service.to_string()).await;
    let node = cluster.network.nodes()[0].addresses[0];
    let said = eventually(&near.netns, SocketAddr::new(node, 30080), Result::is_ok).await.expect("an answer");
    assert_eq!(said, format!("one sees {node}"));
    // A router that knew the way would not help.
    send_across(&east, "10.97.0.0/16", "172.19.0.1");
    unreachable(&near.netns, &service.to_string()).await;
    cluster.proxy.stop().await;
}

#[rstest]
#[case::v4(Families::V4)]
#[case::v6(Families::V6)]
#[tokio::test]
async fn packets_that_cross_are_late_in_each_direction(#[case] families: Families) {
    const DELAY: Duration = Duration::from_millis(80);
    let (east, west) = (east(families).await, west(families).await);
    east.join(&west, Join { reach: Reach::Pods, delay: Some(DELAY) }).await.expect("they can be joined");
    let (near, far) = (pod(&east, "node-0", "near").await, pod(&west, "node-0", "far").await);
    let [one, other] = [&near, &far].map(|pod| {
        let socket = pod.netns.udp_bind(SocketAddr::new(pod.addresses[0], 5000)).expect("a socket");
        UdpSocket::from_std(socket).expect("a socket")
    });
    for (from, to) in [(&one, &other), (&other, &one)] {
        let begun = Instant::now();
        from.send_to(b"hello", to.local_addr().expect("bound")).await.expect("a way");
        let mut buffer = [0; 16];
        let received = tokio::time::timeout(PATIENCE, to.recv_from(&mut buffer)).await;
        let (length, _) = received.expect("it arrives").expect("a datagram");
        assert!(begun.elapsed() >= DELAY, "after {:?}", begun.elapsed());
        assert_eq!(&buffer[..length], b"hello");
    }
    // The delay ends with a lab, and lets go of its namespace: else the other end of the link would stay.
    assert_eq!(joints(&west).len(), 1);
    drop(east);
    gone(&west);
}

/// Waits until the kernel has taken down a fabric's joins because the other end's namespace is gone.
fn gone(network: &Network) {
    let deadline = Instant::now() + PATIENCE;
    while !joints(network).is_empty() {
        assert!(Instant::now() < deadline, "a join is left");
        std::thread::yield_now();
    }
}

/// Three labs in a row, the first two joined and the last two.
async fn row() -> [Network; 3] {
    let (east, west) = (east(Families::V4).await, west(Families::V4).await);
    let north = lab("north", Families::V4, "10.246.0.0/16", "10.96.0.0/16", "172.20.0.0/16").await;
    east.join(&west, PODS).await.expect("they can be joined");
    west.join(&north, PODS).await.expect("they can be joined");
    [east, west, north]
}

#[tokio::test]
async fn a_lab_is_no_way_from_one_to_another() {
    let [east, _west, north] = row().await;
    let (near, far) = (pod(&east, "node-0", "near").await, pod(&north, "node-0", "far").await);
    let at = format!("{}:80", far.addresses[0]);
    unreachable(&near.netns, &at).await;
    // The lab between refuses it too.
    send_across(&east, "10.246.0.0/16", "172.19.0.1");
    unreachable(&near.netns, &at).await;
}

#[tokio::test]
async fn any_two_of_three_labs_can_be_joined() {
    let labs = row().await;
    labs[0].join(&labs[2], PODS).await.expect("they can be joined");
    let pods = futures::future::join_all(labs.iter().map(|lab| pod(lab, "node-0", "pod"))).await;
    for (one, other) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        let (client, server) = (&pods[one], &pods[other]);
        sees(&client.netns, &server.netns, server.addresses[0], client.addresses[0]).await;
    }
}

#[tokio::test]
async fn networks_are_free_again_when_the_lab_that_had_them_is_gone() {
    let (east, first) = (east(Families::V4).await, west(Families::V4).await);
    east.join(&first, PODS).await.expect("they can be joined");
    let second = west(Families::V4).await;
    let error = east.join(&second, PODS).await.expect_err("there would be two ways to 172.19.0.0/16");
    assert!(error.to_string().contains("172.19.0.0/16"), "{error}");
    drop(first);
    gone(&east);
    east.join(&second, PODS).await.expect("they can be joined");
    let (near, far) = (pod(&east, "node-0", "near").await, pod(&second, "node-0", "far").await);
    sees(&near.netns, &far.netns, far.addresses[0], near.addresses[0]).await;
}

/// A lab's families and its Pod, Service and site networks.
type Networks = (Families, &'static str, &'static str, &'static str);

#[rstest]
#[case::same_site(
    (Families::V4, "10.245.0.0/16", "10.97.0.0/16", "172.18.0.0/16"),
    NODES,
    &["route 172.18.0.0/16 of lab west into lab east", "overlaps 172.18.0.0/16, which is lab east's"]
)]
#[case::same_pods(
    (Families::V4, "10.244.0.0/16", "10.97.0.0/16", "172.19.0.0/16"),
    PODS,
    &["route 10.244.0.0/16 of lab west", "overlaps 10.244.0.0/16, which is lab east's", "nodes only"]
)]
#[case::same_pods_v6(
    (Families::V6, "10.244.0.0/16", "10.97.0.0/16", "172.19.0.0/16"),
    PODS,
    &["route fd00:10:244::/48 of lab west"]
)]
#[case::its_pods_are_a_site(
    (Families::V4, "172.18.0.0/16", "10.97.0.0/16", "172.19.0.0/16"),
    NODES,
    &["route 172.18.0.0/16 of lab east into lab west"]
)]
#[case::its_services_are_a_site(
    (Families::V4, "10.245.0.0/16", "172.18.0.0/16", "172.19.0.0/16"),
    NODES,
    &["route 172.18.0.0/16 of lab east into lab west"]
)]
#[case::other_families(
    (Families::Dual, "10.245.0.0/16", "10.97.0.0/16", "172.19.0.0/16"),
    PODS,
    &["labs east (V4) and west (Dual)", "families differ"]
)]
#[tokio::test]
async fn a_join_that_would_be_ambiguous_is_refused(
    #[case] (families, pods, services, site): Networks,
    #[case] join: Join,
    #[case] expected: &[&str],
) {
    let east = east(if families == Families::V6 { families } else { Families::V4 }).await;
    let west = lab("west", families, pods, services, site).await;
    let before = (inventory(east.fabric()), inventory(west.fabric()));
    let message = east.join(&west, join).await.expect_err("it is wrong").to_string();
    for part in expected {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!((inventory(east.fabric()), inventory(west.fabric())), before, "something is left");
}

#[tokio::test]
async fn labs_are_joined_once() {
    let (east, west) = (east(Families::V4).await, west(Families::V4).await);
    let (one, two) = futures::future::join(east.join(&west, NODES), west.join(&east, NODES)).await;
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    for (lab, other) in [(&east, &west), (&west, &east)] {
        let error = lab.join(other, PODS).await.expect_err("they are joined");
        assert!(matches!(error, sim::net::JoinError::Twice(..)), "{error:?}");
    }
    assert_eq!((joints(&east).len(), joints(&west).len()), (1, 1));
}
