//! What the program is told: flags and environment variables, read and checked, all mistakes at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redirect::contract::{self, TOKEN_DIR, TOKEN_FILE, servers};
use redirect::{Backend, Config};

use crate::client::{Secret, Servers};
use crate::flags::{Flag, Program, flag, switch};
use crate::login::Login;
use crate::reader::{Asked, Reader, SettingsErrors};
use crate::registration::Pod;
use crate::tls::{Tls, Wanted};
use crate::{duration, log};

pub use crate::log::Log;

/// Where the redirect configuration comes from, for messages.
pub(crate) const REDIRECT_SOURCE: &str = contract::REDIRECT_TRAFFIC_CONFIG_ENV;

/// Everything the program needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where a CNI plugin redirects: the outbound listener's port, that a dial must be redirected to before anything else.
    pub proof: Option<u16>,
    /// Whose registration to wait for.
    pub pod: Pod,
    /// Where to ask for it.
    pub servers: Servers,
    /// How to log in there first; `None` where there are no ACLs.
    pub login: Option<Login>,
    /// The authority of the servers as text, which the sidecar is to have as a file; `None` without TLS, or where it has it otherwise.
    pub servers_authority: Option<String>,
    /// File that receives the proxy's service id; beside it goes the authority.
    pub proxy_id_file: PathBuf,
    /// What to redirect; `None` where transparent proxy is off or a CNI plugin redirects.
    pub redirect: Option<Config>,
    /// The node's addresses, where the configuration has probe ports and says not where probes come from.
    pub node_addresses: Vec<String>,
    /// Redirect IPv6 as well as IPv4.
    pub dual_stack: bool,
    /// How to install the rules.
    pub backend: Backend,
    /// How to log.
    pub log: Log,
}

/// Kinds of gateways, as the catalogue spells them.
const GATEWAYS: [&str; 4] = ["mesh-gateway", "ingress-gateway", "terminating-gateway", "api-gateway"];

/// All flags.
const FLAGS: &[Flag] = &[
    flag("pod-name", "POD_NAME", "Name of the Pod."),
    flag("pod-namespace", "POD_NAMESPACE", "Kubernetes namespace of the Pod."),
    flag("consul-node-name", servers::NODE_NAME, "Consul node the Pod is registered on."),
    flag("service-account-name", "", "Service account of the Pod; used with ACLs."),
    flag("service-name", "", "Service to wait for, with -multiport."),
    flag("proxy-id-file", "", "File that receives the proxy's service id (/consul/connect-inject/proxyid)."),
    switch("multiport", "", "The Pod has several services; wait for -service-name."),
    flag(
        "gateway-kind",
        "",
        "The Pod is a gateway: mesh-gateway, ingress-gateway, terminating-gateway or api-gateway.",
    ),
    flag("redirect-traffic-config", contract::REDIRECT_TRAFFIC_CONFIG_ENV, "What to redirect, as JSON."),
    flag("rule-backend", "", "auto, nftables, iptables-nft or iptables-legacy (auto)."),
    switch("dual-stack", contract::DUAL_STACK_ENV, "Redirect IPv6 too."),
    flag(
        "redirection-proof",
        contract::PROOF_ENV,
        "Port of the outbound listener: prove that a CNI plugin has redirected this Pod.",
    ),
    flag("log-level", "", "trace, debug, info, warn or error (info)."),
    switch("log-json", "", "Log as JSON."),
    flag("addresses", servers::ADDRESSES, "Consul servers: address or DNS name, several separated by commas."),
    flag("http-port", servers::HTTP_PORT, "HTTP port of the Consul servers (8500)."),
    flag("grpc-port", servers::GRPC_PORT, "gRPC port of the Consul servers; accepted and not used."),
    flag("api-timeout", servers::API_TIMEOUT, "How long a request may take, as 5s (5s)."),
    flag("token", "CONSUL_ACL_TOKEN", "ACL token."),
    flag("namespace", servers::NAMESPACE, "Consul namespace (Enterprise)."),
    flag("partition", servers::PARTITION, "Admin partition (Enterprise)."),
    flag("datacenter", "CONSUL_DATACENTER", "Consul datacenter."),
    switch("use-tls", servers::USE_TLS, "TLS to the Consul servers."),
    flag(
        "ca-cert-pem",
        servers::CACERT_PEM,
        "CA of the Consul servers, as PEM, with -use-tls; without one, the system's.",
    ),
    flag("ca-cert-file", servers::CACERT_FILE, "The same in a file."),
    flag("tls-server-name", servers::TLS_SERVER_NAME, "Name in the certificate of the Consul servers."),
    flag("auth-method-name", servers::LOGIN_AUTH_METHOD, "Auth method to log in to Consul's ACLs with."),
    flag(
        "consul-login-bearer-token-file",
        servers::LOGIN_BEARER_TOKEN_FILE,
        "File with the service account's token (where Kubernetes mounts it).",
    ),
    flag(
        "consul-login-meta",
        servers::LOGIN_META,
        "What the token is to say of itself, as key=value; may be repeated.",
    ),
    flag("consul-login-datacenter", "CONSUL_LOGIN_DATACENTER", "Datacenter of the auth method."),
    flag("consul-login-namespace", servers::LOGIN_NAMESPACE, "Consul namespace of the auth method (Enterprise)."),
    flag("consul-login-partition", servers::LOGIN_PARTITION, "Admin partition of the auth method (Enterprise)."),
];

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

