//! The command line of `install-cni`: the flags of consul-k8s, one dash each, and what is ours.

use crate::agent::Repair;
use clap::Parser;
use std::path::PathBuf;

/// Puts the CNI plugin consul-cni on this node, keeps it last in the chain, and takes it away at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "install-cni", version, args_override_self = true)]
pub struct Settings {
    /// Directory of CNI plugins on the node
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Directory of CNI configurations on the node
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_net_dir: PathBuf,
    /// Directory of consul-cni in this image
    #[arg(long, default_value = "/bin")]
    pub bin_source_dir: PathBuf,
    /// Do not chain the plugin: Pods name it in a NetworkAttachmentDefinition of Multus
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub multus: bool,
    /// File on the node, the same path inside and outside, whose age tells the plugin whether this program is there
    #[arg(long, default_value = "/run/consul-cni/lease")]
    pub lease: PathBuf,
    /// trace, debug, info, warn or error; of the plugin too
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Log JSON
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub log_json: bool,
    /// What tells this installation from one that takes over
    #[arg(long, env = "POD_UID", default_value_t = unique())]
    pub installation_id: String,
    /// Name of this node: its Pods are followed. Without it nothing is done that needs the API server
    #[arg(long, env = "NODE_NAME", default_value = "")]
    pub node_name: String,
    /// Where the plugin asks this program, the same path inside and outside
    #[arg(long, default_value = "/run/consul-cni/agent.sock")]
    pub agent_socket: PathBuf,
    /// Where the runtime keeps the Pods' network namespaces, the same path inside and outside
    #[arg(long, default_value = "/var/run/netns")]
    pub netns_dir: PathBuf,
    /// What is done with a Pod of the mesh that is not redirected
    #[arg(long, value_enum, default_value = "redirect")]
    pub repair: Repair,
    /// Address and port for Prometheus, on which /metrics is served; empty for none
    #[arg(long, default_value = "")]
    pub metrics_listen: String,
    /// Accepted and not used: the plugin needs no credential
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub autorotate_token: Option<bool>,
    /// Accepted and not used: the plugin needs no credential
    #[arg(long)]
    pub cni_token_path: Option<PathBuf>,
    /// Accepted and not used: the plugin needs no credential
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Do all that is to be done now, and end: without it the node is watched, and the plugin taken away at the end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub once: bool,
    /// Take the plugin off the node, whoever has put it there, and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub remove: bool,
    /// Say whether the next Pod will be redirected, by the exit status, and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub check: bool,
}

impl Settings {
    /// Reads arguments, the program's name first. One dash is as good as two.
    ///
    /// # Errors
    /// What clap says, help included.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, clap::Error> {
        let long = |argument: String| match argument.strip_prefix('-') {
            Some(name) if name.len() > 1 && !name.starts_with('-') => format!("-{argument}"),
            _ => argument,
        };
        // upstream's program has others besides, and takes the name first
        Self::try_parse_from(arguments.into_iter().map(long).filter(|argument| argument != "install-cni"))
    }
}

fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn upstreams_flags() {
        let words = [
            "/bin/agent",
            "install-cni",
            "-cni-bin-dir=/host/bin",
            "-cni-net-dir",
            "/host/net.d",
            "-multus=false",
            "-log-level=debug",
            "-autorotate-token",
            "-kubeconfig=ZZZ-consul-cni-kubeconfig",
            "-installation-id=one",
        ];
        let settings = Settings::read(words.map(str::to_owned)).expect("flags");
        assert_eq!((settings.cni_bin_dir, settings.cni_net_dir), ("/host/bin".into(), "/host/net.d".into()));
        assert_eq!((settings.multus, settings.log_level.as_str()), (false, "debug"));
        assert_eq!(settings.installation_id, "one");
    }

    #[rstest]
    #[case::unknown("-cni-dir=/x", "cni-dir")]
    #[case::no_truth("-multus=maybe", "maybe")]
    fn mistakes(#[case] word: &str, #[case] part: &str) {
        let error = Settings::read(["agent".to_owned(), word.to_owned()]).expect_err("a mistake");
        assert!(error.to_string().contains(part), "{error}");
    }
}
