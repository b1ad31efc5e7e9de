//! The node agent's lease: a file that it touches as long as it is there.
//!
//! | lease | Pods of the mesh | other Pods |
//! |---|---|---|
//! | none in the configuration | redirected | pass |
//! | fresh | redirected | pass |
//! | old, or gone | refused: nobody repairs what goes wrong here | pass |
//!
//! An agent that is uninstalled takes the plugin out of the network configuration. Where it could not, what is left is this
//! program with an old lease, which is in nobody's way but the mesh's.

use crate::node::{CONTEST, LIFETIME, is_contested};
use crate::protocol::{CniError, Code};
use std::path::Path;
use std::time::SystemTime;

/// Whether the agent is there.
pub(super) fn check(lease: &Path, pod: &str) -> Result<(), CniError> {
    let touched = std::fs::metadata(lease).and_then(|metadata| metadata.modified());
    let why = match touched {
        Ok(touched) => match SystemTime::now().duration_since(touched) {
            Ok(age) if age > LIFETIME => format!("has not renewed its lease for {} s", age.as_secs()),
            // a clock that was set back makes no agent older
            _ => return Ok(()),
        },
        Err(error) => format!("has no lease: {error}"),
    };
    let message = format!("pod {pod} is of the mesh, and the node agent of consul-cni {why} ({})", lease.display());
    Err(CniError::new(Code::TryAgainLater, message).hint(
        "check the Pods of DaemonSet consul-cni on this node; where Consul was uninstalled, remove consul-cni from the network \
         configuration, and annotation connect-inject from the pod",
    ))
}

/// Why the node agent says that Pods will not be redirected. An old word counts no more.
pub(super) fn contest(lease: &Path) -> Option<&'static str> {
    let touched = std::fs::metadata(lease).and_then(|metadata| metadata.modified()).ok()?;
    let is_old = SystemTime::now().duration_since(touched).is_ok_and(|age| age > LIFETIME);
    let text = std::fs::read_to_string(lease).ok()?;
    (!is_old && is_contested(&text)).then_some(CONTEST)
}
