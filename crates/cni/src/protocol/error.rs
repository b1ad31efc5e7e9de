//! Errors as the specification wants them: a JSON object on standard output.

use serde::Serialize;

/// Why a call failed. Numbers below 100 are the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is none that is known.
    IncompatibleVersion = 1,
    /// An environment variable is missing or of no use.
    InvalidEnvironment = 4,
    /// Something could not be read or reached.
    Io = 5,
    /// Something could not be decoded.
    Decode = 6,
    /// The configuration cannot be used.
    InvalidConfiguration = 7,
    /// It may work a moment later.
    TryAgainLater = 11,
    /// `STATUS`: no Pod could be redirected now.
    NotAvailable = 50,
    /// The Pod's own settings cannot be used.
    InvalidPod = 100,
    /// The rules could not be put in force.
    Rules = 101,
    /// The rules are in force and do not do what they should.
    Proof = 102,
    /// `CHECK`: the rules are not those that there should be.
    Drift = 103,
    /// The plugin itself is broken.
    Defect = 999,
}

/// Why a call failed, for the runtime, which shows it in the Pod's events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// One sentence that names the object.
    pub msg: String,
    /// More, such as what to do; may be empty.
    pub details: String,
}

impl CniError {
    /// Without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// The JSON for standard output, in the version of the configuration.
    #[must_use]
    pub fn to_json(&self, version: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            cni_version: &'a str,
            code: u16,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let wire = Wire { cni_version: version, code: self.code as u16, msg: &self.msg, details: &self.details };
        serde_json::to_string(&wire).unwrap_or_default()
    }
}
