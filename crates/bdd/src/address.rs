//! Addresses in steps: `pod(x)`, `clusterip(x)`, `external(x)` … found in names, URLs and lists.

use std::fmt;

/// A function of the vocabulary and what it is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Function {
    /// The Pod's address, of a family when one is named.
    Pod(String, Family),
    /// The Service's address.
    ClusterIp(String, Family),
    /// The address in 240.0.0.0/4.
    VirtualIp(String),
    /// The external endpoint's address.
    External(String, Family),
    /// The application's socket, not the Pod.
    App(String),
    /// A node's address.
    Node,
    /// The address that a Pod had that is gone.
    Former(String),
}

/// Which family an address is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Whatever is the cluster's first.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |family: Family| match family {
            Family::Any => "",
            Family::V4 => "4",
            Family::V6 => "6",
        };
        match self {
            Self::Pod(x, v) => write!(f, "pod{}({x})", family(*v)),
            Self::ClusterIp(x, v) => write!(f, "clusterip{}({x})", family(*v)),
            Self::VirtualIp(x) => write!(f, "virtualip({x})"),
            Self::External(x, v) => write!(f, "external{}({x})", family(*v)),
            Self::App(x) => write!(f, "app({x})"),
            Self::Node => f.write_str("node"),
            Self::Former(x) => write!(f, "former address of {x}"),
        }
    }
}

/// A piece of a text: as it stands, or a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// A function.
    Call(Function),
}

fn function(name: &str, argument: &str) -> Option<Function> {
    let x = argument.trim().to_owned();
    Some(match name {
        "pod" => Function::Pod(x, Family::Any),
        "pod4" => Function::Pod(x, Family::V4),
        "pod6" => Function::Pod(x, Family::V6),
        "clusterip" => Function::ClusterIp(x, Family::Any),
        "clusterip4" => Function::ClusterIp(x, Family::V4),
        "clusterip6" => Function::ClusterIp(x, Family::V6),
        "virtualip" => Function::VirtualIp(x),
        "external" => Function::External(x, Family::Any),
        "external4" => Function::External(x, Family::V4),
        "external6" => Function::External(x, Family::V6),
        "app" => Function::App(x),
        _ => return None,
    })
}

/// Cuts a text into pieces.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((call, length)) = call_at(rest, plain.chars().next_back()) {
            if !plain.is_empty() {
                found.push(Piece::Text(std::mem::take(&mut plain)));
            }
            found.push(Piece::Call(call));
            rest = &rest[length..];
        } else {
            let c = rest.chars().next().unwrap_or_default();
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        found.push(Piece::Text(plain));
    }
    found
}

/// The function that begins at the start of `text`, and its length, when what is before it ends a word.
fn call_at(text: &str, before: Option<char>) -> Option<(Function, usize)> {
    if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.') {
        return None;
    }
    if let Some(rest) = text.strip_prefix("former address of ") {
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let length = text.len() - rest.len() + name.len();
        return (!name.is_empty()).then_some((Function::Former(name), length));
    }
    let word: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    let rest = &text[word.len()..];
    if word == "node" && (rest.is_empty() || rest.starts_with([':', '/'])) {
        return Some((Function::Node, word.len()));
    }
    let inner = rest.strip_prefix('(')?;
    let (argument, _) = inner.split_once(')')?;
    Some((function(&word, argument)?, word.len() + argument.len() + 2))
}

/// An address of a step: a host and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A function, or a name or literal address as it stands.
    pub host: Host,
    /// The port, when one is given.
    pub port: Option<u16>,
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A function.
    Call(Function),
    /// A name or address.
    Name(String),
}

/// Reads `static-server:9999`, `external(web):443`, `pod(x)`, `http://x:80/path`.
#[must_use]
pub fn endpoint(text: &str) -> Endpoint {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let mut pieces = pieces(text).into_iter();
    let (host, rest) = match pieces.next() {
        Some(Piece::Call(call)) => {
            let rest = match pieces.next() {
                Some(Piece::Text(text)) => text,
                _ => String::new(),
            };
            (Host::Call(call), rest)
        }
        Some(Piece::Text(text)) => {
            let end = if text.starts_with('[') {
                text.find(']').map_or(text.len(), |at| at + 1)
            } else {
                text.find([':', '/']).unwrap_or(text.len())
            };
            let host = text[..end].trim_matches(['[', ']']).to_owned();
            (Host::Name(host), text[end..].to_owned())
        }
        None => (Host::Name(String::new()), String::new()),
    };
    let port = rest.strip_prefix(':').map(|r| r.chars().take_while(char::is_ascii_digit).collect::<String>());
    Endpoint { host, port: port.and_then(|p| p.parse().ok()) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pod(x: &str) -> Function {
        Function::Pod(x.into(), Family::Any)
    }

    #[rstest]
    #[case("http://pod(a):8080/x", vec![Piece::Text("http://".into()), Piece::Call(pod("a")), Piece::Text(":8080/x".into())])]
    #[case("http://static-server", vec![Piece::Text("http://static-server".into())])]
    #[case("http://node:30080", vec![Piece::Text("http://".into()), Piece::Call(Function::Node), Piece::Text(":30080".into())])]
    #[case("my-pod(a)", vec![Piece::Text("my-pod(a)".into())])]
    #[case("node-1", vec![Piece::Text("node-1".into())])]
    #[case("former address of db-0", vec![Piece::Call(Function::Former("db-0".into()))])]
    fn texts(#[case] text: &str, #[case] expected: Vec<Piece>) {
        assert_eq!(pieces(text), expected);
    }

    #[rstest]
    #[case("external(web):443", Host::Call(Function::External("web".into(), Family::Any)), Some(443))]
    #[case("pod6(a)", Host::Call(Function::Pod("a".into(), Family::V6)), None)]
    #[case("db-0.db:5432", Host::Name("db-0.db".into()), Some(5432))]
    #[case("http://a.b/c", Host::Name("a.b".into()), None)]
    #[case("[2001:db8::1]:80", Host::Name("2001:db8::1".into()), Some(80))]
    #[case("app(a)", Host::Call(Function::App("a".into())), None)]
    fn endpoints(#[case] text: &str, #[case] host: Host, #[case] port: Option<u16>) {
        assert_eq!(endpoint(text), Endpoint { host, port });
    }
}
