//! What `a mesh with:` may say: Helm values of the chart and the settings of the test bed, merged until the lab starts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use redirect::Backend;
use sim::{Families, Missing, Primary};

use crate::later::{Issue, comes_with, other_version};
use crate::nearest::nearest;
use crate::preflight::Plan;
use crate::topology::Topology;
use crate::vocabulary::parameters::{Mechanism, Verdict};

mod acls;
mod partitions;

/// Helm values that mean something here.
const HELM: &[&str] = &[
    "connectInject.enabled",
    "connectInject.default",
    "connectInject.k8sAllowNamespaces",
    "connectInject.k8sDenyNamespaces",
    "connectInject.aclBindingRuleSelector",
    "connectInject.transparentProxy.defaultEnabled",
    "connectInject.transparentProxy.defaultOverwriteProbes",
    "connectInject.cni.enabled",
    "connectInject.cni.namespace",
    "connectInject.cni.cniBinDir",
    "connectInject.cni.cniNetDir",
    "connectInject.cni.autorotateToken",
    "connectInject.sidecarProxy.lifecycle.defaultEnabled",
    "connectInject.sidecarProxy.lifecycle.defaultEnableShutdownDrainListeners",
    "connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds",
    "connectInject.sidecarProxy.lifecycle.defaultGracefulPort",
    "connectInject.sidecarProxy.lifecycle.defaultGracefulShutdownPath",
    "connectInject.dataplaneAsSidecarInitContainer.defaultEnabled",
    "connectInject.metrics.defaultEnabled",
    "connectInject.metrics.defaultEnableMerging",
    "dns.enabled",
    "dns.enableRedirection",
    "dns.proxy.enabled",
    "global.datacenter",
    "global.tls.enabled",
    "global.acls.manageSystemACLs",
    "global.peering.enabled",
    "global.federation.enabled",
    "global.federation.createFederationSecret",
    "global.adminPartitions.enabled",
    "global.adminPartitions.name",
    "global.enableConsulNamespaces",
    "global.metrics.enabled",
    "global.dualStack.enabled",
    "meshGateway.enabled",
    "meshGateway.service.type",
    "meshGateway.service.nodePort",
    "server.enabled",
    "externalServers.enabled",
    "externalServers.hosts",
];

/// Settings of the bed, which no Helm value expresses.
const BED: &[&str] = &[
    "consul version",
    "chart version",
    "version",
    "cni version",
    "control plane version",
    "redirection",
    "rule backend",
    "primary network",
    "pod addresses",
    "nodes",
    "node lacks",
    "failing rule",
    "repair",
    "runtime passes annotations",
    "cluster DNS forwards",
];

/// Everything said about the mesh so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// The default intention, when a step named one.
    pub default_intention: Option<Verdict>,
}

impl Settings {
    /// Takes over rows of setting and value.
    ///
    /// # Errors
    /// Names every setting that does not exist, each with the nearest that does.
    pub fn merge(&mut self, rows: &[(String, String)]) -> Result<()> {
        let mut unknown = Vec::new();
        for (key, value) in rows {
            let key = if key == "cni.enabled" { "connectInject.cni.enabled" } else { key.as_str() };
            if key == "connectInject.cni.enabled" {
                // says who redirects, as an earlier step may have done in other words: the later holds
                self.values.remove("redirection");
            }
            if HELM.contains(&key) || BED.contains(&key) {
                self.values.insert(key.to_owned(), value.clone());
            } else {
                let like = nearest(key, HELM.iter().chain(BED).copied()).unwrap_or_default();
                unknown.push(format!("{key:?} (the nearest that exists is {like:?})"));
            }
        }
        if !unknown.is_empty() {
            bail!("set up a mesh: neither a Helm value nor a setting of the bed: {}", unknown.join(", "));
        }
        Ok(())
    }

    /// Takes over the mechanism of redirection.
    pub fn redirect_by(&mut self, mechanism: Mechanism) {
        self.values.insert("redirection".to_owned(), mechanism.to_string());
    }

    /// Has rules go through a program, where they can be edited on their way.
    pub fn go_through_iptables(&mut self) {
        self.values.entry("rule backend".to_owned()).or_insert_with(|| Backend::IptablesNft.to_string());
    }

