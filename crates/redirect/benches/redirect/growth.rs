//! What excluded blocks and ports add to the time that putting rules in force takes.

use netns::NetNs;

use crate::bed::{self, BACKENDS};
use measure::{Aim, Report, Samples};

/// So many blocks, and as many ports.
const COUNTS: [u16; 4] = [0, 10, 100, 1000];

/// Policies of all sizes by all backends take turns.
pub(crate) fn measure(report: &mut Report, rounds: usize) {
    let policies = COUNTS.map(bed::excluding);
    let mut times: [[Samples; 4]; 3] = Default::default();
    let mut checks: [[Samples; 4]; 3] = Default::default();
    let mut refused: Vec<String> = Vec::new();
    let mut pods: Vec<NetNs> = Vec::new();
    for round in 0..=rounds {
        for (policy, size) in policies.iter().zip(0..) {
            for ((backend, samples), checks) in BACKENDS.into_iter().zip(&mut times).zip(&mut checks) {
                let pod = bed::namespace();
                match bed::install(&pod, backend, policy) {
                    Ok((took, _)) => {
                        let checked = bed::check(&pod, backend, policy);
                        if round > 0 {
                            samples[size].push(took);
                            checks[size].push(checked);
                        }
                    }
                    Err(error) if round == 0 => refused.push(format!("{backend} with {}: {error}", COUNTS[size])),
                    Err(_) => {}
                }
                pods.push(pod);
            }
        }
    }
    report.section(&format!("Growth: apply with so many excluded blocks and as many excluded ports, {rounds} rounds"));
    for (what, times) in [("apply", &times), ("verify", &checks)] {
        for (backend, samples) in BACKENDS.into_iter().zip(times) {
            for (count, samples) in COUNTS.iter().zip(samples).filter(|(_, samples)| !samples.is_empty()) {
                report.times(&format!("{backend}: {what}, {count} blocks and {count} ports"), samples);
            }
        }
    }
    for text in refused {
        // an unprivileged user namespace may not send as much to netlink at once as iptables-nft needs to
        report.note(&format!("refused: {text}"));
    }
    for (what, times) in [("apply", &times), ("verify", &checks)] {
        for (backend, samples) in
            BACKENDS.into_iter().zip(times).filter(|(_, samples)| !samples.iter().any(Samples::is_empty))
        {
            let [none, ten, hundred, thousand] = samples;
            let each = |few: &Samples, many: &Samples, more: f64| {
                many.median().saturating_sub(few.median()).as_secs_f64() * 1e6 / more
            };
            for (few, name, times) in [(ten, 10, 100), (hundred, 100, 10)] {
                let text = format!("{backend}: {what}, 1000 / {name} (in proportion: {times})");
                report.ratio(&text, thousand, few, Some(Aim::AtMost(times.into())));
            }
            report.note(&format!(
                "{backend}: {what}: each block with its port adds {:.1} µs up to 100, {:.1} µs from 100 to 1000",
                each(none, hundred, 100.0),
                each(hundred, thousand, 900.0),
            ));
        }
    }
}
