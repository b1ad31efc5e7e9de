//! `ADD`: a container joins the network.

use super::{Call, agent, annotations, causes, lease, loopback, proof};
use crate::protocol::{CniError, Code, Previous, empty};
use redirect::Policy;
use std::borrow::Cow;
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
        redirect(call, &annotations::nomads_policy(json)?)?;
        return Ok(result);
    }
    let pod = args.pod();
    let of_pod = of_pod(call)?;
    if !annotations::wants_redirection(&of_pod) {
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
    let policy = || annotations::policy(&of_pod, &call.addresses(previous.as_ref())?, &pod);
    let done = policy().and_then(|policy| redirect(call, &policy));
    if let Some(socket) = &config.agent_socket {
        agent::tell(socket, args, done.is_ok());
    }
    done.map(|()| result)
}

/// The Pod's annotations as the runtime hands them over; asked for only where it does not.
pub(super) fn of_pod<'a>(call: &'a Call<'_>) -> Result<Cow<'a, BTreeMap<String, String>>, CniError> {
    if let Some(annotations) = &call.config.runtime.pod_annotations {
        return Ok(Cow::Borrowed(annotations));
    }
    match &call.config.agent_socket {
        Some(socket) => agent::annotations(socket, &call.args).map(Cow::Owned),
        None => {
            let message = format!("error retrieving pod {}: the runtime hands over no annotations", call.args.pod());
            Err(CniError::new(Code::InvalidConfiguration, message).hint(
                "the plugin's entry must declare capability io.kubernetes.cri.pod-annotations, which containerd and CRI-O know, or \
                 name the node agent's agent_socket",
            ))
        }
    }
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