const PROGRAM: Program = Program { name: "connect-init", usage: "connect-init [flags]", flags: FLAGS };

impl Settings {
    /// Reads arguments (without the program's name; a leading `connect-init` is skipped) and environment variables.
    ///
    /// # Errors
    /// [`SettingsErrors`] with every mistake.
    pub fn read(
        mut arguments: Vec<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Asked<Self>, SettingsErrors> {
        if arguments.first().is_some_and(|first| first == "connect-init") {
            arguments.remove(0);
        }
        Reader::read(PROGRAM, &arguments, &environment, Reader::settings)
    }
}

impl Reader<'_> {
    fn settings(&mut self) -> Settings {
        let multiport = self.switch("multiport");
        let service = self.text("service-name");
        if multiport && service.is_none() {
            self.mistakes.push("-service-name must be set with -multiport".to_owned());
        }
        let gateway = |text: &str| GATEWAYS.contains(&text).then(|| text.to_owned());
        let kinds = GATEWAYS.join(", ");
        let pod = Pod {
            name: self.required("pod-name", ""),
            namespace: self.required("pod-namespace", ""),
            node: self.required("consul-node-name", " (environment: CONSUL_NODE_NAME)"),
            service: service.filter(|_| multiport),
            gateway: self.parsed("gateway-kind", gateway, &kinds),
            account: None,
        };
        let login = self.login();
        let pod = if login.is_some() { self.of_its_account(pod) } else { pod };
        let redirect = self.redirect_config();
        let servers = self.servers();
        Settings {
            proof: self.parsed("redirection-proof", port, "a port, 1 to 65535"),
            pod,
            servers_authority: servers.tls.as_ref().and_then(|_| self.text("ca-cert-pem")),
            servers,
            login,
            proxy_id_file: self.text("proxy-id-file").map_or_else(default_proxy_id_file, PathBuf::from),
            node_addresses: redirect.as_ref().map(|config| self.node_addresses(config)).unwrap_or_default(),
            redirect,
            dual_stack: self.switch("dual-stack"),
            backend: self.backend(),
            log: self.log(),
        }
    }

