//! Two proxies with real Envoys in a network namespace, and what they let through when the control plane changes its mind.
//!
//! Needs root, and Envoy's path in `PELLUCID_ENVOY`.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use mesh::{Intention, Mesh, MeshOptions};
use netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redirect::contract::PROXY_UID;
use serde_json::{Value, json};
use support::{Api, pod, resource, service, slice};

const CLIENT: &str = "10.244.0.2";
const SERVER: &str = "10.244.0.3";
const CONTROL: [u8; 4] = [172, 18, 255, 2];
const KINDS: [&str; 6] =
    ["ServiceIntentions", "ServiceDefaults", "ProxyDefaults", "Mesh", "ServiceResolver", "ServiceRouter"];

/// A mesh with a client, a server and their sidecars, all in one namespace.
struct Bed {
    ns: NetNs,
    api: Api,
    mesh: Mesh,
    sidecars: Vec<(Child, u16)>,
    directory: PathBuf,
}

impl Bed {
    fn start(name: &str) -> Result<Self> {
        let ns = NetNs::create()?;
        ns.run(|| {
            sh("ip link set lo up")?;
            for address in [CLIENT, SERVER, "172.18.255.2"] {
                sh(&format!("ip address add {address}/32 dev lo"))?;
            }
            sh("ip route add default dev lo")?;
            // what the client's proxy passes through to nowhere is refused at once, and does not hang
            sh("iptables -A OUTPUT -p tcp -d 240.0.0.0/4 -j REJECT --reject-with tcp-reset")?;
            sh("iptables -t nat -A OUTPUT -p tcp -d 240.0.0.0/4 -m owner ! --uid-owner 5995 -j REDIRECT --to-port 15001")
        })??;
        let api = Api::new(&KINDS);
        for (name, address, cluster_ip, transparent) in
            [("client", CLIENT, "10.96.0.10", true), ("server", SERVER, "10.96.0.11", false)]
        {
            api.apply("services", service(name, cluster_ip));
            api.apply("pods", pod(name, address, transparent));
            api.apply("endpointslices", slice(name, name, address, true));
        }
        let at = |port| SocketAddr::from((CONTROL, port));
        let mesh = Mesh::start(MeshOptions {
            client: api.client(),
            http: ns.tcp_listen(at(8500))?,
            feed: ns.tcp_listen(at(8502))?,
            dns_udp: ns.udp_bind(at(8600))?,
            dns_tcp: ns.tcp_listen(at(8600))?,
            datacenter: "dc1".into(),
            default_intention: Intention::Allow,
            data_dir: None,
            tamper: None,
        })?;
        let directory = std::env::temp_dir().join(format!("mesh-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        // the proxy's user may not enter the home of whoever runs the tests
        let program = directory.join("envoy");
        std::fs::File::create(&program)?;
        sh(&format!("mount --bind '{}' '{}'", envoy()?.display(), program.display()))?;
        let mut bed = Self { ns, api, mesh, sidecars: Vec::new(), directory };
        bed.sidecar("client-client-sidecar-proxy", 19000)?;
        bed.sidecar("server-server-sidecar-proxy", 19001)?;
        Ok(bed)
    }

    fn sidecar(&mut self, proxy_id: &str, admin: u16) -> Result<()> {
        let directory = self.directory.join(proxy_id);
        std::fs::create_dir_all(&directory)?;
        std::os::unix::fs::chown(&directory, Some(PROXY_UID), None)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_consul-dataplane"));
        command
            .args(["-addresses", "172.18.255.2", "-grpc-port=8502", "-tls-disabled", "-envoy-concurrency=1"])
            .arg(format!("-proxy-service-id={proxy_id}"))
            .arg("-service-node-name=node-0-virtual")
            .arg(format!("-envoy-admin-bind-port={admin}"))
            .arg(format!("-graceful-port={}", admin + 1600))
            .arg(format!("-consul-dns-bind-port={}", admin - 10400))
            .env("TMPDIR", &directory)
            .uid(PROXY_UID)
            .env("PELLUCID_ENVOY", self.directory.join("envoy"));
        let child = self.ns.run(|| command.spawn())??;
        self.sidecars.push((child, admin));
        Ok(())
    }

    /// What comes back for `request` from a connection to `address`.
    fn ask(&self, address: SocketAddr, request: &str) -> Result<String> {
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(2));
        let mut stream = self.ns.run(connect)??;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(request.as_bytes())?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        // Envoy keeps a connection for a second after the last response, for a client that is slow to read
        while !whole(&String::from_utf8_lossy(&answer)) {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..length]);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn http(&self, address: SocketAddr, path: &str) -> Result<String> {
        self.ask(address, &format!("GET {path} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n"))
    }

    fn virtual_ip(&self) -> SocketAddr {
        let address = self.mesh.virtual_ip("default", "server").unwrap_or(IpAddr::from([240, 0, 0, 99]));
        SocketAddr::new(address, 80)
    }

    /// How long it takes until `wanted` holds of the answer from the server's virtual address.
    fn until(&self, what: &str, path: &str, wanted: impl Fn(&Result<String>) -> bool) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let answer = self.http(self.virtual_ip(), path);
            if wanted(&answer) {
                note(&format!("{what}: {:?}", start.elapsed()));
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < Duration::from_secs(15), "{what}: the last answer was {answer:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No proxy has refused an update.
    fn nothing_rejected(&self) -> Result<()> {
        for (_, admin) in &self.sidecars {
            let stats = self.http(SocketAddr::from(([127, 0, 0, 1], *admin)), "/stats?filter=update_rejected")?;
            let rejected = stats.lines().filter(|l| l.contains("update_rejected") && !l.trim_end().ends_with(": 0"));
            let rejected: Vec<&str> = rejected.collect();
            ensure!(rejected.is_empty(), "rejected: {rejected:?}");
        }
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for (child, _) in &mut self.sidecars {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = child.wait();
        }
        let _ = sh(&format!("umount '{}'", self.directory.join("envoy").display()));
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Whether an answer is as long as it says that it is.
fn whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}

fn envoy() -> Result<PathBuf> {
    let path = std::env::var_os("PELLUCID_ENVOY")
        .context("PELLUCID_ENVOY is not set: set it to the path of the Envoy binary (`cargo xtask test` does)")?;
    Ok(PathBuf::from(path))
}

fn sh(line: &str) -> std::io::Result<()> {
    let status = Command::new("sh").args(["-c", line]).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{line}: {status}"))) }
}

/// An HTTP server on the loopback that answers with the path it was asked for.
fn application(ns: &NetNs) -> Result<()> {
    let listener = ns.tcp_listen(SocketAddr::from(([127, 0, 0, 1], 8080)))?;
    listener.set_nonblocking(false)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let body = format!("you asked for {path}\n");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())
}

fn answered(answer: &Result<String>) -> bool {
    answer.as_ref().is_ok_and(|a| a.contains("you asked for"))
}

fn closed(answer: &Result<String>) -> bool {
    answer.as_ref().map_or(true, String::is_empty)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_the_wire() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let bed = Bed::start("wire")?;
        application(&bed.ns)?;
        bed.until("first answer", "/hello", answered)?;
        bed.mesh.set_default_intention(Intention::Deny);
        bed.until("default deny", "/hello", closed)?;
        let allow = json!({"destination": {"name": "server"}, "sources": [{"name": "client", "action": "allow"}]});
        bed.api.apply("serviceintentions", resource("ServiceIntentions", "server", allow));
        bed.until("an intention allows", "/hello", answered)?;

        bed.api.apply("endpointslices", slice("server", "server", SERVER, false));
        bed.until("the server is not ready", "/hello", closed)?;
        bed.api.apply("endpointslices", slice("server", "server", SERVER, true));
        bed.until("the server is ready", "/hello", answered)?;

        bed.api.apply("servicedefaults", resource("ServiceDefaults", "server", json!({"protocol": "http"})));
        let permissions = json!([{"action": "allow", "http": {"pathExact": "/other"}}]);
        let by_path =
            json!({"destination": {"name": "server"}, "sources": [{"name": "client", "permissions": permissions}]});
        bed.api.apply("serviceintentions", resource("ServiceIntentions", "server", by_path));
        bed.until("a path is forbidden", "/hello", |a| a.as_ref().is_ok_and(|a| a.contains("403 Forbidden")))?;
        bed.until("the other path is allowed", "/other", answered)?;

        let rewrite = json!({"routes": [{
            "match": {"http": {"pathPrefix": "/hello"}}, "destination": {"prefixRewrite": "/other"},
        }]});
        bed.api.apply("servicerouter", resource("ServiceRouter", "server", rewrite));
        bed.until("a route rewrites the path", "/hello", |a| {
            a.as_ref().is_ok_and(|a| a.contains("you asked for /other"))
        })?;

        registration_is_served(&bed)?;
        for transport in ["udp", "tcp"] {
            let address = lookup(&bed.ns, "server.virtual.consul.", transport)?;
            ensure!(Some(address) == bed.mesh.virtual_ip("default", "server"), "{transport}: {address}");
        }

        bed.mesh.pause();
        ensure!(answered(&bed.http(bed.virtual_ip(), "/other")), "proxies serve without a control plane");
        bed.mesh.resume();
        bed.mesh.rotate_certificates();
        for _ in 0..50 {
            ensure!(answered(&bed.http(bed.virtual_ip(), "/other")), "certificates rotate under load");
        }
        ensure!(bed.mesh.problems().is_empty(), "{:?}", bed.mesh.problems());
        bed.nothing_rejected()
    })
    .await?
}

