//! `ADD`: a container joins the network.

use super::annotations::{Wanted, wants_redirection};
use super::{Call, agent, causes, lease, loopback, proof, sources};
use crate::protocol::{CniError, Code, Previous, empty};
use redirect::{Config, Policy};
use std::collections::BTreeMap;

/// Redirects the container if it is to be redirected, and returns the result to print.
pub(super) fn add(call: &Call<'_>) -> Result<String, CniError> {
    let Call { config, args, .. } = call;
    let version = &config.cni_version;
    let previous = config.prev_result.map(|raw| Previous::read(raw, version)).transpose()?;
    let result = match &previous {
        Some(previous) => previous.in_version(version)?.into_owned(),
        None => empty(version),
    };
    if let Some(json) = &args.iptables_config {
        nomad(call, json)?;
        return Ok(result);
    }
    let pod = args.pod();
    let annotations = annotations(call)?;
    if !wants_redirection(&annotations) {
        tracing::debug!(pod, "not of the mesh");
        return Ok(result);
    }
    if let Some(lease) = &config.lease {
        lease::check(lease, &pod)?;
    }
    if previous.as_ref().is_some_and(|previous| previous.addresses().is_empty()) {
        let message = format!("got no container IPs for pod {pod}");
        return Err(CniError::new(Code::InvalidConfiguration, message)
            .hint("consul-cni must come after the plugin that gives addresses"));
    }
    let mut wanted = Wanted::read(&annotations, &pod)?;
    if let Some(previous) = &previous {
        name_sources(&mut wanted.config, previous);
    }
    redirect(call, &wanted.policy(&pod)?)?;
    if let Some(socket) = &config.agent_socket {
        agent::redirected(socket, args);
    }
    Ok(result)
}

/// As the runtime hands them over; asked for only where it does not.
pub(super) fn annotations(call: &Call<'_>) -> Result<BTreeMap<String, String>, CniError> {
    if let Some(annotations) = &call.config.runtime.pod_annotations {
        return Ok(annotations.clone());
    }
    match &call.config.agent_socket {
        Some(socket) => agent::annotations(socket, &call.args),
        None => {
            let message = format!("error retrieving pod {}: the runtime hands over no annotations", call.args.pod());
            Err(CniError::new(Code::InvalidConfiguration, message).hint(
                "the plugin's entry must declare capability io.kubernetes.cri.pod-annotations, which containerd and CRI-O know, or \
                 name the node agent's agent_socket",
            ))
        }
    }
}

/// Who may reach the probed ports, where the configuration leaves that open.
pub(super) fn name_sources(config: &mut Config, previous: &Previous<'_>) {
    if !config.probe_ports.is_empty() && config.probe_sources.is_empty() {
        config.probe_sources = sources::towards(previous.addresses()).iter().map(ToString::to_string).collect();
    }
}

/// Nomad has no Kubernetes: the configuration itself comes along, and nothing else matters.
fn nomad(call: &Call<'_>, json: &str) -> Result<(), CniError> {
    let unusable =
        |why: String| CniError::new(Code::InvalidEnvironment, format!("could not unmarshal CNI args: {why}"));
    let config = Config::from_json(json).map_err(|error| unusable(error.to_string()))?;
    let policy = Policy::from_config(&config, false).map_err(|errors| unusable(errors.to_string()))?;
    redirect(call, &policy)
}

fn redirect(call: &Call<'_>, policy: &Policy) -> Result<(), CniError> {
    let who =
        if call.args.pod_name.is_empty() { "the container".to_owned() } else { format!("pod {}", call.args.pod()) };
    let failed = |error: &dyn std::error::Error| {
        CniError::new(Code::Rules, format!("could not apply iptables setup for {who}: {}", causes(error)))
    };
    let namespace = call.namespace()?;
    // the thread is spent afterwards: it takes other users' identities
    let done = namespace.run(|| {
        let applied = redirect::apply(policy).map_err(|error| failed(&error))?;
        if let Err(error) = loopback::up() {
            tracing::warn!(%error, "the loopback interface stays down");
        }
        proof::prove(policy).map_err(|error| {
            CniError::new(Code::Proof, format!("the redirection of {who} is in force and does not work: {error}")).hint(
                "another plugin or agent changes the rules of this network namespace; `nft list ruleset` in it shows whose they are",
            )
        })?;
        tracing::info!(who, backend = %applied.backend, changed = applied.changed, "redirected");
        Ok(())
    });
    done.map_err(|error| failed(&error))?
}
