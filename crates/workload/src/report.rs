//! What the client says about one attempt: one line of JSON on its standard output.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How an attempt ended, as the application that made it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The application at the other end answered; for HTTP with any status, for a look-up with at least one record.
    Answered,
    /// The connection came up, and a reset, a TLS alert or an end without a byte of an answer followed. How exactly is in
    /// [`Report::error`].
    Reset,
    /// The connection came up, something was answered, and it broke before the answer was complete.
    Closed,
    /// `ECONNREFUSED`: a reset, or an ICMP port unreachable, to the first packet.
    Refused,
    /// Nothing in time: to the first packet, or after the connection came up.
    Timeout,
    /// The kernel has no way there (`ENETUNREACH`, `EHOSTUNREACH`), a router said so, or a rule lets no datagram go there.
    Unreachable,
    /// The name does not exist, or has no address.
    NoSuchName,
    /// TLS was spoken and the other end ended the handshake with an alert.
    TlsAlert,
    /// TLS came up, and the connection was closed or reset without a byte of the application.
    Denied,
    /// The attempt was not made, or failed here: a bad argument, no permission for a socket option, no socket.
    Failed,
}

impl Outcome {
    /// Whether the application at the other end answered.
    #[must_use]
    pub fn is_answered(self) -> bool {
        self == Self::Answered
    }
}

/// One attempt. Fields that do not apply are absent from the JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the attempt did what was asked: an answer, of a status below 400 where there is one.
    pub ok: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, or gRPC's where the protocol is gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer, at most 64 KiB; bytes that are not UTF-8 are replaced, and [`Report::body_hex`] has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The answer's bytes in hexadecimal, when they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hex: Option<String>,
    /// The headers of an HTTP answer, each a line `name: value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// The name of the server that answered, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The socket's own address, by which the flow is found in a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The address that was dialled, after names were resolved. Port 0 for ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The user the socket belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The token that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// From the start of the attempt (name resolution included) to its end, in milliseconds.
    #[serde(default)]
    pub elapsed_ms: f64,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Addresses that a look-up found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Vec<IpAddr>>,
    /// Response code of a look-up, as `dig` writes it: `NOERROR`, `NXDOMAIN`, `SERVFAIL` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    /// The name server that gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// The name as it was finally asked, after the search list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Report {
    /// A report with nothing in it but how the attempt ended.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            ok: outcome.is_answered(),
            outcome,
            status: None,
            body: None,
            body_hex: None,
            headers: None,
            instance: None,
            local: None,
            peer: None,
            uid: None,
            canary: None,
            elapsed_ms: 0.0,
            error: None,
            answers: None,
            rcode: None,
            server: None,
            name: None,
        }
    }

    /// Reads every report in a client's standard output; lines that are none are passed over.
    pub fn parse_all(output: &str) -> impl Iterator<Item = Self> {
        output.lines().filter_map(|line| serde_json::from_str(line).ok())
    }
}

/// What many requests over kept connections took: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// From the first request to the end of the last one, microseconds.
    pub took_us: u64,
    /// Each request's own time, microseconds. All were answered.
    pub times_us: Vec<u64>,
}