    fn servers(&mut self) -> Servers {
        let hint = " (environment: CONSUL_ADDRESSES): the address or DNS name of the Consul servers";
        let addresses = self.required("addresses", hint);
        if addresses.starts_with("exec=") {
            self.mistakes.push("CONSUL_ADDRESSES: exec= is not supported: name addresses or a DNS name".to_owned());
        }
        let timeout = |text: &str| duration::parse(text).filter(|timeout| !timeout.is_zero());
        Servers {
            hosts: addresses.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect(),
            http_port: self.parsed("http-port", port, "a port, 1 to 65535").unwrap_or(8500),
            timeout: self.parsed("api-timeout", timeout, "a duration, as 5s").unwrap_or(Duration::from_secs(5)),
            token: self.text("token").map(Secret::from),
            credentials: None,
            scope: self.scope(),
            tls: self.tls(),
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        if !self.switch("use-tls") {
            return None;
        }
        let authorities = self.text("ca-cert-pem").into_iter().chain(self.file("ca-cert-file")).collect();
        let wanted = Wanted { authorities, server_name: self.text("tls-server-name"), ..Wanted::default() };
        Tls::new(wanted).map_err(|mistake| self.mistakes.push(format!("CONSUL_CACERT_PEM: {mistake}"))).ok()
    }

    fn log(&mut self) -> Log {
        Log { level: self.log_level(log::DEFAULT_LEVEL), json: self.switch("log-json") }
    }

    fn login(&mut self) -> Option<Login> {
        let auth_method = self.text("auth-method-name")?;
        let token_file = self.text("consul-login-bearer-token-file");
        Some(Login {
            auth_method,
            bearer_token_file: token_file.map_or_else(|| Path::new(TOKEN_DIR).join(TOKEN_FILE), PathBuf::from),
            meta: self.login_meta(),
            scope: [("ns", "namespace"), ("partition", "partition"), ("dc", "datacenter")]
                .into_iter()
                .filter_map(|(parameter, name)| Some((parameter, self.text(&format!("consul-login-{name}"))?)))
                .collect(),
        })
    }

    /// Pairs from each flag, or all from the variable, separated by commas.
    fn login_meta(&mut self) -> BTreeMap<String, String> {
        let mut given = self.list("consul-login-meta");
        if given.is_empty() {
            given = self.variable(servers::LOGIN_META).iter().flat_map(|l| l.split(',')).map(str::to_owned).collect();
        }
        let mut meta = BTreeMap::new();
        for pair in given {
            match pair.split_once('=').filter(|(key, _)| !key.is_empty()) {
                Some((key, value)) => drop(meta.insert(key.to_owned(), value.to_owned())),
                None => self.mistakes.push(format!("{} entry {pair:?}: must be key=value", servers::LOGIN_META)),
            }
        }
        meta
    }

    /// With ACLs a Pod's service account may only register the service of its own name; a gateway's has a role of its own.
    fn of_its_account(&mut self, pod: Pod) -> Pod {
        if pod.gateway.is_some() {
            return pod;
        }
        match (self.text("service-account-name"), self.text("service-name")) {
            (None, _) => self.mistakes.push("-service-account-name must be set when ACLs are enabled".to_owned()),
            // the annotation names the service, and needs no look at the catalogue
            (Some(account), Some(service)) if account != service => self.mistakes.push(format!(
                "service account name {account} doesn't match annotation service name {service}: name one after the other"
            )),
            (Some(_), Some(_)) => {}
            (account, None) => return Pod { account, ..pod },
        }
        pod
    }
}

fn default_proxy_id_file() -> PathBuf {
    PathBuf::from(contract::DATA_DIR).join(contract::PROXY_ID_FILE)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::reader::settings_of;

    const SCRIPT: [&str; 5] =
        ["connect-init", "-pod-name=web-0", "-pod-namespace=shop", "-log-level=debug", "-log-json=false"];
    const ENVIRONMENT: [(&str, &str); 5] = [
        ("CONSUL_ADDRESSES", "10.0.0.1, consul-server.consul.svc"),
        ("CONSUL_HTTP_PORT", "8501"),
        ("CONSUL_GRPC_PORT", "8502"),
        ("CONSUL_API_TIMEOUT", "1m30s"),
        ("CONSUL_NODE_NAME", "node-0-virtual"),
    ];

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let look = |name: &str| environment.iter().rev().find(|(own, _)| *own == name).map(|(_, v)| (*v).to_owned());
        settings_of(Settings::read(arguments, look))
    }

    #[test]
    fn the_webhooks_script_and_environment() {
        let settings = read(&SCRIPT, &ENVIRONMENT).expect("what the webhook writes");
        assert_eq!(settings.pod.to_string(), "Pod shop/web-0 on Consul node node-0-virtual");
        assert_eq!(settings.servers.hosts, ["10.0.0.1", "consul-server.consul.svc"]);
        assert_eq!((settings.servers.http_port, settings.servers.timeout), (8501, Duration::from_secs(90)));
        assert_eq!(settings.proxy_id_file, PathBuf::from("/consul/connect-inject/proxyid"));
        assert!(settings.redirect.is_none() && !settings.dual_stack);
        assert_eq!(settings.log, Log { level: log::level("debug").expect("a level"), json: false });
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let environment = [&ENVIRONMENT[..], &[("POD_NAME", "other"), ("CONSUL_DUAL_STACK", "true")]].concat();
        let settings = read(&SCRIPT, &environment).expect("valid");
        assert_eq!(settings.pod.name, "web-0");
        assert!(settings.dual_stack);
        assert_eq!(read(&SCRIPT[2..], &environment).expect("valid").pod.name, "other");
    }

