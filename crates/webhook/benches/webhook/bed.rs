//! Servers to measure: each a process on a processor of its own.

use crate::load::{Client, Failure};
use crate::{api, echo};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::CertificateDer;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use webhook::server::certificates::Files;
use webhook::server::https::{self, Acceptor};
use webhook::server::{Certificates, Metrics};

/// Longer than any of them takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives the program the files that the kubelet puts into its Pod, in a mount namespace of its own, and one processor. The
/// process becomes the program: its id is the one that was started. It ends when this process does.
const IN_A_POD: &str = r#"mount -t tmpfs tmpfs /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount &&
cp "$1"/token "$1"/ca.crt "$1"/namespace /run/secrets/kubernetes.io/serviceaccount && shift && exec setpriv --pdeathsig KILL taskset -c "$@""#;

/// Who answers.
#[derive(Clone, Copy)]
pub(crate) enum Contestant {
    Webhook,
    Echo,
}

/// What every server is started with.
pub(crate) struct Bed {
    directory: TempDir,
    authority: CertificateDer<'static>,
    api: SocketAddr,
    processor: usize,
}

/// A server that runs until this is dropped.
pub(crate) struct Serving {
    process: Child,
    reviews: SocketAddr,
    pub(crate) start_to_ready: Duration,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // it may have ended by itself
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Bed {
    /// Makes certificates and an API server, and leaves one processor to the servers.
    pub(crate) async fn build() -> Result<Self, Failure> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let processor = leave_one()?;
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
        let directory = tempfile::tempdir()?;
        let (chain, key) = (cert.pem(), signing_key.serialize_pem());
        let files =
            [("tls.crt", &*chain), ("tls.key", &*key), ("ca.crt", &*chain), ("token", "t"), ("namespace", "consul")];
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content)?;
        }
        let certificates = Certificates::none(Metrics::default());
        Files::load(directory.path(), certificates.clone())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let api = listener.local_addr()?;
        let acceptor = Acceptor::Tls(certificates.server_config()?.into());
        let (running, stopping) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let _running = running;
            https::serve(listener, acceptor, api::routes(), stopping).await;
        });
        Ok(Self { directory, authority: cert.der().clone(), api, processor })
    }

    /// Starts a server and waits until it says that it is ready.
    pub(crate) async fn start(&self, who: Contestant) -> Result<Serving, Failure> {
        let (reviews, other, numbers) = (free().await?, free().await?, free().await?);
        let processor = self.processor.to_string();
        let directory = self.directory.path();
        let mut command = match who {
            Contestant::Webhook => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", IN_A_POD, "sh"]).arg(directory).arg(processor);
                command.arg(env!("CARGO_BIN_EXE_webhook")).args(flags(directory, [reviews, other, numbers]));
                command.env("CONSUL_ADDRESSES", "consul-server.consul.svc");
                command.env("KUBERNETES_SERVICE_HOST", self.api.ip().to_string());
                command.env("KUBERNETES_SERVICE_PORT", self.api.port().to_string());
                command
            }
            Contestant::Echo => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "taskset", "-c", &processor]).arg(std::env::current_exe()?);
                command.args([echo::WORD.as_ref(), directory.as_os_str()]).arg(reviews.port().to_string());
                command
            }
        };
        // as in clusters/consul/connect-injector.yaml
        command.env("MALLOC_ARENA_MAX", "1");
        // the log of every review is part of what is measured
        let log = std::fs::File::create(directory.join("log"))?;
        let start = Instant::now();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut serving = Serving { process, reviews, start_to_ready: Duration::ZERO };
        let ready = match who {
            Contestant::Webhook => other,
            Contestant::Echo => reviews,
        };
        while !is_ready(ready, who).await {
            if start.elapsed() > PATIENCE || serving.process.try_wait()?.is_some() {
                let log = std::fs::read_to_string(directory.join("log"))?;
                return Err(format!("the server does not get ready:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        serving.start_to_ready = start.elapsed();
        Ok(serving)
    }

    /// Connects to a server.
    pub(crate) async fn client(&self, server: &Serving) -> Result<Client, Failure> {
        Client::connect(server.reviews, &self.authority).await
    }
}

impl Serving {
    /// The time that the process's threads have been on a processor.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let mut all = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let nanoseconds = text.split_whitespace().next().ok_or("no time in schedstat")?;
            all += Duration::from_nanos(nanoseconds.parse()?);
        }
        Ok(all)
    }

    /// The most memory that the process has had resident, in MiB.
    pub(crate) fn resident(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc")?;
        let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes / 1024.0)
    }
}

fn flags(directory: &Path, [reviews, health, numbers]: [SocketAddr; 3]) -> Vec<String> {
    vec![
        format!("-listen={reviews}"),
        format!("-health-listen={health}"),
        format!("-metrics-listen={numbers}"),
        format!("-tls-cert-dir={}", directory.display()),
        "-allow-k8s-namespace=*".into(),
        "-consul-k8s-image=consul-k8s-control-plane:1".into(),
        "-consul-dataplane-image=consul-dataplane:1".into(),
        "-release-namespace=consul".into(),
    ]
}

/// A port that nobody has.
async fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// The webhook says whether it is ready; the other server is, once it listens.
async fn is_ready(address: SocketAddr, who: Contestant) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    if matches!(who, Contestant::Echo) {
        return true;
    }
    let request = b"GET /readyz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// Keeps this thread on the first of the processors that it may use, and returns the last.
fn leave_one() -> Result<usize, Failure> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let all: Vec<usize> = (0..CpuSet::count()).filter(|index| allowed.is_set(*index).unwrap_or_default()).collect();
    let [first, .., last] = all.as_slice() else {
        return Err("two processors are needed, one for the server and one for its client".into());
    };
    let mut own = CpuSet::new();
    own.set(*first)?;
    sched_setaffinity(Pid::from_raw(0), &own)?;
    Ok(*last)
}
