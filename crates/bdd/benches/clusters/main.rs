//! Measures several clusters: `cargo xtask bench mesh` sets up and runs it.
//!
//! Labs are those of the features, with the product, the mesh's servers, gateways and Envoys; packets are not recorded. Times of a
//! lab are from nothing to a webhook that injects. Members of a failover are lost as Pods are: one that is not ready any more.

mod bed;
mod failover;
mod gateways;
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    // before any thread: the sandbox starts this program again inside
    let inside = match sim::sandbox::enter() {
        Ok(inside) => inside,
        Err(error) => {
            eprintln!("failed to measure: {error}");
            return ExitCode::from(sim::sandbox::COULD_NOT_RUN);
        }
    };
    // an error only says that there is one already
    let _ = rustls::crypto::ring::default_provider().install_default();
    measure::run(10, |report, rounds| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let measured = runtime.block_on(async {
            let suite = bed::suite(inside)?;
            start::labs(&suite, report, rounds.div_ceil(3)).await?;
            gateways::requests(&suite, report, rounds.div_ceil(2)).await?;
            failover::next(&suite, report, rounds * 2).await
        });
        runtime.shutdown_background();
        Ok(measured?)
    })
}
