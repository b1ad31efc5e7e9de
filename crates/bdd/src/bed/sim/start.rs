//! Builds beds: one lab, or several that are joined; the mesh's servers; the product in each cluster.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use capture::{Place, ProxyPorts, Recorder};
use futures::future::{join_all, try_join_all};
use redirect::contract;
use sim::{Lab, LabOptions, SandboxObserver};
use tokio::sync::OnceCell;

use super::external::Externals;
use super::observer::Taps;
use super::processes::Stopped;
use super::servers::{Clusters, Federated, Servers, Site as ServerSite};
use super::{READY, SimBed, TEMPO, forward, images, reachable};
use crate::bed::{Bed, Joined};
use crate::cluster::Cluster;
use crate::evidence::Folder;
use crate::install;
use crate::install::cni::Cni;
use crate::install::gateway::Gateways;
use crate::install::peering::Side;
use crate::pods::Pods;
use crate::settings::Settings;
use crate::suite::Suite;
use crate::timeline::Timeline;
use crate::topology::{DEFAULT_PARTITION, Layout, Member, Topology};
use crate::world::CANARY_PREFIX;

/// Streams from this size on would overrun the buffers that interfaces get otherwise.
const BULK: u64 = 1 << 20;
/// What a buffer for a stream has beyond the stream itself.
const SLACK: usize = 16 << 20;
/// The most that an interface's buffer takes; there are about ten interfaces.
const BUFFER_LIMIT: usize = 256 << 20;

/// What a scenario wants built.
pub struct Order<'a> {
    /// The run.
    pub suite: &'a Suite,
    /// What was said about the mesh.
    pub settings: &'a Settings,
    /// The clusters, if there are several.
    pub topology: Option<&'a Topology>,
    /// Where evidence goes.
    pub folder: &'a Folder,
    /// What happens is noted here.
    pub timeline: &'a Timeline,
    /// Bytes of the longest stream.
    pub bulk: u64,
    /// Whether packets are recorded. Who measures goes without: it costs more than the packets.
    pub is_recorded: bool,
}

/// A lab with what watches it.
struct Site {
    /// Which of several clusters it is.
    member: Option<Member>,
    lab: Lab,
    work: PathBuf,
    taps: Arc<Taps>,
    cluster: Cluster,
    pods: Pods,
}

