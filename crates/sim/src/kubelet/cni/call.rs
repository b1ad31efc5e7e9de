//! One call of one plugin.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::super::host::Host;
use crate::{NodeInfo, SandboxInfo};

/// A program to run, and what it is told.
pub(super) struct Call<'a> {
    pub(super) program: PathBuf,
    pub(super) bin_dir: &'a Path,
    pub(super) verb: &'a str,
    pub(super) host: &'a Host,
    pub(super) node: &'a NodeInfo,
    pub(super) sandbox: &'a SandboxInfo,
    /// Name of the sandbox's network namespace.
    pub(super) netns: &'a Path,
    pub(super) stdin: String,
}

impl Call<'_> {
    /// Runs it in the node's network. The result, where it prints one.
    pub(super) async fn run(self) -> Result<Option<Value>, String> {
        let program = self.program.clone();
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                let name = program.file_name().unwrap_or_default().display();
                format!("failed to find plugin \"{name}\" in path [{}]", self.bin_dir.display())
            }
            _ => format!("start {}: {error}", program.display()),
        };
        let SandboxInfo { namespace, pod, uid, .. } = self.sandbox;
        let mut command = Command::new(&self.program);
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("CNI_COMMAND", self.verb),
            ("CNI_CONTAINERID", uid),
            ("CNI_IFNAME", "eth0"),
        ]);
        command.env("CNI_NETNS", self.netns).env("CNI_PATH", self.bin_dir);
        command.env("CNI_ARGS", format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}"
        ));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.host.spawn(&self.node.netns, command).map_err(missing)?;
        let stdin = self.stdin.clone();
        let ran = tokio::task::spawn_blocking(move || {
            if let Some(mut pipe) = child.stdin.take() {
                // a plugin need not read what it does not want
                pipe.write_all(stdin.as_bytes()).ok();
            }
            child.wait_with_output()
        });
        let output = ran.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        answer(&output)
    }
}

/// A result, or the message of an error, as libcni words it.
fn answer(output: &Output) -> Result<Option<Value>, String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return match stdout.trim() {
            "" => Ok(None),
            text => serde_json::from_str(text).map(Some).map_err(|error| format!("unexpected end of result: {error}")),
        };
    }
    let error: Value = serde_json::from_str(stdout.trim()).unwrap_or_default();
    let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("msg"), text("details")) {
        (Some(message), Some(details)) => Err(format!("{message}; {details}")),
        (Some(message), None) => Err(message),
        (None, _) => Err(format!(
            "netplugin failed with no error message ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
