//! What TLS says in clear: record types, and the server name in the greeting.

use tls_parser::{TlsExtension, TlsMessage, TlsMessageHandshake};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
const HEADER: usize = 5;

/// A client's greeting.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClientHello {
    /// The server name it asks for.
    pub server_name: Option<String>,
    /// Application protocols it offers, in its order.
    pub alpn: Vec<String>,
    /// What it chose at random, so that a connection is known again wherever it is passed on.
    pub random: [u8; 32],
}

/// A record's type and what of its body was seen.
struct Record<'a> {
    kind: u8,
    body: &'a [u8],
}

/// Records from the beginning of a stream up to the first thing that is none.
struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let &[kind, 3, minor, high, low, ref body @ ..] = self.rest else { return None };
        if !RECORD_TYPES.contains(&kind) || minor > 4 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (body, rest) = body.split_at(length.min(body.len()));
        self.rest = rest;
        Some(Record { kind, body })
    }
}

/// Whether a stream is TLS records and nothing else; a last one that is cut off counts. An empty one is not TLS.
pub(crate) fn is_tls(stream: &[u8]) -> bool {
    let mut records = Records { rest: stream };
    let count = records.by_ref().count();
    count > 0 && records.rest.len() < HEADER && RECORD_TYPES.contains(records.rest.first().unwrap_or(&ALERT))
}

/// Whether the first record is of a handshake.
pub(crate) fn begins_handshake(stream: &[u8]) -> bool {
    Records { rest: stream }.next().is_some_and(|record| record.kind == HANDSHAKE)
}

/// Whether a stream is nothing but alerts.
pub(crate) fn is_only_alerts(stream: &[u8]) -> bool {
    is_tls(stream) && record_types(stream) == [ALERT]
}

/// Types of the records, each once.
pub(crate) fn record_types(stream: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    for record in (Records { rest: stream }) {
        if !types.contains(&record.kind) {
            types.push(record.kind);
        }
    }
    types
}

/// The greeting at the beginning of a client's stream, once all of it is there.
pub(crate) fn client_hello(stream: &[u8]) -> Option<ClientHello> {
    // a greeting may be spread over records: put the handshake's bytes back together first
    let handshake: Vec<u8> =
        Records { rest: stream }.take_while(|r| r.kind == HANDSHAKE).flat_map(|r| r.body.iter().copied()).collect();
    let (_, message) = tls_parser::parse_tls_message_handshake(&handshake).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = message else { return None };
    let (_, extensions) = tls_parser::parse_tls_client_hello_extensions(hello.ext.unwrap_or_default()).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let random = hello.random.try_into().ok()?;
    let mut found = ClientHello { server_name: None, alpn: Vec::new(), random };
    for extension in extensions {
        match extension {
            TlsExtension::SNI(names) => found.server_name = names.first().map(|(_, name)| text(name)),
            TlsExtension::ALPN(protocols) => found.alpn = protocols.into_iter().map(text).collect(),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scene::{hello, record};

    #[test]
    fn a_greeting_says_whom_it_is_for() {
        let bytes = hello("server.default.dc1.internal.example.consul", &["h2", "http/1.1"]);
        let found = client_hello(&bytes).expect("a greeting");
        assert_eq!(found.server_name.as_deref(), Some("server.default.dc1.internal.example.consul"));
        assert_eq!(found.alpn, ["h2", "http/1.1"]);
        assert_eq!(client_hello(&bytes[..bytes.len() - 1]), None, "not all of it is there");
        assert_eq!(client_hello(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_greeting_may_be_spread_over_records() {
        let whole = hello("server.internal", &[]);
        let (first, second) = whole[HEADER..].split_at(40);
        let spread = [record(HANDSHAKE, first), record(HANDSHAKE, second)].concat();
        assert_eq!(client_hello(&spread), client_hello(&whole));
    }

    #[rstest]
    #[case::nothing(b"", false, &[])]
    #[case::http(b"GET / HTTP/1.1\r\n", false, &[])]
    #[case::alert(b"\x15\x03\x03\x00\x02\x02\x46", true, &[21])]
    #[case::cut_off(b"\x16\x03\x01\x02\x00abc", true, &[22])]
    #[case::cut_in_a_header(b"\x15\x03\x03\x00\x02\x02\x46\x17\x03", true, &[21])]
    #[case::then_plaintext(b"\x15\x03\x03\x00\x02\x02\x46HTTP/1.1", false, &[21])]
    #[case::two(b"\x16\x03\x03\x00\x01a\x17\x03\x03\x00\x01b", true, &[22, 23])]
    fn records_are_told_from_plaintext(#[case] stream: &[u8], #[case] tls: bool, #[case] types: &[u8]) {
        assert_eq!((is_tls(stream), record_types(stream)), (tls, types.to_vec()));
    }
}
