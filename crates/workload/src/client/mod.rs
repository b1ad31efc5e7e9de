//! The client: what it can be asked to do, and one line of JSON about each attempt.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::io::AsyncReadExt;
use workload::report::Report;

use crate::termination::Termination;
use attempt::Attempt;
pub(crate) use load::{LoadOptions, load};
use target::{Scheme, Target};
use workload::payload::Payload;

mod attempt;
mod connect;
mod datagram;
mod http;
mod load;
mod lookup;
mod musl;
mod raw;
mod target;
mod tls;

/// What every attempt has.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Token to send, by which packets are recognised.
    #[arg(long, value_name = "TOKEN")]
    canary: Option<String>,
    /// Time for the whole attempt, name resolution included.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout_ms: u64,
    /// Whose resolver finds addresses.
    #[arg(long, value_enum, default_value_t)]
    resolver: Library,
}

/// Resolvers that programs have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Library {
    /// `getaddrinfo` of the system.
    #[default]
    Glibc,
    /// `getaddrinfo` of a static program.
    Musl,
    /// A stub resolver in Rust.
    Rust,
}

/// Protocols that can be dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Tls,
    Http,
    Grpc,
    Icmp,
}

#[derive(Args)]
pub(crate) struct RequestOptions {
    #[command(flatten)]
    http: HttpOptions,
    /// How many attempts.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Pause between two attempts.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    interval_ms: u64,
}

#[derive(Args)]
pub(crate) struct LoopOptions {
    #[command(flatten)]
    http: HttpOptions,
    /// Time from the start of one attempt to the start of the next.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    interval_ms: u64,
}

#[derive(Args, Clone)]
pub(crate) struct HttpOptions {
    /// `http://…`, `https://…` (not verified), or `tcp://host:port` to send the canary as a line.
    url: String,
    #[command(flatten)]
    common: Common,
    /// HTTP method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Request body.
    #[arg(long)]
    body: Option<String>,
    /// Host header [default: the URL's host and port].
    #[arg(long, value_name = "HOST")]
    host_header: Option<String>,
}

#[derive(Args)]
pub(crate) struct DialOptions {
    protocol: Protocol,
    /// `host:port`; the port is left out for ICMP.
    target: String,
    #[command(flatten)]
    common: Common,
    /// How to make the socket.
    #[arg(long = "by", value_name = "TECHNIQUE", value_parser = connect::Technique::parse)]
    technique: Option<connect::Technique>,
}

#[derive(Args)]
pub(crate) struct SendOptions {
    protocol: Protocol,
    /// `host:port`; the port is left out for ICMP.
    target: String,
    /// Bytes, with the escapes \n \r \t \0 \\ \xNN; or `64 MiB`, `64 MiB then half-close`, `1 byte every 500 ms for 10 s`.
    payload: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct LookupOptions {
    name: String,
    /// Transport.
    #[arg(long, value_enum, default_value_t = lookup::Transport::Udp)]
    protocol: lookup::Transport,
    /// Name server to ask [default: those of /etc/resolv.conf].
    #[arg(long, value_name = "IP:PORT")]
    server: Option<std::net::SocketAddr>,
    /// Whose resolver asks; only the one in Rust can be told whom to ask and how.
    #[arg(long, value_enum, default_value = "rust")]
    resolver: Library,
    /// Time for the whole look-up.
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    timeout_ms: u64,
}

#[derive(Args)]
pub(crate) struct TlsOptions {
    /// `host:port`.
    target: String,
    #[command(flatten)]
    common: Common,
    /// Certificate chain to present, PEM.
    #[arg(long, requires = "key", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, requires = "cert", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Server name to ask for [default: the target's host, none for an address].
    #[arg(long)]
    sni: Option<String>,
}

impl Common {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The resolver, unless it is that of a program that makes nothing but requests and look-ups.
    fn in_this_program(&self) -> anyhow::Result<Library> {
        match self.resolver {
            Library::Musl => bail!("dial with musl's resolver: there are `request` and `lookup` only"),
            other => Ok(other),
        }
    }
}

/// Makes the attempts and says whether each was answered.
pub(crate) async fn request(options: RequestOptions) -> anyhow::Result<bool> {
    if options.http.common.resolver == Library::Musl {
        if options.count != 1 {
            bail!("request {} {} times with musl's resolver: it makes one request", options.http.url, options.count);
        }
        match musl::request(&options.http)? {}
    }
    let mut all = true;
    for attempt in 0..options.count {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(options.interval_ms)).await;
        }
        all &= print(&once(&options.http).await?)?;
    }
    Ok(all)
}

/// Keeps making attempts. The end of the input lets the one that is under way come to its end, SIGTERM does not.
pub(crate) async fn repeat(options: LoopOptions, termination: &mut Termination) -> anyhow::Result<bool> {
    let mut ticks = tokio::time::interval(Duration::from_millis(options.interval_ms.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut input = std::pin::pin!(input_ended());
    let mut all = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut input => return Ok(all),
            () = termination.asked() => return Ok(all),
        }
        tokio::select! {
            report = once(&options.http) => all &= print(&report?)?,
            () = termination.asked() => return Ok(all),
        }
    }
}

/// Returns when a pipe or socket on standard input ends; never for a terminal, a file or `/dev/null`.
async fn input_ended() {
    use nix::sys::stat::{SFlag, fstat};
    let kind = fstat(std::io::stdin()).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    if !matches!(kind, Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK)) {
        return std::future::pending().await;
    }
    let (mut input, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while matches!(input.read(&mut buffer).await, Ok(1..)) {}
}

