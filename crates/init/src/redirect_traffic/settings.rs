//! The flags and environment variables of `redirect-traffic`.

use std::path::PathBuf;

use redirect::contract::{self, servers};
use redirect::{Backend, Config};
use tracing_subscriber::filter::LevelFilter;

use super::question::{self, Direction, Endpoint, Question};
use crate::client::Servers;
use crate::flags::{Flag, Program, flag, switch};
use crate::log::Log;
use crate::reader::{Asked, Reader, SettingsErrors};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Put the rules in force.
    Apply,
    /// Compare the rules that are there with those that should be.
    Verify,
    /// Take the rules away.
    Remove,
    /// Say what becomes of a packet, and why.
    Explain(Question),
}

impl Operation {
    /// The beginning of the message when it fails.
    pub(super) fn failing(&self) -> &'static str {
        match self {
            Self::Apply => "Error setting up traffic redirection rules: ",
            Self::Verify => "Error verifying traffic redirection rules: ",
            Self::Remove => "Error removing traffic redirection rules: ",
            Self::Explain(_) => "Error explaining traffic redirection rules: ",
        }
    }
}

/// Where the proxy's ports come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They were given.
    Given,
    /// A registration has them.
    Registration {
        /// The proxy's service id.
        proxy: String,
        /// The Consul node it is registered on.
        node: String,
        /// Where to ask.
        servers: Box<Servers>,
    },
}

/// Everything the program needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to do.
    pub operation: Operation,
    /// Where the proxy's ports come from.
    pub source: Source,
    /// What flags and JSON say.
    pub config: Config,
    /// The node's addresses, where there are probe ports and nothing says where probes come from.
    pub node_addresses: Vec<String>,
    /// Redirect IPv6 as well as IPv4.
    pub dual_stack: bool,
    /// How to install the rules.
    pub backend: Backend,
    /// The network namespace; `None` is this process's.
    pub netns: Option<PathBuf>,
    /// Print what would be done.
    pub dry_run: bool,
    /// Print JSON.
    pub json: bool,
    /// How to log.
    pub log: Log,
}

const USAGE: &str = "redirect-traffic [apply|verify|remove|explain] [flags]

apply    put the rules in force (the default); what is there already is left alone, other rules of ours are replaced
verify   compare the rules with those that should be; exit status 2 where they differ
remove   take the rules away, whichever backend installed them, and nothing else
explain  say what becomes of a packet (-destination, -uid …) and which rules decide it";

