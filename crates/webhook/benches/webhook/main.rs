//! Measures what an admission costs: `cargo xtask bench webhook` sets up and runs it.
//!
//! The program `webhook`, as it is installed, answers reviews over TLS on one processor; the client has another one. Beside it
//! stand two limits, measured in turns with it: the same server whose handler only reads the review and sends the Pod back, and
//! reading plus writing the Pod alone.

mod api;
mod bed;
mod echo;
mod load;
mod pure;
mod reviews;

use bed::{Bed, Contestant, Serving};
use measure::{Aim, Report, Samples};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// One turn at full load.
const FULL: Duration = Duration::from_millis(600);

/// One turn at half of it.
const HALF: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // this program is its own echo server
    if let [word, directory, port] = words.as_slice()
        && word == echo::WORD
    {
        return match echo::serve(directory.as_ref(), port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("failed to serve: {error}");
                ExitCode::FAILURE
            }
        };
    }
    measure::run(7, |report, rounds| {
        pure::measure(report, rounds);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(over_tls(report, rounds))
    })
}

async fn over_tls(report: &mut Report, rounds: usize) -> Result<(), Box<dyn Error>> {
    let bed = Bed::build().await?;
    started(&bed, report, rounds).await?;
    for review in reviews::all() {
        let webhook = bed.start(Contestant::Webhook).await?;
        let echo = bed.start(Contestant::Echo).await?;
        answered(&bed, report, rounds, &review, [&webhook, &echo]).await?;
    }
    Ok(())
}

/// From the start of the process until it says that it is ready.
async fn started(bed: &Bed, report: &mut Report, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut times = Samples::default();
    for _ in 0..rounds {
        times.push(bed.start(Contestant::Webhook).await?.start_to_ready);
    }
    report.section(&format!("Start of the program webhook, with four watches to fill, {rounds} starts"));
    report.times("start to ready", &times);
    Ok(())
}

/// Both servers have a turn in every round.
async fn answered(
    bed: &Bed,
    report: &mut Report,
    rounds: usize,
    review: &reviews::Review,
    [webhook, echo]: [&Serving; 2],
) -> Result<(), Box<dyn Error>> {
    let mut client = bed.client(webhook).await?;
    let mut echoed = bed.client(echo).await?;
    client.injects(&review.body).await?;
    let mut full: [Samples; 2] = Default::default();
    let before = [webhook.processor_time()?, echo.processor_time()?];
    for round in 0..=rounds {
        let times = [client.full(&review.body, FULL).await?, echoed.full(&review.body, FULL).await?];
        // the first round warms up
        if round > 0 {
            full.iter_mut().zip(times).for_each(|(samples, time)| samples.push(time));
        }
    }
    let after = [webhook.processor_time()?, echo.processor_time()?];
    let all = FULL.as_secs_f64() * (rounds + 1) as f64;
    let [busy, busy_echo] = [0, 1].map(|who| (after[who] - before[who]).as_secs_f64() / all);
    let [of_webhook, of_echo] = &full;
    let half = |full: &Samples| 0.5 / full.median().as_secs_f64();
    let (rate, rate_of_echo) = (half(of_webhook), half(of_echo));
    // webhook and echo each at half of its own full load, and echo at webhook's
    let mut latencies: [[Samples; 2]; 3] = Default::default();
    for _ in 0..rounds {
        let turns = [
            client.at(rate, HALF, &review.body).await?,
            echoed.at(rate_of_echo, HALF, &review.body).await?,
            echoed.at(rate, HALF, &review.body).await?,
        ];
        for (latencies, [p50, p99]) in turns.iter().zip(&mut latencies) {
            p50.push(latencies.median());
            p99.push(latencies.quantile(99));
        }
    }
    let bytes = review.body.len();
    report.section(&format!("{} Pod, review of {bytes} bytes, over TLS and HTTP/2, one processor", review.name));
    report.times("webhook at full load: time of each review", of_webhook);
    report.times("echo at full load: time of each review", of_echo);
    let share = (review.name == "typical").then_some(Aim::AtLeast(0.6));
    report.ratio("webhook's reviews per second, as a share of echo's", of_echo, of_webhook, share);
    report.note(&format!("webhook's processor was busy for {busy:.2} of its turns, echo's for {busy_echo:.2}"));
    let [[webhook_p50, webhook_p99], [echo_p50, echo_p99], [slow_p50, slow_p99]] = &latencies;
    report.note(&format!("half load is {rate:.0} reviews per second for webhook and {rate_of_echo:.0} for echo"));
    report.times("webhook at half load: p50", webhook_p50);
    report.times("webhook at half load: p99", webhook_p99);
    report.times("echo at half load: p50", echo_p50);
    report.times("echo at half load: p99", echo_p99);
    report.times("echo at webhook's half load: p50", slow_p50);
    report.times("echo at webhook's half load: p99", slow_p99);
    let twice = (review.name == "typical").then_some(Aim::AtMost(2.0));
    report.ratio("webhook's p99 to echo's, each at half of its own full load", webhook_p99, echo_p99, twice);
    report.ratio("webhook's p99 to echo's at the same rate", webhook_p99, slow_p99, None);
    report.quantity("webhook's resident memory under this load", webhook.resident()?, "MiB", Some(Aim::AtMost(30.0)));
    report.quantity("echo's", echo.resident()?, "MiB", None);
    Ok(())
}
