//! Which flags of the webhook a Helm value sets, as the chart's templates do.

use anyhow::{Context as _, Result};
use redirect::contract::{self, servers};
use serde_json::{Value, json};

use super::Home;
use crate::settings::Settings;

/// Helm values that become one flag with their own value.
const DIRECT: &[(&str, &str)] = &[
    ("connectInject.default", "default-inject"),
    ("connectInject.transparentProxy.defaultEnabled", "default-enable-transparent-proxy"),
    ("connectInject.transparentProxy.defaultOverwriteProbes", "transparent-proxy-default-overwrite-probes"),
    ("connectInject.sidecarProxy.lifecycle.defaultEnabled", "default-enable-sidecar-proxy-lifecycle"),
    (
        "connectInject.sidecarProxy.lifecycle.defaultEnableShutdownDrainListeners",
        "default-enable-sidecar-proxy-lifecycle-shutdown-drain-listeners",
    ),
    (
        "connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds",
        "default-sidecar-proxy-lifecycle-shutdown-grace-period-seconds",
    ),
    ("connectInject.sidecarProxy.lifecycle.defaultGracefulPort", "default-sidecar-proxy-lifecycle-graceful-port"),
    (
        "connectInject.sidecarProxy.lifecycle.defaultGracefulShutdownPath",
        "default-sidecar-proxy-lifecycle-graceful-shutdown-path",
    ),
    ("connectInject.dataplaneAsSidecarInitContainer.defaultEnabled", "default-enable-consul-dataplane-as-sidecar"),
    ("connectInject.metrics.defaultEnabled", "default-enable-metrics"),
    ("global.metrics.enabled", "default-enable-metrics"),
    ("connectInject.metrics.defaultEnableMerging", "default-enable-metrics-merging"),
];

/// Changes the webhook's Deployment.
pub(super) fn change(deployment: &mut Value, settings: &Settings, home: Home<'_>) -> Result<()> {
    let container = deployment
        .pointer_mut("/spec/template/spec/containers/0")
        .context("find the webhook's container in its manifest")?;
    let args = container["args"].as_array_mut().context("find the webhook's arguments in its manifest")?;
    for (key, flag) in DIRECT {
        if let Some(value) = settings.get(key) {
            set(args, flag, &[value.to_owned()]);
        }
    }
    set(args, "rule-backend", &[settings.backend()?.to_string()]);
    set(args, "enable-cni", &[settings.is_cni()?.to_string()]);
    set(args, "enable-consul-dns", &[settings.consul_dns()?.to_string()]);
    if let Some(allowed) = settings.list("connectInject.k8sAllowNamespaces") {
        set(args, "allow-k8s-namespace", &allowed);
    }
    if let Some(denied) = settings.list("connectInject.k8sDenyNamespaces") {
        set(args, "deny-k8s-namespace", &denied);
    }
    let login: Vec<String> = settings.acls()?.into_iter().map(|acls| acls.auth_method).collect();
    set(args, "acl-auth-method", &login);
    if let Some(partition) = home.partition {
        // all Pods are in one Consul namespace: it is all that the stand-in for the servers has
        for (flag, value) in [
            ("enable-partitions", "true"),
            ("partition", partition),
            ("enable-namespaces", "true"),
            ("consul-destination-namespace", "default"),
            ("enable-k8s-namespace-mirroring", "false"),
        ] {
            set(args, flag, &[value.to_owned()]);
        }
    }
    let dual = settings.redirects_ipv6()?.to_string();
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        match variable["name"].as_str() {
            Some(servers::ADDRESSES) => variable["value"] = json!(home.servers),
            Some(contract::DUAL_STACK_ENV) => variable["value"] = json!(dual),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces every occurrence of a flag.
pub(super) fn set(args: &mut Vec<Value>, flag: &str, values: &[String]) {
    let prefix = format!("-{flag}=");
    args.retain(|a| !a.as_str().is_some_and(|a| a.starts_with(&prefix)));
    args.extend(values.iter().map(|value| json!(format!("{prefix}{value}"))));
}
