//! Which rules are to be in force: what the Pod's annotations say, or what Nomad brings along.

use super::sources;
use crate::protocol::{CniError, Code};
use redirect::contract::{
    CONNECT_INJECT_STATUS, DUAL_STACK, MESH_INJECT_STATUS, PROXY_UID, REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS,
};
use redirect::{Config, Policy};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whether a Pod is to be redirected: the webhook has injected it, with transparent proxy. Any value that is not empty counts.
pub(crate) fn wants_redirection(annotations: &BTreeMap<String, String>) -> bool {
    let filled = |key: &str| annotations.get(key).is_some_and(|value| !value.is_empty());
    (filled(CONNECT_INJECT_STATUS) || filled(MESH_INJECT_STATUS)) && filled(TRANSPARENT_PROXY_STATUS)
}

/// The rules of a Pod that is to be redirected, as the webhook has written them down. Who may reach the probed ports is found
/// out here, where the configuration leaves that open: from the Pod's addresses.
pub(crate) fn policy(
    annotations: &BTreeMap<String, String>,
    addresses: &[IpAddr],
    pod: &str,
) -> Result<Policy, CniError> {
    let get = |key: &str| {
        annotations.get(key).ok_or_else(|| {
            let message = format!("could not find {key} annotation for {pod} pod");
            CniError::new(Code::InvalidPod, message).hint(
                "the webhook writes it where it is started with -enable-cni; delete the pod, so that it is admitted anew",
            )
        })
    };
    let mut config = Config::from_json(get(REDIRECT_TRAFFIC_CONFIG)?).map_err(|error| {
        let message = format!("could not unmarshal {REDIRECT_TRAFFIC_CONFIG} annotation for {pod} pod: {error}");
        CniError::new(Code::InvalidPod, message)
    })?;
    let dual_stack = get(DUAL_STACK)? == "true";
    // the Pod's init container asks for it before the application starts
    config.proof = true;
    // the sidecar's group is its user where OpenShift does not give it others; what others send as that user is counted
    if config.proxy_group_id.is_empty() && config.proxy_user_id == PROXY_UID.to_string() {
        config.proxy_group_id.clone_from(&config.proxy_user_id);
    }
    if !config.probe_ports.is_empty() && config.probe_sources.is_empty() {
        config.probe_sources = sources::towards(addresses).iter().map(ToString::to_string).collect();
    }
    Policy::from_config(&config, dual_stack).map_err(|errors| {
        CniError::new(Code::InvalidPod, format!("the redirection of pod {pod} cannot be used: {errors}"))
    })
}

/// Nomad has no Kubernetes: the configuration itself comes along in `CNI_ARGS`, and nothing else matters.
pub(super) fn nomads_policy(json: &str) -> Result<Policy, CniError> {
    let unusable =
        |why: String| CniError::new(Code::InvalidEnvironment, format!("could not unmarshal CNI args: {why}"));
    let config = Config::from_json(json).map_err(|error| unusable(error.to_string()))?;
    Policy::from_config(&config, false).map_err(|errors| unusable(errors.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redirect::contract::PREFIX;
    use rstest::rstest;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
    }

    #[rstest]
    #[case::none(&[], false)]
    #[case::injected(&[("connect-inject-status", "injected"), ("transparent-proxy-status", "enabled")], true)]
    #[case::newer(&[("mesh-inject-status", "injected"), ("transparent-proxy-status", "complete")], true)]
    #[case::not_transparent(&[("connect-inject-status", "injected")], false)]
    #[case::empty(&[("connect-inject-status", ""), ("transparent-proxy-status", "enabled")], false)]
    #[case::only_asked_for(&[("connect-inject", "true"), ("transparent-proxy", "true")], false)]
    fn who_is_redirected(#[case] pairs: &[(&str, &str)], #[case] expected: bool) {
        assert_eq!(wants_redirection(&annotations(pairs)), expected);
    }

    #[rstest]
    #[case::nothing(&[], "could not find consul.hashicorp.com/redirect-traffic-config annotation for default/web pod")]
    #[case::no_json(&[("redirect-traffic-config", "{"), ("dual-stack", "false")], "could not unmarshal consul.hashicorp.com/redirect-traffic-config annotation")]
    #[case::no_families(&[("redirect-traffic-config", r#"{"ProxyUserID":"5995","ProxyInboundPort":20000}"#)], "could not find consul.hashicorp.com/dual-stack")]
    #[case::no_port(&[("redirect-traffic-config", r#"{"ProxyUserID":"5995","ProxyInboundPort":20000,"ExcludeInboundPorts":["x"]}"#), ("dual-stack", "true")], "ExcludeInboundPorts")]
    fn mistakes(#[case] pairs: &[(&str, &str)], #[case] part: &str) {
        let error = policy(&annotations(pairs), &[], "default/web").expect_err("a mistake");
        assert!(error.code == Code::InvalidPod && error.msg.contains(part), "{error}");
    }
}