    /// What was said about `key`; `default` means that nothing was.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|v| *v != "default")
    }

    /// A truth value, or what the chart has.
    ///
    /// # Errors
    /// When the value is neither `true` nor `false`.
    pub fn flag(&self, key: &str, chart: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(chart),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => bail!("set {key} to {other:?}: it is true or false"),
        }
    }

    /// A number, or what the chart has.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn number(&self, key: &str, chart: u32) -> Result<u32> {
        self.get(key).map_or(Ok(chart), |v| v.parse().with_context(|| format!("set {key} to {v:?}: it is a number")))
    }

    /// A list, as the chart takes it: names separated by commas, in brackets or not.
    #[must_use]
    pub fn list(&self, key: &str) -> Option<Vec<String>> {
        let text = self.get(key)?.trim_start_matches('[').trim_end_matches(']');
        Some(text.split(',').map(|n| n.trim().trim_matches('"').to_owned()).filter(|n| !n.is_empty()).collect())
    }

    /// `connectInject.enabled`: whether there is an injector at all.
    ///
    /// # Errors
    /// As [`Settings::flag`].
    pub fn injector(&self) -> Result<bool> {
        self.flag("connectInject.enabled", true)
    }

    /// Refuses to change what only a new lab can have.
    ///
    /// # Errors
    /// Names the setting.
    pub fn changeable(&self, before: &Self) -> Result<()> {
        const FIXED: &[&str] = &[
            "nodes",
            "node lacks",
            "failing rule",
            "pod addresses",
            "rule backend",
            "global.datacenter",
            "global.acls.manageSystemACLs",
            "connectInject.aclBindingRuleSelector",
            "global.adminPartitions.enabled",
            "global.adminPartitions.name",
            "global.enableConsulNamespaces",
        ];
        match FIXED.iter().find(|key| self.get(key) != before.get(key)) {
            Some(key) => bail!(
                "change {key} of a running mesh to {:?}: it is settled when the mesh is set up, by `a mesh with:`",
                self.get(key).unwrap_or("default")
            ),
            None => Ok(()),
        }
    }

    /// `connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds`, when a step says something of it.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn shutdown_grace(&self) -> Result<Option<u32>> {
        const KEY: &str = "connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds";
        self.get(KEY).map(|_| self.number(KEY, 30)).transpose()
    }

    /// `connectInject.transparentProxy.defaultEnabled`.
    ///
    /// # Errors
    /// As [`Settings::flag`].
    pub fn transparent_proxy(&self) -> Result<bool> {
        self.flag("connectInject.transparentProxy.defaultEnabled", true)
    }

    /// `connectInject.transparentProxy.defaultOverwriteProbes`.
    ///
    /// # Errors
    /// As [`Settings::flag`].
    pub fn overwrite_probes(&self) -> Result<bool> {
        self.flag("connectInject.transparentProxy.defaultOverwriteProbes", true)
    }

    /// Whether Pods get Consul DNS by default: `dns.enabled` and `dns.enableRedirection`, each of which follows
    /// transparent proxy when it is not set.
    ///
    /// # Errors
    /// As [`Settings::flag`].
    pub fn consul_dns(&self) -> Result<bool> {
        let like = self.transparent_proxy()?;
        Ok(self.flag("dns.enabled", like)? && self.flag("dns.enableRedirection", like)?)
    }

    /// Whether the cluster's DNS passes questions about the domain `consul` on to Consul: what an operator sets up where
    /// `dns.enabled` is true and Pods are not redirected to Consul's DNS, and may set up beside redirection too.
    ///
    /// # Errors
    /// As [`Settings::flag`], or when it is another domain.
    pub fn forwards_consul(&self) -> Result<bool> {
        match self.get("cluster DNS forwards") {
            None => Ok(self.flag("dns.enabled", false)? && !self.consul_dns()?),
            Some("consul") => Ok(true),
            Some("nothing") => Ok(false),
            Some(other) => bail!("have the cluster DNS forward {other:?}: it is \"consul\" or \"nothing\""),
        }
    }

    /// Who redirects.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn mechanism(&self) -> Result<Mechanism> {
        if let Some(text) = self.get("redirection") {
            return text.parse().context("set the redirection: it is \"init container\" or \"CNI plugin\"");
        }
        Ok(match self.flag("connectInject.cni.enabled", false)? {
            true => Mechanism::CniPlugin,
            false => Mechanism::InitContainer,
        })
    }

    /// Whether the CNI plugin redirects.
    ///
    /// # Errors
    /// As [`Self::mechanism`].
    pub fn is_cni(&self) -> Result<bool> {
        Ok(self.mechanism()? == Mechanism::CniPlugin)
    }

    /// Whether the container runtime hands the Pods' annotations to CNI plugins.
    ///
    /// # Errors
    /// When the value is no truth value.
    pub fn passes_annotations(&self) -> Result<bool> {
        self.flag("runtime passes annotations", true)
    }

    /// What the primary network's agent does when a node starts.
    ///
    /// # Errors
    /// When the value is none that is known.
    pub fn primary_network(&self) -> Result<Primary> {
        match self.get("primary network") {
            None => Ok(Primary::Keeps),
            Some("rewrites its configuration") => Ok(Primary::Rewrites),
            Some(other) => bail!(
                "set the primary network to {other:?}: here it is the simulator's own, which may be said to be one that \
                 \"rewrites its configuration\" when a node starts; kindnet, calico and flannel need a kind cluster"
            ),
        }
    }

    /// Address families of Pods and Services.
    ///
    /// # Errors
    /// When the value is none of the three.
    pub fn families(&self) -> Result<Families> {
        match self.get("pod addresses") {
            None if self.flag("global.dualStack.enabled", false)? => Ok(Families::Dual),
            None => Ok(Families::V4),
            // said, it is what the cluster is configured for; `pod6(x)` shows what else its interfaces have
            Some("IPv4") => Ok(Families::UnannouncedV6),
            Some("IPv6") => Ok(Families::V6),
            Some("dual-stack") => Ok(Families::Dual),
            Some(other) => bail!("set the pod addresses to {other:?}: they are IPv4, IPv6 or dual-stack"),
        }
    }

    /// Whether the product is told to redirect IPv6 too, which Consul calls dual stack also where there is no IPv4.
    ///
    /// # Errors
    /// As [`Settings::families`].
    pub fn redirects_ipv6(&self) -> Result<bool> {
        Ok(matches!(self.families()?, Families::V6 | Families::Dual))
    }

    /// Number of nodes.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn nodes(&self) -> Result<usize> {
        match usize::try_from(self.number("nodes", 1)?)? {
            0 => bail!("set nodes to \"0\": there is at least one"),
            nodes => Ok(nodes),
        }
    }

    /// What the nodes' kernel lacks.
    ///
    /// # Errors
    /// When the value names nothing that can be taken away.
    pub fn lacks(&self) -> Result<Vec<Missing>> {
        match self.get("node lacks") {
            None => Ok(Vec::new()),
            Some("ip_tables") => Ok(vec![Missing::IpTables]),
            Some(other) => bail!("take {other:?} from the nodes: only ip_tables can be taken away"),
        }
    }

    /// The rule, counted from 1, that the kernel refuses.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn failing_rule(&self) -> Result<Option<u32>> {
        self.get("failing rule").map(|_| self.number("failing rule", 0)).transpose()
    }

    /// How init containers install rules.
    ///
    /// # Errors
    /// When the value is no backend.
    pub fn backend(&self) -> Result<Backend> {
        self.get("rule backend").map_or(Ok(Backend::Auto), |text| {
            text.parse().map_err(|wrong| anyhow::anyhow!("use the rule backend: {wrong}"))
        })
    }

    /// Name of the datacenter.
    #[must_use]
    pub fn datacenter(&self) -> &str {
        self.get("global.datacenter").unwrap_or("dc1")
    }

    /// The port of the nodes by which mesh gateways are reached, when a step says another than the manifest.
    ///
    /// # Errors
    /// When it is none, or the Service is to be of another type.
    pub fn gateway_port(&self) -> Result<Option<u16>> {
        if let Some(other) = self.get("meshGateway.service.type").filter(|kind| *kind != "NodePort") {
            bail!("set meshGateway.service.type to {other:?}: here others reach gateways by a NodePort");
        }
        let Some(text) = self.get("meshGateway.service.nodePort") else { return Ok(None) };
        let port = text.parse().ok().filter(|port| (30000..=32767).contains(port));
        port.map(Some).with_context(|| format!("set meshGateway.service.nodePort to {text:?}: it is 30000 to 32767"))
    }

    /// Where the servers are that are not the cluster's own: `externalServers.hosts`, if `externalServers.enabled`.
    ///
    /// # Errors
    /// When it is enabled and says no hosts, or is not and `server.enabled` is false.
    pub fn external_servers(&self) -> Result<Option<&str>> {
        let own = self.flag("server.enabled", true)?;
        match (self.flag("externalServers.enabled", false)?, self.get("externalServers.hosts")) {
            (true, None) => bail!("externalServers.hosts must be set if externalServers.enabled is true"),
            (true, hosts) => Ok(hosts),
            (false, _) if own => Ok(None),
            (false, _) => bail!("set externalServers.enabled to true if server.enabled is false: a mesh needs servers"),
        }
    }

    /// What the preflight check looks at.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn plan(&self) -> Result<Plan> {
        let own = |key| self.get(key).map(str::to_owned);
        Ok(Plan { consul: own("consul version"), chart: own("chart version"), cni: self.is_cni()? })
    }

    /// Refuses what this bed cannot build yet, by name.
    ///
    /// # Errors
    /// Names the setting and the issue that brings it.
    pub fn buildable(&self, topology: Option<&Topology>) -> Result<()> {
        self.mechanism()?;
        let refused =
            [("global.tls.enabled", "true", Issue::Mesh), ("global.peering.enabled", "true", Issue::Clusters)];
        for (key, value, issue) in refused {
            if self.get(key) == Some(value) {
                return Err(comes_with(&format!("{key}={value}"), issue));
            }
        }
        let of_links = ["global.federation.enabled", "meshGateway.enabled", "externalServers.enabled"];
        if let (None, Some(key)) = (topology, of_links.into_iter().find(|key| self.get(key) == Some("true"))) {
            bail!(
                "set {key} to true: it is about several clusters, which a step must name: `clusters \"a\" and \"b\" …`"
            );
        }
        let acls = self.acls()?;
        if let Some(topology) = topology {
            topology.layout(self)?;
            if acls.is_some() {
                bail!(
                    "set global.acls.manageSystemACLs to true: of several clusters the servers ask for no tokens here"
                );
            }
        }
        self.partitions_fit(topology.is_some())?;
        self.external_servers()?;
        self.gateway_port()?;
        self.primary_network()?;
        for key in ["version", "cni version", "control plane version"] {
            if let Some(value) = self.get(key) {
                return Err(other_version(&format!("{key} {value}")));
            }
        }
        self.nodes()?;
        self.failing_rule()?;
        self.consul_dns()?;
        self.forwards_consul()?;
        self.injector()?;
        self.overwrite_probes()?;
        for key in [
            "connectInject.default",
            "connectInject.metrics.defaultEnabled",
            "connectInject.metrics.defaultEnableMerging",
            "connectInject.sidecarProxy.lifecycle.defaultEnabled",
            "connectInject.sidecarProxy.lifecycle.defaultEnableShutdownDrainListeners",
            "global.metrics.enabled",
        ] {
            self.flag(key, false)?;
        }
        self.backend()?;
        self.families()?;
        self.lacks()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn later_settings_win_and_default_means_the_chart() {
        let mut settings = Settings::default();
        settings.merge(&rows(&[("connectInject.transparentProxy.defaultEnabled", "false")])).expect("a Helm value");
        assert!(!settings.transparent_proxy().expect("a truth value"));
        settings.merge(&rows(&[("connectInject.transparentProxy.defaultEnabled", "default")])).expect("a Helm value");
        assert!(settings.transparent_proxy().expect("a truth value"));
    }

    #[rstest::rstest]
    #[case::off_by_default("default", Mechanism::InitContainer)]
    #[case::off("false", Mechanism::InitContainer)]
    #[case::on("true", Mechanism::CniPlugin)]
    fn the_chart_says_who_redirects_after_a_step_said_it(#[case] enabled: &str, #[case] expected: Mechanism) {
        let mut settings = Settings::default();
        for earlier in [Mechanism::InitContainer, Mechanism::CniPlugin] {
            settings.redirect_by(earlier);
            settings.merge(&rows(&[("connectInject.cni.enabled", enabled)])).expect("a Helm value");
            assert_eq!(settings.mechanism().expect("a mechanism"), expected);
        }
        settings.redirect_by(Mechanism::CniPlugin);
        assert_eq!(settings.mechanism().expect("a mechanism"), Mechanism::CniPlugin);
    }

    #[test]
    fn unknown_settings_are_all_named_with_the_nearest() {
        let error = Settings::default()
            .merge(&rows(&[("connectInject.transparentProxy.defaultEnable", "x"), ("node", "2")]))
            .expect_err("two mistakes");
        let text = error.to_string();
        assert!(text.contains("\"connectInject.transparentProxy.defaultEnabled\""), "{text}");
        assert!(text.contains("\"nodes\""), "{text}");
    }

    #[rstest::rstest]
    #[case::as_the_chart_has_it(&[], false)]
    #[case::with_redirection(&[("dns.enabled", "true"), ("dns.enableRedirection", "true")], false)]
    #[case::without_redirection(&[("dns.enabled", "true"), ("dns.enableRedirection", "false")], true)]
    #[case::without_dns(&[("dns.enabled", "false")], false)]
    #[case::both(&[("cluster DNS forwards", "consul")], true)]
    #[case::neither(
        &[("dns.enabled", "true"), ("dns.enableRedirection", "false"), ("cluster DNS forwards", "nothing")], false
    )]
    fn who_passes_names_of_consul_on(#[case] said: &[(&str, &str)], #[case] forwards: bool) {
        let mut settings = Settings::default();
        settings.merge(&rows(said)).expect("settings");
        assert_eq!(settings.forwards_consul().expect("a truth value"), forwards);
    }

    #[test]
    fn consul_dns_follows_transparent_proxy() {
        let mut settings = Settings::default();
        assert!(settings.consul_dns().expect("chart defaults"));
        settings.merge(&rows(&[("dns.enableRedirection", "false")])).expect("a Helm value");
        assert!(!settings.consul_dns().expect("a truth value"));
    }

    #[test]
    fn a_running_mesh_keeps_what_only_a_new_one_can_have() {
        let before = Settings::default();
        let mut after = before.clone();
        after.merge(&rows(&[("connectInject.default", "true")])).expect("a Helm value");
        after.changeable(&before).expect("a flag of the webhook");
        after.merge(&rows(&[("nodes", "3")])).expect("a setting of the bed");
        let error = after.changeable(&before).expect_err("nodes").to_string();
        assert!(error.contains("nodes") && error.contains("\"3\""), "{error}");
    }

    #[test]
    fn there_is_at_least_one_node() {
        let mut settings = Settings::default();
        settings.merge(&rows(&[("nodes", "0")])).expect("a setting of the bed");
        assert!(settings.nodes().is_err());
    }

    #[test]
    fn what_comes_later_says_so() {
        let mut settings = Settings::default();
        settings.merge(&rows(&[("global.peering.enabled", "true")])).expect("a Helm value");
        let error = settings.buildable(None).expect_err("not yet").to_string();
        assert_eq!(error, "\"global.peering.enabled=true\" comes with issue 7 (several clusters)");
    }

    #[rstest::rstest]
    #[case(&[("meshGateway.enabled", "true")], "which a step must name")]
    #[case(&[("server.enabled", "false")], "set externalServers.enabled to true")]
    #[case(&[("global.acls.manageSystemACLs", "maybe")], "it is true or false")]
    fn what_needs_other_clusters_says_so(#[case] said: &[(&str, &str)], #[case] expected: &str) {
        let mut settings = Settings::default();
        settings.merge(&rows(said)).expect("Helm values");
        let error = settings.buildable(None).expect_err("one cluster").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn another_version_is_not_simulated() {
        let mut settings = Settings::default();
        settings.merge(&rows(&[("cni version", "1.5.0")])).expect("a setting of the bed");
        let error = settings.buildable(None).expect_err("another build").to_string();
        assert!(error.starts_with("\"cni version 1.5.0\": the simulator runs"), "{error}");
    }

    #[test]
    fn a_real_primary_network_is_not_simulated() {
        let mut settings = Settings::default();
        settings.merge(&rows(&[("primary network", "calico")])).expect("a setting of the bed");
        let error = settings.buildable(None).expect_err("no kind cluster").to_string();
        assert!(error.contains("\"calico\"") && error.contains("kind cluster"), "{error}");
    }
}
