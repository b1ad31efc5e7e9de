//! The Pod's own files of `/etc`: hosts, hostname, resolv.conf.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// Host name of a Pod: what it asks for, or its name.
pub(super) fn hostname(pod: &Pod) -> String {
    let asked = pod.spec.as_ref().and_then(|spec| spec.hostname_override.clone().or_else(|| spec.hostname.clone()));
    let name = asked.filter(|name| !name.is_empty()).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    // As the kernel limits it, and as kubelets cut it.
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// The files, by name.
pub(super) fn files(pod: &Pod, pod_ips: &[IpAddr], cluster_dns: IpAddr) -> Vec<(String, String)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let spec = pod.spec.clone().unwrap_or_default();
    let hostname = hostname(pod);
    vec![
        ("hosts".into(), hosts(&spec, &hostname, namespace, pod_ips)),
        ("resolv.conf".into(), resolv_conf(&spec, namespace, cluster_dns)),
        ("hostname".into(), format!("{hostname}\n")),
    ]
}

fn hosts(spec: &PodSpec, hostname: &str, namespace: &str, pod_ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
    for address in pod_ips {
        let _ = match spec.subdomain.as_deref().filter(|name| !name.is_empty()) {
            Some(sub) => writeln!(text, "{address}\t{hostname}.{sub}.{namespace}.svc.cluster.local\t{hostname}"),
            None => writeln!(text, "{address}\t{hostname}"),
        };
    }
    let aliases = spec.host_aliases.iter().flatten();
    for alias in aliases {
        let _ = writeln!(
            text,
            "{}\t{}",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
        );
    }
    text
}

fn resolv_conf(spec: &PodSpec, namespace: &str, cluster_dns: IpAddr) -> String {
    let on_host = spec.host_network.unwrap_or(false);
    let cluster = match spec.dns_policy.as_deref() {
        None | Some("ClusterFirst") => !on_host,
        Some("ClusterFirstWithHostNet") => true,
        _ => false,
    };
    let mut servers = Vec::new();
    let mut searches = Vec::new();
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    if cluster {
        servers.push(cluster_dns.to_string());
        searches = vec![format!("{namespace}.svc.cluster.local"), "svc.cluster.local".into(), "cluster.local".into()];
        options.push(("ndots".into(), Some("5".into())));
    } else if spec.dns_policy.as_deref() != Some("None") {
        // The nodes have no resolver of their own: `Default` is the cluster's server, without its search list.
        servers.push(cluster_dns.to_string());
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|(known, _)| known != name);
            options.push((name.clone(), option.value.clone()));
        }
    }
    let mut text = String::new();
    if !searches.is_empty() {
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let words: Vec<_> = options
            .into_iter()
            .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}:{value}")))
            .collect();
        let _ = writeln!(text, "options {}", words.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .expect("a pod")
    }

    #[rstest]
    #[case::nothing_said(
        json!({}),
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
    )]
    #[case::default_policy(json!({"dnsPolicy": "Default"}), "nameserver 10.96.0.10\n")]
    #[case::host_network(json!({"hostNetwork": true}), "nameserver 10.96.0.10\n")]
    #[case::own_configuration(
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1", "10.96.0.10"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
        "search a.b\nnameserver 127.0.0.1\nnameserver 10.96.0.10\noptions ndots:2 edns0\n"
    )]
    #[case::added_to_the_clusters(
        json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:1\n"
    )]
    fn resolv_conf_follows_the_dns_policy(#[case] spec: Value, #[case] expected: &str) {
        let pod = pod(spec);
        assert_eq!(resolv_conf(&pod.spec.expect("spec"), "shop", "10.96.0.10".parse().expect("ip")), expected);
    }

    #[test]
    fn hosts_has_the_pod_and_its_aliases() {
        let pod = pod(json!({"subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]}));
        let files = files(&pod, &["10.244.0.5".parse().expect("ip")], "10.96.0.10".parse().expect("ip"));
        let hosts = &files[0].1;
        assert!(hosts.ends_with("10.244.0.5\tweb-0.db.shop.svc.cluster.local\tweb-0\n1.2.3.4\tx\ty\n"), "{hosts}");
        assert_eq!(files[2].1, "web-0\n");
    }
}
