//! Measures the control plane, and what a proxy costs: `cargo xtask bench mesh` sets up and runs it.
//!
//! The control plane is a process of its own, which follows a synthetic Kubernetes API here and serves its feed to clients here.
//! Times are from the moment at which an object is changed until each client that the change concerns has read its update.
//! On the wire stand two real Envoys, client and server, beside a crowd of such clients; what is measured there is until a new
//! connection through both of them meets the change.

mod change;
mod crowd;
mod plane;
#[path = "../../tests/support/mod.rs"]
mod support;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // this program is its own control plane, and its own crowd in another network namespace
    let role = match words.as_slice() {
        [plane::WORD, api, intention] => Some(plane::serve(api, intention)),
        [crowd::WORD, feed, services, instances, proxies] => {
            Some(crowd::stand(feed, &[services, instances, proxies].map(|n| n.parse().unwrap_or_default())))
        }
        _ => None,
    };
    if let Some(role) = role {
        return match role {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("failed to serve: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    measure::run(20, |report, rounds| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            change::until_clients(report, rounds).await?;
            change::independence(report, rounds).await?;
            change::load(report).await
        })?;
        wire::changes(&runtime, report, rounds.div_ceil(2))?;
        wire::requests(&runtime, report, rounds.div_ceil(4))?;
        Ok(())
    })
}
