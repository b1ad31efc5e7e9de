//! The CNI plugin on the nodes: the program in `/opt/cni/bin`, its entry at the end of the node's network configuration.

use std::path::Path;

use anyhow::{Context as _, Result};
use cni::install::conflist;
pub(super) use cni::install::conflist::PLUGIN;
use serde_json::{Value, json};
use sim::Lab;

/// The lab's own network.
const CONFLIST: &str = "etc/cni/net.d/10-lab.conflist";

/// Brings every node to have the plugin, last in its chain, or not to have it.
pub(super) fn bring_to(lab: &Lab, program: &Path, wanted: bool) -> Result<()> {
    for node in lab.nodes() {
        let root = lab.node_root(&node.name);
        let context = || format!("change the network configuration of {}", node.name);
        let file = root.join(CONFLIST);
        let text = std::fs::read_to_string(&file).with_context(context)?;
        let changed = if wanted {
            let binary = root.join("opt/cni/bin").join(PLUGIN);
            if !binary.exists() {
                std::os::unix::fs::symlink(std::path::absolute(program)?, &binary).with_context(context)?;
            }
            let entry = json!({
                "type": PLUGIN,
                "name": PLUGIN,
                "log_level": "info",
                "capabilities": {"io.kubernetes.cri.pod-annotations": true},
            });
            conflist::with(&text, true, &entry)
        } else {
            conflist::without(&text)
        };
        let Some(changed) = changed.map_err(anyhow::Error::msg).with_context(context)? else { continue };
        // a Pod that starts now reads the one or the other
        let fresh = file.with_extension("fresh");
        std::fs::write(&fresh, changed).with_context(context)?;
        std::fs::rename(&fresh, &file).with_context(context)?;
    }
    Ok(())
}

/// Types of the plugins in a node's chain, in order.
pub(super) fn chain(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(CONFLIST)).context("read the node's network configuration")?;
    let list: Value = serde_json::from_str(&text).context("read the node's network configuration")?;
    let plugins = list["plugins"].as_array().into_iter().flatten();
    Ok(plugins.filter_map(|plugin| plugin["type"].as_str().map(str::to_owned)).collect())
}