    #[rstest]
    #[case::nothing(&[], &[], &["-pod-name must be set", "-pod-namespace must be set", "-consul-node-name must be set", "-addresses must be set"])]
    #[case::timeout(&SCRIPT, &[("CONSUL_API_TIMEOUT", "5")], &["CONSUL_API_TIMEOUT = \"5\": must be a duration, as 5s"])]
    #[case::port(&SCRIPT, &[("CONSUL_HTTP_PORT", "0")], &["CONSUL_HTTP_PORT = \"0\": must be a port"])]
    #[case::boolean(&["-multiport=yes"], &[], &["-multiport = \"yes\": must be true or false"])]
    #[case::multiport(&["-multiport"], &[], &["-service-name must be set with -multiport"])]
    #[case::level(&["-log-level=loud"], &[], &["-log-level = \"loud\": must be trace, debug"])]
    #[case::tls(&SCRIPT, &[("CONSUL_USE_TLS", "true"), ("CONSUL_CACERT_PEM", "MIIB")], &["CONSUL_CACERT_PEM", "no PEM block CERTIFICATE"])]
    #[case::tls_file(&SCRIPT, &[("CONSUL_USE_TLS", "true"), ("CONSUL_CACERT_FILE", "/nowhere/ca.pem")],
        &["CONSUL_CACERT_FILE = \"/nowhere/ca.pem\"", "No such file"])]
    #[case::gateway(&["-gateway-kind=door"], &[], &["-gateway-kind = \"door\": must be mesh-gateway, ingress-gateway"])]
    #[case::account(&SCRIPT, &[("CONSUL_LOGIN_AUTH_METHOD", "k8s")], &["-service-account-name must be set when ACLs are enabled"])]
    #[case::annotation(&["-service-account-name=web", "-service-name=shop"], &[("CONSUL_LOGIN_AUTH_METHOD", "k8s")],
        &["service account name web doesn't match annotation service name shop"])]
    #[case::meta(&SCRIPT, &[("CONSUL_LOGIN_AUTH_METHOD", "k8s"), ("CONSUL_LOGIN_META", "pod=shop/web-0,web")],
        &["CONSUL_LOGIN_META entry \"web\": must be key=value"])]
    #[case::node(&SCRIPT, &[("CONSUL_REDIRECT_TRAFFIC_CONFIG", r#"{"ProbePorts":["1"]}"#), ("HOST_IPS", "10.0.0.1,node-1")],
        &["HOST_IPS entry 2 \"node-1\": host names are not looked up"])]
    #[case::exec(&SCRIPT, &[("CONSUL_ADDRESSES", "exec=discover")], &["exec= is not supported"])]
    #[case::redirect(&SCRIPT, &[("CONSUL_REDIRECT_TRAFFIC_CONFIG", r#"{"ProxyInboundPort":"x"}"#)],
        &["CONSUL_REDIRECT_TRAFFIC_CONFIG", "ProxyInboundPort = \"x\"", "whole number"])]
    fn mistakes_name_their_source(
        #[case] arguments: &[&str],
        #[case] more: &[(&str, &str)],
        #[case] expected: &[&str],
    ) {
        let environment = if more.is_empty() { Vec::new() } else { [&ENVIRONMENT[..], more].concat() };
        let message = read(arguments, &environment).expect_err("refused");
        for part in expected {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    }

    #[test]
    fn the_webhooks_login() {
        let with_acls = [
            ("CONSUL_LOGIN_AUTH_METHOD", "consul-k8s-auth-method"),
            ("CONSUL_LOGIN_BEARER_TOKEN_FILE", "/consul/serviceaccount-web/token"),
            ("CONSUL_LOGIN_META", "pod=shop/web-0"),
            ("CONSUL_LOGIN_NAMESPACE", "default"),
            ("CONSUL_LOGIN_PARTITION", "east"),
        ];
        let environment = [&ENVIRONMENT[..], &with_acls].concat();
        let arguments = [&SCRIPT[..], &["-service-account-name=web", "-service-name="]].concat();
        let settings = read(&arguments, &environment).expect("what the webhook writes");
        let own = |(name, value): (&'static str, &str)| (name, value.to_owned());
        let expected = Login {
            auth_method: "consul-k8s-auth-method".to_owned(),
            bearer_token_file: PathBuf::from("/consul/serviceaccount-web/token"),
            meta: BTreeMap::from([("pod".to_owned(), "shop/web-0".to_owned())]),
            scope: vec![own(("ns", "default")), own(("partition", "east"))],
        };
        assert_eq!((settings.login, settings.pod.account.as_deref()), (Some(expected), Some("web")));
        // the annotation says it, and agrees
        let arguments = [&SCRIPT[..], &["-service-account-name=web", "-service-name=web"]].concat();
        let settings = read(&arguments, &[&ENVIRONMENT[..], &with_acls[..1]].concat()).expect("valid");
        assert_eq!(
            settings.login.map(|login| login.bearer_token_file),
            Some(PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"))
        );
        assert_eq!(settings.pod.account, None);
    }

    #[rstest]
    #[case::of_a_gateway(&["-gateway-kind=mesh-gateway"], Some("k8s"))]
    #[case::without_acls(&["-service-account-name=web", "-service-name=shop"], None)]
    fn nothing_is_named_after_the_account(#[case] arguments: &[&str], #[case] method: Option<&str>) {
        let more: Vec<_> = method.map(|method| ("CONSUL_LOGIN_AUTH_METHOD", method)).into_iter().collect();
        let settings = read(&[&SCRIPT[..], arguments].concat(), &[&ENVIRONMENT[..], &more].concat()).expect("valid");
        assert_eq!((settings.pod.account, settings.login.is_some()), (None, method.is_some()));
    }

    #[test]
    fn help_lists_every_flag() {
        let text = read(&["-help"], &[]).expect_err("help is text");
        assert!(FLAGS.iter().all(|flag| text.contains(&format!("  -{}\n", flag.name))), "{text}");
    }
}
