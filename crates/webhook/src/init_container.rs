//! The injected init container: it waits for the Pod's registration and, without a CNI plugin, puts the redirection in place.

use crate::intent::Intent;
use crate::login::Login;
use crate::services::Instance;
use crate::settings::ServerTls;
use crate::{Settings, env, resources, volumes};
use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, SeccompProfile, SecurityContext};
use redirect::Backend;
use redirect::contract::{
    DATA_DIR, DUAL_STACK_ENV, HOST_IP_ENV, INIT_CONTAINER, NODE_SUFFIX, PROOF_ENV, PROXY_ID_FILE,
    REDIRECT_TRAFFIC_CONFIG_ENV, servers,
};

/// The init container for one of the Pod's services.
pub(crate) fn build(service: &Instance, intent: &Intent, settings: &Settings) -> Container {
    let mut mounts = vec![volumes::data_mount()];
    mounts.extend(intent.login(service).map(|login| login.mount.clone()));
    Container {
        name: service.own(INIT_CONTAINER),
        image: Some(settings.consul_k8s_image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        command: Some(vec!["/bin/sh".to_owned(), "-ec".to_owned(), script(service, intent, settings)]),
        env: Some(variables(service, intent, settings)),
        volume_mounts: Some(mounts),
        resources: Some(resources::requirements(&settings.init_resources)),
        security_context: Some(security_context(intent, settings)),
        ..Container::default()
    }
}

/// Every line ends in a backslash, the last one too: the script is one command.
fn script(service: &Instance, intent: &Intent, settings: &Settings) -> String {
    let Settings { log_level, log_json, rule_backend, .. } = settings;
    let mut script = format!(
        "consul-k8s-control-plane connect-init -pod-name=${{POD_NAME}} -pod-namespace=${{POD_NAMESPACE}} \\\n  \
         -log-level={log_level} \\\n  \
         -log-json={log_json} \\\n"
    );
    let mut line = |text: String| script.push_str(&format!("  {text} \\\n"));
    // upstream's connect-init does not know the flag, so that it is only there where somebody chose
    if *rule_backend != Backend::Auto {
        line(format!("-rule-backend={rule_backend}"));
    }
    let login = intent.login(service);
    if let Some(Login { service_account, .. }) = login {
        let name = service.name.as_ref().or(intent.service_name.as_ref());
        line(format!("-service-account-name=\"{service_account}\""));
        line(format!("-service-name=\"{}\"", name.map(String::as_str).unwrap_or_default()));
    }
    if let Some(name) = &service.name {
        line("-multiport=true".to_owned());
        line(format!("-proxy-id-file={DATA_DIR}/{}", service.own(PROXY_ID_FILE)));
        if login.is_none() {
            line(format!("-service-name=\"{name}\""));
        }
    }
    script
}

fn variables(service: &Instance, intent: &Intent, settings: &Settings) -> Vec<EnvVar> {
    let consul = &settings.consul;
    let mut variables = vec![
        env::field("POD_NAME", "metadata.name"),
        env::field("POD_NAMESPACE", "metadata.namespace"),
        env::field("NODE_NAME", "spec.nodeName"),
        env::value(servers::ADDRESSES, &consul.addresses),
        env::value(servers::GRPC_PORT, consul.grpc_port.to_string()),
        env::value(servers::HTTP_PORT, consul.http_port.to_string()),
        env::value(servers::API_TIMEOUT, &consul.api_timeout),
        env::value(servers::NODE_NAME, format!("$(NODE_NAME){NODE_SUFFIX}")),
        env::value(DUAL_STACK_ENV, settings.dual_stack.to_string()),
    ];
    if let Some(ServerTls { server_name, ca_pem }) = &consul.tls {
        variables.push(env::value(servers::USE_TLS, "true"));
        variables.push(env::value(servers::CACERT_PEM, ca_pem.clone().unwrap_or_default()));
        variables.push(env::value(servers::TLS_SERVER_NAME, server_name.clone().unwrap_or_default()));
    }
    if let Some(login) = intent.login(service) {
        variables.push(env::value(servers::LOGIN_AUTH_METHOD, &login.auth_method));
        variables.push(env::value(servers::LOGIN_BEARER_TOKEN_FILE, login.token_file()));
        variables.push(env::value(servers::LOGIN_META, "pod=$(POD_NAMESPACE)/$(POD_NAME)"));
        variables.extend(intent.login_namespace.iter().map(|name| env::value(servers::LOGIN_NAMESPACE, name)));
        variables.extend(settings.partition.iter().map(|name| env::value(servers::LOGIN_PARTITION, name)));
    }
    variables.extend(intent.consul_namespace.iter().map(|name| env::value(servers::NAMESPACE, name)));
    variables.extend(settings.partition.iter().map(|name| env::value(servers::PARTITION, name)));
    if let Some(config) = intent.redirection.as_ref().filter(|_| settings.cni) {
        variables.push(env::value(PROOF_ENV, config.proxy_outbound_port.to_string()));
    }
    if let Some(config) = intent.redirection.as_ref().filter(|_| !settings.cni) {
        variables.push(env::value(REDIRECT_TRAFFIC_CONFIG_ENV, config.to_json()));
        if !config.probe_ports.is_empty() {
            // Probes go to the Pod's first address, so that the node's first is enough; API servers before 1.28 refuse
            // `status.hostIPs`.
            variables.push(env::field(HOST_IP_ENV, "status.hostIP"));
        }
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
            // OpenShift's SELinux policy keeps anything less from the network's rules.
            privileged: Some(settings.openshift),
            capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        };
    }
    SecurityContext {
        run_as_user: redirects.then_some(intent.ids.init.into()),
        run_as_group: redirects.then_some(intent.ids.init_group.into()),
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
