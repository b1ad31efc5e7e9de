//! E1-E12: what packets and rules prove.

use anyhow::{Context as _, Result, bail};
use capture::{Disproof, Host, Proof};

use crate::action::Request;
use crate::evidence::{rules, tables};
use crate::pods::PodRef;
use crate::vocabulary::parameters::{Gateways, Path, Protocol, Resolver, Rules, Wire};
use crate::vocabulary::{Arguments, Phrase};
use crate::world::World;

pub(crate) fn phrases() -> &'static [Phrase] {
    crate::vocabulary::phrases![
        "E1" "{string} sent it {path} its proxy" => sent;
        "E2" "{string} received it {path} its proxy" => received;
        "E3" "it is {wire} from {string} to {string}" => wire;
        "E4" "it is mutual TLS for {string} from {string} to {string}" => mutual_tls;
        "E5" "it uses port {int} from {string} to {string}" => uses_port;
        "E6" "nothing from {string} reached {string}" => nothing_reached;
        "E7" "nothing left {string} for {string}" => nothing_left;
        "E8" "it crossed {gateways}" => crossed;
        "E9" "the lookup went to {resolver}" => lookup_went;
        "E10" "the canary was never in clear outside a pod" => canary_free;
        "E11" "the redirect rules of {string} are {rules}" => redirect_rules;
        "E12" "the capture of {string} shows:" => capture_shows;
    ]
}

fn transport(request: &Request) -> capture::Protocol {
    match request {
        Request::Dial(Protocol::Udp | Protocol::DnsUdp, ..)
        | Request::Send(Protocol::Udp | Protocol::DnsUdp, ..)
        | Request::Lookup(Protocol::DnsUdp, _) => capture::Protocol::Udp,
        Request::Dial(Protocol::Icmp, ..) | Request::Send(Protocol::Icmp, ..) => capture::Protocol::Icmp,
        _ => capture::Protocol::Tcp,
    }
}

async fn sent(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, path) = (arguments.string()?, arguments.get::<Path>()?);
    let proven = sent_last(world, &name, path).await;
    // a client that keeps requesting goes on: what was true of a request while its Pod started need not stay so
    if proven.is_err() && world.asks_on() { sent_last(world, &name, path).await } else { proven }
}

async fn sent_last(world: &mut World, name: &str, path: Path) -> Result<()> {
    let (ask, attempt) = world.last_attempt()?;
    let hosts = world.pod_hosts(name).await?;
    let local = attempt.report.local.map(|a| a.port()).filter(|p| *p != 0);
    let dialled = attempt.report.peer;
    let protocol = transport(&ask.request);
    world
        .prove(attempt.since, move |window| {
            any(&hosts, |host| match path {
                Path::Through => window.out_proxy(host, local, dialled),
                Path::Around => match dialled {
                    Some(dialled) => window.bypass_out(host, protocol, local, dialled),
                    None => Err(unsaid("the client did not say whom it dialled")),
                },
            })
        })
        .await
}

/// A statement about one of several Pods: a step that names a workload does not say which of its Pods it was.
fn any(hosts: &[Host], statement: impl Fn(&Host) -> Result<Proof, Disproof>) -> Result<Proof, Disproof> {
    let mut against = unsaid("there is no Pod");
    for host in hosts {
        match statement(host) {
            Ok(proof) => return Ok(proof),
            Err(disproof) => against = disproof,
        }
    }
    Err(against)
}

fn unsaid(reason: &str) -> Disproof {
    Disproof { statement: "the packets can be found".to_owned(), reason: reason.to_owned(), packets: Vec::new() }
}

async fn received(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, path) = (arguments.string()?, arguments.get::<Path>()?);
    let (ask, attempt) = world.last_attempt()?;
    let hosts = world.pod_hosts(&name).await?;
    let port = attempt.report.peer.map(|p| p.port());
    // TLS of the application's own hides the canary from the loopback too
    let hidden = matches!(ask.request, Request::Dial(Protocol::Tls, ..) | Request::Send(Protocol::Tls, ..));
    world
        .prove(attempt.since, move |window| {
            any(&hosts, |host| match (path, port) {
                (Path::Through, _) if hidden => window.in_proxy(host, None, None),
                (Path::Through, _) => window.in_proxy(host, None, Some(&attempt.canary)),
                (Path::Around, Some(port)) => window.bypass_in(host, port, &attempt.canary),
                (Path::Around, None) => Err(unsaid("the client did not say whom it dialled")),
            })
        })
        .await
}

async fn wire(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let wire = arguments.get::<Wire>()?;
    let (from, to) = (arguments.string()?, arguments.string()?);
    match wire {
        Wire::MutualTls => tls(world, None, &from, &to).await,
        Wire::Plaintext => {
            let (_, attempt) = world.last_attempt()?;
            let (from, to) = (world.pod_hosts(&from).await?, world.hosts(&to).await?);
            let dialled = attempt.report.peer.map(|p| p.ip());
            world
                .prove(attempt.since, move |window| {
                    any(&from, |from| any(&to, |to| window.plaintext(from, to, dialled, &attempt.canary)))
                })
                .await
        }
    }
}

