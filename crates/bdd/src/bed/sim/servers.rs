//! The mesh's servers, which can be stopped and started again as those of a cluster can.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use mesh::feed::Rejected;
use mesh::{Intention, Mesh, MeshOptions};
use sim::Lab;

use crate::selftest::Saboteur;
use crate::settings::Settings;
use crate::vocabulary::parameters::Verdict;

/// The port of Consul's DNS.
const DNS: u16 = 8600;

/// The servers of one lab. What they keep is on disk, so that those which start later go on with it.
pub(super) struct Servers {
    address: std::net::IpAddr,
    datacenter: String,
    data_dir: PathBuf,
    saboteur: Option<Saboteur>,
    state: Mutex<State>,
}

struct State {
    mesh: Arc<Mesh>,
    is_running: bool,
    default_intention: Intention,
    /// What proxies refused of servers that are stopped now.
    rejected: Vec<(String, Rejected)>,
}

impl Servers {
    /// Starts them where the lab's control plane is, with `data_dir` as theirs.
    pub(super) fn new(lab: &Lab, settings: &Settings, saboteur: Option<Saboteur>, data_dir: PathBuf) -> Result<Self> {
        let address = *lab.control_plane().addresses.first().context("find the address of the mesh's servers")?;
        let default_intention = intention(settings.default_intention.unwrap_or(Verdict::Allow));
        let datacenter = settings.datacenter().to_owned();
        let mesh = launch(lab, address, &datacenter, &data_dir, default_intention, saboteur)?;
        let state = State { mesh: Arc::new(mesh), is_running: true, default_intention, rejected: Vec::new() };
        Ok(Self { address, datacenter, data_dir, saboteur, state: Mutex::new(state) })
    }

    /// Those that run, or ran last.
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.lock().mesh)
    }

    /// Where they are.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where they answer DNS.
    pub(super) fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.address, DNS)
    }

    pub(super) fn default_intention(&self, verdict: Verdict) {
        let mut state = self.lock();
        state.default_intention = intention(verdict);
        state.mesh.set_default_intention(state.default_intention);
    }

    /// What Envoys refused: the proxy's id, and what it was.
    pub(super) fn rejected(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let all = state.rejected.iter().cloned().chain(state.mesh.rejected());
        all.map(|(proxy, Rejected { section, name })| (proxy, format!("{section} {name}").trim().to_owned())).collect()
    }

    /// Stops them; returns when their sockets are closed.
    pub(super) async fn stop(&self) {
        let mesh = self.mesh();
        mesh.stop();
        mesh.stopped().await;
        self.lock().is_running = false;
    }

    /// Starts others in their place, unless they run.
    pub(super) fn start(&self, lab: &Lab) -> Result<()> {
        let mut state = self.lock();
        if state.is_running {
            return Ok(());
        }
        let mesh = launch(lab, self.address, &self.datacenter, &self.data_dir, state.default_intention, self.saboteur)?;
        let refused = state.mesh.rejected();
        state.rejected.extend(refused);
        state.mesh = Arc::new(mesh);
        state.is_running = true;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn launch(
    lab: &Lab,
    address: std::net::IpAddr,
    datacenter: &str,
    data_dir: &std::path::Path,
    default_intention: Intention,
    saboteur: Option<Saboteur>,
) -> Result<Mesh> {
    let netns = &lab.control_plane().netns;
    let tcp = |port| {
        let socket = SocketAddr::new(address, port);
        netns.tcp_listen(socket).with_context(|| format!("listen on {socket} for the mesh's servers"))
    };
    let options = MeshOptions {
        client: lab.internal_client(),
        http: tcp(8500)?,
        feed: tcp(8502)?,
        dns_udp: netns.udp_bind(SocketAddr::new(address, DNS)).context("answer DNS for the mesh's servers")?,
        dns_tcp: tcp(DNS)?,
        datacenter: datacenter.to_owned(),
        default_intention,
        data_dir: Some(data_dir.to_owned()),
        tamper: saboteur.and_then(Saboteur::envoy_tamper),
    };
    Mesh::start(options).context("start the mesh's servers")
}

fn intention(verdict: Verdict) -> Intention {
    match verdict {
        Verdict::Allow => Intention::Allow,
        Verdict::Deny => Intention::Deny,
    }
}
