//! Points a Pod's resolver to the sidecar, with the cluster's own name servers behind it.

use crate::Settings;
use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};

/// Kubernetes accepts no more name servers than these.
const NAMESERVERS: usize = 3;

/// Options that are written, each with the resolver's default, which is left out.
const OPTIONS: [(&str, &str); 3] = [("ndots", "1"), ("timeout", "5"), ("attempts", "2")];

/// Replaces the Pod's resolver configuration.
pub(crate) fn configure(spec: &mut PodSpec, namespace: &str, settings: &Settings) {
    let cluster = settings.resolv.nameservers.iter().map(String::as_str);
    let nameservers =
        std::iter::once(settings.loopback()).chain(cluster).take(NAMESERVERS).map(str::to_owned).collect();
    let own = format!("{}.svc.", settings.release_namespace);
    let searches = settings.resolv.searches.iter().map(|search| match search.strip_prefix(&own) {
        Some(domain) => format!("{namespace}.svc.{domain}"),
        None => search.clone(),
    });
    let options = OPTIONS.iter().filter_map(|(name, default)| {
        let value = settings.resolv.option(name).filter(|value| value != default)?;
        Some(PodDNSConfigOption { name: Some((*name).to_owned()), value: Some(value.to_owned()) })
    });
    spec.dns_policy = Some("None".to_owned());
    spec.dns_config = Some(PodDNSConfig {
        nameservers: Some(nameservers),
        searches: Some(searches.collect()),
        options: Some(options.collect()),
    });
}
