//! The part of a container runtime that makes Pods' networks: it runs the plugins of the first network configuration in
//! `/etc/cni/net.d` of its node, as libcni does for containerd and CRI-O.
//!
//! One type of plugin is built in: [`BUILT_IN`], the lab's own network, which is to be the first of the list. All others are programs
//! in `/opt/cni/bin` of the node and run in the node's network namespace. Each gets the list's name and version, the result of the
//! one before, and what the runtime knows of the capabilities that it declares.
//!
//! | | containerd | here |
//! |---|---|---|
//! | which configuration | the first by name, read again when the directory changes | the first by name, read for every Pod |
//! | several networks (`max_conf_num`) | possible | one |
//! | a failed `ADD` | `DEL` in reverse, an event, a new sandbox | the same |
//! | `DEL` | with the configuration and result of the `ADD`, until it succeeds | the same |
//! | capabilities | port mappings, bandwidth, DNS, annotations | annotations, where [`crate::LabOptions::hands_over_annotations`] says so |

mod call;
mod config;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use call::Call;
use config::List;
use serde_json::{Value, json};

use super::host::Host;
use crate::{NodeInfo, SandboxInfo};

/// Type of the built-in plugin.
pub(crate) const BUILT_IN: &str = "lab";

/// What a node has before anybody changes it.
const DEFAULT: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "lab"
    }
  ]
}
"#;

/// Where a node has its network configuration, and what its runtime does.
pub(super) struct Networking {
    net_dir: PathBuf,
    bin_dir: PathBuf,
    /// The runtime hands the Pod's annotations to plugins that declare the capability.
    annotations: bool,
    host: Host,
    /// What each sandbox was attached with, by its uid, for its end.
    attached: Mutex<HashMap<String, Attached>>,
}

#[derive(Clone)]
struct Attached {
    list: List,
    result: Value,
    annotations: Value,
    /// Name of the sandbox's network namespace on the node.
    netns: PathBuf,
}

/// A Pod's network could not be made or taken down by the plugins.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(String);

impl Networking {
    /// With the lab's own network and nothing else.
    pub(super) fn new(root: &Path, annotations: bool) -> std::io::Result<Self> {
        let host = Host::new(root)?;
        let (net_dir, bin_dir) = (host.place(Path::new("/etc/cni/net.d")), host.place(Path::new("/opt/cni/bin")));
        std::fs::create_dir_all(&net_dir)?;
        std::fs::create_dir_all(&bin_dir)?;
        let networking = Self { net_dir, bin_dir, annotations, host, attached: Mutex::default() };
        networking.write_primary()?;
        Ok(networking)
    }

    /// The node's files.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Writes the configuration of the lab's own network as it was at first, whatever others have made of it: so do the agents
    /// of many a network when they start.
    pub(super) fn write_primary(&self) -> std::io::Result<()> {
        let (file, fresh) = (self.net_dir.join("10-lab.conflist"), self.net_dir.join(".10-lab.fresh"));
        std::fs::write(&fresh, DEFAULT)?;
        std::fs::rename(fresh, file)
    }

    /// The configuration for the next Pod.
    pub(super) fn list(&self) -> Result<List, Failed> {
        let list = List::first(&self.net_dir).map_err(Failed)?;
        match list.plugins.first().map(|plugin| plugin["type"] == BUILT_IN) {
            Some(true) => Ok(list),
            _ => Err(Failed(format!("network {}: the first plugin must be of type {BUILT_IN}", list.name))),
        }
    }

    /// Runs the plugins after the built-in one, which has made this sandbox.
    pub(super) async fn add(
        &self,
        list: List,
        node: &NodeInfo,
        sandbox: &SandboxInfo,
        annotations: Value,
    ) -> Result<(), Failed> {
        let netns = self.host.keep(&sandbox.netns, &sandbox.uid).map_err(|error| Failed(error.to_string()))?;
        let mut attached = Attached { result: made(&list, sandbox, &netns), list, annotations, netns };
        for (index, plugin) in attached.list.plugins.iter().enumerate().skip(1) {
            let conf = self.conf(&attached, plugin);
            match self.call(plugin, "ADD", node, &attached, sandbox, &conf).run().await {
                Ok(Some(result)) => attached.result = result,
                Ok(None) => {}
                Err(why) => {
                    let kind = plugin["type"].as_str().unwrap_or_default();
                    self.remove(&attached, index + 1, node, sandbox).await.ok();
                    self.host.release(&sandbox.uid);
                    return Err(Failed(format!("plugin type=\"{kind}\" failed (add): {why}")));
                }
            }
        }
        self.lock().insert(sandbox.uid.clone(), attached);
        Ok(())
    }

