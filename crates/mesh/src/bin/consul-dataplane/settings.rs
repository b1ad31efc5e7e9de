//! The flags of consul-dataplane as one value, with every mistake reported at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use redirect::contract;

use crate::credential::{Credential, Login, Token};
use crate::flags::{Flag, Given, Takes, parse};

/// What the program does, settled.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Host of the control plane.
    pub(crate) address: String,
    pub(crate) grpc_port: u16,
    /// The Consul node that the proxy is registered at.
    pub(crate) node: Option<String>,
    /// The admin partition that it is in, if the webhook says so.
    pub(crate) partition: Option<String>,
    pub(crate) proxy_id: Option<String>,
    pub(crate) proxy_id_path: Option<PathBuf>,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
    pub(crate) concurrency: u32,
    pub(crate) admin_address: IpAddr,
    pub(crate) admin_port: u16,
    /// Where `/ready` answers.
    pub(crate) ready: Option<SocketAddr>,
    /// Where DNS is answered.
    pub(crate) dns: Option<SocketAddr>,
    /// Where the lifecycle server listens.
    pub(crate) graceful: SocketAddr,
    pub(crate) shutdown_path: String,
    pub(crate) startup_path: String,
    pub(crate) shutdown_grace: Duration,
    pub(crate) startup_grace: Duration,
    pub(crate) drain_listeners: bool,
    pub(crate) drain_seconds: u32,
    pub(crate) drain_strategy: String,
    pub(crate) check_proxy_health: bool,
    /// What the control plane is shown.
    pub(crate) credential: Credential,
    /// Where Envoy's bootstrap and socket go.
    pub(crate) directory: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
    /// Further arguments for Envoy.
    pub(crate) envoy_arguments: Vec<String>,
}

const fn value(name: &'static str) -> Flag {
    Flag { name, takes: Takes::Value }
}

const fn boolean(name: &'static str) -> Flag {
    Flag { name, takes: Takes::Boolean }
}

/// Every flag that consul-k8s may write. Those that are accepted and change nothing here are about TLS towards the
/// servers, Enterprise namespaces and metrics.
const FLAGS: &[Flag] = &[
    value("addresses"),
    value("grpc-port"),
    value("proxy-service-id"),
    value("proxy-service-id-path"),
    value("service-node-name"),
    value("log-level"),
    boolean("log-json"),
    value("envoy-concurrency"),
    value("envoy-admin-bind-address"),
    value("envoy-admin-bind-port"),
    value("envoy-ready-bind-address"),
    value("envoy-ready-bind-port"),
    value("envoy-drain-time-seconds"),
    value("envoy-drain-strategy"),
    value("consul-dns-bind-addr"),
    value("consul-dns-bind-port"),
    value("xds-bind-addr"),
    value("xds-bind-port"),
    value("graceful-addr"),
    value("graceful-port"),
    value("graceful-shutdown-path"),
    value("graceful-startup-path"),
    value("shutdown-grace-period-seconds"),
    value("startup-grace-period-seconds"),
    boolean("shutdown-drain-listeners"),
    value("dump-envoy-config-on-exit"),
    boolean("check-proxy-health"),
    boolean("tls-disabled"),
    value("tls-server-name"),
    value("ca-certs"),
    boolean("tls-insecure-skip-verify"),
    boolean("server-watch-disabled"),
    value("credential-type"),
    value("static-token"),
    value("login-auth-method"),
    value("login-bearer-token"),
    value("login-bearer-token-path"),
    value("login-datacenter"),
    value("login-namespace"),
    value("login-partition"),
    value("login-meta"),
    value("service-namespace"),
    value("service-partition"),
    value("service-node-id"),
    value("telemetry-prom-scrape-path"),
    value("telemetry-prom-merge-port"),
    value("telemetry-prom-service-metrics-url"),
    value("telemetry-prom-ca-certs-file"),
    value("telemetry-prom-ca-certs-path"),
    value("telemetry-prom-cert-file"),
    value("telemetry-prom-key-file"),
    value("telemetry-prom-retention-time"),
    boolean("telemetry-use-central-config"),
    value("mode"),
];

impl Settings {
    /// From the process's arguments and environment.
    pub(crate) fn from_process() -> Result<Self, Vec<String>> {
        let environment = |name: &str| std::env::var(name).ok();
        Self::new(&parse(FLAGS, std::env::args().skip(1), environment)?, environment)
    }