const FLAGS: &[Flag] = &[
    flag("proxy-uid", "", "User id of the proxy, whose own traffic is not redirected."),
    flag("proxy-id", "", "Service id of the proxy: its registration says the ports. Needs -node-name."),
    flag("node-name", "", "Consul node that the proxy is registered on."),
    flag("proxy-inbound-port", "", "Port of the proxy's inbound listener."),
    flag("proxy-outbound-port", "", "Port of the proxy's outbound listener (15001)."),
    flag("consul-dns-ip", "", "Address of the Consul DNS server; without a port, all DNS is sent there."),
    flag("consul-dns-port", "", "Port of the Consul DNS server."),
    flag("exclude-inbound-port", "", "Inbound port, or range as 8000:8100, that is not redirected. May be repeated."),
    flag("exclude-outbound-port", "", "Outbound port, or range, that is not redirected. May be repeated."),
    flag("exclude-outbound-cidr", "", "Outbound address block that is not redirected. May be repeated."),
    flag("exclude-uid", "", "User id, or range, that is not redirected. May be repeated."),
    flag("exclude-gid", "", "Group id, or range, that is not redirected. May be repeated."),
    flag("safeguard", "", "local-direct, refuse-ipv6, refuse-udp, refuse-metadata or drop-invalid. May be repeated."),
    flag("probe-port", "", "Inbound port, or range, that probes reach unredirected. May be repeated."),
    flag("probe-source", "", "Address or block that probes come from (the node's, as far as known). May be repeated."),
    flag(
        "redirect-traffic-config",
        contract::REDIRECT_TRAFFIC_CONFIG_ENV,
        "JSON to start from; flags are added to it.",
    ),
    switch("dual-stack", contract::DUAL_STACK_ENV, "Redirect IPv6 too."),
    flag("rule-backend", "", "auto, nftables, iptables-nft or iptables-legacy (auto)."),
    flag("netns", "", "Path of the network namespace (this process's)."),
    switch("dry-run", "", "With apply: print what each backend would be told."),
    switch("json", "", "Print one JSON document."),
    flag("log-level", "", "trace, debug, info, warn or error (warn)."),
    flag("destination", "", "With explain: address and port, as 10.0.0.1:80 or [fd00::1]:80."),
    flag("source", "", "With explain: address and port it comes from."),
    flag("protocol", "", "With explain: tcp, udp or an IP protocol number (tcp)."),
    flag("direction", "", "With explain: out, or in for what arrives from elsewhere (out)."),
    flag("uid", "", "With explain: user id of the sender."),
    flag("gid", "", "With explain: group id of the sender."),
    flag("http-addr", "CONSUL_HTTP_ADDR", "Consul's HTTP API, as consul:8500 or https://consul:8501 (127.0.0.1:8500)."),
    flag("token", "CONSUL_HTTP_TOKEN", "ACL token."),
    flag("token-file", "CONSUL_HTTP_TOKEN_FILE", "File that holds the ACL token."),
    flag("ca-file", "CONSUL_CACERT", "CA of the Consul servers; without one, the system's."),
    flag("ca-path", "CONSUL_CAPATH", "Directory of CAs."),
    flag("client-cert", "CONSUL_CLIENT_CERT", "Certificate to show to the Consul servers."),
    flag("client-key", "CONSUL_CLIENT_KEY", "Its key."),
    flag("tls-server-name", servers::TLS_SERVER_NAME, "Name in the certificate of the Consul servers."),
    flag("namespace", servers::NAMESPACE, "Consul namespace (Enterprise)."),
    flag("partition", servers::PARTITION, "Admin partition (Enterprise)."),
    flag("datacenter", "", "Consul datacenter."),
    switch("stale", "", "Any server may answer, not only the leader."),
];

const PROGRAM: Program = Program { name: "redirect-traffic", usage: USAGE, flags: FLAGS };

impl Settings {
    /// Reads arguments (without the program's name; leading `connect` and `redirect-traffic` are skipped) and environment
    /// variables.
    ///
    /// # Errors
    /// [`SettingsErrors`] with every mistake.
    pub fn read(
        arguments: Vec<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Asked<Self>, SettingsErrors> {
        let mut arguments = arguments;
        for word in ["connect", "redirect-traffic"] {
            if arguments.first().is_some_and(|first| first == word) {
                arguments.remove(0);
            }
        }
        let operation = match arguments.first().map(String::as_str) {
            Some(word @ ("apply" | "verify" | "remove" | "explain")) => {
                let word = word.to_owned();
                arguments.remove(0);
                word
            }
            _ => "apply".to_owned(),
        };
        Reader::read(PROGRAM, &arguments, &environment, |reader| reader.redirect_traffic(&operation))
    }
}

impl Reader<'_> {
    fn redirect_traffic(&mut self, operation: &str) -> Settings {
        let mut config = self.redirect_config().unwrap_or_default();
        self.add_flags(&mut config);
        self.refuse_what_goes_with_another(operation);
        let operation = match operation {
            "verify" => Operation::Verify,
            "remove" => Operation::Remove,
            "explain" => Operation::Explain(self.question()),
            _ => Operation::Apply,
        };
        let source = if operation == Operation::Remove { Source::Given } else { self.source(&config) };
        let netns = self.text("netns").or_else(|| Some(config.net_ns.clone())).filter(|path| !path.is_empty());
        Settings {
            operation,
            source,
            node_addresses: self.node_addresses(&config),
            config,
            dual_stack: self.switch("dual-stack"),
            backend: self.backend(),
            netns: netns.map(PathBuf::from),
            dry_run: self.switch("dry-run"),
            json: self.switch("json"),
            log: Log { level: self.log_level(LevelFilter::WARN), json: false },
        }
    }

