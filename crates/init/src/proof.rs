//! Proof that a CNI plugin has redirected this Pod, without a right to look at its rules.
//!
//! This program's user is exempt from redirection, so that it reaches the Consul servers. One address is not:
//! [`PROOF`], which the plugin has the rules redirect whoever dials it. Nobody listens there, and the proxy does not run yet. So
//! this program listens in the proxy's place, dials, and must find its own connection.

use redirect::contract::PROOF;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Over the loopback interface, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the proof was not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproven {
    /// The dial went where it was sent, and nobody is there.
    #[error(
        "dial {PROOF}: {0}; no rules redirect it, so the CNI plugin consul-cni has not run for this Pod. Check on this Pod's node \
         that the Pod of DaemonSet consul-cni is ready and that consul-cni is in the last place of the network configuration in \
         /etc/cni/net.d; then delete this Pod, so that its network is made anew"
    )]
    NotRedirected(io::Error),
    /// Somebody else's connection.
    #[error("dial {PROOF}: the connection that arrived at port {port} is another one, from {peer}")]
    Another {
        /// The outbound listener's port.
        port: u16,
        /// Where the other connection comes from.
        peer: SocketAddr,
    },
    /// The place of the proxy cannot be taken.
    #[error("listen on port {port} in the proxy's place: {source}")]
    Listen {
        /// The outbound listener's port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Proves that dials are redirected to this port.
pub(crate) fn prove(port: u16) -> Result<(), Unproven> {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Some(listener),
        // the proxy runs already, as where this container is started once more: its listener answers
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(source) => return Err(Unproven::Listen { port, source }),
    };
    let stream = TcpStream::connect_timeout(&PROOF.into(), PATIENCE).map_err(Unproven::NotRedirected)?;
    let Some(listener) = listener else { return Ok(()) };
    let (_, peer) = listener.accept().map_err(|source| Unproven::Listen { port, source })?;
    match stream.local_addr() {
        Ok(own) if own == peer => Ok(()),
        _ => Err(Unproven::Another { port, peer }),
    }
}
