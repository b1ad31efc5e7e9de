//! A bed of several clusters: what is about one of them goes to that part, and what is about all of them to all.

use std::net::{IpAddr, SocketAddr};

use ::sim::{Impairment, ProbeOutcome};
use anyhow::Result;
use async_trait::async_trait;
use capture::Recorder;
use futures::future::join_all;

use super::{Bed, Credentials, RuleDump, Timing};
use crate::cluster::Cluster;
use crate::pods::{PodRef, Pods};
use crate::settings::Settings;
use crate::vocabulary::parameters::{Certificate, Component, State, Verdict};

/// Beds by the names of their clusters. They share a recorder.
pub struct Joined {
    first: Box<dyn Bed>,
    parts: Vec<(String, Box<dyn Bed>)>,
    name: String,
}

impl Joined {
    /// Of a first cluster, which is meant when none is named, and others.
    #[must_use]
    pub fn new(first: (String, Box<dyn Bed>), others: Vec<(String, Box<dyn Bed>)>) -> Self {
        Self { name: first.0, first: first.1, parts: others }
    }

    fn of(&self, pod: &PodRef) -> &dyn Bed {
        self.at(pod.at())
    }
}

#[async_trait]
impl Bed for Joined {
    fn at(&self, cluster: Option<&str>) -> &dyn Bed {
        let other = cluster.filter(|name| *name != self.name);
        let found = other.and_then(|name| self.parts.iter().find(|(known, _)| known == name));
        found.map_or(&*self.first, |(_, part)| &**part)
    }

    fn name(&self) -> Option<&str> {
        None
    }

    fn parts(&self) -> Vec<&dyn Bed> {
        std::iter::once(&*self.first).chain(self.parts.iter().map(|(_, part)| &**part)).collect()
    }

    fn cluster(&self) -> &Cluster {
        self.first.cluster()
    }

    fn pods(&self) -> &Pods {
        self.first.pods()
    }

    fn recorder(&self) -> &Recorder {
        self.first.recorder()
    }

    fn timing(&self) -> Timing {
        self.first.timing()
    }

    fn nodes(&self) -> Vec<(String, Vec<IpAddr>)> {
        self.parts().into_iter().flat_map(Bed::nodes).collect()
    }

    fn cluster_dns(&self) -> IpAddr {
        self.first.cluster_dns()
    }

    fn gateways(&self) -> Vec<PodRef> {
        self.parts().into_iter().flat_map(Bed::gateways).collect()
    }

    fn virtual_ip(&self, namespace: &str, service: &str) -> Option<IpAddr> {
        self.first.virtual_ip(namespace, service)
    }

    fn server_name(&self, namespace: &str, service: &str) -> String {
        self.first.server_name(namespace, service)
    }

    async fn external(&self, name: &str, address: SocketAddr) -> Result<()> {
        self.first.external(name, address).await
    }

    fn external_addresses(&self, address: IpAddr) -> Vec<IpAddr> {
        self.first.external_addresses(address)
    }

    fn unannounced(&self, pod: &PodRef) -> Vec<IpAddr> {
        self.of(pod).unannounced(pod)
    }

    async fn impair(&self, pod: &PodRef, impairment: Impairment) -> Result<()> {
        self.of(pod).impair(pod, impairment).await
    }

    async fn probe(&self, pod: &PodRef) -> Result<Vec<ProbeOutcome>> {
        self.of(pod).probe(pod).await
    }

    async fn rules(&self, pod: &PodRef) -> Result<Option<RuleDump>> {
        self.of(pod).rules(pod).await
    }

    async fn admin(&self, pod: &PodRef, path: &str) -> Result<String> {
        self.of(pod).admin(pod, path).await
    }

    async fn default_intention(&self, verdict: Verdict) -> Result<()> {
        for part in self.parts() {
            part.default_intention(verdict).await?;
        }
        Ok(())
    }

    async fn converge(&self) -> Result<()> {
        // what the last one heard of only now, the first ones are to hear as well
        for part in self.parts().into_iter().chain(self.parts()) {
            part.converge().await?;
        }
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        self.parts().into_iter().flat_map(Bed::problems).collect()
    }

    fn rejected(&self) -> Vec<(String, String)> {
        self.parts().into_iter().flat_map(Bed::rejected).collect()
    }

    async fn credentials(&self, certificate: &Certificate, namespace: &str, service: &str) -> Result<Credentials> {
        self.first.credentials(certificate, namespace, service).await
    }

    async fn component(
        &self,
        component: Component,
        of: Option<&PodRef>,
        state: State,
        settings: &Settings,
    ) -> Result<()> {
        if let Some(pod) = of {
            return self.of(pod).component(component, of, state, settings).await;
        }
        for part in self.parts() {
            part.component(component, None, state, settings).await?;
        }
        Ok(())
    }

    async fn run_plugins(&self, pod: &PodRef, verb: &str) -> Result<()> {
        self.of(pod).run_plugins(pod, verb).await
    }

    async fn reconfigure(&self, settings: &Settings) -> Result<()> {
        for part in self.parts() {
            part.reconfigure(settings).await?;
        }
        Ok(())
    }

    fn chained_plugins(&self) -> Result<Vec<String>> {
        self.first.chained_plugins()
    }

    fn join_line(&self, pod: &PodRef) -> String {
        self.of(pod).join_line(pod)
    }

    async fn stop(&self) {
        join_all(self.parts().into_iter().map(Bed::stop)).await;
    }
}
