//! What an operation came to, for people and for machines.

use std::fmt::Write as _;

use redirect::kernel::Place;
use redirect::rules::Explanation;
use redirect::{Applied, Backend, Verified};
use serde::Serialize;

use super::Outcome;

/// What a backend would be told about one place.
#[derive(Debug, Serialize)]
pub(super) struct Script {
    pub(super) backend: Backend,
    pub(super) place: Place,
    pub(super) script: String,
}

/// The result of an operation. As JSON it is one document.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Report {
    Applied(Applied),
    Verified(Verified),
    Removed(#[serde(serialize_with = "removed")] bool),
    Explained(Explanation),
    Scripts(Vec<Script>),
}

fn removed<S: serde::Serializer>(removed: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!({ "removed": removed }).serialize(serializer)
}

impl Report {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Verified(verified) if !verified.drift.is_empty() => Outcome::Drift,
            _ => Outcome::Success,
        }
    }

    pub(super) fn text(&self, json: bool) -> String {
        if json {
            let document = serde_json::to_string(self).expect("strings, numbers and lists have a JSON form");
            return format!("{document}\n");
        }
        match self {
            Self::Applied(Applied { backend, reason, changed }) => {
                let did = if *changed { "" } else { ", which were in force already" };
                format!("Successfully applied traffic redirection rules\n  by {backend}, because {reason}{did}\n")
            }
            Self::Verified(Verified { backend, reason, drift }) => {
                let mut text = match drift.len() {
                    0 => "Traffic redirection rules are in force".to_owned(),
                    1 => "Traffic redirection rules differ in one place".to_owned(),
                    count => format!("Traffic redirection rules differ in {count} places"),
                };
                let _ = writeln!(text, "\n  looked at {backend}, because {reason}");
                for one in drift {
                    let _ = writeln!(text, "  {one}");
                }
                text
            }
            Self::Removed(true) => "Removed the traffic redirection rules\n".to_owned(),
            Self::Removed(false) => "There were no traffic redirection rules\n".to_owned(),
            Self::Explained(explanation) => format!("{explanation}\n"),
            Self::Scripts(scripts) => {
                let part = |part: &Script| format!("# {}: {}\n{}", part.backend, part.place, part.script);
                scripts.iter().map(part).collect::<Vec<_>>().join("\n")
            }
        }
    }
}
