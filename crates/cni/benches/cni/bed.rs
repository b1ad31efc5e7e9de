//! Pods to redirect, and the ways to do so.

use crate::Contestant;
use crate::theirs::Api;
use measure::consul;
use netns::NetNs;
use nix::sys::resource::{UsageWho, getrusage};
use redirect::contract::{CONNECT_INJECT_STATUS, DUAL_STACK, REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS};
use redirect::{Config, Policy};
use serde_json::json;
use std::error::Error;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The program.
pub(crate) const PLUGIN: &str = env!("CARGO_BIN_EXE_consul-cni");

pub(crate) struct Bed {
    stdin: String,
    policy: Policy,
    commands: Vec<String>,
    api: Api,
    /// Kept to the end: the kernel takes namespaces apart in the background, which would disturb the rounds after.
    pods: Mutex<Vec<NetNs>>,
}

impl Bed {
    /// What the webhook writes for an ordinary Pod with metrics and HTTP probes.
    pub(crate) fn build() -> Result<Self, Box<dyn Error>> {
        let config = Config {
            proxy_user_id: "5995".into(),
            proxy_inbound_port: 20000,
            proxy_outbound_port: 15001,
            exclude_inbound_ports: ["20200", "20300", "20400"].map(String::from).into(),
            exclude_uids: vec!["5996".into()],
            ..Config::default()
        };
        let annotations = json!({
            CONNECT_INJECT_STATUS: "injected",
            TRANSPARENT_PROXY_STATUS: "enabled",
            REDIRECT_TRAFFIC_CONFIG: config.to_json(),
            DUAL_STACK: "false",
            "consul.hashicorp.com/original-pod": "x".repeat(8 * 1024),
        });
        let stdin = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "consul-cni",
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/32"}], "dns": {}},
        });
        let policy = Policy::from_config(&config, false)?;
        let commands = consul::commands(&config);
        let api = Api::start(annotations)?;
        Ok(Self { stdin: stdin.to_string(), policy, commands, api, pods: Mutex::default() })
    }

    /// Makes a Pod, and says how long it takes to redirect it.
    pub(crate) fn turn(&self, contestant: Contestant) -> Result<Duration, Box<dyn Error>> {
        let pod = NetNs::create()?;
        let start = Instant::now();
        match contestant {
            Contestant::Plugin => self.add(&pod)?,
            Contestant::Printer => drop(feed(&mut Command::new("cat"), &self.stdin)?),
            Contestant::Apply => drop(pod.run(|| redirect::apply(&self.policy))??),
            Contestant::Consul => {
                self.api.get()?;
                self.api.annotate("waiting")?;
                consul::install(&pod.proc_path(), "iptables", &self.commands);
                self.api.annotate("complete")?;
            }
        }
        let took = start.elapsed();
        self.pods.lock().map_err(|_| "a thread panicked")?.push(pod);
        Ok(took)
    }

    fn add(&self, pod: &NetNs) -> Result<(), Box<dyn Error>> {
        let mut plugin = Command::new(PLUGIN);
        plugin.env_clear().envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
        ]);
        let output = feed(plugin.env("CNI_NETNS", pod.proc_path()), &self.stdin)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stdout).into_owned().into()),
        }
    }

    /// The most memory that an `ADD` has resident, in bytes. To be asked before other processes have been started.
    pub(crate) fn plugin_memory(&self) -> Result<u64, Box<dyn Error>> {
        self.turn(Contestant::Plugin)?;
        Ok(u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())? * 1024)
    }
}

fn feed(command: &mut Command, stdin: &str) -> Result<Output, Box<dyn Error>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(stdin.as_bytes())?;
    Ok(child.wait_with_output()?)
}
