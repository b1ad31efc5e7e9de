//! The CNI plugin `consul-cni`: redirects the TCP traffic of a Pod of the mesh while its network is made, so that nothing in
//! the Pod needs a privilege.
//!
//! # What an `ADD` does
//!
//! 1. Reads the Pod's annotations: handed over by the runtime (capability `io.kubernetes.cri.pod-annotations`), or else asked
//!    of the node agent over its socket. There is no call to the API server, and a Pod that is not of the mesh waits for nobody.
//! 2. Leaves a Pod alone that the webhook has not marked, and hands the previous result on, byte for byte.
//! 3. Puts the rules of annotation `redirect-traffic-config` in force in the Pod's namespace: in one transaction, by no program
//!    but itself, and once however often it is called.
//! 4. Proves them: a dial as an ordinary user must be redirected, one as the proxy's user must not, in both families. If that
//!    does not hold, the Pod does not start.
//!
//! Probes (the ports are in the configuration) may reach the application from the node alone: its addresses towards this Pod
//! are what the node's routing table says.
//!
//! `DEL` and `GC` have nothing to do, since the rules go with the namespace, and never fail. `CHECK` compares the rules that are
//! there with those that there should be. `STATUS` puts rules in force in a namespace of its own making.
//!
//! The node agent `install-cni` puts the plugin on its node, keeps it last in the chain, and takes it away: see [`install`].
//!
//! Other than consul-k8s: an `ADD` needs no API server and no credential; settings that cannot be used are told by name and code;
//! an `ADD` may be repeated; the rules are proven; nothing is started; a Pod without an address fails only where it is to be
//! redirected; and the node's own network is never touched.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
pub mod install;
mod log;
pub mod node;
pub mod plugin;
pub mod protocol;

/// Starts the node agent's log.
pub fn log_to_stderr(level: &str, json: bool) {
    log::to_stderr(level, json);
}
