//! One attempt of a client, and which of the vocabulary's outcomes it was.

use std::fmt;

use capture::Timestamp;
use sim::{ProbeOutcome, ProbeResult};
use workload::report::{Outcome as Said, Report};

use crate::vocabulary::parameters::Outcome;

/// One attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The client's Pod, as the capture knows it.
    pub host: String,
    /// When it began; the window of evidence about it begins here.
    pub since: Timestamp,
    /// The token that was sent.
    pub canary: String,
    /// What the client said.
    pub report: Report,
}

impl Attempt {
    /// The host and the local address of the connection that was to carry the token, if there was one.
    #[must_use]
    pub fn carrier(&self) -> (String, Option<std::net::SocketAddr>) {
        (self.host.clone(), self.report.local.filter(|local| local.port() != 0))
    }

    /// Which outcome it was. `Blocked` stands for a failure that no other name fits.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let report = &self.report;
        match report.outcome {
            Said::Answered if report.status == Some(403) => Outcome::Forbidden,
            // an error page that no application wrote: the proxy's own words
            Said::Answered if report.status.is_some_and(|s| s >= 500) && report.instance.is_none() => Outcome::Blocked,
            Said::Answered => Outcome::Answered,
            Said::Reset => Outcome::Reset,
            Said::Refused => Outcome::Refused,
            Said::Denied | Said::TlsAlert => Outcome::Denied,
            Said::Closed | Said::Timeout | Said::Unreachable | Said::NoSuchName | Said::Failed => Outcome::Blocked,
        }
    }

    /// Whether the outcome is the one meant.
    #[must_use]
    pub fn is(&self, meant: Outcome) -> bool {
        let found = self.outcome();
        // the client could not even try: that is no evidence of anything
        if self.report.outcome == Said::Failed {
            return false;
        }
        match meant {
            Outcome::Blocked => found != Outcome::Answered,
            _ => found == meant,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.report;
        let said = format!("{:?}", r.outcome).to_lowercase();
        write!(f, "{said}")?;
        if let Some(status) = r.status {
            write!(f, ", status {status}")?;
        }
        if let Some(instance) = &r.instance {
            write!(f, ", by {instance}")?;
        }
        if let Some(error) = &r.error {
            write!(f, ": {error}")?;
        }
        if let (Some(local), Some(peer)) = (r.local, r.peer) {
            write!(f, " ({local}→{peer}")?;
            if let Some(uid) = r.uid {
                write!(f, ", uid {uid}")?;
            }
            write!(f, ")")?;
        }
        if let Some(answers) = &r.answers {
            write!(f, " {answers:?}")?;
        }
        write!(f, " after {:.0} ms, canary {}", r.elapsed_ms, self.canary)
    }
}

/// Which outcome a round of probes was: answered when all of them succeeded, otherwise how the first failing one failed.
#[must_use]
pub fn classify_probe(probes: &[ProbeOutcome]) -> Option<Outcome> {
    let failing = probes.iter().find(|p| !p.success);
    match failing {
        None => (!probes.is_empty()).then_some(Outcome::Answered),
        Some(probe) => Some(match probe.result {
            ProbeResult::Reset => Outcome::Reset,
            ProbeResult::Refused => Outcome::Refused,
            ProbeResult::Answered | ProbeResult::TimedOut => Outcome::Blocked,
        }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn attempt(said: Said, status: Option<u16>, instance: Option<&str>) -> Attempt {
        let mut report = Report::new(said);
        report.status = status;
        report.instance = instance.map(str::to_owned);
        Attempt { host: String::new(), since: Timestamp::START, canary: String::new(), report }
    }

    #[rstest]
    #[case(Said::Answered, Some(200), Some("static-server"), Outcome::Answered)]
    #[case(Said::Answered, Some(403), None, Outcome::Forbidden)]
    #[case(Said::Answered, Some(503), None, Outcome::Blocked)]
    #[case(Said::Answered, Some(503), Some("static-server"), Outcome::Answered)]
    #[case(Said::TlsAlert, None, None, Outcome::Denied)]
    #[case(Said::NoSuchName, None, None, Outcome::Blocked)]
    fn outcomes(
        #[case] said: Said,
        #[case] status: Option<u16>,
        #[case] instance: Option<&str>,
        #[case] expected: Outcome,
    ) {
        let attempt = attempt(said, status, instance);
        assert_eq!(attempt.outcome(), expected);
        assert!(attempt.is(expected));
    }

    #[test]
    fn what_was_not_tried_is_not_blocked() {
        assert!(!attempt(Said::Failed, None, None).is(Outcome::Blocked));
        assert!(attempt(Said::Timeout, None, None).is(Outcome::Blocked));
    }

    fn probe(success: bool, result: ProbeResult) -> ProbeOutcome {
        ProbeOutcome {
            container: "c".into(),
            kind: "readiness",
            success,
            result,
            message: String::new(),
            peer: None,
            local_port: None,
        }
    }

    #[rstest]
    #[case(&[], None)]
    #[case(&[probe(true, ProbeResult::Answered)], Some(Outcome::Answered))]
    #[case(&[probe(true, ProbeResult::Answered), probe(false, ProbeResult::Reset)], Some(Outcome::Reset))]
    #[case(&[probe(false, ProbeResult::Answered)], Some(Outcome::Blocked))]
    fn rounds_of_probes(#[case] probes: &[ProbeOutcome], #[case] expected: Option<Outcome>) {
        assert_eq!(classify_probe(probes), expected);
    }
}
