//! `STATUS`: whether an `ADD` would work now.
//!
//! containerd asks every five seconds and makes the node unready where the answer is no. So it is no only where no Pod of the mesh
//! could be redirected by any means, or where another program takes the plugin out of the chain again and again; a node agent that is
//! away is a matter of the mesh's Pods alone.

use super::{causes, lease, loopback, proof};
use crate::protocol::{CniError, Code};
use netns::NetNs;
use redirect::{Config, Policy, contract};
use std::path::Path;

/// Redirects a namespace of its own making, which goes with the process.
pub(super) fn status(lease: Option<&Path>) -> Result<(), CniError> {
    let unavailable =
        |why: String| CniError::new(Code::NotAvailable, format!("consul-cni cannot redirect pods on this node: {why}"));
    if let Some(why) = lease.and_then(lease::contest) {
        return Err(unavailable(why.to_owned()));
    }
    let config = Config {
        proxy_user_id: contract::PROXY_UID.to_string(),
        proxy_inbound_port: contract::INBOUND_PORT.into(),
        proxy_outbound_port: contract::OUTBOUND_PORT.into(),
        ..Config::default()
    };
    let policy = Policy::from_config(&config, false).map_err(|errors| unavailable(errors.to_string()))?;
    let namespace = NetNs::create().map_err(|error| unavailable(causes(&error)))?;
    let tried = namespace.run(|| {
        redirect::apply(&policy).map_err(|error| causes(&error))?;
        loopback::up().map_err(|error| format!("set the loopback interface up: {error}"))?;
        proof::prove(&policy).map_err(|error| error.to_string())
    });
    tried.map_err(|error| unavailable(causes(&error)))?.map_err(unavailable)
}