/// Builds everything and returns when Pods can be created and are injected. Mesh gateways may still be coming up.
///
/// # Errors
/// Which part did not come up, and why. What was started before is ended.
pub async fn start(order: &Order<'_>) -> Result<Arc<dyn Bed>> {
    let recorder = Arc::new(recorder(order)?);
    let layout = order.topology.map(|topology| topology.layout(order.settings)).transpose()?;
    let members: Vec<Option<&Member>> =
        layout.as_ref().map_or_else(|| vec![None], |layout| layout.members.iter().map(Some).collect());
    let built = join_all(members.into_iter().map(|member| site(order, member, recorder.clone()))).await;
    let (mut sites, mut failure) = (Vec::new(), None);
    for one in built {
        match one {
            Ok(site) => sites.push(site),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let furnished = match failure {
        Some(error) => Err(error),
        None => furnish(order, layout.as_ref(), &sites).await,
    };
    match furnished {
        Ok(servers) => assemble(order, sites, servers, layout.is_some_and(|layout| layout.gateways)),
        Err(error) => {
            join_all(sites.iter().map(|site| site.lab.stop())).await;
            Err(error)
        }
    }
}

fn recorder(order: &Order<'_>) -> Result<Recorder> {
    let ports = ProxyPorts {
        outbound: contract::OUTBOUND_PORT,
        inbound: contract::INBOUND_PORT,
        dns: contract::CONSUL_DNS_PORT,
    };
    let recorder = Recorder::new(order.folder.path().join("packets"), ports).context("start the recorder")?;
    let mut recorder = recorder.with_marker(CANARY_PREFIX);
    if order.bulk >= BULK {
        // headers come on top, and what the kernel leaves unused of a block that it hands over for its age
        let bytes = usize::try_from(order.bulk + order.bulk / 2).unwrap_or(usize::MAX).saturating_add(SLACK);
        recorder = recorder.with_buffer(bytes.min(BUFFER_LIMIT));
    }
    Ok(recorder)
}

/// A lab in which nothing is installed but the kinds of the mesh.
async fn site(order: &Order<'_>, member: Option<&Member>, recorder: Arc<Recorder>) -> Result<Site> {
    let Order { suite, settings, folder, timeline, .. } = order;
    let name = format!("lab-{}", suite.number());
    let work = suite.work.join(&name);
    let cluster: Option<Arc<str>> = member.map(|member| member.name.as_str().into());
    let taps = Arc::new(Taps::new(recorder, (*timeline).clone(), cluster.clone(), order.is_recorded));
    let artifacts = cluster.as_ref().map_or_else(|| "lab".to_owned(), |cluster| format!("lab-{cluster}"));
    let lab = Lab::start(LabOptions {
        name,
        nodes: settings.nodes()?,
        families: settings.families()?,
        ranges: member.map(|member| member.ranges).unwrap_or_default(),
        node_prefix: cluster.as_ref().map(|cluster| format!("{cluster}-")).unwrap_or_default(),
        scratch: work.join("scratch"),
        artifacts: folder.path().join(artifacts),
        images: images::table(&suite.settings, settings, &work.join("scripts"))?,
        observer: Arc::clone(&taps) as Arc<dyn SandboxObserver>,
        tempo: TEMPO,
        lacks: settings.lacks()?,
        tamper: suite.settings.saboteur.and_then(|s| s.api_tamper()),
        hands_over_annotations: settings.passes_annotations()?,
    })
    .await?;
    timeline.note(match &cluster {
        None => "the cluster is up".to_owned(),
        Some(cluster) => format!("the cluster {cluster} is up"),
    });
    if lab.nodes().len() > 1 {
        for node in lab.nodes() {
            taps.station(&node.netns, &node.name, Place::Uplink).await;
        }
    }
    let (api, pods) = (Cluster::new(lab.client()), Pods::watch(lab.internal_client(), cluster));
    let site = Site { member: member.cloned(), lab, work, taps, cluster: api, pods };
    match install::kinds(&site.cluster).await {
        Ok(()) => Ok(site),
        Err(error) => {
            site.lab.stop().await;
            Err(error)
        }
    }
}

/// Joins the labs, starts the servers and installs the product. Gives each lab's servers, and whether they are in it.
async fn furnish(order: &Order<'_>, layout: Option<&Layout>, sites: &[Site]) -> Result<Vec<(Arc<Servers>, bool)>> {
    if let Some(layout) = layout {
        for (i, one) in sites.iter().enumerate() {
            for other in &sites[i + 1..] {
                one.lab.join(&other.lab, layout.join).await?;
            }
        }
    }
    if let (Some(mode), Some(first)) = (layout.and_then(|layout| layout.gateway_mode.as_ref()), sites.first()) {
        install::gateway::mode(&first.cluster, mode).await?;
    }
    let servers = servers(order, layout, sites)?;
    let has_gateways = layout.is_some_and(|layout| layout.gateways);
    let equipped = async {
        let all = sites.iter().zip(&servers);
        try_join_all(all.map(|(site, (servers, _))| equip(order, site, servers, has_gateways))).await?;
        order.timeline.note("the webhook is up");
        Ok(())
    };
    let side = |wanted: &str| {
        let mut all = sites.iter().filter_map(|site| Some((site.member.as_ref()?.name.as_str(), &site.cluster)));
        let found = all.find(|(name, _)| *name == wanted);
        found.map(|(name, cluster)| Side { name, cluster }).with_context(|| format!("find the cluster {wanted}"))
    };
    // servers are all that a peering needs
    let peered = async {
        for (accepting, dialling) in layout.iter().flat_map(|layout| &layout.peered) {
            install::peering::peer(&side(accepting)?, &side(dialling)?, READY).await?;
            order.timeline.note(format!("{accepting} and {dialling} are peered"));
        }
        anyhow::Ok(())
    };
    tokio::try_join!(equipped, peered)?;
    Ok(servers)
}

fn servers(order: &Order<'_>, layout: Option<&Layout>, sites: &[Site]) -> Result<Vec<(Arc<Servers>, bool)>> {
    let Order { suite, settings, .. } = order;
    let has_partitions = settings.has_partitions()?;
    let alone =
        |site: &Site| Clusters { default: vec![site.lab.internal_client()], partitions: has_partitions.then(Vec::new) };
    let start = |at: &Site, clusters: Clusters, federated: Option<Federated>| {
        let datacenter = at.member.as_ref().map_or_else(|| settings.datacenter(), |member| &member.datacenter);
        let site = ServerSite::of(&at.lab, clusters, datacenter.to_owned(), at.work.join("servers"), federated)?;
        Servers::new(site, settings, suite.settings.saboteur).map(Arc::new)
    };
    let has_servers = |site: &Site| site.member.as_ref().is_none_or(|member| member.has_servers);
    if layout.is_some_and(|layout| !layout.peered.is_empty()) {
        let each = sites.iter().map(|site| Ok((start(site, alone(site), None)?, true)));
        return each.collect();
    }
    let Some(layout) = layout.filter(|layout| layout.federated) else {
        // one datacenter: its servers follow every cluster
        let at = sites.iter().find(|site| has_servers(site)).context("find the cluster with the servers")?;
        let one = start(at, clusters(sites, settings)?, None)?;
        return Ok(sites.iter().map(|site| (one.clone(), has_servers(site))).collect());
    };
    let primary = layout.members.first().map(|member| member.datacenter.clone()).unwrap_or_default();
    let address = |site: &Site| {
        let name = site.member.as_ref().map(|member| member.datacenter.clone()).unwrap_or_default();
        anyhow::Ok((name, ServerSite::feed(&site.lab)?))
    };
    let all = sites.iter().map(address).collect::<Result<Vec<_>>>()?;
    let mut started: Vec<(Arc<Servers>, bool)> = Vec::new();
    for (i, site) in sites.iter().enumerate() {
        let others = all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other.clone()).collect();
        // the first one is the primary: others share its root
        let secret = started.first().map(|(primary, _)| primary.mesh().federation_secret());
        let federated = Federated { secret, primary: primary.clone(), others };
        started.push((start(site, alone(site), Some(federated))?, true));
    }
    Ok(started)
}

/// The admin partition of a cluster, where there are any.
fn partition_of<'a>(member: Option<&'a Member>, settings: &Settings) -> Result<Option<&'a str>> {
    let of_member = member.map(|member| member.partition.as_deref());
    Ok(of_member.unwrap_or(settings.has_partitions()?.then_some(DEFAULT_PARTITION)))
}

