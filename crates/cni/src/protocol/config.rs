//! The network configuration that a plugin gets on standard input.

use super::{CniError, Code, version};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is read of it; unknown keys are passed over.
#[derive(Debug, Deserialize)]
pub struct NetConf<'a> {
    /// Version of the specification.
    #[serde(rename = "cniVersion", default)]
    pub cni_version: String,
    /// Name of the network.
    #[serde(default)]
    pub name: String,
    /// What the plugins before this one have made, as it came.
    #[serde(rename = "prevResult", borrow, default)]
    pub prev_result: Option<&'a RawValue>,
    /// What the runtime fills in for declared capabilities.
    #[serde(rename = "runtimeConfig", default)]
    pub runtime: RuntimeConfig,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default)]
    pub log_level: String,
    /// A file for the log, beside standard error; relative paths and an absent one mean none.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// Where the node agent listens.
    #[serde(default)]
    pub agent_socket: Option<PathBuf>,
    /// File whose age says whether the node agent is alive.
    #[serde(default)]
    pub lease: Option<PathBuf>,
}

/// `runtimeConfig`.
#[derive(Debug, Default, Deserialize)]
pub struct RuntimeConfig {
    /// The Pod's annotations, from containerd and CRI-O, where the plugin's entry declares the capability of this name.
    #[serde(rename = "io.kubernetes.cri.pod-annotations", default)]
    pub pod_annotations: Option<BTreeMap<String, String>>,
}

impl<'a> NetConf<'a> {
    /// Reads standard input.
    ///
    /// # Errors
    /// It is no configuration, or of an unknown version.
    pub fn parse(stdin: &'a [u8]) -> Result<Self, CniError> {
        let wrong = |why: String| CniError::new(Code::Decode, format!("failed to parse network configuration: {why}"));
        // a list would be read as the values of the fields in their order
        if stdin.trim_ascii_start().first() != Some(&b'{') {
            return Err(wrong("it is no JSON object".to_owned()));
        }
        let mut config: Self = serde_json::from_slice(stdin).map_err(|error| wrong(error.to_string()))?;
        if config.cni_version.is_empty() {
            version::IMPLIED.clone_into(&mut config.cni_version);
        }
        if version::rank(&config.cni_version).is_none() {
            let message = format!("incompatible CNI version {:?} of network {:?}", config.cni_version, config.name);
            let known = format!("supported are {}", version::SUPPORTED.join(", "));
            return Err(CniError::new(Code::IncompatibleVersion, message).hint(known));
        }
        Ok(config)
    }
}

/// The version to answer in, as far as it can be made out, for errors too.
#[must_use]
pub fn version_of(stdin: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "cniVersion", default)]
        cni_version: String,
    }
    let read = serde_json::from_slice::<Version>(stdin).map(|read| read.cni_version);
    read.ok().filter(|version| version::rank(version).is_some()).unwrap_or_else(|| "1.0.0".to_owned())
}
