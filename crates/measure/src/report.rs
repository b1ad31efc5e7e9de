//! What was measured, as tables for people or one JSON document.

use crate::Samples;
use serde_json::{Value, json};
use std::time::Duration;

fn micros(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e7).round() / 10.0
}

/// What a ratio or a quantity is meant to be.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Aim {
    fn reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
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
pub struct Report {
    as_json: bool,
    sections: Vec<Value>,
    missed: usize,
    aims: usize,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(as_json: bool) -> Self {
        Self { as_json, sections: Vec::new(), missed: 0, aims: 0 }
    }

    /// Begins a section; what follows belongs to it.
    pub fn section(&mut self, title: &str) {
        self.say(&format!("\n{title}"));
        self.sections.push(json!({"title": title, "times": [], "ratios": [], "quantities": [], "notes": []}));
    }

    /// The times of a contestant.
    pub fn times(&mut self, who: &str, samples: &Samples) {
        let [best, median, p90] = [samples.best(), samples.median(), samples.p90()].map(micros);
        let [b, m, p] = [best, median, p90].map(|micros| micros / 1000.0);
        self.say(&format!("  {who:<62} best {b:8.3}  median {m:8.3}  p90 {p:8.3} ms"));
        let rounds = samples.len();
        self.keep("times", json!({"of": who, "best_us": best, "median_us": median, "p90_us": p90, "rounds": rounds}));
    }

    /// A ratio, held against an aim where there is one.
    /// It is the medians' ratio; the quickest rounds' is told beside it, which a busy machine changes less.
    pub fn ratio(&mut self, what: &str, one: &Samples, other: &Samples, aim: Option<Aim>) {
        let of = |one: Duration, other: Duration| (one.as_secs_f64() / other.as_secs_f64() * 1000.0).round() / 1000.0;
        let (ratio, best) = (of(one.median(), other.median()), of(one.best(), other.best()));
        let mut entry = json!({"of": what, "ratio": ratio, "of_best": best});
        let judged = self.judge(ratio, aim, &mut entry);
        self.say(format!("  {what:<62} {ratio:7.2} ×  (best rounds {best:7.2} ×){judged}").trim_end());
        self.keep("ratios", entry);
    }

    /// A quantity that is no time, held against an aim where there is one.
    pub fn quantity(&mut self, what: &str, value: f64, unit: &str, aim: Option<Aim>) {
        let mut entry = json!({"of": what, "value": value, "unit": unit});
        let judged = self.judge(value, aim, &mut entry);
        self.say(format!("  {what:<62} {value:10.2} {unit}{judged}").trim_end());
        self.keep("quantities", entry);
    }

    /// Holds a value against its aim, and says how that ends a line.
    fn judge(&mut self, value: f64, aim: Option<Aim>, entry: &mut Value) -> String {
        let Some(aim) = aim else { return String::new() };
        let reached = aim.reached(value);
        self.aims += 1;
        self.missed += usize::from(!reached);
        entry["aim"] = json!(aim.text());
        entry["reached"] = json!(reached);
        format!("   aim {:<8} {}", aim.text(), if reached { "reached" } else { "missed" })
    }

    /// Something to know about the numbers.
    pub fn note(&mut self, text: &str) {
        self.say(&format!("  note: {text}"));
        self.keep("notes", json!(text));
    }

    /// Ends the report.
    pub fn end(self) {
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
