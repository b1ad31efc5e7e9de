//! What all Pods of a node share.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::cni::Networking;
use super::events::Events;
use super::tempo::Tempo;
use super::{KubeletApi, KubeletOptions};
use crate::net::Network;
use crate::{ImageTable, Missing, NodeInfo, SandboxObserver};

pub(super) struct Node {
    pub(super) info: NodeInfo,
    pub(super) client: kube::Client,
    pub(super) network: Arc<Network>,
    pub(super) networking: Networking,
    pub(super) api: KubeletApi,
    pub(super) images: ImageTable,
    pub(super) observer: Arc<dyn SandboxObserver>,
    /// One directory per Pod.
    pub(super) pods: PathBuf,
    /// On which every container mounts its root, privately.
    pub(super) mountpoint: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) tempo: Tempo,
    pub(super) lacks_iptables: bool,
    pub(super) cluster_dns: IpAddr,
    pub(super) events: Events,
    pub(super) shim: PathBuf,
}

impl Node {
    pub(super) fn new(options: KubeletOptions) -> anyhow::Result<Self> {
        let KubeletOptions {
            node,
            client,
            network,
            api,
            images,
            observer,
            scratch,
            artifacts,
            tempo,
            lacks,
            cluster_dns,
            hands_over_annotations,
        } = options;
        let (pods, mountpoint, logs) = (scratch.join("pods"), scratch.join("rootfs"), artifacts.join("logs"));
        for directory in [&pods, &mountpoint, &logs] {
            std::fs::create_dir_all(directory).with_context(|| format!("make directory {}", directory.display()))?;
        }
        let networking = Networking::new(&host_root(&scratch, &node.name), hands_over_annotations)
            .context("make the node's network configuration")?;
        Ok(Self {
            networking,
            events: Events::start(client.clone(), node.name.clone()),
            info: node,
            client,
            network,
            api,
            images,
            observer,
            pods,
            mountpoint,
            logs,
            tempo: Tempo::new(tempo),
            lacks_iptables: lacks.contains(&Missing::IpTables),
            cluster_dns,
            shim: crate::runtime::shim_path()?,
        })
    }
}

/// What is the node's own of its file system: its network configuration and plugins.
pub(crate) fn host_root(scratch: &Path, node: &str) -> PathBuf {
    scratch.join("nodes").join(node)
}
