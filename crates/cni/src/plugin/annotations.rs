//! What the Pod's annotations say: nothing, or which rules to put in force.

use crate::protocol::{CniError, Code};
use redirect::contract::{
    CONNECT_INJECT_STATUS, DUAL_STACK, PREFIX, REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS,
};
use redirect::{Config, Policy};
use std::collections::BTreeMap;

/// Written by the generation of consul-k8s after the one that is followed here.
const MESH_INJECT_STATUS: &str = "mesh-inject-status";

/// Whether a Pod is to be redirected: the webhook has injected it, with transparent proxy. Any value that is not empty counts.
pub(super) fn wants_redirection(annotations: &BTreeMap<String, String>) -> bool {
    let filled = |key: &str| annotations.get(key).is_some_and(|value| !value.is_empty());
    (filled(CONNECT_INJECT_STATUS) || filled(&format!("{PREFIX}{MESH_INJECT_STATUS}")))
        && filled(TRANSPARENT_PROXY_STATUS)
}

/// The rules that the webhook has written down.
pub(super) struct Wanted {
    pub(super) config: Config,
    pub(super) dual_stack: bool,
}

impl Wanted {
    /// Reads the annotations of a Pod that is to be redirected.
    pub(super) fn read(annotations: &BTreeMap<String, String>, pod: &str) -> Result<Self, CniError> {
        let get = |key: &str| {
            annotations.get(key).ok_or_else(|| {
                let message = format!("could not find {key} annotation for {pod} pod");
                CniError::new(Code::InvalidPod, message)
                    .hint("the webhook writes it where it is started with -enable-cni; delete the pod, so that it is admitted anew")
            })
        };
        let mut config = Config::from_json(get(REDIRECT_TRAFFIC_CONFIG)?).map_err(|error| {
            let message = format!("could not unmarshal {REDIRECT_TRAFFIC_CONFIG} annotation for {pod} pod: {error}");
            CniError::new(Code::InvalidPod, message)
        })?;
        // the Pod's init container asks for it before the application starts
        config.proof = true;
        Ok(Self { config, dual_stack: get(DUAL_STACK)? == "true" })
    }

    /// The rules, validated.
    pub(super) fn policy(&self, pod: &str) -> Result<Policy, CniError> {
        Policy::from_config(&self.config, self.dual_stack).map_err(|errors| {
            CniError::new(Code::InvalidPod, format!("the redirection of pod {pod} cannot be used: {errors}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let read =
            Wanted::read(&annotations(pairs), "default/web").and_then(|wanted| wanted.policy("default/web").map(drop));
        let error = read.expect_err("a mistake");
        assert!(error.code == Code::InvalidPod && error.msg.contains(part), "{error}");
    }
}
