//! The control plane as a process, and what it takes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use mesh::{Intention, Mesh, MeshOptions};

use crate::support::Api;

/// The argument that makes this program a control plane.
pub(crate) const WORD: &str = "control-plane";

/// Follows the Kubernetes API at a port, until standard input ends.
pub(crate) fn serve(api: &str, intention: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let any = || SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = || {
            let listener = std::net::TcpListener::bind(any())?;
            listener.set_nonblocking(true).map(|()| listener)
        };
        let dns_udp = std::net::UdpSocket::bind(any())?;
        dns_udp.set_nonblocking(true)?;
        let feed = listener()?;
        let port = feed.local_addr()?.port();
        let _mesh = Mesh::start(MeshOptions {
            clusters: vec![kube::Client::try_from(kube::Config::new(format!("http://{api}").parse()?))?],
            http: listener()?,
            feed,
            dns_udp,
            dns_tcp: listener()?,
            datacenter: "dc1".into(),
            partitions: None,
            default_intention: if intention == "allow" { Intention::Allow } else { Intention::Deny },
            acls: None,
            data_dir: None,
            federation: None,
            dial: None,
            tamper: None,
        })?;
        say(&port.to_string());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// A control plane and the Kubernetes API that it follows.
pub(crate) struct Plane {
    child: Child,
    pub(crate) api: Api,
    pub(crate) feed: SocketAddr,
}

impl Plane {
    /// Starts one over these objects.
    pub(crate) async fn start(api: Api, intention: &str) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let router = api.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut child = Command::new(std::env::current_exe()?)
            .args([WORD, &address, intention])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("standard output")?);
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).map(|_| line)
        });
        let port: u16 = line.await??.trim().parse().context("the control plane did not start: see above")?;
        Ok(Self { child, api, feed: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// Processor time so far, of all its threads.
    pub(crate) fn processor(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // a thread may end meanwhile
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory in MiB: now, and the most it was.
    pub(crate) fn memory(&self) -> Result<[f64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or_default() / 1024.0
        };
        Ok([field("VmRSS:"), field("VmHWM:")])
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // it ends with its standard input
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
