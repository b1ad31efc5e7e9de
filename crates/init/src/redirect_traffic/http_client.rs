//! How to reach Consul's HTTP API: the flags and environment variables that all of Consul's commands have.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Secret, Servers};
use crate::reader::Reader;
use crate::tls::{Tls, Wanted};

/// How long a look-up may take.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Reader<'_> {
    pub(super) fn http_client(&mut self) -> Servers {
        let address = self.find("http-addr").filter(|(address, _)| !address.is_empty());
        let (address, source) = address.unwrap_or_else(|| ("127.0.0.1:8500".to_owned(), String::new()));
        let by_variable = self.variable_switch("CONSUL_HTTP_SSL").unwrap_or(false);
        let (secure, host, http_port) = server(&address, by_variable).unwrap_or_else(|mistake| {
            self.mistakes.push(format!("{source} = {address:?}: {mistake}"));
            (false, String::new(), 0)
        });
        let token = self.text("token").or_else(|| self.file("token-file").map(|token| token.trim().to_owned()));
        let stale = self.switch("stale").then(|| ("stale", String::new()));
        Servers {
            hosts: vec![host],
            http_port,
            timeout: TIMEOUT,
            token: token.map(Secret::from),
            credentials: self.variable("CONSUL_HTTP_AUTH").map(Secret::from),
            scope: self.scope().into_iter().chain(stale).collect(),
            tls: if secure { self.client_tls() } else { None },
        }
    }

    fn client_tls(&mut self) -> Option<Tls> {
        let mut authorities: Vec<String> = self.file("ca-file").into_iter().collect();
        if authorities.is_empty()
            && let Some((directory, source)) = self.find("ca-path").filter(|(directory, _)| !directory.is_empty())
        {
            match texts_in(&directory) {
                Ok(texts) => authorities = texts,
                Err(error) => self.mistakes.push(format!("{source} = {directory:?}: {error}")),
            }
        }
        let client = match (self.file("client-cert"), self.file("client-key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.mistakes.push("-client-cert and -client-key must be set together".to_owned());
                None
            }
        };
        let insecure = self.variable_switch("CONSUL_HTTP_SSL_VERIFY") == Some(false);
        let wanted = Wanted { authorities, client, server_name: self.text("tls-server-name"), insecure };
        Tls::new(wanted).map_err(|mistake| self.mistakes.push(format!("TLS to Consul: {mistake}"))).ok()
    }
}

/// Scheme, host and port of an address of Consul's API.
fn server(address: &str, secure: bool) -> Result<(bool, String, u16), &'static str> {
    let (scheme, rest) = address.split_once("://").unwrap_or((if secure { "https" } else { "http" }, address));
    let secure = match scheme {
        "http" => secure,
        "https" => true,
        "unix" => return Err("Unix sockets are an agent's; name the address of a Consul server"),
        _ => return Err("the scheme must be http or https"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let default = if secure { 443 } else { 80 };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (rest, default),
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or("the port must be 1 to 65535")?),
        None => (rest, default),
    };
    if host.is_empty() || host.contains(['/', '?', '@']) {
        return Err("must be a host and a port, as consul:8500, with http:// or https:// in front if need be");
    }
    Ok((secure, host.to_owned(), port))
}

/// The files of a directory.
fn texts_in(directory: &str) -> std::io::Result<Vec<String>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.iter().filter(|path| path.is_file()).map(std::fs::read_to_string).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1:8500", false, (false, "127.0.0.1", 8500))]
    #[case("http://consul:8500/", false, (false, "consul", 8500))]
    #[case("https://consul:8501", false, (true, "consul", 8501))]
    #[case("https://consul", false, (true, "consul", 443))]
    #[case("consul", false, (false, "consul", 80))]
    #[case("consul:8501", true, (true, "consul", 8501))]
    #[case("http://consul:8501", true, (true, "consul", 8501))]
    #[case("https://[fd00::1]:8501", false, (true, "[fd00::1]", 8501))]
    #[case("[fd00::1]", false, (false, "[fd00::1]", 80))]
    fn addresses(#[case] address: &str, #[case] secure: bool, #[case] expected: (bool, &str, u16)) {
        let (secure, host, port) = server(address, secure).expect("an address");
        assert_eq!((secure, host.as_str(), port), expected);
    }

    #[rstest]
    #[case("unix:///run/consul.sock", "Unix sockets are an agent's")]
    #[case("ftp://consul", "http or https")]
    #[case("consul:http", "1 to 65535")]
    #[case("consul:0", "1 to 65535")]
    #[case("http://consul:8500/prefix", "1 to 65535")]
    #[case("http://consul/prefix", "a host and a port")]
    #[case("http://:8500", "a host and a port")]
    fn what_is_no_address(#[case] address: &str, #[case] expected: &str) {
        let mistake = server(address, false).expect_err("refused");
        assert!(mistake.contains(expected), "{mistake}");
    }
}
