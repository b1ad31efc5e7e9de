//! From names in steps to Pods, addresses and hosts of the capture.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use capture::Host;
use k8s_openapi::api::core::v1::Pod;

use super::World;
use crate::address::{self, Family, Function, Piece};
use crate::pods::{PodRef, is_going};
use crate::workload::{Instance, Workload, fixture};

/// External endpoints that the catalogue names without declaring them everywhere.
const EXTERNALS: &[(&str, &str)] =
    &[("web", "198.51.100.10:80"), ("vault", "198.51.100.20:8200"), ("resolver", "198.51.100.53:53")];

/// The client that every scenario has.
const OUTSIDER: &str = "outsider";

impl World {
    /// The instance that a step names; `outsider` comes to be when it is first named.
    pub(crate) fn instance(&mut self, text: &str) -> Result<Instance> {
        if text.split('/').next() == Some(OUTSIDER) && self.named(OUTSIDER).next().is_none() {
            let key = self.take_in(fixture(OUTSIDER))?;
            self.pending.push(key);
        }
        self.parsed(text)
    }

    /// The instance that a step names, if it has come to be.
    pub(crate) fn parsed(&self, text: &str) -> Result<Instance> {
        Instance::parse(text, |name, cluster| {
            let mut found = self.named(name).filter(|(_, w)| cluster.is_none_or(|cluster| w.at() == Some(cluster)));
            let first = found.next().map(|(key, _)| key.clone());
            if let (Some(first), Some((second, _))) = (&first, found.next()) {
                bail!("find the workload {name:?}: there are several, {first} and {second}; say which is meant");
            }
            Ok(first)
        })
    }

