//! Points a Pod's resolver to the sidecar, with the cluster's own name servers behind it.
//!
//! glibc asks them in this order and goes on to the next where one refuses or fails. musl asks all at once, ignores refusals,
//! and believes the first that knows or denies a name: whatever the order, its programs find names of Consul for certain only
//! where the cluster's DNS passes the domain `consul` on (a stub domain), or `-cluster-dns` names servers that do.

use crate::Settings;
use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};

/// Kubernetes accepts no more name servers than these.
const NAMESERVERS: usize = 3;

/// Kubernetes accepts no more search domains than these.
const SEARCHES: usize = 32;

/// Options that are written, each with the resolver's default, which is left out.
const OPTIONS: [(&str, &str); 3] = [("ndots", "1"), ("timeout", "5"), ("attempts", "2")];

/// Whether the Pod has a resolver of its own, which nothing can be put in front of.
pub(crate) fn is_taken(spec: &PodSpec) -> bool {
    let servers = spec.dns_config.as_ref().and_then(|config| config.nameservers.as_ref());
    servers.is_some_and(|servers| !servers.is_empty()) || spec.dns_policy.as_deref() == Some("None")
}

/// Replaces the Pod's resolver configuration; search domains and options of its own stay, and its options win.
pub(crate) fn configure(spec: &mut PodSpec, namespace: &str, settings: &Settings) {
    let cluster = settings.resolv.nameservers.iter().map(String::as_str);
    let nameservers =
        std::iter::once(settings.loopback()).chain(cluster).take(NAMESERVERS).map(str::to_owned).collect();
    let own = format!("{}.svc.", settings.release_namespace);
    let mut searches: Vec<String> = settings
        .resolv
        .searches
        .iter()
        .map(|search| match search.strip_prefix(&own) {
            Some(domain) => format!("{namespace}.svc.{domain}"),
            None => search.clone(),
        })
        .collect();
    let mut options: Vec<_> = OPTIONS
        .iter()
        .filter_map(|(name, default)| {
            let value = settings.resolv.option(name).filter(|value| value != default)?;
            Some(PodDNSConfigOption { name: Some((*name).to_owned()), value: Some(value.to_owned()) })
        })
        .collect();
    if let Some(PodDNSConfig { searches: further, options: chosen, .. }) = spec.dns_config.take() {
        for search in further.unwrap_or_default() {
            if !searches.contains(&search) && searches.len() < SEARCHES {
                searches.push(search);
            }
        }
        let chosen = chosen.unwrap_or_default();
        options.retain(|option| chosen.iter().all(|own| own.name != option.name));
        options.extend(chosen);
    }
    spec.dns_policy = Some("None".to_owned());
    spec.dns_config =
        Some(PodDNSConfig { nameservers: Some(nameservers), searches: Some(searches), options: Some(options) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolv::ResolvConf;
    use rstest::rstest;
    use serde_json::{Value, json};

    const CLUSTER: &str =
        "search consul.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";

    #[rstest]
    #[case::usual(CLUSTER, json!({}), json!({
        "nameservers": ["127.0.0.1", "10.96.0.10"],
        "searches": ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        "options": [{"name": "ndots", "value": "5"}],
    }))]
    #[case::defaults_are_left_out(
        "nameserver 10.0.0.1\noptions ndots:1 timeout:5 attempts:2 rotate\n",
        json!({}),
        json!({"nameservers": ["127.0.0.1", "10.0.0.1"], "searches": [], "options": []})
    )]
    #[case::three_servers_at_most(
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n",
        json!({}),
        json!({"nameservers": ["127.0.0.1", "10.0.0.1", "10.0.0.2"], "searches": [], "options": []})
    )]
    #[case::own_options_and_searches(
        CLUSTER,
        json!({"dnsConfig": {
            "searches": ["example.com", "cluster.local"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        }}),
        json!({
            "nameservers": ["127.0.0.1", "10.96.0.10"],
            "searches": ["web.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        })
    )]
    fn the_resolver_of_a_pod(
        #[case] resolv: &str,
        #[case] mut spec: Value,
        #[case] expected: Value,
    ) -> Result<(), serde_json::Error> {
        spec["containers"] = json!([]);
        let mut spec: PodSpec = serde_json::from_value(spec)?;
        let settings = Settings { resolv: ResolvConf::parse(resolv), ..Settings::default() };
        assert!(!is_taken(&spec));
        configure(&mut spec, "web", &settings);
        assert_eq!(serde_json::to_value(&spec.dns_config)?, expected);
        assert_eq!(spec.dns_policy.as_deref(), Some("None"));
        Ok(())
    }

    #[rstest]
    #[case::servers(json!({"dnsConfig": {"nameservers": ["8.8.8.8"]}}), true)]
    #[case::none(json!({"dnsPolicy": "None"}), true)]
    #[case::cluster_first(json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"nameservers": []}}), false)]
    fn a_resolver_of_its_own(#[case] mut spec: Value, #[case] taken: bool) -> Result<(), serde_json::Error> {
        spec["containers"] = json!([]);
        assert_eq!(is_taken(&serde_json::from_value(spec)?), taken);
        Ok(())
    }
}