/// The clusters of one datacenter, by their partitions if there are any.
fn clusters(sites: &[Site], settings: &Settings) -> Result<Clusters> {
    let mut all = Clusters { default: Vec::new(), partitions: settings.has_partitions()?.then(Vec::new) };
    for site in sites {
        let client = site.lab.internal_client();
        let named = partition_of(site.member.as_ref(), settings)?.filter(|name| *name != DEFAULT_PARTITION);
        match (named, &mut all.partitions) {
            (Some(name), Some(partitions)) => match partitions.iter_mut().find(|(known, _)| known == name) {
                Some((_, clients)) => clients.push(client),
                None => partitions.push((name.to_owned(), vec![client])),
            },
            _ => all.default.push(client),
        }
    }
    Ok(all)
}

/// The plugin, the webhook and the gateways of one cluster.
async fn equip(order: &Order<'_>, site: &Site, servers: &Servers, has_gateways: bool) -> Result<()> {
    let (settings, Site { lab, cluster, pods, .. }) = (order.settings, site);
    forward(lab, settings, servers.dns())?;
    let address = servers.address();
    let home = install::Home { servers: &address, partition: partition_of(site.member.as_ref(), settings)? };
    let plugin = async {
        match settings.is_cni()? {
            true => Cni { cluster, pods, nodes: lab.nodes().len(), patience: READY }.install(settings).await,
            false => Ok(()),
        }
    };
    tokio::try_join!(plugin, install::webhook(cluster, pods, settings, home, READY))?;
    reachable(lab, cluster).await?;
    match has_gateways {
        // they come up beside the first Pods
        true => Gateways { cluster, pods, patience: READY }.install(settings, home).await,
        false => Ok(()),
    }
}

fn assemble(
    order: &Order<'_>,
    sites: Vec<Site>,
    servers: Vec<(Arc<Servers>, bool)>,
    has_gateways: bool,
) -> Result<Arc<dyn Bed>> {
    let Order { suite, settings, .. } = order;
    let (families, primary) = (settings.families()?, settings.primary_network()?);
    let alone = partition_of(None, settings)?.map(str::to_owned);
    let all: Vec<Arc<Servers>> = servers.iter().filter(|(_, at_home)| *at_home).map(|(one, _)| one.clone()).collect();
    let mut beds = sites.into_iter().zip(servers).map(|(site, (servers, has_servers))| {
        let Site { member, lab, work, taps, cluster, pods } = site;
        let name = member.as_ref().map(|member| member.name.clone()).unwrap_or_default();
        let partition = member.and_then(|member| member.partition).or_else(|| alone.clone());
        let bed = SimBed {
            name: (!name.is_empty()).then(|| name.clone()),
            elsewhere: all.iter().filter(|other| !Arc::ptr_eq(other, &servers)).cloned().collect(),
            servers,
            has_servers,
            cluster,
            pods,
            has_gateways,
            gateways_up: OnceCell::default(),
            taps,
            externals: Externals::new(suite.settings.bin_dir.join("workload")),
            stopped: Stopped::default(),
            partition,
            families,
            work,
            outer_pid: suite.settings.outer_pid,
            primary,
            lab,
        };
        (name, Box::new(bed) as Box<dyn Bed>)
    });
    let first = beds.next().context("find a cluster")?;
    let others: Vec<_> = beds.collect();
    Ok(if others.is_empty() { Arc::from(first.1) } else { Arc::new(Joined::new(first, others)) })
}
