//! One attempt: how far it came, and what its end means.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use workload::report::{Outcome, Report};

use workload::payload::hex;

/// How much of an answer is reported.
const BODY_LIMIT: usize = 64 * 1024;

/// Collects what is known about an attempt while it runs, so that a time-out loses nothing.
#[derive(Clone)]
pub(super) struct Attempt {
    begun: Instant,
    /// Shared with what reads the connection, which may run as a task of its own.
    state: Arc<Mutex<State>>,
}

struct State {
    report: Report,
    progress: Progress,
    answer: Vec<u8>,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// No connection yet.
    Nothing,
    /// Connected; the first packet was answered.
    Connected,
    /// TLS came up too.
    Secured,
}

/// Why an attempt ended without the answer that was awaited.
#[derive(Debug)]
pub(super) enum Failure {
    /// The name has no address.
    NoSuchName(String),
    /// The socket says so.
    Io(io::Error),
    /// The other end ended the connection.
    End,
    /// The other end sent a TLS alert, or does not speak TLS.
    Tls(String),
    /// What came is not what the protocol says.
    Garbled(String),
    /// A rule of this network namespace let the datagram go nowhere.
    Filtered,
    /// Not the other end's doing.
    Local(String),
}

impl Failure {
    /// Why a datagram could not be sent. `EPERM` is said of no socket option here, but by a rule.
    pub(super) fn of_sending(error: io::Error) -> Self {
        if error.raw_os_error() == Some(nix::libc::EPERM) { Self::Filtered } else { error.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // TLS reports its own errors inside of those of the socket
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::Tls(tls.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::End,
            None => Self::Io(error),
        }
    }
}

impl Attempt {
    pub(super) fn new(canary: Option<String>) -> Self {
        let mut report = Report::new(Outcome::Failed);
        report.canary = canary;
        report.uid = Some(nix::unistd::getuid().as_raw());
        let state = State { report, progress: Progress::Nothing, answer: Vec::new() };
        Self { begun: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The canary, if there is one.
    pub(super) fn canary(&self) -> Option<String> {
        self.state().report.canary.clone()
    }

    /// What to send: the payload and the canary, as a line when all of it is text.
    pub(super) fn message(&self, payload: &[u8]) -> Vec<u8> {
        let mut message = payload.to_vec();
        if let Some(canary) = self.canary() {
            if !message.is_empty() {
                message.push(b' ');
            }
            message.extend_from_slice(canary.as_bytes());
        }
        if message.is_empty() {
            message.extend_from_slice(b"hello");
        }
        let is_text = message.iter().all(|byte| !byte.is_ascii_control() || b"\n\r\t".contains(byte));
        if is_text && !message.ends_with(b"\n") {
            message.push(b'\n');
        }
        message
    }

    /// The addresses of the socket, as soon as they are known.
    pub(super) fn sockets(&self, local: Option<SocketAddr>, peer: SocketAddr) {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let report = &mut self.state().report;
        report.local = local.map(canonical);
        report.peer = Some(canonical(peer));
    }

    pub(super) fn connected(&self) {
        self.state().progress = Progress::Connected;
    }

    pub(super) fn secured(&self) {
        self.state().progress = Progress::Secured;
    }

    /// Bytes of the other end's answer, as they come.
    pub(super) fn received(&self, bytes: &[u8]) {
        self.state().answer.extend_from_slice(bytes);
    }

    /// Replaces what was received by what it means.
    pub(super) fn answer(&self, bytes: Vec<u8>) {
        self.state().answer = bytes;
    }

    /// Whether what was received so far satisfies a condition.
    pub(super) fn has(&self, condition: impl FnOnce(&[u8]) -> bool) -> bool {
        condition(&self.state().answer)
    }

    /// Edits the report.
    pub(super) fn note(&self, edit: impl FnOnce(&mut Report)) {
        edit(&mut self.state().report);
    }

    /// Runs to its end, or to the end of the time.
    pub(super) async fn run(&self, timeout: Duration, work: impl Future<Output = Result<(), Failure>>) -> Report {
        let ended = tokio::time::timeout(timeout, work).await;
        let state = self.state();
        let mut report = state.report.clone();
        report.outcome = match &ended {
            Ok(Ok(())) => Outcome::Answered,
            Ok(Err(failure)) => outcome(state.progress, &state.answer, failure),
            Err(_) => Outcome::Timeout,
        };
        report.ok = report.outcome.is_answered() && report.status.is_none_or(|status| status < 400);
        report.error = match &ended {
            Ok(Ok(())) => report.error,
            Ok(Err(failure)) => Some(failure.describe(state.progress, &state.answer)),
            Err(_) => {
                let awaited = match state.progress {
                    Progress::Nothing => "no connection",
                    Progress::Connected | Progress::Secured if state.answer.is_empty() => "connected, no answer",
                    Progress::Connected | Progress::Secured => "connected, no complete answer",
                };
                Some(format!("{awaited} within {} ms", timeout.as_millis()))
            }
        };
        if !state.answer.is_empty() {
            let shown = &state.answer[..state.answer.len().min(BODY_LIMIT)];
            report.body = Some(String::from_utf8_lossy(shown).into_owned());
            report.body_hex = std::str::from_utf8(shown).is_err().then(|| hex(shown));
            if report.instance.is_none() {
                report.instance = report.body.as_deref().and_then(instance).map(str::to_owned);
            }
        }
        report.elapsed_ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        report
    }
}

/// The last line that says who answered: an echo of such a line would come before it.
fn instance(body: &str) -> Option<&str> {
    body.lines().rev().find_map(|line| line.strip_prefix("instance="))
}

/// Whether bytes are a TLS alert where none was expected: a TLS listener's answer to plaintext.
fn is_alert(answer: &[u8]) -> bool {
    matches!(answer, [21, 3, 0..=4, 0, 2, ..])
}

fn outcome(progress: Progress, answer: &[u8], failure: &Failure) -> Outcome {
    let broken = match progress {
        Progress::Nothing => Outcome::Refused,
        _ if !answer.is_empty() && !is_alert(answer) => Outcome::Closed,
        Progress::Connected => Outcome::Reset,
        Progress::Secured => Outcome::Denied,
    };
    match failure {
        Failure::NoSuchName(_) => Outcome::NoSuchName,
        Failure::Local(_) => Outcome::Failed,
        Failure::Filtered => Outcome::Unreachable,
        // what is not TLS at all is no alert: something closed, or answered in plaintext
        Failure::Tls(text) if text.contains("alert") => Outcome::TlsAlert,
        Failure::Tls(_) | Failure::End => broken,
        Failure::Garbled(_) if is_alert(answer) => broken,
        Failure::Garbled(_) => Outcome::Closed,
        Failure::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Outcome::Unreachable,
            io::ErrorKind::TimedOut => Outcome::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => broken,
            _ => Outcome::Failed,
        },
    }
}

impl Failure {
    fn describe(&self, progress: Progress, answer: &[u8]) -> String {
        let what = match self {
            Self::NoSuchName(text) | Self::Local(text) | Self::Garbled(text) => text.clone(),
            Self::Tls(text) => format!("TLS: {text}"),
            Self::End => "the other end closed the connection".to_owned(),
            Self::Filtered => "a rule on the way out refuses it".to_owned(),
            Self::Io(error) => error.to_string(),
        };
        let when = match progress {
            Progress::Nothing => return what,
            _ if is_alert(answer) => "connected, answered by a TLS alert",
            _ if !answer.is_empty() => "connected, answered in part",
            Progress::Connected => "connected, not answered",
            Progress::Secured => "TLS came up, not answered",
        };
        format!("{when}: {what}")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 70];

