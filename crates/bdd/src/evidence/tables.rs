//! E12: rows of interface, direction, destination, content and count, held against the capture.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use capture::{Content, Direction, Disproof, Evidence, Host, Place, Proof, Protocol, Query, Timestamp};

use crate::address;
use crate::world::World;

/// The name under which a step means every vantage.
const NETWORK: &str = "the network";

/// How many flows there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Exactly(usize),
    MoreThan(usize),
    AtLeast(usize),
    FewerThan(usize),
    AtMost(usize),
}

impl Wanted {
    fn parse(text: &str) -> Result<Self> {
        type Make = fn(usize) -> Wanted;
        // the longer word first, where one begins with the other
        const WORDS: &[(&str, Make)] = &[
            (">=", Wanted::AtLeast),
            (">", Wanted::MoreThan),
            ("<=", Wanted::AtMost),
            ("<", Wanted::FewerThan),
            ("=", Wanted::Exactly),
            ("at least ", Wanted::AtLeast),
            ("more than ", Wanted::MoreThan),
            ("at most ", Wanted::AtMost),
            ("fewer than ", Wanted::FewerThan),
            ("exactly ", Wanted::Exactly),
            ("", Wanted::Exactly),
        ];
        if matches!(text, "no" | "none") {
            return Ok(Self::Exactly(0));
        }
        let found = WORDS.iter().find_map(|(word, make)| {
            let number = text.strip_prefix(word)?.trim().parse::<usize>().ok()?;
            Some(make(number))
        });
        found.with_context(|| {
            format!(
                "read the count {text:?}: it is a number, as 3 or exactly 3; or >0, >=2, <3, <=2, more than 0, at \
                 least 2, fewer than 3, at most 2; or none"
            )
        })
    }

    fn holds(self, found: usize) -> bool {
        match self {
            Self::Exactly(n) => found == n,
            Self::MoreThan(n) => found > n,
            Self::AtLeast(n) => found >= n,
            Self::FewerThan(n) => found < n,
            Self::AtMost(n) => found <= n,
        }
    }

    /// Whether more packets can only break it, so that it must hold through a quiet window.
    fn is_negative(self) -> bool {
        !matches!(self, Self::MoreThan(_) | Self::AtLeast(_))
    }
}

struct Row {
    text: String,
    place: Option<Place>,
    direction: Option<Direction>,
    to: Vec<SocketAddr>,
    port: Option<u16>,
    content: Content,
    wanted: Wanted,
    /// It is about connections to a port that the workload itself serves.
    of_application: bool,
}

/// Holds the rows against the capture of a Pod, an external endpoint, or all Pods together.
pub(crate) async fn judge(world: &mut World, name: &str, rows: &[Vec<(String, String)>]) -> Result<()> {
    let network = name == NETWORK;
    let since = if world.last.is_some() { world.since() } else { Timestamp::START };
    world.bed().await?;
    let workload = !network && !world.is_external(name);
    if workload {
        world.instance(name)?;
        if world.last.is_none() && !world.is_submitted(name) {
            world.await_started(name).await?;
        }
    }
    let mut parsed = Vec::new();
    for row in rows {
        let mut row = read(world, row).await?;
        if workload {
            let listens = world.spec(name)?.listens;
            row.of_application = row.port.is_some_and(|port| listens.iter().any(|l| l.port == port));
        }
        parsed.push(row);
    }
    let hosts = if network { every_pod(world).await? } else { world.hosts(name).await? };
    for row in &parsed {
        let check = |evidence: &Evidence| check(evidence, since, name, &hosts, row);
        world.prove_by(check).await?;
        if row.wanted.is_negative() {
            // polled until it held; now it must go on holding
            world.proven -= 1;
            world.prove_not(check).await?;
        }
    }
    Ok(())
}

fn check(evidence: &Evidence, since: Timestamp, name: &str, hosts: &[Host], row: &Row) -> Result<Proof, Disproof> {
    let (number, packets) = if name == NETWORK {
        count_network(evidence, since, hosts, row)
    } else {
        let mut packets = Vec::new();
        for host in hosts {
            packets.extend(count_host(evidence, since, host, row)?);
        }
        (packets.len(), packets)
    };
    if row.wanted.holds(number) {
        return Ok(Proof { statement: format!("the capture of {name} shows {}: {number}", row.text), packets });
    }
    let statement = format!("the capture of {name} shows {}", row.text);
    Err(Disproof { statement, reason: format!("there are {number}"), packets })
}

/// The first packets of what a row counts at one host.
fn count_host(evidence: &Evidence, since: Timestamp, host: &Host, row: &Row) -> Result<Vec<String>, Disproof> {
    let Row { place, direction, to, port, content, .. } = row;
    let query = Query { host, place: *place, direction: *direction, to, port: *port, content: *content };
    let mut packets = evidence.since(since).count(query)?.packets;
    if row.wanted.is_negative() && row.of_application {
        let silent = wordless(evidence, since, host, row.port);
        packets.retain(|line| !silent.contains(line));
    }
    Ok(packets)
}