async fn once(options: &HttpOptions) -> anyhow::Result<Report> {
    let target = Target::of_url(&options.url)?.resolved_by(options.common.in_this_program()?);
    let attempt = Attempt::new(options.common.canary.clone());
    let timeout = options.common.timeout();
    Ok(match target.scheme {
        Scheme::Tcp => {
            let line = attempt.message(b"");
            attempt.run(timeout, raw::exchange(&attempt, &target, None, &line)).await
        }
        Scheme::Http | Scheme::Https => {
            let request = http::Request {
                method: options.method.parse().with_context(|| format!("use {} as an HTTP method", options.method))?,
                host: options.host_header.clone(),
                body: options.body.clone().unwrap_or_default().into_bytes(),
            };
            attempt.run(timeout, http::request(&attempt, &target, None, request)).await
        }
    })
}

/// Connects, sends the canary, waits for an answer.
pub(crate) async fn dial(options: DialOptions) -> anyhow::Result<bool> {
    let DialOptions { protocol, target, common, technique } = options;
    exchange(protocol, &target, &common, technique, Vec::new()).await
}

/// Sends a payload, waits for its answer.
pub(crate) async fn send(options: SendOptions) -> anyhow::Result<bool> {
    let SendOptions { protocol, target, payload, common } = options;
    match Payload::parse(&payload) {
        Payload::Bytes(bytes) => exchange(protocol, &target, &common, None, bytes).await,
        Payload::Stream(stream) if protocol == Protocol::Tcp => {
            let target = Target::new(&target)?.resolved_by(common.in_this_program()?);
            let attempt = Attempt::new(common.canary.clone());
            let timeout = common.timeout().max(stream.duration() + Duration::from_secs(60));
            print(&attempt.run(timeout, raw::stream(&attempt, &target, &stream)).await)
        }
        Payload::Stream(_) => bail!("send {payload:?} over {protocol:?}: streams go over tcp only"),
    }
}

async fn exchange(
    protocol: Protocol,
    target: &str,
    common: &Common,
    technique: Option<connect::Technique>,
    payload: Vec<u8>,
) -> anyhow::Result<bool> {
    if technique.is_some() && matches!(protocol, Protocol::Udp | Protocol::Icmp) {
        bail!("dial {protocol:?} by a technique: there are techniques for TCP connections only");
    }
    let target = if protocol == Protocol::Icmp { Target::without_port(target) } else { Target::new(target)? };
    let target = target.resolved_by(common.in_this_program()?);
    let attempt = Attempt::new(common.canary.clone());
    let message = attempt.message(&payload);
    let timeout = common.timeout();
    let report = match protocol {
        Protocol::Tcp => attempt.run(timeout, raw::exchange(&attempt, &target, technique, &message)).await,
        Protocol::Tls => {
            let tls = raw::exchange_tls(&attempt, &target, technique, tls::anonymous()?, None, &message);
            attempt.run(timeout, tls).await
        }
        Protocol::Udp => attempt.run(timeout, datagram::udp(&attempt, &target, &message)).await,
        Protocol::Icmp => attempt.run(timeout, datagram::icmp(&attempt, &target, &message)).await,
        Protocol::Http => {
            let method = if payload.is_empty() { ::http::Method::GET } else { ::http::Method::POST };
            let request = http::Request { method, host: None, body: payload };
            attempt.run(timeout, http::request(&attempt, &target, technique, request)).await
        }
        Protocol::Grpc => attempt.run(timeout, http::grpc(&attempt, &target, technique, message)).await,
    };
    print(&report)
}

/// Asks name servers.
pub(crate) async fn look_up(options: LookupOptions) -> anyhow::Result<bool> {
    let LookupOptions { name, protocol, server, resolver, timeout_ms } = options;
    let timeout = Duration::from_millis(timeout_ms);
    if resolver != Library::Rust && (server.is_some() || protocol != lookup::Transport::Udp) {
        bail!("look up {name} with the resolver of a C library: it decides itself whom it asks, and over what");
    }
    match resolver {
        Library::Musl => match musl::look_up(&name)? {},
        Library::Glibc => {
            let attempt = Attempt::new(None);
            return print(&attempt.run(timeout, lookup::by_the_system(&attempt, name)).await);
        }
        Library::Rust => {}
    }
    let resolver = lookup::Resolver::new(server)?;
    let attempt = Attempt::new(None);
    print(&attempt.run(timeout, lookup::look_up(&attempt, &resolver, &name, protocol)).await)
}

/// Dials with TLS and a certificate.
pub(crate) async fn tls(options: TlsOptions) -> anyhow::Result<bool> {
    let TlsOptions { target, common, cert, key, sni } = options;
    let target = Target::new(&target)?.resolved_by(common.in_this_program()?);
    let config = match (&cert, &key) {
        (Some(cert), Some(key)) => tls::presenting(cert, key)?,
        _ => tls::anonymous()?,
    };
    let attempt = Attempt::new(common.canary.clone());
    let message = attempt.message(b"");
    let dialled = raw::exchange_tls(&attempt, &target, None, config, sni, &message);
    print(&attempt.run(common.timeout(), dialled).await)
}

fn print(report: &Report) -> anyhow::Result<bool> {
    say(report)?;
    Ok(report.ok)
}

fn say(what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what).context("write a report")?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line).context("write to standard output")
}