/// What connect-init asks for is there: the application and its proxy, and nothing else.
fn registration_is_served(bed: &Bed) -> Result<()> {
    let filter = "Meta%5B%22pod-name%22%5D+%3D%3D+%22server%22+and+Meta%5B%22k8s-namespace%22%5D+%3D%3D+%22default%22+";
    let path = format!("/v1/catalog/node-services/node-0-virtual?filter={filter}&merge-central-config=");
    let answer = bed.http(SocketAddr::from((CONTROL, 8500)), &path)?;
    let body = answer.split_once("\r\n\r\n").context("a body")?.1;
    let body: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    let names: Vec<&str> = body["Services"].as_array().into_iter().flatten().filter_map(|s| s["ID"].as_str()).collect();
    ensure!(names == ["server-server", "server-server-sidecar-proxy"], "{names:?}");
    ensure!(answer.to_lowercase().contains("x-consul-index"), "{answer}");
    Ok(())
}

/// The address that the client's DNS proxy gives for a name.
fn lookup(ns: &NetNs, name: &str, transport: &str) -> Result<IpAddr> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    let (query, proxy) = (query.to_vec()?, SocketAddr::from(([127, 0, 0, 1], 8600)));
    let mut reply = vec![0; 4096];
    let length = if transport == "udp" {
        let socket = ns.udp_bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(&query, proxy)?;
        socket.recv(&mut reply)?
    } else {
        let mut stream = ns.run(|| TcpStream::connect(proxy))??;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&[&u16::try_from(query.len())?.to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let length = usize::from(u16::from_be_bytes(length));
        stream.read_exact(&mut reply[..length])?;
        length
    };
    let reply = Message::from_vec(&reply[..length])?;
    reply.answers.first().and_then(|r| r.data.ip_addr()).with_context(|| format!("no address in {reply:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_configuration_is_valid() -> Result<()> {
    let api = Api::new(&KINDS);
    let mut server = pod("server", SERVER, true);
    server["metadata"]["annotations"]["consul.hashicorp.com/connect-service-upstreams"] = json!("db:5432,api:9000");
    server["metadata"]["annotations"]["consul.hashicorp.com/original-pod"] = json!(with_probe(8080).to_string());
    server["spec"]["containers"] = with_probe(20400)["spec"]["containers"].clone();
    api.apply("pods", server);
    for (i, name) in ["server", "client", "db", "api", "v2"].iter().enumerate() {
        api.apply("services", service(name, &format!("10.96.0.{}", i + 1)));
        let address = if *name == "server" { SERVER.to_owned() } else { format!("10.244.1.{i}") };
        if *name != "server" {
            api.apply("pods", pod(name, &address, true));
        }
        api.apply("endpointslices", slice(name, name, &address, true));
    }
    let entries = [
        (
            "ServiceDefaults",
            "server",
            json!({
                "protocol": "http", "mutualTLSMode": "permissive", "maxInboundConnections": 10,
                "expose": {"paths": [{"path": "/metrics", "localPathPort": 9090, "listenerPort": 22000}]},
            }),
        ),
        ("ServiceDefaults", "db", json!({"transparentProxy": {"dialedDirectly": true}})),
        ("ServiceDefaults", "api", json!({"protocol": "grpc", "transparentProxy": {"dialedDirectly": true}})),
        ("Mesh", "mesh", json!({"allowEnablingPermissiveMutualTLS": true})),
        ("ServiceResolver", "old", json!({"redirect": {"service": "db"}})),
        (
            "ServiceResolver",
            "client",
            json!({
                "connectTimeout": "2s", "failover": {"*": {"targets": [{"service": "v2"}]}},
            }),
        ),
        (
            "ServiceRouter",
            "api",
            json!({"routes": [{
                "match": {"http": {"pathPrefix": "/v2", "methods": ["GET"], "header": [{"name": "x", "exact": "y"}]}},
                "destination": {"service": "v2", "prefixRewrite": "/", "requestTimeout": "3s"},
            }]}),
        ),
        (
            "ServiceIntentions",
            "server",
            json!({"destination": {"name": "server"}, "sources": [
                {"name": "client", "permissions": [
                    {"action": "deny", "http": {"pathPrefix": "/admin"}},
                    {"action": "allow", "http": {"pathRegex": "/.*", "methods": ["GET", "PUT"]}},
                ]},
                {"name": "db", "action": "deny"},
                {"name": "*", "action": "allow"},
            ]}),
        ),
    ];
    for (kind, name, spec) in entries {
        api.apply(&kind.to_lowercase(), resource(kind, name, spec));
    }
    let ns = NetNs::create()?;
    ns.run(|| sh("ip link set lo up"))??;
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for default_intention in [Intention::Allow, Intention::Deny] {
        let mesh = Mesh::start(MeshOptions {
            client: api.client(),
            http: ns.tcp_listen(at(0))?,
            feed: ns.tcp_listen(at(0))?,
            dns_udp: ns.udp_bind(at(0))?,
            dns_tcp: ns.tcp_listen(at(0))?,
            datacenter: "dc1".into(),
            default_intention,
            data_dir: None,
            tamper: None,
        })?;
        let deadline = Instant::now() + Duration::from_secs(5);
        // the resources come after the Pods, kind by kind
        let complete = |config: &Value| {
            config["listeners"].as_object().is_some_and(|l| l.len() == 6)
                && config["listeners"].to_string().contains("layer7")
                && config["clusters"].to_string().contains("aggregate") == (default_intention == Intention::Allow)
        };
        let config = loop {
            match mesh.proxy_config("server-server-sidecar-proxy").filter(complete) {
                Some(config) => break config,
                None => ensure!(
                    Instant::now() < deadline,
                    "incomplete: {:#?}",
                    mesh.proxy_config("server-server-sidecar-proxy")
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        ensure!(mesh.problems().is_empty(), "{:?}", mesh.problems());
        validate(&config, default_intention)?;
    }
    Ok(())
}

fn with_probe(port: u16) -> Value {
    json!({"spec": {"containers": [{
        "name": "app", "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": port}},
    }]}})
}

/// Envoy accepts the configuration as its own.
fn validate(config: &Value, default_intention: Intention) -> Result<()> {
    let all = |section: &str| config[section].as_object().map(|s| s.values().cloned().collect::<Vec<_>>());
    let mut clusters = all("clusters").context("clusters")?;
    clusters.push(json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": mesh::feed::XDS_CLUSTER, "type": "STATIC", "load_assignment": {
            "cluster_name": mesh::feed::XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/nowhere"}}}}]}],
        },
    }));
    let mut listeners = all("listeners").context("listeners")?;
    for resource in clusters.iter_mut().chain(&mut listeners) {
        // static resources are not wrapped in `Any`
        resource.as_object_mut().context("a resource")?.remove("@type");
    }
    let bootstrap = json!({
        "node": {"id": "validate", "cluster": "validate"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    let file = std::env::temp_dir().join(format!("mesh-validate-{default_intention:?}-{}.json", std::process::id()));
    std::fs::write(&file, bootstrap.to_string())?;
    let output = Command::new(envoy()?).args(["--mode", "validate", "--config-path"]).arg(&file).output()?;
    ensure!(
        output.status.success(),
        "{}: {}\n{bootstrap:#}",
        Path::new(&file).display(),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_file(&file)?;
    Ok(())
}
