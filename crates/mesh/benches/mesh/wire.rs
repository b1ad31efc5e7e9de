//! What a new connection through two real Envoys meets, and what the way through them costs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use measure::{Aim, Report, Samples};
use mesh::Intention;
use netns::NetNs;
use serde_json::json;

use crate::change::milliseconds;
use crate::crowd::{WORD, populate};
use crate::support::bed::{Bed, CONTROL, SERVER, answered, application, closed};
use crate::support::{resource, slice};

/// How many proxies wait beside the two.
const PROXIES: usize = 100;

/// The crowd as a process in the namespace of the bed.
struct Beside(Child);

impl Beside {
    fn stand(ns: &NetNs, services: usize, instances: usize) -> Result<Self> {
        let feed = SocketAddr::from((CONTROL, 8502)).to_string();
        let numbers = [services, instances, PROXIES].map(|n| n.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args([WORD, &feed]).args(numbers).stdin(Stdio::piped());
        Ok(Self(ns.run(|| command.spawn())??))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // it ends with its standard input
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Until a new connection from client to server meets a change.
pub(crate) fn changes(runtime: &tokio::runtime::Runtime, report: &mut Report, rounds: usize) -> Result<()> {
    for services in [10, 100, 1000] {
        let instances = PROXIES.div_ceil(services).max(3);
        let bed = {
            let _entered = runtime.enter();
            Bed::start("bench", Intention::Deny, |api| {
                populate(api, services, instances);
                for (kind, name, spec) in [
                    ("ServiceDefaults", "server", json!({"protocol": "http"})),
                    ("ServiceIntentions", "server", intention("allow")),
                ] {
                    api.apply(&kind.to_lowercase(), resource(kind, name, spec));
                }
            })?
        };
        application(&bed.ns)?;
        let _beside = Beside::stand(&bed.ns, services, instances)?;
        bed.until("the first answer", "/hello", answered)?;
        let mut times: [Samples; 3] = Default::default();
        for _ in 0..rounds {
            bed.api.apply("endpointslices", slice("server", "server", SERVER, false));
            times[0].push(bed.until("the server is not ready", "/hello", |a| !answered(a))?);
            bed.api.apply("endpointslices", slice("server", "server", SERVER, true));
            times[0].push(bed.until("the server is ready", "/hello", answered)?);
            bed.api.apply("serviceintentions", resource("ServiceIntentions", "server", intention("deny")));
            times[1].push(bed.until("an intention denies", "/hello", |a| !answered(a))?);
            bed.api.apply("serviceintentions", resource("ServiceIntentions", "server", intention("allow")));
            times[1].push(bed.until("an intention allows", "/hello", answered)?);
            for (prefix, path) in [("/hello", "/other"), ("/elsewhere", "/hello")] {
                let route = json!({"routes": [{
                    "match": {"http": {"pathPrefix": prefix}}, "destination": {"prefixRewrite": "/other"},
                }]});
                bed.api.apply("servicerouter", resource("ServiceRouter", "server", route));
                let asked = format!("you asked for {path}\n");
                let meets = |a: &Result<String>| a.as_ref().is_ok_and(|a| a.contains(&asked));
                times[2].push(bed.until("a route changes", "/hello", meets)?);
            }
        }
        bed.nothing_rejected()?;
        report.section(&format!(
            "{services} other services, {PROXIES} other proxies, two Envoys: from a change to the wire, {rounds} rounds"
        ));
        for (what, times) in
            ["an endpoint", "an intention", "an entry (a route of the service)"].into_iter().zip(&times)
        {
            report.quantity(&format!("{what}: p50"), milliseconds(times.median()), "ms", None);
            let p99 = milliseconds(times.quantile(99));
            report.quantity(&format!("{what}: p99"), p99, "ms", Some(Aim::AtMost(100.0)));
        }
    }
    Ok(())
}

fn intention(action: &str) -> serde_json::Value {
    json!({"destination": {"name": "server"}, "sources": [{"name": "client", "action": action}]})
}

/// How many connections are busy at once.
const CONNECTIONS: usize = 8;
/// How long a turn is.
const TURN: Duration = Duration::from_secs(1);

/// Requests over connections that are kept, straight to the application and through both Envoys, in turns.
pub(crate) fn requests(runtime: &tokio::runtime::Runtime, report: &mut Report, rounds: usize) -> Result<()> {
    let bed = {
        let _entered = runtime.enter();
        Bed::start("requests", Intention::Allow, |_| {})?
    };
    application(&bed.ns)?;
    bed.until("the first answer", "/hello", answered)?;
    for protocol in ["tcp", "http"] {
        bed.api.apply("servicedefaults", resource("ServiceDefaults", "server", json!({"protocol": protocol})));
        let is_http = |a: &Result<String>| a.as_ref().is_ok_and(|a| a.contains("x-envoy-upstream-service-time"));
        bed.until("the protocol", "/hello", |a| answered(a) && is_http(a) == (protocol == "http"))?;
        let direct = SocketAddr::from(([127, 0, 0, 1], 8080));
        let (mut of_request, mut p99): ([Samples; 2], [Samples; 2]) = Default::default();
        for round in 0..=rounds {
            for (i, address) in [direct, bed.virtual_ip()].into_iter().enumerate() {
                let times = turn(&bed.ns, address)?;
                // the first round warms up
                if round > 0 {
                    of_request[i].push(TURN / u32::try_from(times.len())?);
                    p99[i].push(times.quantile(99));
                }
            }
        }
        report.section(&format!(
            "Protocol {protocol}, {CONNECTIONS} connections that are kept, one request at a time on each, {rounds} rounds"
        ));
        let [direct, through] = &of_request;
        report.times("time of each request, direct", direct);
        report.times("time of each request, through two Envoys", through);
        report.ratio("requests per second, direct to through two Envoys", through, direct, None);
        let [direct, through] = &p99;
        report.times("p99, direct", direct);
        report.times("p99, through two Envoys", through);
        report.ratio("p99, through two Envoys to direct", through, direct, None);
    }
    ensure!(!closed(&bed.http(bed.virtual_ip(), "/hello")), "the server answers to the end");
    bed.nothing_rejected()
}

/// One turn at an address.
fn turn(ns: &NetNs, address: SocketAddr) -> Result<Samples> {
    let connect = || (0..CONNECTIONS).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>();
    let connections = ns.run(connect)??;
    let end = Instant::now() + TURN;
    let busy: Vec<_> =
        connections.into_iter().map(|stream| std::thread::spawn(move || request_until(stream, end))).collect();
    let mut all = Samples::default();
    for thread in busy {
        all.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    Ok(all)
}

fn request_until(mut stream: TcpStream, end: Instant) -> Result<Vec<Duration>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut times, mut answer) = (Vec::new(), [0; 4096]);
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(b"GET /hello HTTP/1.1\r\nhost: server\r\n\r\n")?;
        let mut length = 0;
        while !answer[..length].ends_with(b"you asked for /hello\n") {
            let more = stream.read(&mut answer[length..])?;
            ensure!(more > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer[..length]));
            length += more;
        }
        times.push(start.elapsed());
    }
    Ok(times)
}
