//! Whether a Pod is injected at all: the order of precedence, first match wins.

use crate::guard;
use crate::reader::Reader;
use crate::{Refusal, Settings};
use k8s_openapi::api::core::v1::Pod;
use redirect::contract::{CONNECT_INJECT, CONNECT_INJECT_STATUS};
use std::fmt;

/// What happens to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave it as it is.
    Skip(SkipReason),
    /// Inject.
    Inject,
}

/// Why a Pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The Namespace is one of Kubernetes' own.
    SystemNamespace,
    /// The Namespace is in the deny list.
    NamespaceDenied,
    /// The Namespace is not in the allow list.
    NamespaceNotAllowed,
    /// The injected containers are there already.
    AlreadyInjected,
    /// The Pod's annotation says so.
    NotAsked,
    /// Nothing says that it should be injected.
    NotByDefault,
    /// It shares its node's network, and only the default would have it injected.
    HostNetwork,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemNamespace => "the namespace belongs to Kubernetes",
            Self::NamespaceDenied => "the namespace is in the deny list",
            Self::NamespaceNotAllowed => "the namespace is not in the allow list",
            Self::AlreadyInjected => "the injected containers are there already",
            Self::NotAsked => "its annotation connect-inject is false",
            Self::NotByDefault => "it has no annotation connect-inject, and injection is not the default",
            Self::HostNetwork => "it is in the host network, and injection is only the default",
        })
    }
}

const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "kube-public"];

/// Decides about a Pod in the Namespace of this name.
///
/// # Errors
/// The annotation `connect-inject` is consulted and is no boolean.
pub fn decide(pod: &Pod, namespace: &str, settings: &Settings) -> Result<Decision, Refusal> {
    use Decision::{Inject, Skip};
    if SYSTEM_NAMESPACES.contains(&namespace) {
        return Ok(Skip(SkipReason::SystemNamespace));
    }
    if settings.deny_namespaces.contains(namespace) {
        return Ok(Skip(SkipReason::NamespaceDenied));
    }
    if !["*", namespace].iter().any(|name| settings.allow_namespaces.contains(*name)) {
        return Ok(Skip(SkipReason::NamespaceNotAllowed));
    }
    let mut reader = Reader::new(pod);
    // The annotation alone proves nothing: anybody can write it, and it must not be a way around the mesh.
    if reader.filled(CONNECT_INJECT_STATUS).is_some() && guard::is_injected(pod, settings) {
        return Ok(Skip(SkipReason::AlreadyInjected));
    }
    let asked = reader.boolean(CONNECT_INJECT);
    Refusal::check(reader.mistakes)?;
    Ok(match asked {
        Some(true) => Inject,
        Some(false) => Skip(SkipReason::NotAsked),
        None if !settings.default_inject => Skip(SkipReason::NotByDefault),
        None if guard::in_host_network(pod) => Skip(SkipReason::HostNetwork),
        None => Inject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn set(names: &[&str]) -> std::collections::BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[rstest]
    #[case::asked("default", &["*"], &[], false, Some("true"), Decision::Inject)]
    #[case::any_spelling("default", &["*"], &[], false, Some("T"), Decision::Inject)]
    #[case::by_default("default", &["*"], &[], true, None, Decision::Inject)]
    #[case::named("default", &["default"], &[], true, None, Decision::Inject)]
    #[case::not_by_default("default", &["*"], &[], false, None, Decision::Skip(SkipReason::NotByDefault))]
    #[case::declined("default", &["*"], &[], true, Some("false"), Decision::Skip(SkipReason::NotAsked))]
    #[case::system("kube-system", &["*"], &[], true, Some("true"), Decision::Skip(SkipReason::SystemNamespace))]
    #[case::public("kube-public", &["kube-public"], &[], true, Some("true"), Decision::Skip(SkipReason::SystemNamespace))]
    #[case::denied("web", &["*"], &["web"], true, Some("true"), Decision::Skip(SkipReason::NamespaceDenied))]
    #[case::deny_beats_allow("web", &["web"], &["web"], true, Some("true"), Decision::Skip(SkipReason::NamespaceDenied))]
    #[case::deny_has_no_wildcard("web", &["*"], &["*"], true, Some("true"), Decision::Inject)]
    #[case::elsewhere("web", &["api"], &[], true, Some("true"), Decision::Skip(SkipReason::NamespaceNotAllowed))]
    #[case::none_allowed("web", &[], &[], true, Some("true"), Decision::Skip(SkipReason::NamespaceNotAllowed))]
    fn precedence(
        #[case] namespace: &str,
        #[case] allow: &[&str],
        #[case] deny: &[&str],
        #[case] default_inject: bool,
        #[case] annotation: Option<&str>,
        #[case] expected: Decision,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        if let Some(value) = annotation {
            pod["metadata"]["annotations"] = json!({CONNECT_INJECT: value});
        }
        let settings = Settings {
            default_inject,
            allow_namespaces: set(allow),
            deny_namespaces: set(deny),
            ..Settings::default()
        };
        assert_eq!(decide(&serde_json::from_value(pod)?, namespace, &settings)?, expected);
        Ok(())
    }

    #[rstest]
    #[case::word("yes")]
    #[case::empty("")]
    fn an_unreadable_wish_is_refused(#[case] value: &str) -> Result<(), Box<dyn std::error::Error>> {
        let pod = serde_json::from_value(json!({"metadata": {"annotations": {CONNECT_INJECT: value}}}))?;
        let refusal = decide(&pod, "web", &Settings::default()).expect_err("no boolean");
        assert!(refusal.to_string().contains(CONNECT_INJECT), "{refusal}");
        assert!(refusal.to_string().contains("allowed is one of 1, t"), "{refusal}");
        // Where the namespace already decides, the annotation is not looked at.
        assert_eq!(decide(&pod, "kube-system", &Settings::default())?, Decision::Skip(SkipReason::SystemNamespace));
        Ok(())
    }

    #[rstest]
    #[case::asked(Some("true"), Decision::Inject)]
    #[case::by_default(None, Decision::Skip(SkipReason::HostNetwork))]
    fn host_network(
        #[case] annotation: Option<&str>,
        #[case] expected: Decision,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut pod = json!({"metadata": {}, "spec": {"hostNetwork": true, "containers": [{"name": "c"}]}});
        if let Some(value) = annotation {
            pod["metadata"]["annotations"] = json!({CONNECT_INJECT: value});
        }
        let settings = Settings { default_inject: true, ..Settings::default() };
        assert_eq!(decide(&serde_json::from_value(pod)?, "web", &settings)?, expected);
        Ok(())
    }
}