    /// Workloads of a name: one, or one in each of several clusters.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Workload)> {
        self.workloads.iter().filter(move |(_, workload)| workload.name == name)
    }

    /// What every workload is known by that a step may mean.
    pub(crate) fn meant(&mut self, text: &str) -> Vec<String> {
        match self.instance(text) {
            Ok(instance) => vec![instance.workload],
            Err(_) => self.named(text).map(|(key, _)| key.clone()).collect(),
        }
    }

    /// The workload that a name means, if one does.
    pub(crate) fn find(&self, text: &str) -> Option<&Workload> {
        self.workloads.get(&self.parsed(text).ok()?.workload)
    }

    /// Adds a workload, in the first of several clusters if it names none, and says what it is known by.
    pub(super) fn take_in(&mut self, mut workload: Workload) -> Result<String> {
        match (&self.topology, &workload.cluster) {
            (None, Some(cluster)) => {
                bail!("have {workload} in the cluster {cluster}: there is one cluster, unless a step names several")
            }
            (Some(topology), Some(cluster)) if !topology.has(cluster) => {
                let all = topology.clusters.join(", ");
                bail!("have {workload} in the cluster {cluster}: the clusters are {all}")
            }
            (Some(topology), None) => workload.cluster = topology.clusters.first().cloned(),
            _ => {}
        }
        let key = workload.key();
        self.workloads.insert(key.clone(), workload);
        Ok(key)
    }

    /// The workload that a step names.
    pub(crate) fn spec(&mut self, text: &str) -> Result<Workload> {
        let name = self.instance(text)?.workload;
        self.workloads.get(&name).cloned().with_context(|| format!("find the workload {name}"))
    }

    /// The Pods of a workload in the order in which they were first seen; those that are gone stay in it.
    fn roll_call(&mut self, workload: &Workload) -> Result<Vec<(PodRef, Option<Arc<Pod>>)>> {
        let bed = self.bed_now()?;
        let live = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        let roster = self.roster.entry(workload.key()).or_default();
        for pod in &live {
            let mut found = bed.at(workload.at()).pods().reference(pod);
            if !found.addresses.is_empty() {
                found.addresses.extend(bed.unannounced(&found));
            }
            match roster.iter_mut().find(|known| known.name == found.name) {
                Some(known) if found.addresses.is_empty() || known.addresses == found.addresses => {}
                Some(known) => {
                    // one of the same name, elsewhere
                    let former = std::mem::replace(known, found);
                    self.formers.extend(former.addresses.first().map(|address| (former.host(), *address)));
                }
                None => roster.push(found),
            }
        }
        let find = |known: &PodRef| bed.at(known.at()).pods().get(&known.namespace, &known.name);
        Ok(roster.iter().map(|known| (known.clone(), find(known))).collect())
    }

    /// Names of all Pods a workload has or had, in order.
    pub(crate) fn roster_names(&mut self, workload: &Workload) -> Result<Vec<String>> {
        Ok(self.roll_call(workload)?.into_iter().map(|(pod, _)| pod.name).collect())
    }

    /// The Pod that a step names: the numbered one, or the one that a step deleted and that is still there, or the first that is
    /// there and stays.
    pub(crate) async fn pod(&mut self, text: &str) -> Result<PodRef> {
        let instance = self.instance(text)?;
        let bed = self.bed().await?;
        let leaving = self.leaving.get(&instance.workload).filter(|_| !instance.one);
        if let Some(leaving) = leaving.filter(|pod| bed.at(pod.at()).pods().get(&pod.namespace, &pod.name).is_some()) {
            return Ok(leaving.clone());
        }
        let workload = self.spec(&instance.workload)?;
        let roster = self.roll_call(&workload)?;
        let found = if instance.one {
            roster.get(instance.index)
        } else {
            let staying = roster.iter().find(|(_, pod)| pod.as_ref().is_some_and(|p| !is_going(p)));
            staying.or_else(|| roster.iter().rev().find(|(_, pod)| pod.is_some())).or(roster.last())
        };
        found.map(|(pod, _)| pod.clone()).with_context(|| format!("find a Pod of {text:?}: there is none"))
    }

    /// All Pods of a workload that are there and stay; the one Pod when the step names an instance.
    pub(crate) async fn pods(&mut self, text: &str) -> Result<Vec<PodRef>> {
        let instance = self.instance(text)?;
        if instance.one {
            return Ok(vec![self.pod(text).await?]);
        }
        self.bed().await?;
        let workload = self.spec(text)?;
        let roster = self.roll_call(&workload)?;
        Ok(roster.into_iter().filter(|(_, p)| p.as_ref().is_some_and(|p| !is_going(p))).map(|(p, _)| p).collect())
    }

    /// A workload's Pods begin to be counted anew: it was replaced.
    pub(crate) fn forget_pods(&mut self, workload: &str) {
        self.roster.remove(workload);
    }

    /// The name of the Pod object, its namespace and the container that a client's command runs in.
    pub(crate) async fn container(&mut self, text: &str, uid: Option<u32>) -> Result<(PodRef, Option<String>)> {
        let instance = self.instance(text)?;
        let workload = self.spec(text)?;
        let pod = self.pod(text).await?;
        let container = match (instance.container, uid) {
            (Some(name), _) => Some(name),
            (None, None) => workload.containers.first().map(|c| c.name.clone()),
            (None, Some(uid)) => workload.containers.iter().find(|c| c.uid == uid).map(|c| c.name.clone()),
        };
        Ok((pod, container))
    }

    async fn service_ips(&mut self, name: &str) -> Result<Vec<IpAddr>> {
        if name == OUTSIDER {
            self.instance(name)?;
        }
        let (cluster, namespace, service) = match self.find(name) {
            Some(w) => (w.cluster.clone(), w.namespace.clone(), w.service_name().to_owned()),
            None => (None, "default".to_owned(), name.to_owned()),
        };
        let bed = self.bed().await?;
        let object = bed.at(cluster.as_deref()).cluster().get("Service", &namespace, &service).await?;
        let object = object.with_context(|| format!("find the Service {namespace}/{service}"))?;
        let many = object["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
        let all = many.iter().chain([&object["spec"]["clusterIP"]]);
        let mut found: Vec<IpAddr> = all.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
        found.dedup();
        Ok(found)
    }

    /// The address of an external endpoint; a well-known one comes to be when it is first named.
    pub(crate) async fn external_address(&mut self, name: &str) -> Result<SocketAddr> {
        if let Some(address) = self.externals.get(name) {
            return Ok(*address);
        }
        let known = EXTERNALS.iter().find(|(n, _)| *n == name);
        let (_, address) =
            known.with_context(|| format!("find the external endpoint {name:?}: no step has made it"))?;
        let address: SocketAddr = address.parse()?;
        self.external(name, address).await?;
        Ok(address)
    }

    /// Whether a name is that of an external endpoint, one that a step made or a well-known one, and of no workload.
    #[must_use]
    pub(crate) fn is_external(&self, name: &str) -> bool {
        let known = || self.externals.contains_key(name) || EXTERNALS.iter().any(|(known, _)| *known == name);
        self.named(name).next().is_none() && known()
    }

    /// Every address of an external endpoint, that which it was given first.
    async fn external_addresses(&mut self, name: &str) -> Result<Vec<IpAddr>> {
        let address = self.external_address(name).await?.ip();
        Ok(self.bed().await?.external_addresses(address))
    }

    async fn address_of(&mut self, function: &Function) -> Result<IpAddr> {
        let of_family = |all: &[IpAddr], family: Family| {
            let wanted = |a: &&IpAddr| match family {
                Family::Any => true,
                Family::V4 => a.is_ipv4(),
                Family::V6 => a.is_ipv6(),
            };
            all.iter().find(wanted).copied()
        };
        let found = match function {
            Function::Pod(x, family) => {
                self.await_address(x).await?;
                of_family(&self.pod(x).await?.addresses, *family)
            }
            Function::Former(x) => {
                let pod = self.pod(x).await?;
                self.formers.get(&pod.host()).or(pod.addresses.first()).copied()
            }
            Function::ClusterIp(x, family) => of_family(&self.service_ips(x).await?, *family),
            Function::External(x, family) => of_family(&self.external_addresses(x).await?, *family),
            Function::VirtualIp(x) => {
                let (cluster, namespace, service) = match self.find(x) {
                    Some(w) => (w.cluster.clone(), w.namespace.clone(), w.consul_service().to_owned()),
                    None => (None, "default".to_owned(), x.clone()),
                };
                let bed = self.bed().await?;
                let bed = bed.at(cluster.as_deref());
                let timing = bed.timing();
                let awaited = format!("a virtual IP of {service}");
                let look = async || bed.virtual_ip(&namespace, &service).ok_or("the mesh has given none");
                Some(crate::wait::until(&awaited, timing.patience, look).await?)
            }
            Function::Node => self.bed().await?.nodes().first().and_then(|(_, a)| a.first().copied()),
            Function::App(_) => bail!("dial {function}: it names an application's socket, not an address"),
        };
        found.with_context(|| format!("find the address {function}: there is none of that family"))
    }

    /// A text with the address functions in it resolved; IPv6 addresses in brackets where a port or path may follow.
    pub(crate) async fn text(&mut self, text: &str) -> Result<String> {
        let pieces = address::pieces(text);
        let mut resolved = String::new();
        for (i, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => resolved.push_str(text),
                Piece::Call(Function::Node) if self.find("node").is_some() => resolved.push_str("node"),
                Piece::Call(function) => {
                    let ip = self.address_of(function).await?;
                    let in_url = resolved.ends_with("//")
                        || matches!(pieces.get(i + 1), Some(Piece::Text(next)) if next.starts_with(':'));
                    if ip.is_ipv6() && in_url {
                        resolved.push_str(&format!("[{ip}]"));
                    } else {
                        resolved.push_str(&ip.to_string());
                    }
                }
            }
        }
        Ok(resolved)
    }

    /// Waits until the Pod that a step names has an address.
    pub(crate) async fn await_address(&mut self, text: &str) -> Result<()> {
        let bed = self.bed().await?;
        let deadline = std::time::Instant::now() + bed.timing().ready;
        loop {
            if let Ok(pod) = self.pod(text).await
                && !pod.addresses.is_empty()
            {
                return Ok(());
            }
            if std::time::Instant::now() >= deadline {
                bail!("wait for an address of {text:?}: {}", self.diagnose(text).await);
            }
            bed.pods().changed(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Every address by which a workload's Pods may be dialled through its Services.
    async fn virtual_addresses(&mut self, workload: &Workload) -> Result<Vec<IpAddr>> {
        let bed = self.bed().await?;
        let mut found = self.service_ips(&workload.key()).await.unwrap_or_default();
        found.extend(bed.at(workload.at()).virtual_ip(&workload.namespace, workload.consul_service()));
        Ok(found)
    }

    /// A Pod as the capture knows it: with its own addresses and those of its Services.
    pub(crate) async fn pod_host(&mut self, text: &str) -> Result<Host> {
        let workload = self.spec(text)?;
        let pod = self.pod(text).await?;
        let mut addresses = pod.addresses.clone();
        addresses.extend(self.virtual_addresses(&workload).await?);
        Ok(Host::new(pod.host(), addresses))
    }

    /// Every Pod that a step may mean by a name: all of a workload, or the one instance. When none stays, the last one
    /// that was there.
    pub(crate) async fn pod_hosts(&mut self, text: &str) -> Result<Vec<Host>> {
        let workload = self.spec(text)?;
        let mut pods = self.pods(text).await?;
        if pods.is_empty() {
            pods.push(self.pod(text).await?);
        }
        // an address of the Service is that of all Pods, and no evidence about the one
        let one = self.instance(text)?.one;
        let services = if one { Vec::new() } else { self.virtual_addresses(&workload).await? };
        let host = |pod: PodRef| Host::new(pod.host(), pod.addresses.iter().chain(&services).copied());
        Ok(pods.into_iter().map(host).collect())
    }

    /// Everything that a step may mean by the name of a destination, each Pod of a workload by itself.
    pub(crate) async fn hosts(&mut self, text: &str) -> Result<Vec<Host>> {
        match address::endpoint(text).host {
            address::Host::Name(name) if self.instance(&name).is_ok() => self.pod_hosts(&name).await,
            _ => Ok(vec![self.host(text).await?.0]),
        }
    }

    /// Whatever a step names as a destination, as the capture knows it, and the port when it names one.
    pub(crate) async fn host(&mut self, text: &str) -> Result<(Host, Option<u16>)> {
        let endpoint = address::endpoint(text);
        let host = match endpoint.host {
            // what listens outside the mesh is all there is of it
            address::Host::Call(Function::App(x)) if self.is_external(&x) => {
                Host::new(x.clone(), self.external_addresses(&x).await?)
            }
            address::Host::Call(Function::App(x) | Function::Pod(x, _) | Function::Former(x)) => {
                let pod = self.pod(&x).await?;
                Host::new(pod.host(), pod.addresses)
            }
            address::Host::Call(Function::External(x, _)) => Host::new(x.clone(), self.external_addresses(&x).await?),
            address::Host::Call(ref function @ (Function::ClusterIp(ref x, _) | Function::VirtualIp(ref x))) => {
                let pod = self.pod(x).await?;
                Host::new(pod.host(), [self.address_of(function).await?])
            }
            address::Host::Call(Function::Node) => {
                let bed = self.bed().await?;
                let (name, addresses) = bed.nodes().into_iter().next().context("find a node")?;
                Host::new(name, addresses)
            }
            address::Host::Name(name) => match name.parse::<IpAddr>() {
                Ok(ip) => Host::new(name, [ip]),
                Err(_) if self.is_external(&name) => Host::new(name.clone(), self.external_addresses(&name).await?),
                Err(_) if name.contains('.') && self.parsed(&name).is_err() => {
                    let first = name.split('.').next().unwrap_or_default().to_owned();
                    self.pod_host(&first).await?
                }
                Err(_) => self.pod_host(&name).await?,
            },
        };
        Ok((host, endpoint.port))
    }

    /// A workload and all its Pods as one destination: every address of it. Of a name that several clusters have, what it means in the
    /// client's, where other clusters give the same addresses to others.
    pub(crate) async fn whole(&mut self, text: &str, client: &PodRef) -> Result<Host> {
        let endpoint = address::endpoint(text);
        let address::Host::Name(name) = endpoint.host else { return Ok(self.host(text).await?.0) };
        let mut keys = self.meant(&name);
        keys.retain(|key| self.workloads.get(key).is_some_and(|workload| workload.name == name));
        if keys.len() > 1 && self.is_divided() {
            keys.retain(|key| self.workloads.get(key).is_some_and(|workload| workload.at() == client.at()));
        }
        if keys.is_empty() {
            return Ok(self.host(text).await?.0);
        }
        let mut addresses = Vec::new();
        for key in keys {
            let workload = self.spec(&key)?;
            addresses.extend(self.virtual_addresses(&workload).await?);
            addresses.extend(self.pods(&key).await?.into_iter().flat_map(|p| p.addresses));
        }
        Ok(Host::new(name, addresses))
    }
}
