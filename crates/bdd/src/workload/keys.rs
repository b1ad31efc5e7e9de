//! The keys of the workload table: each row changes one thing about a fixture.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redirect::contract;
use serde_json::Value;
use sim::Impairment;

use super::spec::{
    Bind, Command, Container, InitContainer, Library, Listen, Placement, Probe, ProbeAction, ProbeKind, Role,
    ServicePort, ServiceShape, Workload,
};
use crate::nearest::nearest;

const KEYS: &[&str] = &[
    "namespace",
    "cluster",
    "replicas",
    "service",
    "service port",
    "listens",
    "binds",
    "annotation <name>",
    "uid",
    "probe <kind>",
    "init container",
    "init container first",
    "init container last",
    "init sidecar listens",
    "init sidecar probe <kind>",
    "command",
    "kind",
    "address",
    "link",
    "dns config",
    "resolver",
    "host network",
];

impl Workload {
    /// Changes the workload as the rows of a step's table say.
    ///
    /// # Errors
    /// Names the row that cannot be read, and the nearest key that exists.
    pub fn apply(&mut self, rows: &[(String, String)]) -> Result<()> {
        let mut first_listen = true;
        let mut first_port = true;
        for (key, value) in rows {
            let wrong = || format!("set {key:?} of the workload {:?} to {value:?}", self.name);
            let context = wrong();
            match key.as_str() {
                "namespace" => self.namespace.clone_from(value),
                "cluster" => self.cluster = Some(value.clone()),
                "replicas" => self.replicas = number(value).context(context)?,
                "service" => self.service = service(&self.name, value),
                "service port" => {
                    if std::mem::take(&mut first_port) {
                        self.service_ports.clear();
                    }
                    self.service_ports.push(service_port(value).context(context)?);
                }
                "listens" => {
                    if std::mem::take(&mut first_listen) {
                        self.listens.clear();
                        for container in &mut self.containers {
                            container.role = Role::Server;
                        }
                    }
                    self.listens.push(listen(value).context(context)?);
                }
                "binds" => self.binds = bind(value).context(context)?,
                "uid" => self.run_as(number(value).context(context)?),
                "init container" | "init container first" | "init container last" => {
                    self.init.push(init_container(key, value).context(context)?);
                }
                "init sidecar listens" => {
                    self.init_sidecar.get_or_insert_default().listens.push(listen(value).context(context)?);
                }
                "command" => self.command = Some(command(value)),
                "kind" => self.controller = value.parse()?,
                "address" => bail!("{context}: an address is chosen by the cluster's address management"),
                "link" => self.link = Some(link(value).context(context)?),
                "dns config" => self.dns_server = Some(value.clone()),
                "resolver" => self.resolver = Some(value.parse::<Library>().context(context)?),
                "host network" => self.host_network = truth(value).context(context)?,
                _ => {
                    if let Some(name) = key.strip_prefix("annotation ") {
                        self.annotate(name, value);
                    } else if let Some(kind) = key.strip_prefix("probe ") {
                        set_probe(&mut self.probes, kind, value).context(context)?;
                    } else if let Some(kind) = key.strip_prefix("init sidecar probe ") {
                        set_probe(&mut self.init_sidecar.get_or_insert_default().probes, kind, value)
                            .context(context)?;
                    } else {
                        let like = nearest(key, KEYS.iter().copied()).unwrap_or_default();
                        bail!("describe the workload {:?}: {key:?} is no key; the nearest is {like:?}", self.name);
                    }
                }
            }
        }
        Ok(())
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let key = if name.contains('/') { name.to_owned() } else { format!("{}{name}", contract::PREFIX) };
        match value.strip_prefix("unquoted ").map(str::parse::<i64>) {
            _ if value == "none" => {
                self.annotations.remove(&key);
            }
            Some(Ok(number)) => {
                self.annotations.insert(key, Value::from(number));
            }
            _ => {
                self.annotations.insert(key, Value::from(value));
            }
        }
    }

    /// One container runs as `uid`: an existing one where the workload has one per user, otherwise all of them.
    fn run_as(&mut self, uid: u32) {
        if self.containers.len() == 1 {
            self.containers[0].uid = uid;
        } else if !self.containers.iter().any(|c| c.uid == uid) {
            self.containers.push(Container { name: format!("user-{uid}"), uid, role: Role::Client });
        }
    }
}

fn set_probe(probes: &mut Vec<Probe>, kind: &str, value: &str) -> Result<()> {
    let kind = ProbeKind::from_str(kind)?;
    let action = probe(value)?;
    probes.retain(|probe| probe.kind != kind);
    probes.push(Probe { kind, action });
    Ok(())
}

/// A number that is not negative.
fn number(value: &str) -> Result<u32> {
    value.trim().parse().ok().with_context(|| format!("{value:?} is no number from 0 to {}", u32::MAX))
}