    fn refuse_what_goes_with_another(&mut self, operation: &str) {
        let only = [
            ("apply", &["dry-run"][..]),
            ("explain", &["destination", "source", "protocol", "direction", "uid", "gid"]),
        ];
        for (owner, names) in only {
            let given = names.iter().filter(|name| owner != operation && self.find(name).is_some());
            let mistakes: Vec<String> =
                given.map(|name| format!("-{name} goes with {owner}, not with {operation}")).collect();
            self.mistakes.extend(mistakes);
        }
    }

    fn add_flags(&mut self, config: &mut Config) {
        const NUMBER: &str = "a port, 1 to 65535";
        let number = |text: &str| text.parse().ok();
        let texts = [("proxy-uid", &mut config.proxy_user_id), ("consul-dns-ip", &mut config.consul_dns_ip)];
        for (name, slot) in texts {
            if let Some(text) = self.text(name) {
                *slot = text;
            }
        }
        let ports = [
            ("proxy-inbound-port", &mut config.proxy_inbound_port),
            ("proxy-outbound-port", &mut config.proxy_outbound_port),
            ("consul-dns-port", &mut config.consul_dns_port),
        ];
        for (name, slot) in ports {
            if let Some(port) = self.parsed(name, number, NUMBER) {
                *slot = port;
            }
        }
        let lists = [
            ("exclude-inbound-port", &mut config.exclude_inbound_ports),
            ("exclude-outbound-port", &mut config.exclude_outbound_ports),
            ("exclude-outbound-cidr", &mut config.exclude_outbound_cidrs),
            ("exclude-uid", &mut config.exclude_uids),
            ("exclude-gid", &mut config.exclude_gids),
            ("safeguard", &mut config.safeguards),
            ("probe-port", &mut config.probe_ports),
            ("probe-source", &mut config.probe_sources),
        ];
        for (name, list) in lists {
            list.extend(self.list(name));
        }
    }

    fn source(&mut self, config: &Config) -> Source {
        if config.proxy_user_id.is_empty() {
            self.mistakes.push("-proxy-uid is required".to_owned());
        }
        let Some(proxy) = self.text("proxy-id") else {
            if config.proxy_inbound_port == 0 {
                self.mistakes.push("either -proxy-id or -proxy-inbound-port are required".to_owned());
            }
            return Source::Given;
        };
        let default = i64::from(contract::OUTBOUND_PORT).to_string();
        if self.text("proxy-inbound-port").is_some()
            || self.text("proxy-outbound-port").is_some_and(|port| port != default)
        {
            self.mistakes.push(
                "-proxy-inbound-port or -proxy-outbound-port cannot be provided together with -proxy-id. The proxy's \
                 registration says both"
                    .to_owned(),
            );
        }
        let hint = " with -proxy-id: there is no agent to ask, and the catalogue is asked by node (on Kubernetes the node's \
                    name with -virtual)";
        let node = self.required("node-name", hint);
        if node.contains(['/', '?', '#', ' ', '%']) {
            self.mistakes.push(format!("-node-name = {node:?}: must be the name of a Consul node"));
        }
        Source::Registration { proxy, node, servers: Box::new(self.http_client()) }
    }

    fn question(&mut self) -> Question {
        const ENDPOINT: &str = "an address, with a port where there is one: 10.0.0.1:80, [fd00::1]:80";
        let number = |text: &str| text.parse().ok();
        self.required("destination", " with explain: the address and port that the packet is sent to");
        let nowhere = Endpoint { address: std::net::Ipv4Addr::UNSPECIFIED.into(), port: 0 };
        let question = Question {
            direction: self.parsed("direction", question::direction, "out or in").unwrap_or(Direction::Out),
            protocol: self
                .parsed("protocol", question::protocol, "tcp, udp or a protocol number, 0 to 255")
                .unwrap_or(redirect::Protocol::Tcp),
            source: self.parsed("source", Endpoint::parse, ENDPOINT),
            destination: self.parsed("destination", Endpoint::parse, ENDPOINT).unwrap_or(nowhere),
            uid: self.parsed("uid", number, "a user id"),
            gid: self.parsed("gid", number, "a group id"),
        };
        let destination = question.destination.address;
        if question.source.is_some_and(|source| source.address.is_ipv4() != destination.is_ipv4()) {
            self.mistakes.push("-source and -destination must be of one address family".to_owned());
        }
        question
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::reader::settings_of;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let look = |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        settings_of(Settings::read(arguments, look))
    }

