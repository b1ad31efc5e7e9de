//! What it takes to put the usual rules in force and to check them, against a process per rule.

use netns::NetNs;

use crate::bed::{self, BACKENDS};
use measure::consul;
use measure::{Aim, Report, Samples};

/// How many times faster than Consul's way each backend is meant to be, in the order of [`BACKENDS`].
const AIMS: [f64; 3] = [25.0, 12.0, 4.0];

/// One backend's times.
#[derive(Default)]
struct Own {
    apply: Samples,
    again: Samples,
    verify: Samples,
}

/// Everybody has a turn in every round, in a namespace of their own, so that what disturbs the machine disturbs all alike.
pub(crate) fn measure(report: &mut Report, rounds: usize, with_dns: bool) {
    let config = bed::usual(with_dns);
    let (policy, commands) = (bed::policy(&config), consul::commands(&config));
    // what `iptables` is depends on the machine, so the other variant is measured beside it
    let programs = ["iptables", "iptables-nft", "iptables-legacy"];
    let mut theirs: [Samples; 3] = Default::default();
    let mut ours: [Own; 3] = Default::default();
    // kept to the end: the kernel takes namespaces apart in the background, which would disturb the rounds after
    let mut pods: Vec<NetNs> = Vec::new();
    for round in 0..=rounds {
        // the first round warms up
        let counts = round > 0;
        for (program, samples) in programs.iter().zip(&mut theirs) {
            let pod = bed::namespace();
            let start = std::time::Instant::now();
            consul::install(&pod.proc_path(), program, &commands);
            if counts {
                samples.push(start.elapsed());
            }
            pods.push(pod);
        }
        for (backend, own) in BACKENDS.into_iter().zip(&mut ours) {
            let pod = bed::namespace();
            let install = || bed::install(&pod, backend, &policy).unwrap_or_else(|error| panic!("{backend}: {error}"));
            let (first, applied) = install();
            assert!(applied.changed, "{backend}: the namespace was empty");
            let (second, applied) = install();
            assert!(!applied.changed, "{backend}: the rules were in force already");
            let checked = bed::check(&pod, backend, &policy);
            if counts {
                own.apply.push(first);
                own.again.push(second);
                own.verify.push(checked);
            }
            pods.push(pod);
        }
    }
    let same = bed::command(&pods[0], &["iptables", "--version"]);
    let dns = if with_dns { "with DNS" } else { "without DNS" };
    report.section(&format!("Usual policy {dns}: {} commands of Consul's own way, {rounds} rounds", commands.len()));
    for (program, samples) in programs.iter().zip(&theirs) {
        report.times(&format!("{} × nsenter -- {program}", commands.len()), samples);
    }
    report.note(&format!("iptables is {same}"));
    for (backend, own) in BACKENDS.into_iter().zip(&ours) {
        report.times(&format!("{backend}: apply"), &own.apply);
        report.times(&format!("{backend}: apply again, nothing to do"), &own.again);
        report.times(&format!("{backend}: verify"), &own.verify);
    }
    for ((backend, own), aim) in BACKENDS.into_iter().zip(&ours).zip(AIMS) {
        report.ratio(&format!("Consul's way / {backend}: apply"), &theirs[0], &own.apply, Some(Aim::AtLeast(aim)));
    }
    for (index, program) in programs.iter().enumerate().skip(1) {
        for (backend, own) in BACKENDS.into_iter().zip(&ours) {
            report.ratio(&format!("Consul's way by {program} / {backend}: apply"), &theirs[index], &own.apply, None);
        }
    }
    for (backend, own) in BACKENDS.into_iter().zip(&ours) {
        report.ratio(&format!("{backend}: verify / apply"), &own.verify, &own.apply, Some(Aim::AtMost(1.0)));
        report.ratio(&format!("{backend}: apply again / apply"), &own.again, &own.apply, None);
    }
}