async fn mutual_tls(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (service, from, to) = (arguments.string()?, arguments.string()?, arguments.string()?);
    tls(world, Some(&service), &from, &to).await
}

async fn tls(world: &mut World, service: Option<&str>, from: &str, to: &str) -> Result<()> {
    let since = world.since();
    let canary = world.last_attempt().ok().map(|(_, attempt)| attempt.canary);
    let bed = world.bed().await?;
    let workload = world.spec(service.unwrap_or(to))?;
    let name = bed.at(workload.at()).server_name(&workload.namespace, workload.consul_service());
    let clients = world.pod_hosts(from).await?;
    let servers: Vec<Host> =
        world.pods(to).await?.into_iter().map(|pod| Host::new(pod.host(), pod.addresses)).collect();
    world
        .prove(since, move |window| {
            for (client, server) in clients.iter().flat_map(|c| servers.iter().map(move |s| (c, s))) {
                if let Some(canary) = &canary
                    && let Ok(clear) = window.plaintext(client, server, None, canary)
                {
                    return Err(Disproof {
                        statement: format!("{} spoke TLS only with {}", client.name, server.name),
                        reason: "the canary is readable".to_owned(),
                        packets: clear.packets,
                    });
                }
            }
            any(&clients, |client| any(&servers, |server| window.mtls(client, server, None, Some(&name))))
        })
        .await
}

async fn uses_port(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let port = arguments.int()?;
    let port = u16::try_from(port).with_context(|| format!("use the port {port}: a port is at most 65535"))?;
    let (from, to) = (arguments.string()?, arguments.string()?);
    let (since, from, to) = (world.since(), world.pod_hosts(&from).await?, world.hosts(&to).await?);
    world.prove(since, move |window| any(&from, |from| any(&to, |to| window.uses_port(from, to, port)))).await
}

async fn nothing_reached(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (from, to) = (arguments.string()?, arguments.string()?);
    world.prove_silence(&from, &to, true).await
}

async fn nothing_left(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (from, to) = (arguments.string()?, arguments.string()?);
    world.prove_silence(&from, &to, false).await
}

/// What the last request was: through a gateway of each of these clusters, and of no other.
async fn crossed(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let Gateways(clusters) = arguments.get::<Gateways>()?;
    if let Some(unknown) = clusters.iter().find(|cluster| !world.has_cluster(cluster)) {
        bail!("look for the mesh gateway of {unknown:?}: no step has named a cluster of this name");
    }
    let (ask, attempt) = world.last_attempt()?;
    let hosts = world.pod_hosts(&ask.client).await?;
    let bed = world.bed().await?;
    for cluster in &clusters {
        let gateways = hosts_of(bed.at(Some(cluster)).gateways());
        if gateways.is_empty() {
            bail!("look for the mesh gateway of {cluster:?}: there is none");
        }
        world
            .prove(attempt.since, |window| {
                any(&hosts, |client| any(&gateways, |gateway| window.gateway(client, gateway)))
            })
            .await?;
    }
    let others = bed.gateways().into_iter().filter(|pod| !clusters.iter().any(|name| pod.at() == Some(name)));
    world.prove_none_crossed(attempt.since, hosts, hosts_of(others)).await
}

fn hosts_of(pods: impl IntoIterator<Item = PodRef>) -> Vec<Host> {
    pods.into_iter().map(|pod| Host::new(pod.host(), pod.addresses)).collect()
}

async fn lookup_went(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let resolver = arguments.get::<Resolver>()?;
    let (ask, attempt) = world.last_attempt()?;
    let Request::Lookup(_, asked) = &ask.request else { bail!("see where a look-up went: the last action was {ask}") };
    let host = world.pod_host(&ask.client).await?;
    let cluster = world.pod(&ask.client).await?.cluster;
    let dns = world.bed().await?.at(cluster.as_deref()).cluster_dns();
    // glibc does not say which name of its search list it was; an answer about a name of Consul is about that name itself
    let name = attempt.report.name.clone().unwrap_or_else(|| format!("{}.", asked.trim_end_matches('.')));
    world
        .prove(attempt.since, move |window| match resolver {
            Resolver::ConsulDns => window.dns_proxy(&host, Some(&name)),
            Resolver::ClusterDns => window.dns_cluster(&host, dns, Some(&name)),
        })
        .await
}

async fn canary_free(world: &mut World, _: Arguments) -> Result<()> {
    world.prove_canary_free().await
}

async fn redirect_rules(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, expected) = (arguments.string()?, arguments.get::<Rules>()?);
    rules::judge(world, &name, expected).await
}

async fn capture_shows(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    let rows = arguments.records()?;
    tables::judge(world, &name, &rows).await
}