/// First packets of connections to the application on which nobody said anything: the proxy opens one for every TCP
/// probe of its own listener.
fn wordless(evidence: &Evidence, since: Timestamp, host: &Host, port: Option<u16>) -> BTreeSet<String> {
    let logs = evidence.logs.iter().filter(|l| l.vantage.host == host.name && l.vantage.place == Place::Loopback);
    logs.flat_map(|log| {
        let flows = log.flows.iter().filter(move |f| {
            f.first.time >= since
                && port == Some(f.responder.port())
                && f.initiator.ip().is_loopback()
                && f.client.total() + f.server.total() == 0
        });
        flows.filter_map(move |f| log.packet(f.first.number).map(|p| log.line(p)))
    })
    .collect()
}

/// Connections between Pods, each counted once however many vantages saw it. What Pods say to name servers, nodes and
/// the mesh's servers is no request of theirs.
fn count_network(evidence: &Evidence, since: Timestamp, hosts: &[Host], row: &Row) -> (usize, Vec<String>) {
    let pods: BTreeSet<_> = hosts.iter().flat_map(|h| h.addresses.iter().copied()).collect();
    let mut seen = BTreeSet::new();
    let mut packets = Vec::new();
    for log in &evidence.logs {
        let place = log.vantage.place;
        if place == Place::Loopback || row.place.is_some_and(|p| p != place) {
            continue;
        }
        for flow in log.flows.iter().filter(|f| f.first.time >= since && f.protocol == Protocol::Tcp) {
            let between = pods.contains(&flow.initiator.ip()) && pods.contains(&flow.responder.ip());
            let wanted = between
                && row.port.is_none_or(|p| p == flow.responder.port())
                && (row.to.is_empty() || row.to.iter().any(|t| t.ip() == flow.responder.ip()))
                && row.direction.is_none_or(|d| d == flow.direction)
                && match row.content {
                    Content::Any => true,
                    Content::Tls => flow.begins_tls(),
                    Content::Plaintext => flow.is_plaintext(),
                    Content::Unproxied => !flow.begins_tls(),
                };
            if wanted && seen.insert((flow.initiator, flow.responder)) {
                packets.extend(log.packet(flow.first.number).map(|p| log.line(p)));
            }
        }
    }
    (seen.len(), packets)
}

async fn every_pod(world: &mut World) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for name in world.workloads.keys().cloned().collect::<Vec<_>>() {
        hosts.extend(world.pods(&name).await?.into_iter().map(|p| Host::new(p.host(), p.addresses)));
    }
    Ok(hosts)
}

async fn read(world: &mut World, row: &[(String, String)]) -> Result<Row> {
    let (mut place, mut direction, mut content) = (None, None, Content::Any);
    let (mut to, mut port, mut wanted) = (Vec::new(), None, None);
    for (key, value) in row {
        match (key.as_str(), value.as_str()) {
            ("to", "any") => {}
            ("interface", "any") | ("direction", "any") | ("content", "any") => {}
            ("interface", "lo") => place = Some(Place::Loopback),
            ("interface", "eth0") => place = Some(Place::Eth0),
            ("interface", "veth") => place = Some(Place::Veth),
            ("direction", "in") => direction = Some(Direction::In),
            ("direction", "out") => direction = Some(Direction::Out),
            ("content", "TLS") => content = Content::Tls,
            ("content", "plaintext") => content = Content::Plaintext,
            ("content", "unproxied") => content = Content::Unproxied,
            ("to", value) => match value.parse::<u16>() {
                Ok(number) => port = Some(number),
                Err(_) => {
                    let named = address::endpoint(value).port;
                    let (host, _) = world.host(value).await?;
                    port = named;
                    to = host.addresses.iter().map(|ip| SocketAddr::new(*ip, named.unwrap_or(0))).collect();
                }
            },
            ("count", value) => wanted = Some(Wanted::parse(value)?),
            (key, value) => bail!(
                "read the table: {key} is {value:?}; interface is lo, eth0, veth or any, direction in, out or any, \
                 content any, TLS, plaintext or unproxied"
            ),
        }
    }
    let text = row.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
    let wanted = wanted.context("read the table: it has no column `count`")?;
    Ok(Row { text, place, direction, to, port, content, wanted, of_application: false })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Wanted;

    #[rstest]
    #[case("0", 0, true)]
    #[case("0", 1, false)]
    #[case(">0", 1, true)]
    #[case(">0", 0, false)]
    #[case(">= 2", 2, true)]
    #[case("<3", 3, false)]
    #[case("<=3", 3, true)]
    #[case("exactly 3", 3, true)]
    #[case("exactly 3", 4, false)]
    #[case("at least 3", 3, true)]
    #[case("more than 3", 3, false)]
    #[case("at most 3", 4, false)]
    #[case("fewer than 3", 2, true)]
    #[case("none", 1, false)]
    fn counts(#[case] text: &str, #[case] found: usize, #[case] holds: bool) {
        assert_eq!(Wanted::parse(text).expect("a count").holds(found), holds);
    }

    #[rstest]
    #[case("some")]
    #[case("")]
    #[case("exactly")]
    #[case("-1")]
    fn no_counts_say_what_is_one(#[case] text: &str) {
        let error = Wanted::parse(text).expect_err("no count").to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("at least 2"), "{error}");
    }
}
