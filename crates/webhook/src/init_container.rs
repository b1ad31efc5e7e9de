//! The injected init container: it waits for the Pod's registration and, without a CNI plugin, puts the redirection in place.

use crate::intent::Intent;
use crate::settings::ServerTls;
use crate::{Settings, env, resources, volumes};
use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, SeccompProfile, SecurityContext};
use redirect::Backend;
use redirect::contract::{DUAL_STACK_ENV, INIT_CONTAINER, INIT_UID, REDIRECT_TRAFFIC_CONFIG_ENV};

/// The init container for one Pod.
pub(crate) fn build(intent: &Intent, settings: &Settings) -> Container {
    Container {
        name: INIT_CONTAINER.to_owned(),
        image: Some(settings.consul_k8s_image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        command: Some(vec!["/bin/sh".to_owned(), "-ec".to_owned(), script(settings)]),
        env: Some(variables(intent, settings)),
        volume_mounts: Some(vec![volumes::data_mount()]),
        resources: Some(resources::requirements(&settings.init_resources)),
        security_context: Some(security_context(intent, settings)),
        ..Container::default()
    }
}

/// Every line ends in a backslash, the last one too: the script is one command.
fn script(settings: &Settings) -> String {
    let Settings { log_level, log_json, rule_backend, .. } = settings;
    // upstream's connect-init does not know the flag, so that it is only there where somebody chose
    let backend = match rule_backend {
        Backend::Auto => String::new(),
        chosen => format!("  -rule-backend={chosen} \\\n"),
    };
    format!(
        "consul-k8s-control-plane connect-init -pod-name=${{POD_NAME}} -pod-namespace=${{POD_NAMESPACE}} \\\n  \
         -log-level={log_level} \\\n  \
         -log-json={log_json} \\\n{backend}"
    )
}

fn variables(intent: &Intent, settings: &Settings) -> Vec<EnvVar> {
    let consul = &settings.consul;
    let mut variables = vec![
        env::field("POD_NAME", "metadata.name"),
        env::field("POD_NAMESPACE", "metadata.namespace"),
        env::field("NODE_NAME", "spec.nodeName"),
        env::value("CONSUL_ADDRESSES", &consul.addresses),
        env::value("CONSUL_GRPC_PORT", consul.grpc_port.to_string()),
        env::value("CONSUL_HTTP_PORT", consul.http_port.to_string()),
        env::value("CONSUL_API_TIMEOUT", &consul.api_timeout),
        env::value("CONSUL_NODE_NAME", "$(NODE_NAME)-virtual"),
        env::value(DUAL_STACK_ENV, settings.dual_stack.to_string()),
    ];
    if let Some(ServerTls { server_name, ca_pem }) = &consul.tls {
        variables.push(env::value("CONSUL_USE_TLS", "true"));
        variables.push(env::value("CONSUL_CACERT_PEM", ca_pem.clone().unwrap_or_default()));
        variables.push(env::value("CONSUL_TLS_SERVER_NAME", server_name.clone().unwrap_or_default()));
    }
    if let Some(config) = intent.redirection.as_ref().filter(|_| !settings.cni) {
        variables.push(env::value(REDIRECT_TRAFFIC_CONFIG_ENV, config.to_json()));
    }
    variables
}

fn security_context(intent: &Intent, settings: &Settings) -> SecurityContext {
    let redirects = intent.redirection.is_some();
    if redirects && !settings.cni {
        return SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            // Explicit, so that it wins over the Pod's own security context.
            run_as_non_root: Some(false),
            privileged: Some(false),
            capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        };
    }
    let id = redirects.then_some(i64::from(INIT_UID));
    SecurityContext {
        run_as_user: id,
        run_as_group: id,
        run_as_non_root: Some(true),
        privileged: redirects.then_some(false),
        ..unprivileged()
    }
}

/// No capability, no way to more rights, nothing to write to.
pub(crate) fn unprivileged() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..SecurityContext::default()
    }
}