    fn new(given: &Given, environment: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut read = Reader { given, mistakes: Vec::new() };
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let dns_address = read.or("consul-dns-bind-addr", loopback);
        let dns_port = read.or("consul-dns-bind-port", -1_i32);
        if !dns_address.is_loopback() {
            read.mistakes.push(
                "non-local DNS proxy bind address not allowed when running as a sidecar: -consul-dns-bind-addr"
                    .to_owned(),
            );
        }
        let ready_port = read.or("envoy-ready-bind-port", 0_u16);
        let ready_address = read.or("envoy-ready-bind-address", IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let graceful_address = read.or("graceful-addr", loopback);
        let credential = read.credential(&environment);
        let settings = Self {
            address: given.get("addresses").unwrap_or_default().to_owned(),
            grpc_port: read.or("grpc-port", 8502),
            node: given.get("service-node-name").map(str::to_owned),
            partition: given.get("service-partition").filter(|name| !name.is_empty()).map(str::to_owned),
            proxy_id: given.get("proxy-service-id").map(str::to_owned),
            proxy_id_path: given.get("proxy-service-id-path").map(PathBuf::from),
            log_level: given.get("log-level").unwrap_or("info").to_lowercase(),
            log_json: read.boolean("log-json"),
            concurrency: read.or("envoy-concurrency", 2),
            admin_address: read.or("envoy-admin-bind-address", loopback),
            admin_port: read.or("envoy-admin-bind-port", contract::ENVOY_ADMIN_PORT),
            ready: (ready_port > 0).then(|| SocketAddr::new(ready_address, ready_port)),
            dns: u16::try_from(dns_port).ok().map(|port| SocketAddr::new(dns_address, port)),
            graceful: SocketAddr::new(graceful_address, read.or("graceful-port", 20300)),
            shutdown_path: given.get("graceful-shutdown-path").unwrap_or("/graceful_shutdown").to_owned(),
            startup_path: given.get("graceful-startup-path").unwrap_or("/graceful_startup").to_owned(),
            shutdown_grace: Duration::from_secs(read.or("shutdown-grace-period-seconds", 0)),
            startup_grace: Duration::from_secs(read.or("startup-grace-period-seconds", 0)),
            drain_listeners: read.boolean("shutdown-drain-listeners"),
            drain_seconds: read.or("envoy-drain-time-seconds", 30),
            drain_strategy: given.get("envoy-drain-strategy").unwrap_or("immediate").to_owned(),
            check_proxy_health: read.boolean("check-proxy-health"),
            credential,
            directory: environment("TMPDIR").filter(|d| !d.is_empty()).map_or_else(|| "/tmp".into(), PathBuf::from),
            envoy: environment("PELLUCID_ENVOY").filter(|e| !e.is_empty()).map(PathBuf::from),
            envoy_arguments: given.rest.clone(),
        };
        let Reader { mut mistakes, .. } = read;
        if settings.address.is_empty() && !settings.check_proxy_health {
            mistakes.push("consul addresses not specified: set -addresses".to_owned());
        }
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }

    /// `host:port` of the feed.
    pub(crate) fn server(&self) -> String {
        match self.address.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.grpc_port),
            _ => format!("{}:{}", self.address, self.grpc_port),
        }
    }
}

