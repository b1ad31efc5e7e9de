//! The rules of service and proxy defaults.

use serde_json::Value;

use super::{Config, Expose, Mistakes, MutualTlsMode, ProxyDefaults, Resource, ServiceDefaults, TransparentProxy};
use super::{Verdict, must, upstreams};

pub(super) fn service(entry: &ServiceDefaults, spec: &Value, mistakes: &mut Mistakes) {
    common(entry.transparent_proxy.as_ref(), &entry.expose, spec, mistakes);
    upstreams::check(&entry.upstream_config, &spec["upstreamConfig"], mistakes);
}

pub(super) fn proxy(entry: &ProxyDefaults, spec: &Value, mistakes: &mut Mistakes) {
    common(entry.transparent_proxy.as_ref(), &entry.expose, spec, mistakes);
}

/// consul-k8s refuses port and mode of transparent proxy in its resources, and so do we: the rules would not follow them.
fn common(tproxy: Option<&TransparentProxy>, expose: &Expose, spec: &Value, mistakes: &mut Mistakes) {
    let port = tproxy.map_or(0, |t| t.outbound_listener_port);
    must(port == 0, mistakes, || {
        format!(
            "spec.transparentProxy.outboundListenerPort is {port}; it cannot be set here, the rules always redirect to {}",
            redirect::contract::OUTBOUND_PORT
        )
    });
    let mode = spec["mode"].as_str().unwrap_or_default();
    must(mode.is_empty(), mistakes, || {
        format!(
            "spec.mode is {mode:?}; it cannot be set here, but by the annotation {}",
            redirect::contract::TRANSPARENT_PROXY
        )
    });
    for (i, path) in expose.paths.iter().enumerate() {
        must(path.path.is_empty() || path.path.starts_with('/'), mistakes, || {
            format!("spec.expose.paths[{i}].path is {:?}; it must begin with \"/\"", path.path)
        });
    }
}

/// Takes back entries that are permissive where the mesh does not allow it.
pub(super) fn permissive(config: &mut Config, verdicts: &mut [(&Resource, Verdict)]) {
    if config.mesh.as_ref().is_some_and(|mesh| mesh.allow_enabling_permissive_mutual_tls) {
        return;
    }
    for (resource, verdict) in verdicts.iter_mut().filter(|(_, verdict)| verdict.is_ok()) {
        let mode = match resource.kind.as_str() {
            "ServiceDefaults" => config.service_defaults.get(&resource.name).and_then(|d| d.mutual_tls_mode),
            "ProxyDefaults" => config.proxy_defaults.as_ref().and_then(|d| d.mutual_tls_mode),
            _ => None,
        };
        if mode == Some(MutualTlsMode::Permissive) {
            *verdict = Err(vec![
                "spec.mutualTLSMode is \"permissive\"; that needs allowEnablingPermissiveMutualTLS: true in the Mesh \
                 \"mesh\""
                    .to_owned(),
            ]);
            match resource.kind.as_str() {
                "ServiceDefaults" => drop(config.service_defaults.remove(&resource.name)),
                _ => config.proxy_defaults = None,
            }
        }
    }
}
