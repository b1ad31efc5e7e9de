//! Measures what an `ADD` costs: `cargo xtask bench cni` sets up and runs it.
//!
//! The plugin is started as runtimes start it. Beside it, in turns: a process that only prints what it is given, rules put in force
//! without a process, and what consul-k8s does (ask for the Pod, write it, a process for each rule, write it again). Consul's
//! requests go without TLS to a server that answers at once, so that they cost less here than in any cluster.

mod bed;
mod theirs;

use bed::Bed;
use measure::{Aim, Report, Samples};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// So many Pods start at once, as on a node that boots.
const AT_ONCE: usize = 32;

/// Who takes part.
#[derive(Clone, Copy)]
enum Contestant {
    Plugin,
    Printer,
    Apply,
    Consul,
}

fn main() -> ExitCode {
    measure::run(30, |report, rounds| {
        let bed = Bed::build()?;
        let memory = bed.plugin_memory()?;
        alone(report, &bed, rounds)?;
        together(report, &bed, rounds.div_ceil(10))?;
        report.section("The program");
        let bytes = std::fs::metadata(bed::PLUGIN)?.len();
        report.quantity("size, stripped", megabytes(bytes), "MB", Some(Aim::AtMost(6.0)));
        report.quantity("peak memory of an ADD", megabytes(memory), "MB", Some(Aim::AtMost(12.0)));
        Ok(())
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Everybody has a turn in every round, each in a namespace of its own.
fn alone(report: &mut Report, bed: &Bed, rounds: usize) -> Result<(), Box<dyn Error>> {
    use Contestant::{Apply, Consul, Plugin, Printer};
    let mut times: [Samples; 4] = Default::default();
    let mut both = Samples::default();
    for round in 0..=rounds {
        let mut took = [Duration::ZERO; 4];
        for (contestant, took) in [Plugin, Printer, Apply, Consul].into_iter().zip(&mut took) {
            *took = bed.turn(contestant)?;
        }
        // the first round warms up
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(samples, took)| samples.push(took));
            both.push(took[1] + took[2]);
        }
    }
    let [plugin, printer, apply, consul] = &times;
    report.section(&format!("ADD of one Pod, {rounds} rounds"));
    report.times("consul-cni, with its proof", plugin);
    report.times("a process that prints", printer);
    report.times("rules alone", apply);
    report.times("Consul's sequence", consul);
    report.note(&format!("p99: consul-cni {:?}, Consul's sequence {:?}", plugin.quantile(99), consul.quantile(99)));
    report.ratio("Consul's sequence to consul-cni", consul, plugin, Some(Aim::AtLeast(10.0)));
    report.ratio("consul-cni to a process that prints and rules alone", plugin, &both, Some(Aim::AtMost(1.5)));
    Ok(())
}

/// All Pods of a round at once; each one's time counts.
fn together(report: &mut Report, bed: &Bed, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut times: [Samples; 2] = Default::default();
    let mut whole: [Samples; 2] = Default::default();
    for _ in 0..rounds {
        for (contestant, (times, whole)) in
            [Contestant::Plugin, Contestant::Consul].into_iter().zip(times.iter_mut().zip(&mut whole))
        {
            let start = Instant::now();
            let took = std::thread::scope(|scope| {
                let started: Vec<_> =
                    (0..AT_ONCE).map(|_| scope.spawn(|| bed.turn(contestant).map_err(|e| e.to_string()))).collect();
                let ended =
                    started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())));
                ended.collect::<Result<Vec<_>, String>>()
            })?;
            whole.push(start.elapsed());
            times.extend(took);
        }
    }
    let [plugin, consul] = &times;
    report.section(&format!("ADD of {AT_ONCE} Pods at once, {rounds} rounds"));
    report.times("consul-cni: each Pod", plugin);
    report.times("Consul's sequence: each Pod", consul);
    report.note(&format!("p99: consul-cni {:?}, Consul's sequence {:?}", plugin.quantile(99), consul.quantile(99)));
    report.ratio(
        "Consul's sequence to consul-cni, until the last Pod is done",
        &whole[1],
        &whole[0],
        Some(Aim::AtLeast(10.0)),
    );
    Ok(())
}