    /// Runs the plugins in reverse, with what the sandbox was attached with.
    pub(super) async fn del(&self, node: &NodeInfo, sandbox: &SandboxInfo) -> Result<(), Failed> {
        let Some(attached) = self.lock().get(&sandbox.uid).cloned() else { return Ok(()) };
        self.remove(&attached, attached.list.plugins.len(), node, sandbox).await?;
        self.forget(sandbox);
        Ok(())
    }

    /// The sandbox is gone, and nobody is told.
    pub(super) fn forget(&self, sandbox: &SandboxInfo) {
        self.host.release(&sandbox.uid);
        self.lock().remove(&sandbox.uid);
    }

    /// Runs a verb once more for a sandbox that is attached, with what it was attached with.
    pub(super) async fn again(&self, verb: &str, node: &NodeInfo, sandbox: &SandboxInfo) -> Result<(), Failed> {
        let attached = self.lock().get(&sandbox.uid).cloned();
        let attached = attached.ok_or_else(|| Failed(format!("sandbox {} is not attached", sandbox.uid)))?;
        if verb == "DEL" {
            return self.remove(&attached, attached.list.plugins.len(), node, sandbox).await;
        }
        for plugin in attached.list.plugins.iter().skip(1) {
            let conf = self.conf(&attached, plugin);
            let called = self.call(plugin, verb, node, &attached, sandbox, &conf).run().await;
            called.map_err(|why| {
                let kind = plugin["type"].as_str().unwrap_or_default();
                Failed(format!("plugin type=\"{kind}\" failed ({}): {why}", verb.to_lowercase()))
            })?;
        }
        Ok(())
    }

    async fn remove(
        &self,
        attached: &Attached,
        count: usize,
        node: &NodeInfo,
        sandbox: &SandboxInfo,
    ) -> Result<(), Failed> {
        for plugin in attached.list.plugins[..count].iter().skip(1).rev() {
            let conf = self.conf(attached, plugin);
            let called = self.call(plugin, "DEL", node, attached, sandbox, &conf).run().await;
            called.map_err(|why| {
                let kind = plugin["type"].as_str().unwrap_or_default();
                Failed(format!("plugin type=\"{kind}\" failed (delete): {why}"))
            })?;
        }
        Ok(())
    }

    /// The plugin's entry, completed with the result so far.
    fn conf(&self, attached: &Attached, plugin: &Value) -> Value {
        const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
        let mut conf = plugin.clone();
        conf["name"] = json!(attached.list.name);
        conf["cniVersion"] = json!(attached.list.version);
        conf["prevResult"] = attached.result.clone();
        if self.annotations && plugin["capabilities"][ANNOTATIONS] == true {
            conf["runtimeConfig"] = json!({ANNOTATIONS: attached.annotations});
        }
        if let Some(conf) = conf.as_object_mut() {
            conf.remove("capabilities");
        }
        conf
    }

    fn call<'a>(
        &'a self,
        plugin: &Value,
        verb: &'a str,
        node: &'a NodeInfo,
        attached: &'a Attached,
        sandbox: &'a SandboxInfo,
        conf: &Value,
    ) -> Call<'a> {
        let program = self.bin_dir.join(plugin["type"].as_str().unwrap_or_default());
        Call {
            program,
            bin_dir: &self.bin_dir,
            verb,
            host: &self.host,
            node,
            sandbox,
            netns: &attached.netns,
            stdin: conf.to_string(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attached>> {
        // a panic elsewhere leaves a map that is still a map
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the built-in plugin answers.
fn made(list: &List, sandbox: &SandboxInfo, netns: &Path) -> Value {
    let bits = |address: &std::net::IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let families = list.version.starts_with("0.");
    let addresses = sandbox.addresses.iter().map(|address| {
        let mut ip = json!({"interface": 1, "address": format!("{address}/{}", bits(address))});
        if families {
            ip["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
        }
        ip
    });
    json!({
        "cniVersion": list.version,
        "interfaces": [
            {"name": sandbox.host_interface},
            {"name": "eth0", "sandbox": netns},
        ],
        "ips": addresses.collect::<Vec<_>>(),
        "dns": {},
    })
}
