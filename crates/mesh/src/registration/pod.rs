//! One Pod as an instance of one Service: names, ports, probes, upstreams.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodStatus, Probe, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;

/// Pod annotation: tags of the instance, comma separated.
const SERVICE_TAGS: &str = "consul.hashicorp.com/service-tags";
/// Pod annotations that begin so become metadata of the instance.
const SERVICE_META: &str = "consul.hashicorp.com/service-meta-";

/// The instance, nothing when the Pod is not to be registered for this Service, or why it cannot be.
pub(super) fn instance(scope: &Scope<'_>, endpoint: &Endpoint, pod: &Pod) -> Result<Option<Instance>, String> {
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    let label = |key: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let name_of_service = scope.service.metadata.name.clone().unwrap_or_default();
    if annotation(contract::KUBERNETES_SERVICE).is_some_and(|wanted| wanted != name_of_service)
        || annotation(contract::CONNECT_INJECT_STATUS) != Some(contract::INJECTED)
        || label(contract::CONNECT_INJECT_MANAGED_BY) != Some(contract::MANAGED_BY)
    {
        return Ok(None);
    }
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Ok(None) };
    let (Some(node), Some(host_ip)) = (&spec.node_name, &status.host_ip) else { return Ok(None) };
    let Some(address) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()) else { return Ok(None) };

    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let names = listed(annotation(contract::CONNECT_SERVICE));
    // a Pod of several services has one proxy for each, and the Services that select it say which is meant
    let place = if names.len() > 1 { names.iter().position(|name| *name == name_of_service) } else { None };
    let service = match names.as_slice() {
        [one] => (*one).to_owned(),
        _ => name_of_service.clone(),
    };
    let index = place.unwrap_or_default();
    let port = application_port(&spec.containers, place, annotation)?;
    let transparent = match annotation(contract::TRANSPARENT_PROXY).and_then(go::bool) {
        Some(said) => said,
        None => annotation(contract::TRANSPARENT_PROXY_STATUS).is_some_and(|s| !s.is_empty()),
    };
    let upstreams = match annotation(contract::CONNECT_SERVICE_UPSTREAMS) {
        Some(_) if index > 0 => Ok(Vec::new()),
        Some(list) => upstreams::parse(list, scope.tenancy, |name| container_port(&spec.containers, name)),
        None => Ok(Vec::new()),
    };
    Ok(Some(Instance {
        id: format!("{pod_name}-{service}"),
        proxy_id: format!("{pod_name}-{service}-sidecar-proxy"),
        cluster: scope.cluster,
        node: format!("{node}{}", contract::NODE_SUFFIX),
        node_address: host_ip.clone(),
        address,
        other_addresses: other_addresses(status, address),
        sidecar: match annotation(contract::DUAL_STACK) {
            Some("true") => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        },
        port,
        proxy_port: u16::try_from(index).unwrap_or_default() + contract::INBOUND_PORT,
        // what cannot be read is passed over, as in Consul
        proxy_config: annotation(contract::PROXY_CONFIG_MAP)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
        port_name: named_port(scope.service, "", port, &spec.containers).name,
        more_ports: match place {
            Some(_) => Vec::new(),
            None => more_ports(scope.service, annotation(contract::CONNECT_SERVICE_PORT), port, &spec.containers),
        },
        cluster_ips: if transparent { cluster_ips(scope.service) } else { Vec::new() },
        cluster_ip: if transparent { cluster_ip(scope.service, port, &spec.containers) } else { None },
        transparent,
        health: health(endpoint),
        expose: annotation(contract::ORIGINAL_POD).map(|json| exposed(json, &spec.containers)).unwrap_or_default(),
        metrics: annotation(contract::PROMETHEUS_PORT)
            .filter(|_| annotation(contract::PROMETHEUS_SCRAPE) == Some("true"))
            .and_then(|port| Some((port.parse().ok()?, annotation(contract::PROMETHEUS_PATH)?.to_owned()))),
        upstreams: upstreams.map_err(|e| e.to_string())?,
        tags: annotation(SERVICE_TAGS).map(|t| tags(t, &pod_name)).unwrap_or_default(),
        meta: meta(pod, &name_of_service, &namespace, &pod_name),
        gateway: None,
        service,
        namespace,
        pod: pod_name,
    }))
}

/// The Pod's first address of the family that `address` is not of.
pub(super) fn other_addresses(status: &PodStatus, address: IpAddr) -> Vec<IpAddr> {
    let mut parsed = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
    parsed.find(|other| other.is_ipv4() != address.is_ipv4()).into_iter().collect()
}

pub(super) fn meta(pod: &Pod, service: &str, namespace: &str, pod_name: &str) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::from([
        ("pod-name".to_owned(), pod_name.to_owned()),
        ("k8s-service-name".to_owned(), service.to_owned()),
        ("k8s-namespace".to_owned(), namespace.to_owned()),
        ("managed-by".to_owned(), contract::MANAGED_BY.to_owned()),
        ("pod-uid".to_owned(), pod.metadata.uid.clone().unwrap_or_default()),
        ("synthetic-node".to_owned(), "true".to_owned()),
    ]);
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        if let Some(key) = key.strip_prefix(SERVICE_META) {
            meta.insert(key.to_owned(), value.replace("$POD_NAME", pod_name));
        }
    }
    meta
}

/// Comma separated, `\,` stands for a comma.
fn tags(list: &str, pod_name: &str) -> Vec<String> {
    let escaped = list.replace("\\,", "\0");
    let tags = escaped.split(',').map(|t| t.trim().replace('\0', ",").replace("$POD_NAME", pod_name));
    tags.filter(|t| !t.is_empty()).collect()
}

