//! Samples, what they come to, and how it is told: tables for people, or one JSON document.

use std::time::Duration;

use serde_json::{Value, json};

/// Times of one contestant, one for each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quickest round: what is left when nothing else disturbs.
    pub(crate) fn best(&self) -> Duration {
        self.0.iter().copied().min().expect("every contestant was measured")
    }

    /// Half of the rounds took no longer.
    pub(crate) fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// Nine of ten rounds took no longer.
    pub(crate) fn p90(&self) -> Duration {
        self.quantile(90)
    }

    fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1).expect("every contestant was measured");
        sorted[(last * percent).div_ceil(100)]
    }

    fn json(&self) -> Value {
        let [best, median, p90] = [self.best(), self.median(), self.p90()].map(micros);
        json!({"best_us": best, "median_us": median, "p90_us": p90, "rounds": self.0.len()})
    }
}

fn micros(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e7).round() / 10.0
}

/// What a ratio is meant to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn reached(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// Everything that was measured. Told as it comes, or collected for the end.
pub(crate) struct Report {
    as_json: bool,
    sections: Vec<Value>,
    missed: usize,
    aims: usize,
}

impl Report {
    pub(crate) fn new(as_json: bool) -> Self {
        Self { as_json, sections: Vec::new(), missed: 0, aims: 0 }
    }

    /// Begins a section; what follows belongs to it.
    pub(crate) fn section(&mut self, title: &str) {
        self.say(&format!("\n{title}"));
        self.sections.push(json!({"title": title, "times": [], "ratios": [], "notes": []}));
    }

    /// The times of a contestant.
    pub(crate) fn times(&mut self, who: &str, samples: &Samples) {
        let [best, median, p90] = [samples.best(), samples.median(), samples.p90()].map(|took| micros(took) / 1000.0);
        self.say(&format!("  {who:<62} best {best:8.3}  median {median:8.3}  p90 {p90:8.3} ms"));
        let mut entry = samples.json();
        entry["of"] = json!(who);
        self.keep("times", entry);
    }

    /// A ratio, held against an aim where there is one.
    /// It is the medians' ratio; the quickest rounds' is told beside it, which a busy machine changes less.
    pub(crate) fn ratio(&mut self, what: &str, one: &Samples, other: &Samples, aim: Option<Aim>) {
        let of = |one: Duration, other: Duration| (one.as_secs_f64() / other.as_secs_f64() * 1000.0).round() / 1000.0;
        let (ratio, best) = (of(one.median(), other.median()), of(one.best(), other.best()));
        let mut entry = json!({"of": what, "ratio": ratio, "of_best": best});
        let judged = aim.map(|aim| {
            let reached = aim.reached(ratio);
            self.aims += 1;
            self.missed += usize::from(!reached);
            entry["aim"] = json!(aim.text());
            entry["reached"] = json!(reached);
            format!("   aim {:<8} {}", aim.text(), if reached { "reached" } else { "missed" })
        });
        let judged = judged.unwrap_or_default();
        self.say(format!("  {what:<62} {ratio:7.2} ×  (best rounds {best:7.2} ×){judged}").trim_end());
        self.keep("ratios", entry);
    }

    /// Something to know about the numbers.
    pub(crate) fn note(&mut self, text: &str) {
        self.say(&format!("  note: {text}"));
        self.keep("notes", json!(text));
    }

    /// Ends the report.
    pub(crate) fn end(self) {
        let (aims, reached) = (self.aims, self.aims - self.missed);
        if self.as_json {
            print(&json!({"sections": self.sections, "aims": aims, "reached": reached}).to_string());
        } else {
            print(&format!("\n{reached} of {aims} aims reached"));
        }
    }

    fn keep(&mut self, list: &str, entry: Value) {
        let section = self.sections.last_mut().expect("a section was begun");
        section[list].as_array_mut().expect("made as one").push(entry);
    }

    fn say(&self, line: &str) {
        if !self.as_json {
            print(line);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a measurement is its standard output")]
fn print(line: &str) {
    println!("{line}");
}