/// A port that something can listen on.
fn port(value: &str) -> Result<u16> {
    let port = value.trim().parse().ok().filter(|port| *port > 0);
    port.with_context(|| format!("{value:?} is no port: it is a number from 1 to 65535"))
}

fn truth(value: &str) -> Result<bool> {
    value.parse().ok().with_context(|| format!("{value:?} is neither true nor false"))
}

/// `100 ms delay`, `5 % packet loss`, `MTU 1280`, `10 Mbit/s limit`.
fn link(value: &str) -> Result<Impairment> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let found = match words.as_slice() {
        [number, "ms", "delay"] => number.parse().ok().map(|ms| Impairment::Delay(Duration::from_millis(ms))),
        [number, "s", "delay"] => number.parse().ok().map(|s| Impairment::Delay(Duration::from_secs(s))),
        [number, "%", "packet", "loss"] => number.parse().ok().filter(|p| *p <= 100).map(Impairment::Loss),
        ["MTU", bytes] => bytes.parse().ok().map(Impairment::Mtu),
        [number, "Mbit/s", "limit"] => number.parse().ok().map(|m: u64| Impairment::Rate(m * 1000)),
        [number, "kbit/s", "limit"] => number.parse().ok().map(Impairment::Rate),
        _ => None,
    };
    found.with_context(|| {
        format!("{value:?} is none of \"100 ms delay\", \"5 % packet loss\", \"MTU 1280\", \"10 Mbit/s limit\"")
    })
}

fn service(name: &str, value: &str) -> ServiceShape {
    match value {
        "none" => ServiceShape::None,
        "headless" => ServiceShape::Headless,
        "selector mismatch" => ServiceShape::Mismatch,
        _ => match value.split_once(" and ").or_else(|| value.split_once(", ")) {
            Some((a, b)) => ServiceShape::Two(a.trim().to_owned(), b.trim().to_owned()),
            None if value.is_empty() => ServiceShape::Named(name.to_owned()),
            None => ServiceShape::Named(value.to_owned()),
        },
    }
}

/// `api 9090`, `9090`, `http 80 -> 8080`.
fn service_port(value: &str) -> Result<ServicePort> {
    let (ports, target) = match value.split_once("->") {
        Some((left, right)) => (left.trim(), Some(port(right.trim())?)),
        None => (value.trim(), None),
    };
    let (name, port) = match ports.rsplit_once(' ') {
        Some((name, number)) => (name.trim().to_owned(), port(number)?),
        None => (format!("port-{ports}"), port(ports)?),
    };
    Ok(ServicePort { name, port, target: target.unwrap_or(port) })
}

fn listen(value: &str) -> Result<Listen> {
    const PROTOCOLS: &[&str] = &["http", "https", "tcp", "udp", "tls", "grpc", "server-first"];
    let (protocol, number) = value.rsplit_once(' ').context("it is a protocol and a port, as in `http 8080`")?;
    if !PROTOCOLS.contains(&protocol) {
        bail!("{protocol:?} is no protocol: it is one of {}", PROTOCOLS.join(", "));
    }
    Ok(Listen { protocol: protocol.to_owned(), port: port(number)? })
}

fn bind(value: &str) -> Result<Bind> {
    Ok(match value {
        "wildcard" => Bind::Wildcard,
        "loopback" => Bind::Loopback,
        "pod IP" => Bind::PodIp,
        _ => bail!("it is wildcard, loopback or pod IP"),
    })
}

/// `http 8080 /healthz`, `https 8443 /healthz`, `tcp 8080`, `grpc 9000`, `exec test -f /tmp/ok`.
pub(crate) fn probe(value: &str) -> Result<ProbeAction> {
    let (kind, rest) = value.split_once(' ').context("it is a kind and a port or command")?;
    Ok(match kind {
        "http" | "https" => {
            let (number, path) = rest.split_once(' ').unwrap_or((rest, "/"));
            let get = if kind == "http" { ProbeAction::Http } else { ProbeAction::Https };
            get(port(number)?, path.trim().to_owned())
        }
        "tcp" => ProbeAction::Tcp(port(rest)?),
        "grpc" => ProbeAction::Grpc(port(rest)?),
        "exec" => ProbeAction::Exec(rest.split_whitespace().map(str::to_owned).collect()),
        _ => bail!("{kind:?} is no kind of probe: it is http, https, tcp, grpc or exec"),
    })
}

/// `as user 1234 requests http://…`, `requests http://…`.
fn init_container(key: &str, value: &str) -> Result<InitContainer> {
    let (who, url) = value.split_once("requests ").context("it is `as user <uid> requests <url>`")?;
    let uid = match who.trim() {
        "" => None,
        who => Some(number(who.strip_prefix("as user ").context("it is `as user <uid> requests <url>`")?)?),
    };
    let placement = match key {
        "init container first" => Placement::First,
        "init container last" => Placement::Last,
        _ => Placement::Unsaid,
    };
    Ok(InitContainer { uid, url: url.trim().to_owned(), placement })
}

