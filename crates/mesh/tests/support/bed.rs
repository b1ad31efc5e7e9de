//! Two proxies with real Envoys in a network namespace, for tests and measurements.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::{AclOptions, Intention, Mesh, MeshOptions};
use netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redirect::contract::PROXY_UID;
use tempfile::TempDir;

use super::{Api, pod, service, slice};

/// The client's address.
pub(crate) const CLIENT: &str = "10.244.0.2";
/// The server's address.
pub(crate) const SERVER: &str = "10.244.0.3";
/// The control plane's address.
pub(crate) const CONTROL: [u8; 4] = [172, 18, 255, 2];
/// Kinds of custom resources that the cluster knows.
pub(crate) const KINDS: [&str; 7] = [
    "ServiceIntentions",
    "ServiceDefaults",
    "ProxyDefaults",
    "Mesh",
    "ServiceResolver",
    "ServiceRouter",
    "ServiceSplitter",
];

/// A mesh with a client, a server and their sidecars, all in one namespace.
pub(crate) struct Bed {
    pub(crate) ns: NetNs,
    pub(crate) api: Api,
    pub(crate) mesh: Mesh,
    /// Each with the port of its admin interface.
    pub(crate) sidecars: Vec<(Child, u16)>,
    /// What belongs to the sidecars, and to servers with ACLs.
    pub(crate) directory: TempDir,
}

impl Bed {
    /// Starts all of it; `more` puts other objects into the cluster.
    pub(crate) fn start(name: &str, default_intention: Intention, more: impl FnOnce(&Api)) -> Result<Self> {
        Self::start_with(name, default_intention, None, more)
    }

    /// As [`Self::start`], perhaps with ACLs; then the sidecars log in, each with the service account of its Pod's name.
    pub(crate) fn start_with(
        name: &str,
        default_intention: Intention,
        acls: Option<AclOptions>,
        more: impl FnOnce(&Api),
    ) -> Result<Self> {
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
        more(&api);
        // Not by the process id: in their sandboxes all tests have the same. The proxy's user must get in.
        let everybody = std::fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().prefix(&format!("mesh-{name}-")).permissions(everybody).tempdir()?;
        let login = acls.as_ref().map(|acls| acls.auth_method.clone());
        let at = |port| SocketAddr::from((CONTROL, port));
        let mesh = Mesh::start(MeshOptions {
            clusters: vec![api.client()],
            http: ns.tcp_listen(at(8500))?,
            feed: ns.tcp_listen(at(8502))?,
            dns_udp: ns.udp_bind(at(8600))?,
            dns_tcp: ns.tcp_listen(at(8600))?,
            datacenter: "dc1".into(),
            partitions: None,
            default_intention,
            data_dir: acls.as_ref().map(|_| directory.path().join("servers")),
            acls,
            federation: None,
            dial: None,
            tamper: None,
        })?;
        // the proxy's user may not enter the home of whoever runs the tests
        let program = directory.path().join("envoy");
        std::fs::File::create(&program)?;
        sh(&format!("mount --bind '{}' '{}'", envoy()?.display(), program.display()))?;
        let mut bed = Self { ns, api, mesh, sidecars: Vec::new(), directory };
        bed.sidecar("client", 19000, login.as_deref())?;
        bed.sidecar("server", 19001, login.as_deref())?;
        Ok(bed)
    }

    fn sidecar(&mut self, pod: &str, admin: u16, login: Option<&str>) -> Result<()> {
        let proxy_id = format!("{pod}-{pod}-sidecar-proxy");
        let directory = self.directory.path().join(&proxy_id);
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
            .env("PELLUCID_ENVOY", self.directory.path().join("envoy"));
        if let Some(auth_method) = login {
            let token = directory.join("token");
            std::fs::write(&token, super::token_of(pod))?;
            command
                .args(["-credential-type=login", &format!("-login-auth-method={auth_method}")])
                .arg(format!("-login-bearer-token-path={}", token.display()))
                .env("DP_CREDENTIAL_LOGIN_META", format!("pod=default/{pod}"));
        }
        let child = self.ns.run(|| command.spawn())??;
        self.sidecars.push((child, admin));
        Ok(())
    }

    /// What comes back for `request` from a connection to `address`.
    pub(crate) fn ask(&self, address: SocketAddr, request: &str) -> Result<String> {
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

    /// The answer to a request.
    pub(crate) fn http(&self, address: SocketAddr, path: &str) -> Result<String> {
        self.ask(address, &format!("GET {path} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n"))
    }

    /// Where the server is asked for.
    pub(crate) fn virtual_ip(&self) -> SocketAddr {
        let address = self.mesh.virtual_ip("default", "server").unwrap_or(IpAddr::from([240, 0, 0, 99]));
        SocketAddr::new(address, 80)
    }

    /// How long it takes until `wanted` holds of the answer from the server's virtual address.
    pub(crate) fn until(&self, what: &str, path: &str, wanted: impl Fn(&Result<String>) -> bool) -> Result<Duration> {
        self.until_at(|| self.virtual_ip(), what, path, wanted)
    }

    /// As [`Self::until`], from another address.
    pub(crate) fn until_at(
        &self,
        address: impl Fn() -> SocketAddr,
        what: &str,
        path: &str,
        wanted: impl Fn(&Result<String>) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let answer = self.http(address(), path);
            if wanted(&answer) {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "{what}: the last answer was {answer:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No proxy has refused an update.
    pub(crate) fn nothing_rejected(&self) -> Result<()> {
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
        let _ = sh(&format!("umount '{}'", self.directory.path().join("envoy").display()));
    }
}

/// Whether an answer is as long as it says that it is.
fn whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// The Envoy that is asked for.
pub(crate) fn envoy() -> Result<PathBuf> {
    let path = std::env::var_os("PELLUCID_ENVOY")
        .context("PELLUCID_ENVOY is not set: set it to the path of the Envoy binary (`cargo xtask test` does)")?;
    Ok(PathBuf::from(path))
}

/// Runs a line of shell.
pub(crate) fn sh(line: &str) -> std::io::Result<()> {
    let status = Command::new("sh").args(["-c", line]).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{line}: {status}"))) }
}

/// An HTTP server on the loopback that answers with the path it was asked for.
pub(crate) fn application(ns: &NetNs) -> Result<()> {
    let listener = ns.tcp_listen(SocketAddr::from(([127, 0, 0, 1], 8080)))?;
    listener.set_nonblocking(false)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

/// Answers requests until the client wants no more.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&request);
        let last = text.contains("connection: close");
        let path = text.split(' ').nth(1).unwrap_or_default();
        let body = format!("you asked for {path}\n");
        let end = if last { "connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{end}\r\n", body.len());
        stream.write_all((head + &body).as_bytes())?;
        if last {
            return Ok(());
        }
        request.clear();
    }
}

/// The application answered.
pub(crate) fn answered(answer: &Result<String>) -> bool {
    answer.as_ref().is_ok_and(|a| a.contains("you asked for"))
}

/// The connection was refused or closed.
pub(crate) fn closed(answer: &Result<String>) -> bool {
    answer.as_ref().map_or(true, String::is_empty)
}
