//! Finds Pods of the mesh on this node that are not redirected: their sandbox was made before the plugin was there, or somebody
//! has taken the rules away.
//!
//! What is done with one is set: it is redirected in place, through its network namespace, or evicted, which its disruption budgets
//! may delay, and of which a node does one in [`EVICTIONS`]. Connections that it has open stay as they are. Pods that are not of the
//! mesh, that an init container redirects, that end, or whose namespace is not certain are left alone.

use super::events::Events;
use super::metrics::{Metrics, Outcome};
use super::namespaces::{Missing, Namespaces};
use super::pods::{self, Pods};
use super::status::{Status, Writer};
use crate::node::PodName;
use crate::plugin::{annotations, causes};
use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use kube::{Api, Client};
use netns::NetNs;
use redirect::Policy;
use redirect::contract::{REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between looks at a Pod that is redirected: somebody may take its rules away, or go around them.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between looks at one that is not.
const RETRY: Duration = Duration::from_secs(5);
/// One eviction in this time.
const EVICTIONS: Duration = Duration::from_secs(10);

/// What is done with a Pod that is not redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Repair {
    /// It is redirected in place.
    Redirect,
    /// It is evicted, so that its network is made anew.
    Evict,
    /// It is told of.
    Report,
    /// Nobody looks: the agent needs no right to enter network namespaces.
    Off,
}

/// A Pod that is to be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    name: PodName,
    annotations: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    /// Its application runs already.
    runs: bool,
}

/// What a look at a Pod came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is redirected.
    InForce,
    /// It was not, for these reasons, and is now.
    PutInForce(String),
    /// It is not, for these reasons.
    NotInForce(String),
    /// There is no telling.
    Unknown(String),
}

/// Looks at the Pods.
pub(super) struct Repairer {
    pub(super) client: Client,
    pub(super) repair: Repair,
    pub(super) pods: Pods,
    pub(super) namespaces: Arc<Mutex<Namespaces>>,
    pub(super) status: Writer,
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    pub(super) memory: Memory,
}

/// What was seen and done.
#[derive(Default)]
pub(super) struct Memory {
    /// By uid: when to look again, and whether the Pod was redirected.
    seen: HashMap<String, (Instant, bool)>,
    evicted: Option<Instant>,
    /// By uid: connections that were counted before.
    counted: HashMap<String, u64>,
}