/// `dial <address> before anything else`, `request <url> once`, or a shell command.
fn command(value: &str) -> Command {
    let middle = |start: &str, end: &str| value.strip_prefix(start)?.strip_suffix(end).map(|t| t.trim().to_owned());
    if let Some(target) = middle("dial ", "before anything else") {
        Command::DialFirst(target)
    } else if let Some(url) = middle("request ", "once") {
        Command::RequestOnce(url)
    } else {
        Command::Shell(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::workload::fixture;

    fn described(name: &str, rows: &[(&str, &str)]) -> Result<Workload> {
        let mut workload = fixture(name);
        let rows: Vec<_> = rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        workload.apply(&rows).map(|()| workload)
    }

    #[test]
    fn repeated_listens_replace_the_fixtures() {
        let vault = described("static-client", &[("listens", "http 8200"), ("listens", "tcp 9")]).expect("good rows");
        assert_eq!(vault.listens.iter().map(|l| l.port).collect::<Vec<_>>(), [8200, 9]);
        assert_eq!(vault.containers[0].role, Role::Server);
    }

    #[rstest]
    #[case("annotation transparent-proxy", "none", None)]
    #[case("annotation transparent-proxy", "false", Some(Value::from("false")))]
    #[case("annotation transparent-proxy", "unquoted 8200", Some(Value::from(8200)))]
    fn annotations_get_the_prefix(#[case] key: &str, #[case] value: &str, #[case] expected: Option<Value>) {
        let workload = described("caller", &[(key, value)]).expect("a good row");
        assert_eq!(workload.annotations.get(contract::TRANSPARENT_PROXY).cloned(), expected);
    }

    #[rstest]
    #[case("headless", ServiceShape::Headless)]
    #[case("none", ServiceShape::None)]
    #[case("selector mismatch", ServiceShape::Mismatch)]
    #[case("renamed", ServiceShape::Named("renamed".into()))]
    #[case("lonely and lonely-2", ServiceShape::Two("lonely".into(), "lonely-2".into()))]
    fn services(#[case] value: &str, #[case] expected: ServiceShape) {
        assert_eq!(described("lonely", &[("service", value)]).expect("a good row").service, expected);
    }

    #[test]
    fn a_user_of_a_workload_with_one_container_per_user_is_found_or_added() {
        assert_eq!(described("multi-user", &[("uid", "444")]).expect("a good row").containers.len(), 5);
        assert_eq!(described("multi-user", &[("uid", "7")]).expect("a good row").containers.len(), 6);
        assert_eq!(described("caller", &[("uid", "7")]).expect("a good row").containers[0].uid, 7);
    }

    #[rstest]
    #[case("glibc", Ok(Library::Glibc))]
    #[case("musl", Ok(Library::Musl))]
    #[case("rust", Ok(Library::Rust))]
    #[case("Go", Err("\"Go\" is no resolver: it is glibc, musl or rust"))]
    fn resolvers(#[case] value: &str, #[case] expected: Result<Library, &str>) {
        match (described("caller", &[("resolver", value)]), expected) {
            (Ok(workload), expected) => assert_eq!(Ok(workload.resolver.expect("a resolver")), expected),
            (Err(error), expected) => assert_eq!(Err(error.root_cause().to_string().as_str()), expected),
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = described("caller", &[("replica", "3")]).expect_err("a mistake").to_string();
        assert!(error.contains("\"replicas\""), "{error}");
    }

    #[test]
    fn commands_in_words() {
        assert_eq!(
            command("dial external(web):80 before anything else"),
            Command::DialFirst("external(web):80".into())
        );
        assert_eq!(command("request http://a once"), Command::RequestOnce("http://a".into()));
        assert_eq!(command("sleep 1"), Command::Shell("sleep 1".into()));
    }

    #[test]
    fn an_init_sidecar_has_ports_and_probes_of_its_own() {
        let rows = [
            ("init sidecar listens", "https 8443"),
            ("init sidecar probe startup", "https 8443 /healthz"),
            ("init sidecar probe startup", "tcp 8443"),
        ];
        let workload = described("probed", &rows).expect("good rows");
        let sidecar = workload.init_sidecar.expect("a sidecar");
        assert_eq!((sidecar.listens[0].protocol.as_str(), sidecar.listens[0].port), ("https", 8443));
        assert_eq!(sidecar.probes, [Probe { kind: ProbeKind::Startup, action: ProbeAction::Tcp(8443) }]);
        assert!(workload.probes.is_empty());
    }

    #[test]
    fn init_containers() {
        let migrator = described("migrator", &[("init container", "as user 1234 requests http://external(web):80")]);
        let init = migrator.expect("a good row").init;
        assert_eq!((init[0].uid, init[0].url.as_str()), (Some(1234), "http://external(web):80"));
    }
}
