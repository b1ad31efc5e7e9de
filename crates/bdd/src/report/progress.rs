//! A line per finished scenario, and what runs now.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::suite::{Finished, Suite};

/// How often a terminal is refreshed.
const REFRESH: Duration = Duration::from_millis(200);
/// How often a log says what runs.
const REMIND: u32 = 50;

/// Prints progress until it is ended.
pub struct Progress {
    task: JoinHandle<()>,
    suite: Arc<Suite>,
    printed: Arc<AtomicUsize>,
}

impl Progress {
    /// Begins to print.
    #[must_use]
    pub fn start(suite: &Arc<Suite>, total: usize) -> Self {
        let printed = Arc::new(AtomicUsize::new(0));
        let (shown, count) = (Arc::clone(suite), Arc::clone(&printed));
        let task = tokio::spawn(async move {
            let mut ticks: u32 = 0;
            loop {
                tokio::time::sleep(REFRESH).await;
                ticks += 1;
                let so_far = show(&shown, count.load(Ordering::Relaxed), total, ticks.is_multiple_of(REMIND));
                count.store(so_far, Ordering::Relaxed);
            }
        });
        Self { task, suite: Arc::clone(suite), printed }
    }

    /// Ends, after printing what has not been printed.
    pub async fn end(self) {
        self.task.abort();
        // an aborted task ends with an error, which is what was asked for
        let _ = self.task.await;
        if std::io::stdout().is_terminal() {
            print_raw("\r\x1b[K");
        }
        for finished in self.suite.finished().iter().skip(self.printed.load(Ordering::Relaxed)) {
            print_line(&line(finished));
        }
    }
}

fn line(finished: &Finished) -> String {
    let mark = if finished.failure.is_some() { "✘" } else { "✔" };
    format!("{mark} {} ({:.1} s)", finished.name, finished.took.as_secs_f64())
}

fn show(suite: &Suite, printed: usize, total: usize, remind: bool) -> usize {
    let terminal = std::io::stdout().is_terminal();
    let all = suite.finished();
    let running = suite.running();
    if terminal {
        print_raw("\r\x1b[K");
    }
    for finished in all.iter().skip(printed) {
        print_line(&line(finished));
    }
    if terminal {
        let oldest = running.iter().max_by_key(|(_, _, since)| *since);
        let at = oldest.map(|(name, step, _)| format!("{} — {step}", short(name))).unwrap_or_default();
        let text = format!("{}/{total} done, {} running: {at}", all.len(), running.len());
        print_raw(&text.chars().take(150).collect::<String>());
    } else if remind && !running.is_empty() {
        let names: Vec<String> = running
            .iter()
            .map(|(n, step, since)| format!("{} {:.0} s at {step:?}", short(n), since.as_secs_f64()))
            .collect();
        print_line(&format!("… {}/{total} done; running: {}", all.len(), names.join("; ")));
    }
    all.len()
}

fn short(name: &str) -> &str {
    name.split_once(": ").map_or(name, |(_, scenario)| scenario)
}

#[expect(clippy::print_stdout, reason = "progress is for the terminal")]
fn print_line(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stdout, reason = "progress is for the terminal")]
fn print_raw(text: &str) {
    print!("{text}");
    // a terminal that is gone is no reason to stop
    let _ = std::io::stdout().flush();
}