    #[test]
    fn the_flags_of_consul() {
        let arguments = [
            "connect",
            "redirect-traffic",
            "-proxy-uid=1234",
            "-proxy-inbound-port",
            "20000",
            "-consul-dns-ip=127.0.0.1",
            "-consul-dns-port=8600",
            "-exclude-inbound-port=1",
            "-exclude-inbound-port=2:3",
            "-exclude-outbound-port=4",
            "-exclude-outbound-cidr=10.0.0.0/8",
            "-exclude-uid=5",
            "-netns=/run/netns/pod",
        ];
        let settings = read(&arguments, &[]).expect("valid");
        let json = r#"{"ConsulDNSIP":"127.0.0.1","ConsulDNSPort":8600,"ProxyUserID":"1234","ProxyInboundPort":20000,
            "ExcludeInboundPorts":["1","2:3"],"ExcludeOutboundPorts":["4"],"ExcludeOutboundCIDRs":["10.0.0.0/8"],
            "ExcludeUIDs":["5"]}"#;
        assert_eq!(settings.config, Config::from_json(json).expect("JSON"));
        assert_eq!((settings.operation, settings.netns), (Operation::Apply, Some(PathBuf::from("/run/netns/pod"))));
        assert!(matches!(settings.source, Source::Given));
    }

    #[test]
    fn flags_are_added_to_the_json() {
        let json = r#"{"ProxyUserID":"5995","ProxyInboundPort":20000,"ExcludeUIDs":["5996"],"NetNS":"/run/netns/pod"}"#;
        let environment = [("CONSUL_REDIRECT_TRAFFIC_CONFIG", json), ("CONSUL_DUAL_STACK", "true")];
        let flags =
            ["verify", "-exclude-uid=7", "-proxy-inbound-port=21000", "-probe-port=9000", "-probe-source=10.0.0.1"];
        let settings = read(&flags, &environment).expect("valid");
        assert_eq!(settings.config.exclude_uids, ["5996", "7"]);
        let Config { probe_ports, probe_sources, .. } = &settings.config;
        assert_eq!((probe_ports.join(","), probe_sources.join(",")), ("9000".to_owned(), "10.0.0.1".to_owned()));
        assert_eq!((settings.config.proxy_inbound_port, settings.dual_stack), (21000, true));
        assert_eq!((settings.operation, settings.netns), (Operation::Verify, Some(PathBuf::from("/run/netns/pod"))));
    }

    #[rstest]
    #[case::all(&[], &[("HOST_IPS", "10.0.0.1,fd00::1"), ("HOST_IP", "10.0.0.1")], &["10.0.0.1/32", "fd00::1/128"])]
    #[case::first(&[], &[("HOST_IP", "10.0.0.1")], &["10.0.0.1/32"])]
    #[case::named_already(&["-probe-source=10.0.0.9"], &[("HOST_IP", "of somebody else's")], &[])]
    fn the_node_is_known_by_the_environment(
        #[case] more: &[&str],
        #[case] environment: &[(&str, &str)],
        #[case] expected: &[&str],
    ) {
        let arguments = [&["-proxy-uid=1", "-proxy-inbound-port=2", "-probe-port=9000"], more].concat();
        assert_eq!(read(&arguments, environment).expect("valid").node_addresses, expected);
        let unprobed = read(&arguments[..2], &[("HOST_IP", "of somebody else's")]).expect("nobody asks");
        assert_eq!(unprobed.node_addresses, [""; 0]);
    }

    #[test]
    fn the_http_client_of_consul() {
        let arguments = [
            "-proxy-uid=1",
            "-proxy-id=web-proxy",
            "-node-name=node-0-virtual",
            "-http-addr=consul:8500",
            "-namespace=shop",
            "-partition=east",
            "-datacenter=dc2",
            "-stale",
        ];
        let settings =
            read(&arguments, &[("CONSUL_HTTP_TOKEN", "secret"), ("CONSUL_HTTP_AUTH", "a:b")]).expect("valid");
        let Source::Registration { proxy, node, servers } = settings.source else { panic!("{:?}", settings.source) };
        assert_eq!((proxy.as_str(), node.as_str()), ("web-proxy", "node-0-virtual"));
        assert_eq!((servers.hosts, servers.http_port), (vec!["consul".to_owned()], 8500));
        let secrets = [servers.token, servers.credentials].map(|secret| secret.expect("given").expose().to_owned());
        assert_eq!(secrets, ["secret", "a:b"]);
        let scope = [("ns", "shop"), ("partition", "east"), ("dc", "dc2"), ("stale", "")];
        assert_eq!(servers.scope, scope.map(|(name, value)| (name, value.to_owned())));
        assert!(servers.tls.is_none());
    }

    #[rstest]
    #[case::nothing(&[], &["-proxy-uid is required", "either -proxy-id or -proxy-inbound-port are required"])]
    #[case::both(&["-proxy-uid=1", "-proxy-id=a", "-node-name=b", "-proxy-outbound-port=1"],
        &["-proxy-inbound-port or -proxy-outbound-port cannot be provided together with -proxy-id."])]
    #[case::no_node(&["-proxy-uid=1", "-proxy-id=a"], &["-node-name must be set with -proxy-id", "-virtual"])]
    #[case::odd_node(&["-proxy-uid=1", "-proxy-id=a", "-node-name=a/b"], &["-node-name = \"a/b\""])]
    #[case::unix(&["-proxy-uid=1", "-proxy-id=a", "-node-name=b", "-http-addr=unix:///x"], &["-http-addr = \"unix:///x\": Unix sockets"])]
    #[case::half_a_certificate(&["-proxy-uid=1", "-proxy-id=a", "-node-name=b", "-http-addr=https://x", "-client-cert=/dev/null"],
        &["-client-cert and -client-key must be set together"])]
    #[case::port(&["-proxy-uid=1", "-proxy-inbound-port=http"], &["-proxy-inbound-port = \"http\": must be a port"])]
    #[case::backend(&["-proxy-uid=1", "-proxy-inbound-port=1", "-rule-backend=nft"], &["-rule-backend = \"nft\": must be one of auto, nftables"])]
    #[case::a_dry_run_of_removal(&["remove", "-dry-run"], &["-dry-run goes with apply, not with remove"])]
    #[case::a_packet_without_a_question(&["-proxy-uid=1", "-proxy-inbound-port=1", "-destination=1.2.3.4"],
        &["-destination goes with explain, not with apply"])]
    #[case::explain(&["explain", "-proxy-uid=1", "-proxy-inbound-port=1", "-protocol=quic"], &["-destination must be set", "-protocol = \"quic\""])]
    #[case::families(&["explain", "-proxy-uid=1", "-proxy-inbound-port=1", "-destination=1.2.3.4:5", "-source=fd00::1"], &["one address family"])]
    #[case::words(&["-proxy-uid=1", "-proxy-inbound-port=1", "destroy"], &["unexpected argument \"destroy\""])]
    #[case::json(&["-redirect-traffic-config={"], &["-redirect-traffic-config: decode the redirect configuration"])]
    fn mistakes(#[case] arguments: &[&str], #[case] expected: &[&str]) {
        let message = read(arguments, &[]).expect_err("refused");
        for part in expected {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    }

    #[test]
    fn removal_needs_no_policy() {
        assert_eq!(read(&["remove"], &[]).expect("valid").operation, Operation::Remove);
    }

    #[test]
    fn help_says_what_there_is() {
        let text = read(&["-help"], &[]).expect_err("help is text");
        for word in ["apply", "verify", "remove", "explain", "  -exclude-outbound-cidr\n", "CONSUL_HTTP_ADDR"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