impl Repairer {
    /// Looks at every Pod that is new, and at the others from time to time, until it is dropped.
    pub(super) async fn run(mut self) {
        if self.repair == Repair::Off {
            return;
        }
        self.pods.known().await;
        let mut changes = self.pods.changes();
        loop {
            self.pass().await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn pass(&mut self) {
        let subjects: Vec<Subject> = self.pods.all().iter().filter_map(|pod| subject(pod)).collect();
        self.memory.seen.retain(|uid, _| subjects.iter().any(|subject| subject.name.uid == *uid));
        self.memory.counted.retain(|uid, _| subjects.iter().any(|subject| subject.name.uid == *uid));
        for subject in subjects {
            let uid = &subject.name.uid;
            if self.memory.seen.get(uid).is_none_or(|(again, _)| *again <= Instant::now()) {
                let (found, counted) = self.look_at(&subject).await;
                self.count(&subject, counted).await;
                let redirected = matches!(found, Ok(Found::InForce | Found::PutInForce(_)));
                let wait = if redirected || self.repair != Repair::Evict && found.is_ok() { INTERVAL } else { RETRY };
                self.act_on(&subject, found).await;
                self.memory.seen.insert(uid.clone(), (Instant::now() + wait, redirected));
            }
        }
        let open = self.memory.seen.values().filter(|(_, redirected)| !redirected).count();
        self.metrics.unredirected.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Tells of connections that were counted since the last look. Rules that are put in force anew begin at nothing.
    async fn count(&mut self, subject: &Subject, counted: u64) {
        let before = self.memory.counted.insert(subject.name.uid.clone(), counted).unwrap_or_default();
        let more = counted.checked_sub(before).unwrap_or(counted);
        if more > 0 {
            self.metrics.bypasses.inc_by(more);
            let message = format!(
                "{counted} connections went around the proxy: a process that is not the proxy has its user. Give the application \
                 another user"
            );
            tracing::warn!(pod = %subject.name, message);
            self.events.tell(&subject.name, "ProxyBypassed", &message).await;
        }
    }

    /// What is found, and the connections that the rules have counted.
    async fn look_at(&self, subject: &Subject) -> (Result<Found, Missing>, u64) {
        self.metrics.checks.inc();
        let (namespaces, apply) = (Arc::clone(&self.namespaces), self.repair == Repair::Redirect);
        let subject = subject.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // a panic elsewhere leaves a cache that is still a cache
            let mut namespaces = namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            match namespaces.with(&subject.addresses) {
                Ok(netns) => {
                    let counted = netns.run(redirect::bypasses).ok().and_then(Result::ok).flatten();
                    (Ok(look(&netns, &subject, apply)), counted.unwrap_or_default())
                }
                Err(missing) => (Err(missing), 0),
            }
        });
        looked.await.unwrap_or_else(|error| (Ok(Found::Unknown(error.to_string())), 0))
    }

    async fn act_on(&mut self, subject: &Subject, found: Result<Found, Missing>) {
        let before = if subject.runs { ". Its containers run: what they have sent was not redirected" } else { "" };
        match found {
            // its sandbox is being made anew, or has just gone
            Err(missing @ Missing::NotFound(_)) => tracing::debug!(pod = %subject.name, %missing),
            Err(missing) => self.tell_unknown(subject, &missing.to_string()).await,
            Ok(Found::Unknown(why)) => self.tell_unknown(subject, &why).await,
            Ok(Found::InForce) => self.write(subject, Status::Complete),
            Ok(Found::PutInForce(why)) => {
                let message = format!("the pod was not redirected, and is now: {why}{before}");
                self.tell(subject, "redirected", "RedirectionRepaired", &message).await;
                self.write(subject, Status::Complete);
            }
            Ok(Found::NotInForce(why)) => {
                self.write(subject, Status::Waiting);
                if self.repair == Repair::Evict {
                    return self.evict(subject, &why).await;
                }
                let message =
                    format!("the pod is not redirected: {why}{before}. Delete it, so that its network is made anew");
                self.tell(subject, "reported", "NotRedirected", &message).await;
            }
        }
    }

    /// Writes the annotation, where it does not say so.
    fn write(&self, subject: &Subject, status: Status) {
        if subject.annotations.get(TRANSPARENT_PROXY_STATUS).map(String::as_str) != Some(status.text()) {
            self.status.set(subject.name.clone(), status);
        }
    }

    async fn tell_unknown(&self, subject: &Subject, why: &str) {
        let message = format!("whether the pod is redirected cannot be told: {why}");
        self.tell(subject, "failed", "RedirectionUnknown", &message).await;
    }

    async fn evict(&mut self, subject: &Subject, why: &str) {
        if self.memory.evicted.is_some_and(|evicted| evicted.elapsed() < EVICTIONS) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &subject.name.namespace);
        match api.evict(&subject.name.name, &EvictParams::default()).await {
            Ok(_) => {
                self.memory.evicted = Some(Instant::now());
                self.tell(subject, "evicted", "Evicted", &format!("the pod is not redirected and was evicted: {why}"))
                    .await;
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => {
                let message = format!("the pod is not redirected ({why}) and could not be evicted: {}", causes(&error));
                self.tell(subject, "failed", "EvictionFailed", &message).await;
            }
        }
    }

    async fn tell(&self, subject: &Subject, outcome: &'static str, reason: &str, message: &str) {
        self.metrics.repairs.get_or_create(&Outcome { outcome }).inc();
        tracing::warn!(pod = %subject.name, reason, message);
        self.events.tell(&subject.name, reason, message).await;
    }
}

/// A Pod that this plugin is to redirect, and that has a network.
fn subject(pod: &Pod) -> Option<Subject> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let status = pod.status.as_ref()?;
    let lives = matches!(status.phase.as_deref(), Some("Pending" | "Running"));
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let ours = annotations::wants_redirection(annotations) && annotations.contains_key(REDIRECT_TRAFFIC_CONFIG);
    if !ours || !lives || on_host || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let addresses: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    let mut containers = status.container_statuses.iter().flatten();
    let runs = containers.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    (!addresses.is_empty()).then(|| Subject {
        name: pods::name(pod),
        annotations: annotations.clone(),
        addresses,
        runs,
    })
}