/// The items of a list, without blanks around them.
fn listed(list: Option<&str>) -> Vec<&str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// The default one of the ports that the annotations list, or that in the place of the Pod's service among several; 0 when they list
/// none.
fn application_port<'a>(
    containers: &[Container],
    place: Option<usize>,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Result<u16, String> {
    let ports = listed(annotation(contract::CONNECT_SERVICE_PORT));
    let default = annotation(contract::CONNECT_SERVICE_DEFAULT_PORT).map(str::trim).filter(|t| !t.is_empty());
    let wanted = match place {
        Some(place) => ports.get(place).copied(),
        None => default.or(ports.first().copied()),
    };
    let Some(wanted) = wanted else { return Ok(0) };
    port_of(containers, wanted).ok_or_else(|| {
        format!("{wanted} in annotation {} is not a valid port on the pod", contract::CONNECT_SERVICE_PORT)
    })
}

fn port_of(containers: &[Container], text: &str) -> Option<u16> {
    container_port(containers, text).or_else(|| text.parse().ok().filter(|p| *p > 0))
}

fn container_port(containers: &[Container], name: &str) -> Option<u16> {
    let mut ports = containers.iter().flat_map(|c| c.ports.iter().flatten());
    let found = ports.find(|p| p.name.as_deref() == Some(name))?;
    u16::try_from(found.container_port).ok()
}

/// The ports that the annotation lists beside the default one and that speak TCP.
fn more_ports(service: &Service, listed: Option<&str>, default: u16, containers: &[Container]) -> Vec<NamedPort> {
    let mut found: Vec<NamedPort> = Vec::new();
    for token in self::listed(listed) {
        let Some(port) = port_of(containers, token) else { continue };
        if port == default || found.iter().any(|known| known.port == port) || !is_tcp(containers, port) {
            continue;
        }
        found.push(named_port(service, token, port, containers));
    }
    found
}

/// A port as the Service calls it, or else as the annotation does, or else by its number.
fn named_port(service: &Service, token: &str, port: u16, containers: &[Container]) -> NamedPort {
    let in_front = service_port(service, port, containers);
    let name = match in_front.and_then(|p| p.name.clone()).filter(|name| !name.is_empty()) {
        Some(name) => name,
        None if container_port(containers, token).is_some() => token.to_owned(),
        None => format!("port-{port}"),
    };
    NamedPort { name, port, service_port: in_front.and_then(|p| u16::try_from(p.port).ok()) }
}

/// Whether a container port speaks TCP; one that no container declares does.
fn is_tcp(containers: &[Container], port: u16) -> bool {
    let declared = containers.iter().flat_map(|c| c.ports.iter().flatten());
    let mut declared = declared.filter(|p| p.container_port == i32::from(port)).peekable();
    declared.peek().is_none() || declared.any(|p| p.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

/// The Service's port that leads to a port of the application.
fn service_port<'a>(service: &'a Service, port: u16, containers: &[Container]) -> Option<&'a ServicePort> {
    let leads_here = |p: &&ServicePort| match &p.target_port {
        Some(IntOrString::Int(target)) => *target == i32::from(port),
        Some(IntOrString::String(name)) => container_port(containers, name) == Some(port),
        None => p.port == i32::from(port),
    };
    service.spec.as_ref()?.ports.iter().flatten().find(leads_here)
}

/// The Service's first address, and its port that leads to the application.
fn cluster_ip(service: &Service, port: u16, containers: &[Container]) -> Option<(IpAddr, u16)> {
    let spec = service.spec.as_ref()?;
    let address = spec.cluster_ip.as_deref()?.parse().ok()?;
    let same = || spec.ports.iter().flatten().find(|p| p.port == i32::from(port));
    let found = service_port(service, port, containers).or_else(same);
    Some((address, found.and_then(|p| u16::try_from(p.port).ok()).unwrap_or(0)))
}

/// ClusterIPs of all families.
pub(crate) fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten();
    let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(spec.and_then(|spec| spec.cluster_ip.as_deref()?.parse::<IpAddr>().ok()));
    }
    addresses
}

/// Compares the probes that are with those that were, to find the listeners that overwritten probes need.
fn exposed(original: &str, containers: &[Container]) -> Vec<ExposePath> {
    let Ok(original) = serde_json::from_str::<Pod>(original) else { return Vec::new() };
    let before = original.spec.map(|s| s.containers).unwrap_or_default();
    let mut paths = Vec::new();
    for container in containers {
        let Some(was) = before.iter().find(|c| c.name == container.name) else { continue };
        let probes = [
            (&container.liveness_probe, &was.liveness_probe),
            (&container.readiness_probe, &was.readiness_probe),
            (&container.startup_probe, &was.startup_probe),
        ];
        for (now, then) in probes {
            let (Some(now), Some(then)) = (http_get(now.as_ref()), http_get(then.as_ref())) else { continue };
            let port = |get: &HTTPGetAction| match &get.port {
                IntOrString::Int(number) => u16::try_from(*number).ok(),
                IntOrString::String(text) => port_of(&before, text),
            };
            let (Some(listener_port), Some(local_path_port)) = (port(now), port(then)) else { continue };
            if listener_port != local_path_port {
                let path = now.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".to_owned());
                paths.push(ExposePath { listener_port, path, local_path_port, protocol: None });
            }
        }
    }
    paths
}

fn http_get(probe: Option<&Probe>) -> Option<&HTTPGetAction> {
    probe?.http_get.as_ref()
}
