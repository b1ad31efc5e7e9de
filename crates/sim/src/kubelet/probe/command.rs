//! `exec` probes.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::Attempt;
use crate::ProbeResult;
use crate::runtime::Container;

/// As much of a command's output as a kubelet keeps.
const OUTPUT: u64 = 10 * 1024;

/// Runs the command in the container.
pub(super) async fn run(words: &[String], container: Option<&Container>, timeout: Duration) -> Attempt {
    let Some(container) = container else {
        return Attempt::new(false, ProbeResult::Refused, "container not running");
    };
    let running = async {
        let session = match container.exec(words, false).await {
            Ok(session) => session,
            Err(error) => return Attempt::new(false, ProbeResult::Refused, error.to_string()),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (session.stdout.take(OUTPUT), session.stderr.take(OUTPUT));
        let (code, _, _) = tokio::join!(session.exit, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        out.extend(err);
        Attempt::new(code == 0, ProbeResult::Answered, String::from_utf8_lossy(&out))
    };
    let late = || format!("command timed out: {:?} timed out after {timeout:?}", words.join(" "));
    tokio::time::timeout(timeout, running).await.unwrap_or_else(|_| Attempt::new(false, ProbeResult::TimedOut, late()))
}