    fn io(kind: io::ErrorKind) -> Failure {
        Failure::Io(kind.into())
    }

    #[rstest]
    #[case::refused(Progress::Nothing, b"", io(io::ErrorKind::ConnectionRefused), Outcome::Refused)]
    #[case::no_route(Progress::Nothing, b"", io(io::ErrorKind::NetworkUnreachable), Outcome::Unreachable)]
    #[case::no_host(Progress::Nothing, b"", io(io::ErrorKind::HostUnreachable), Outcome::Unreachable)]
    #[case::by_a_rule(
        Progress::Nothing,
        b"",
        Failure::of_sending(io::Error::from_raw_os_error(nix::libc::EPERM)),
        Outcome::Unreachable
    )]
    #[case::no_right(Progress::Nothing, b"", io(io::ErrorKind::PermissionDenied), Outcome::Failed)]
    #[case::kernel_gave_up(Progress::Nothing, b"", io(io::ErrorKind::TimedOut), Outcome::Timeout)]
    #[case::no_name(Progress::Nothing, b"", Failure::NoSuchName(String::new()), Outcome::NoSuchName)]
    #[case::rst(Progress::Connected, b"", io(io::ErrorKind::ConnectionReset), Outcome::Reset)]
    #[case::fin(Progress::Connected, b"", Failure::End, Outcome::Reset)]
    #[case::alert_to_plaintext(Progress::Connected, ALERT, Failure::Garbled(String::new()), Outcome::Reset)]
    #[case::alert_then_fin(Progress::Connected, ALERT, Failure::End, Outcome::Reset)]
    #[case::half_an_answer(Progress::Connected, b"HTTP/1", Failure::End, Outcome::Closed)]
    #[case::not_http(Progress::Connected, b"SSH-2.0", Failure::Garbled(String::new()), Outcome::Closed)]
    #[case::tls_refused(Progress::Connected, b"", Failure::Tls("received fatal alert: X".into()), Outcome::TlsAlert)]
    #[case::not_tls(Progress::Connected, b"", Failure::Tls("corrupt message".into()), Outcome::Reset)]
    #[case::tls_then_alert(Progress::Secured, b"", Failure::Tls("received fatal alert: X".into()), Outcome::TlsAlert)]
    #[case::tls_then_fin(Progress::Secured, b"", Failure::End, Outcome::Denied)]
    #[case::tls_then_rst(Progress::Secured, b"", io(io::ErrorKind::ConnectionReset), Outcome::Denied)]
    fn what_an_end_means(
        #[case] progress: Progress,
        #[case] answer: &[u8],
        #[case] failure: Failure,
        #[case] expected: Outcome,
    ) {
        assert_eq!(outcome(progress, answer, &failure), expected);
    }

    #[rstest]
    #[case(None, b"", b"hello\n")]
    #[case(Some("t0ken"), b"", b"t0ken\n")]
    #[case(Some("t0ken"), b"ping", b"ping t0ken\n")]
    #[case(None, b"ping", b"ping\n")]
    #[case(None, b"\x00\x01", b"\x00\x01")]
    #[case(Some("t0ken"), b"\x00\x01", b"\x00\x01 t0ken")]
    fn text_is_sent_as_a_line(#[case] canary: Option<&str>, #[case] payload: &[u8], #[case] message: &[u8]) {
        assert_eq!(Attempt::new(canary.map(str::to_owned)).message(payload), message);
    }
}