/// Looks into a namespace, and puts the rules in force where that is wanted. Nothing is dialled: the Pod may be at work.
fn look(netns: &NetNs, subject: &Subject, apply: bool) -> Found {
    let policy = match annotations::policy(&subject.annotations, &subject.addresses, &subject.name.to_string()) {
        Ok(policy) => policy,
        Err(error) => return Found::Unknown(error.to_string()),
    };
    let looked = netns.run(|| verify(&policy, apply));
    looked.unwrap_or_else(|error| Found::Unknown(causes(&error)))
}

fn verify(policy: &Policy, apply: bool) -> Found {
    let verified = match redirect::verify(policy) {
        Ok(verified) => verified,
        Err(error) => return Found::Unknown(causes(&error)),
    };
    if verified.drift.is_empty() {
        return Found::InForce;
    }
    let mut why: Vec<String> = verified.drift.iter().take(3).map(ToString::to_string).collect();
    if verified.drift.len() > why.len() {
        why.push(format!("and {} more", verified.drift.len() - why.len()));
    }
    let why = why.join("; ");
    if !apply {
        return Found::NotInForce(why);
    }
    match redirect::apply(policy) {
        Ok(_) => Found::PutInForce(why),
        Err(error) => Found::NotInForce(format!("{why}; {}", causes(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redirect::contract::{CONNECT_INJECT_STATUS, DUAL_STACK};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": "web-1", "uid": "u", "annotations": {
                CONNECT_INJECT_STATUS: "injected",
                TRANSPARENT_PROXY_STATUS: "enabled",
                REDIRECT_TRAFFIC_CONFIG: "{}",
                DUAL_STACK: "false",
            }},
            "spec": {"containers": []},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]},
        });
        change(&mut pod);
        serde_json::from_value(pod).expect("a Pod")
    }

    #[test]
    fn a_pod_of_the_mesh_with_a_network() {
        let subject = subject(&pod(|_| {})).expect("a subject");
        assert_eq!(subject.name.to_string(), "shop/web-1");
        assert_eq!(subject.addresses.len(), 2);
        assert!(!subject.runs);
    }

    #[rstest]
    #[case::not_injected("/metadata/annotations/consul.hashicorp.com~1connect-inject-status", json!(""))]
    #[case::not_transparent("/metadata/annotations/consul.hashicorp.com~1transparent-proxy-status", json!(""))]
    #[case::no_network_yet("/status/podIPs", json!([]))]
    #[case::ended("/status/phase", json!("Succeeded"))]
    #[case::ends("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))]
    #[case::on_the_host("/spec/hostNetwork", json!(true))]
    #[case::by_init_container("/metadata/annotations", json!({CONNECT_INJECT_STATUS: "injected", TRANSPARENT_PROXY_STATUS: "enabled"}))]
    fn others_are_left_alone(#[case] field: &str, #[case] value: Value) {
        let changed = pod(|pod| {
            let (parent, name) = field.rsplit_once('/').expect("a pointer");
            let name = name.replace("~1", "/");
            pod.pointer_mut(parent).expect("a parent")[&name] = value;
        });
        assert_eq!(subject(&changed), None);
    }
}
