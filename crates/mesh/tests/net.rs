//! Two proxies with real Envoys in a network namespace, and what they let through when the control plane changes its mind.
//!
//! Needs root, and Envoy's path in `PELLUCID_ENVOY`.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mesh::{AclOptions, Intention, Mesh, MeshOptions};
use netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::bed::{Bed, CLIENT, CONTROL, KINDS, SERVER, answered, application, closed, envoy, sh};
use support::{Api, pod, resource, service, slice};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_the_wire() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let bed = Bed::start("wire", Intention::Allow, |_| {})?;
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
        // Who asks earlier may be connected through the listener that still speaks TCP. Envoy lets such a connection be for
        // as long as it drains, and the client's proxy would send every request over it.
        until_server_has(&bed, "/other")?;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_query_leads_to_what_it_finds() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let bed = Bed::start("query", Intention::Allow, |api| {
            let mut client = pod("client", CLIENT, true);
            client["metadata"]["annotations"]["consul.hashicorp.com/connect-service-upstreams"] =
                json!("prepared_query:geo:1234");
            api.apply("pods", client);
        })?;
        application(&bed.ns)?;
        bed.until("the proxies work", "/hello", answered)?;
        let (api, local) = (SocketAddr::from((CONTROL, 8500)), || SocketAddr::from(([127, 0, 0, 1], 1234)));
        ensure!(closed(&bed.http(local(), "/hello")), "there is no such query");
        let body = json!({"Name": "geo", "Service": {"Service": "server"}}).to_string();
        let request = format!(
            "POST /v1/query HTTP/1.1\r\nhost: consul\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let made = bed.ask(api, &request)?;
        bed.until_at(local, "the query finds the server", "/hello", answered)?;
        ensure!(lookup(&bed.ns, "geo.query.consul.", "udp")?.to_string() == SERVER, "DNS finds it as well");

        bed.api.apply("endpointslices", slice("server", "server", SERVER, false));
        bed.until_at(local, "the server is not ready", "/hello", closed)?;
        bed.api.apply("endpointslices", slice("server", "server", SERVER, true));
        bed.until_at(local, "the server is ready", "/hello", answered)?;

        let id = made.split('"').rev().nth(1).with_context(|| made.clone())?;
        bed.ask(api, &format!("DELETE /v1/query/{id} HTTP/1.1\r\nhost: consul\r\nconnection: close\r\n\r\n"))?;
        bed.until_at(local, "the query is gone", "/hello", closed)?;
        bed.nothing_rejected()
    })
    .await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_acls_proxies_log_in_and_out() -> Result<()> {
    tokio::task::spawn_blocking(|| {
        let acls = AclOptions {
            auth_method: "k8s".to_owned(),
            selector: "serviceaccount.name!=default".to_owned(),
            anonymous_reads: false,
        };
        let mut bed = Bed::start_with("acls", Intention::Deny, Some(acls), |_| {})?;
        application(&bed.ns)?;
        let allow = json!({"destination": {"name": "server"}, "sources": [{"name": "client", "action": "allow"}]});
        bed.api.apply("serviceintentions", resource("ServiceIntentions", "server", allow));
        bed.until("both proxies are configured", "/hello", answered)?;
        let proxied = lookup_at(&bed.ns, SocketAddr::from(([127, 0, 0, 1], 8600)), "server.virtual.consul.")?;
        ensure!(proxied.answers.len() == 1, "a proxy shows its token with lookups: {proxied}");
        let direct = lookup_at(&bed.ns, SocketAddr::from((CONTROL, 8600)), "server.virtual.consul.")?;
        ensure!(direct.metadata.response_code == ResponseCode::ServFail, "who shows none may not read: {direct}");

        // nobody else is given the server's certificate, though all know its id
        let feed = SocketAddr::from((CONTROL, 8502));
        let refused = bed.http(feed, "/v1/pellucid/proxy/server-server-sidecar-proxy?wait=1s")?;
        ensure!(refused.starts_with("HTTP/1.1 403") && !refused.contains("CERTIFICATE"), "{refused}");

        // the servers keep what a token is for
        let file = bed.directory.path().join("servers/tokens.json");
        let is_in_force = |pod: &str| -> Result<bool> {
            Ok(std::fs::read_to_string(&file)?.contains(&format!(r#"{{\"pod\":\"default/{pod}\"}}"#)))
        };
        ensure!(is_in_force("client")? && is_in_force("server")?, "both have logged in");
        let (mut client, _) = bed.sidecars.remove(0);
        kill(Pid::from_raw(i32::try_from(client.id())?), Signal::SIGTERM)?;
        ensure!(client.wait()?.success());
        ensure!(!is_in_force("client")? && is_in_force("server")?, "one has logged out");
        bed.nothing_rejected()
    })
    .await?
}

/// Waits until the server's Envoy has a configuration with this text in it.
fn until_server_has(bed: &Bed, text: &str) -> Result<()> {
    let admin = bed.sidecars.last().context("a sidecar")?.1;
    let has = |answer: &Result<String>| answer.as_ref().is_ok_and(|dump| dump.contains(text));
    let at = || SocketAddr::from(([127, 0, 0, 1], admin));
    bed.until_at(at, &format!("the server's proxy has {text}"), "/config_dump", has).map(drop)
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
    let proxy = SocketAddr::from(([127, 0, 0, 1], 8600));
    let reply = if transport == "udp" { lookup_at(ns, proxy, name)? } else { lookup_over_tcp(ns, proxy, name)? };
    reply.answers.first().and_then(|r| r.data.ip_addr()).with_context(|| format!("no address in {reply:?}"))
}

fn query(name: &str) -> Result<Vec<u8>> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    Ok(query.to_vec()?)
}

/// The answer to a lookup by datagrams.
fn lookup_at(ns: &NetNs, server: SocketAddr, name: &str) -> Result<Message> {
    let mut reply = vec![0; 4096];
    let socket = ns.udp_bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send_to(&query(name)?, server)?;
    let length = socket.recv(&mut reply)?;
    Ok(Message::from_vec(&reply[..length])?)
}

fn lookup_over_tcp(ns: &NetNs, server: SocketAddr, name: &str) -> Result<Message> {
    let query = query(name)?;
    let mut stream = ns.run(|| TcpStream::connect(server))??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[&u16::try_from(query.len())?.to_be_bytes()[..], &query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(Message::from_vec(&reply)?)
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
                "protocol": "http", "mutualTLSMode": "permissive", "maxInboundConnections": 10, "localConnectTimeoutMs": 250,
                "localRequestTimeoutMs": 1500, "balanceInboundConnections": "exact_balance",
                "expose": {"paths": [{"path": "/metrics", "localPathPort": 9090, "listenerPort": 22000}]},
            }),
        ),
        ("ServiceDefaults", "db", json!({"transparentProxy": {"dialedDirectly": true}})),
        ("ServiceDefaults", "api", json!({"protocol": "grpc", "transparentProxy": {"dialedDirectly": true}})),
        ("ServiceDefaults", "v2", json!({"protocol": "grpc"})),
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
                "destination": {
                    "service": "v2", "prefixRewrite": "/", "requestTimeout": "3s", "idleTimeout": "1m", "numRetries": 2,
                    "retryOn": ["reset"], "retryOnConnectFailure": true, "retryOnStatusCodes": [503],
                    "requestHeaders": {"add": {"a": "1"}, "set": {"b": "2"}, "remove": ["c"]},
                    "responseHeaders": {"set": {"d": "4"}, "remove": ["server"]},
                },
            }, {
                "match": {"http": {"pathExact": "/V3", "caseInsensitive": true, "queryParam": [{"name": "q", "present": true}]}},
            }]}),
        ),
        (
            "ServiceSplitter",
            "v2",
            json!({"splits": [
                {"weight": 99.99, "requestHeaders": {"set": {"x-part": "most"}}}, {"weight": 0.01, "service": "api"},
            ]}),
        ),
        (
            "ServiceResolver",
            "v2",
            json!({"loadBalancer": {
                "policy": "ringHash", "ringHashConfig": {"minimumRingSize": 64, "maximumRingSize": 1024}, "hashPolicies": [
                    {"field": "header", "fieldValue": "x-user", "terminal": true},
                    {"field": "cookie", "fieldValue": "id", "cookieConfig": {"ttl": "1h", "path": "/"}},
                    {"field": "query_parameter", "fieldValue": "q"}, {"sourceIP": true},
                ],
            }}),
        ),
        (
            "ServiceResolver",
            "api",
            json!({"loadBalancer": {"policy": "leastRequest", "leastRequestConfig": {"choiceCount": 3}}}),
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
            clusters: vec![api.client()],
            http: ns.tcp_listen(at(0))?,
            feed: ns.tcp_listen(at(0))?,
            dns_udp: ns.udp_bind(at(0))?,
            dns_tcp: ns.tcp_listen(at(0))?,
            datacenter: "dc1".into(),
            partitions: None,
            default_intention,
            acls: None,
            data_dir: None,
            federation: None,
            dial: None,
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

/// Puts routes where Envoy would ask for them, so that they are validated as well.
fn inline_routes(value: &mut Value, routes: &Value) {
    if let Some(name) = value["rds"]["route_config_name"].as_str() {
        let mut inline = routes[name].clone();
        if let (Some(inline), Some(manager)) = (inline.as_object_mut(), value.as_object_mut()) {
            inline.remove("@type");
            manager.remove("rds");
        }
        value["route_config"] = inline;
        return;
    }
    let inner: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Object(fields) => Box::new(fields.values_mut()),
        Value::Array(items) => Box::new(items.iter_mut()),
        _ => return,
    };
    inner.for_each(|inner| inline_routes(inner, routes));
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
    for listener in &mut listeners {
        inline_routes(listener, &config["routes"]);
    }
    for resource in clusters.iter_mut().chain(&mut listeners) {
        // static resources are not wrapped in `Any`
        resource.as_object_mut().context("a resource")?.remove("@type");
    }
    let bootstrap = json!({
        "node": {"id": "validate", "cluster": "validate"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    let file = tempfile::Builder::new().prefix("mesh-validate-").suffix(".json").tempfile()?;
    std::fs::write(&file, bootstrap.to_string())?;
    let output = Command::new(envoy()?).args(["--mode", "validate", "--config-path"]).arg(file.path()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{default_intention:?}: {said}\n{bootstrap:#}");
    Ok(())
}
