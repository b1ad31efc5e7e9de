//! The downward API: fields of the Pod and resources of its containers, as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What fields are read from: the object, and what only the node knows.
pub(super) struct Fields<'a> {
    pub(super) pod: &'a Pod,
    pub(super) pod_ips: &'a [IpAddr],
    pub(super) host_ips: &'a [IpAddr],
}

impl Fields<'_> {
    /// The value at a `fieldPath`.
    pub(super) fn field(&self, path: &str) -> Result<String, String> {
        let meta = &self.pod.metadata;
        let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
        if let Some((map, key)) = subscript(path) {
            let map = match map {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return Err(unsupported(path)),
            };
            return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
        let spec = self.pod.spec.as_ref();
        match path {
            "metadata.name" => text(&meta.name),
            "metadata.namespace" => text(&meta.namespace),
            "metadata.uid" => text(&meta.uid),
            "metadata.labels" => Ok(lines(meta.labels.as_ref())),
            "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
            "spec.nodeName" => Ok(spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default()),
            "spec.serviceAccountName" => {
                Ok(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default())
            }
            "status.podIP" => Ok(first(self.pod_ips)),
            "status.podIPs" => Ok(joined(self.pod_ips)),
            "status.hostIP" => Ok(first(self.host_ips)),
            "status.hostIPs" => Ok(joined(self.host_ips)),
            _ => Err(unsupported(path)),
        }
    }

    /// The value of a `resourceFieldRef`; a limit that is not set is the node's capacity, as this machine has it.
    pub(super) fn resource(&self, selector: &ResourceFieldSelector, own: &str) -> Result<String, String> {
        let name = selector.container_name.as_deref().unwrap_or(own);
        let spec = self.pod.spec.as_ref();
        let containers =
            spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let container =
            containers.into_iter().find(|c| c.name == name).ok_or_else(|| format!("container {name} not found"))?;
        let resources = container.resources.clone().unwrap_or_default();
        let (list, resource) = match selector.resource.split_once('.') {
            Some(("limits", resource)) => (resources.limits.clone(), resource),
            Some(("requests", resource)) => (resources.requests.or(resources.limits), resource),
            _ => return Err(format!("unsupported container resource: {}", selector.resource)),
        };
        let value = match list.as_ref().and_then(|list| list.get(resource)) {
            Some(quantity) => amount(quantity)?,
            None if resource == "cpu" => std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            None => 0.0,
        };
        let divisor = selector.divisor.as_ref().map(amount).transpose()?.filter(|d| *d > 0.0).unwrap_or(1.0);
        Ok(format!("{}", (value / divisor).ceil() as i64))
    }
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// `map['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// As a downward API volume writes a map.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().fold(String::new(), |mut text, (key, value)| {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{key}={value:?}");
        text
    })
}

fn first(addresses: &[IpAddr]) -> String {
    addresses.first().map(ToString::to_string).unwrap_or_default()
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn amount(quantity: &Quantity) -> Result<f64, String> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        _ => return Err(format!("quantity {text:?} has an unknown suffix")),
    };
    Ok(number.parse::<f64>().map_err(|e| format!("quantity {text:?}: {e}"))? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("metadata.name", "web")]
    #[case("metadata.labels['app']", "front")]
    #[case("metadata.annotations['a/b']", "x=y")]
    #[case("metadata.labels['absent']", "")]
    #[case("metadata.labels", "app=\"front\"\ntier=\"1\"")]
    #[case("spec.nodeName", "node-0")]
    #[case("status.podIP", "10.244.0.5")]
    #[case("status.podIPs", "10.244.0.5,fd00::5")]
    #[case("status.hostIP", "172.18.0.2")]
    fn fields_are_read(#[case] path: &str, #[case] expected: &str) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "labels": {"app": "front", "tier": "1"}, "annotations": {"a/b": "x=y"}},
            "spec": {"nodeName": "node-0", "containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}}}]},
        }))
        .expect("a pod");
        let pod_ips = ["10.244.0.5".parse().expect("ip"), "fd00::5".parse().expect("ip")];
        let fields = Fields { pod: &pod, pod_ips: &pod_ips, host_ips: &["172.18.0.2".parse().expect("ip")] };
        assert_eq!(fields.field(path).as_deref(), Ok(expected));
        assert_eq!(fields.field("spec.nope"), Err("unsupported fieldPath: spec.nope".into()));
        let resource = |resource: &str| ResourceFieldSelector { resource: resource.into(), ..Default::default() };
        assert_eq!(fields.resource(&resource("limits.memory"), "c").as_deref(), Ok("67108864"));
        assert_eq!(fields.resource(&resource("requests.cpu"), "c").as_deref(), Ok("2"));
    }
}
