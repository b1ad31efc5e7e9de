//! Whom to dial: a host, a port, and what the URL says beyond them.

use anyhow::{Context, anyhow, bail};

use super::Library;

/// What a URL begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Tcp,
    Http,
    Https,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query; `/` unless a URL says more.
    pub(super) path: String,
    /// Who finds the addresses of the host.
    pub(super) library: Library,
}

impl Target {
    /// From `host:port`, where an IPv6 address is in brackets.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| anyhow!("dial {text:?}: expected host:port, there is no port"))?;
        let port = port.parse().with_context(|| format!("dial {text:?}: {port:?} is no port"))?;
        Ok(Self { scheme: Scheme::Http, port, ..Self::without_port(host) })
    }

    pub(super) fn without_port(host: &str) -> Self {
        Self {
            scheme: Scheme::Tcp,
            host: unbracketed(host),
            port: 0,
            path: "/".to_owned(),
            library: Library::default(),
        }
    }

    pub(super) fn of_url(url: &str) -> anyhow::Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            bail!("request {url:?}: expected http://, https:// or tcp:// at its beginning");
        };
        let (scheme, default) = match scheme {
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            "tcp" => (Scheme::Tcp, None),
            _ => bail!("request {url:?}: there is no support for {scheme}://"),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let target = match default {
            Some(port) if !has_port => Self { port, ..Self::without_port(authority) },
            _ => Self::new(authority)?,
        };
        Ok(Self { scheme, path: path.to_owned(), ..target })
    }

    pub(super) fn resolved_by(self, library: Library) -> Self {
        Self { library, ..self }
    }

    /// As a `Host` header has it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

fn unbracketed(host: &str) -> String {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://static-server", Scheme::Http, "static-server", 80, "/", "static-server")]
    #[case("http://10.0.0.1:8080/a?b=c", Scheme::Http, "10.0.0.1", 8080, "/a?b=c", "10.0.0.1:8080")]
    #[case("http://[fd00::1]/", Scheme::Http, "fd00::1", 80, "/", "[fd00::1]")]
    #[case("https://[fd00::1]:8443", Scheme::Https, "fd00::1", 8443, "/", "[fd00::1]:8443")]
    #[case("tcp://db:5432", Scheme::Tcp, "db", 5432, "/", "db:5432")]
    fn urls(
        #[case] url: &str,
        #[case] scheme: Scheme,
        #[case] host: &str,
        #[case] port: u16,
        #[case] path: &str,
        #[case] authority: &str,
    ) {
        let target = Target::of_url(url).expect("a URL");
        let library = Library::Glibc;
        assert_eq!(target, Target { scheme, host: host.to_owned(), port, path: path.to_owned(), library });
        assert_eq!(target.authority(), authority);
    }

    #[rstest]
    #[case("static-server", "expected http://")]
    #[case("ftp://a", "no support for ftp://")]
    #[case("tcp://db", "there is no port")]
    #[case("http://db:http", "is no port")]
    fn mistakes_are_named(#[case] url: &str, #[case] message: &str) {
        let error = Target::of_url(url).expect_err("no URL of ours");
        assert!(error.to_string().contains(message), "{error}");
    }
}
