//! The CNI plugin on the nodes, as their files show it.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The lab's own network.
const CONFLIST: &str = "etc/cni/net.d/10-lab.conflist";

/// Types of the plugins in a node's chain, in order.
pub(super) fn chain(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(CONFLIST)).context("read the node's network configuration")?;
    let list: Value = serde_json::from_str(&text).context("read the node's network configuration")?;
    let plugins = list["plugins"].as_array().into_iter().flatten();
    Ok(plugins.filter_map(|plugin| plugin["type"].as_str().map(str::to_owned)).collect())
}