/// Reads values and gathers what is wrong with them.
struct Reader<'a> {
    given: &'a Given,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn or<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.given.get(name) else { return default };
        text.parse().unwrap_or_else(|error| {
            self.mistakes.push(format!("invalid value {text:?} for flag -{name}: {error}"));
            default
        })
    }

    /// A text, or none where it is empty; and what is wrong without it.
    fn needed(&mut self, name: &str, why: &str) -> String {
        let text = self.given.get(name).unwrap_or_default().to_owned();
        if text.is_empty() {
            self.mistakes.push(format!("-{name} must be set {why}"));
        }
        text
    }

    fn credential(&mut self, environment: impl Fn(&str) -> Option<String>) -> Credential {
        const LOGIN: &str = "with -credential-type=login";
        match self.given.get("credential-type").unwrap_or_default() {
            "" => Credential::None,
            "static" => Credential::Static(Token(self.needed("static-token", "with -credential-type=static"))),
            "login" => {
                // the webhook says them one by one; what is said last holds
                let numbered = (1..=9).map(|number| number.to_string());
                let meta = std::iter::once(String::new()).chain(numbered);
                let meta = meta.filter_map(|number| environment(&format!("DP_CREDENTIAL_LOGIN_META{number}")));
                let meta = meta.chain(self.given.get("login-meta").map(str::to_owned));
                let meta =
                    meta.filter_map(|pair| Some(pair.split_once('=')?).map(|(k, v)| (k.to_owned(), v.to_owned())));
                Credential::Login(Login {
                    meta: meta.collect(),
                    auth_method: self.needed("login-auth-method", LOGIN),
                    bearer_token: self.needed("login-bearer-token-path", LOGIN).into(),
                })
            }
            other => {
                self.mistakes
                    .push(format!("invalid value {other:?} for -credential-type: it is \"static\" or \"login\""));
                Credential::None
            }
        }
    }

    fn boolean(&mut self, name: &str) -> bool {
        match self.given.get(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(text) => {
                self.mistakes.push(format!("invalid boolean value {text:?} for -{name}"));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, Vec<String>> {
        let arguments = text.split_whitespace().map(str::to_owned);
        Settings::new(&parse(FLAGS, arguments, |_| None)?, |_| None)
    }

    #[test]
    fn the_webhooks_arguments_are_understood() -> Result<(), Vec<String>> {
        let settings = settings(
            "-addresses 172.18.255.2 -envoy-admin-bind-address=127.0.0.1 -consul-dns-bind-addr=127.0.0.1 \
             -xds-bind-addr=127.0.0.1 -grpc-port=8502 -proxy-service-id-path=/consul/connect-inject/proxyid \
             -log-level=info -log-json=false -envoy-concurrency=2 -graceful-addr=127.0.0.1 -tls-disabled \
             -graceful-port=20600 -shutdown-drain-listeners -shutdown-grace-period-seconds=30 \
             -graceful-shutdown-path=/graceful_shutdown -startup-grace-period-seconds=0 \
             -graceful-startup-path=/graceful_startup -telemetry-prom-scrape-path=/metrics -consul-dns-bind-port=8600 \
             -service-namespace=default -service-partition=ap1 \
             -- --base-id 1",
        )?;
        assert_eq!(settings.server(), "172.18.255.2:8502");
        assert_eq!(settings.dns, Some(SocketAddr::from(([127, 0, 0, 1], 8600))));
        assert_eq!(settings.graceful.port(), 20600);
        assert_eq!(settings.partition.as_deref(), Some("ap1"));
        assert!(settings.drain_listeners);
        assert_eq!(settings.shutdown_grace, Duration::from_secs(30));
        assert_eq!(settings.envoy_arguments, ["--base-id", "1"]);
        Ok(())
    }

    #[test]
    fn the_webhooks_login_is_understood() -> Result<(), Vec<String>> {
        let arguments = "-addresses 172.18.255.2 -credential-type=login -login-auth-method=consul-k8s-auth-method \
                         -login-bearer-token-path=/var/run/secrets/kubernetes.io/serviceaccount/token";
        let environment = |name: &str| match name {
            "DP_CREDENTIAL_LOGIN_META" | "DP_CREDENTIAL_LOGIN_META1" => Some("pod=shop/web-0".to_owned()),
            "DP_CREDENTIAL_LOGIN_META2" => Some("pod-uid=1234".to_owned()),
            _ => None,
        };
        let given = parse(FLAGS, arguments.split_whitespace().map(str::to_owned), environment)?;
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let expected = Credential::Login(Login {
            auth_method: "consul-k8s-auth-method".to_owned(),
            bearer_token: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            meta: [("pod", "shop/web-0"), ("pod-uid", "1234")].map(pair).into(),
        });
        assert_eq!(Settings::new(&given, environment)?.credential, expected);
        Ok(())
    }

    #[test]
    fn a_credential_says_what_it_lacks() {
        let login = settings("-addresses a -credential-type=login").expect_err("two mistakes");
        assert_eq!(login[0], "-login-auth-method must be set with -credential-type=login");
        assert_eq!(login.len(), 2, "{login:?}");
        let other = settings("-addresses a -credential-type=oidc").expect_err("one mistake");
        assert!(other[0].contains("\"oidc\""), "{other:?}");
        let given = settings("-addresses a -credential-type=static -static-token=f00d").expect("a token");
        assert!(!format!("{given:?}").contains("f00d"));
    }

    #[test]
    fn all_wrong_values_are_reported() {
        let mistakes =
            settings("-grpc-port=x -log-json=maybe -consul-dns-bind-addr=10.0.0.1").expect_err("four mistakes");
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }
}
