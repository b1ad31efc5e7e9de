//! How long labs take to be there.

use std::time::Instant;

use anyhow::Result;
use bdd::suite::Suite;
use bdd::vocabulary::parameters::Link;
use measure::{Aim, Report, Samples};

use crate::bed::{clusters, lab};

/// Labs of one cluster and of several, in turns.
pub(crate) async fn labs(suite: &Suite, report: &mut Report, rounds: usize) -> Result<()> {
    let contestants = [
        (1, Link::Peered),
        (2, Link::Federated),
        (2, Link::SharingOneDatacenter),
        (2, Link::Peered),
        (3, Link::Federated),
        (4, Link::Federated),
    ];
    let (mut times, mut whole): ([Samples; 6], [Samples; 6]) = Default::default();
    // the first round warms up
    for round in 0..=rounds {
        for (i, (count, link)) in contestants.iter().enumerate() {
            let topology = clusters(*count, *link)?;
            let begun = Instant::now();
            let bed = lab(suite, topology.as_ref()).await?;
            let up = begun.elapsed();
            bed.converge().await?;
            let converged = begun.elapsed();
            bed.stop().await;
            if round > 0 {
                times[i].push(up);
                whole[i].push(converged);
            }
        }
    }
    report.section(&format!(
        "A lab, from nothing until Pods can come and are injected, and until mesh gateways are up, {rounds} rounds"
    ));
    let name = |(count, link): &(usize, Link)| match count {
        1 => "1 cluster".to_owned(),
        _ => format!("{count} clusters {link}"),
    };
    for (contestant, times) in contestants.iter().zip(&times) {
        report.times(&name(contestant), times);
    }
    for (contestant, times) in contestants.iter().zip(&whole).skip(1) {
        report.times(&format!("{}, with gateways", name(contestant)), times);
    }
    let [one, others @ ..] = &times;
    for (contestant, times) in contestants[1..].iter().zip(others) {
        let aim = (contestant.0 == 2).then_some(Aim::AtMost(2.0));
        report.ratio(&format!("{} to 1 cluster", name(contestant)), times, one, aim);
    }
    Ok(())
}
