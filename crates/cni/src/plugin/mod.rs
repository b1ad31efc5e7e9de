//! What each verb does.

mod add;
mod agent;
pub(crate) mod annotations;
mod check;
mod lease;
mod loopback;
mod proof;
pub(crate) mod sources;
mod status;

use crate::log;
use crate::protocol::{Args, CniError, Code, NetConf, Previous, Verb, version, version_of};
use netns::NetNs;
use serde_json::json;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the program prints, and how it ends.
#[derive(Debug)]
pub struct Outcome {
    /// One JSON document, or nothing.
    pub stdout: String,
    /// The call failed, and the document is an error.
    pub failed: bool,
}

/// Answers one call.
pub fn run(variable: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Outcome {
    // a panic's own message would be in nobody's way on standard error, and nothing else may be on standard output
    let done = catch_unwind(AssertUnwindSafe(|| answer(&variable, stdin))).unwrap_or_else(|_| {
        let message = "the plugin has a defect and panicked; the log of the runtime has more";
        Err(CniError::new(Code::Defect, message))
    });
    match done {
        Ok(stdout) => Outcome { stdout, failed: false },
        Err(error) => {
            tracing::error!(%error, code = error.code as u16, "failed");
            Outcome { stdout: error.to_json(&version_of(stdin)), failed: true }
        }
    }
}

fn answer(variable: &dyn Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<String, CniError> {
    let command = filled(variable, "CNI_COMMAND").unwrap_or_default();
    let Some(verb) = Verb::parse(&command) else {
        let message = format!("CNI_COMMAND is {command:?}: it must be ADD, DEL, CHECK, STATUS, GC or VERSION");
        return Err(CniError::new(Code::InvalidEnvironment, message));
    };
    if verb == Verb::Version {
        return Ok(json!({"cniVersion": version_of(stdin), "supportedVersions": version::SUPPORTED}).to_string());
    }
    let config = match NetConf::parse(stdin) {
        Ok(config) => config,
        // what is to be removed is not there, whatever the configuration says
        Err(_) if matches!(verb, Verb::Del | Verb::Gc) => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    log::start(&config.log_level, config.log_file.as_deref());
    match verb {
        Verb::Del | Verb::Gc | Verb::Version => Ok(String::new()),
        Verb::Status => status::status(config.lease.as_deref()).map(|()| String::new()),
        Verb::Add => add::add(&Call::read(variable, config)?),
        Verb::Check => check::check(&Call::read(variable, config)?).map(|()| String::new()),
    }
}

fn filled(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

/// `ADD` or `CHECK` of one container.
struct Call<'a> {
    config: NetConf<'a>,
    args: Args,
    /// Path of the container's network namespace.
    netns: String,
}

impl<'a> Call<'a> {
    fn read(variable: &dyn Fn(&str) -> Option<String>, config: NetConf<'a>) -> Result<Self, CniError> {
        let missing: Vec<&str> = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]
            .into_iter()
            .filter(|name| filled(variable, name).is_none())
            .collect();
        if !missing.is_empty() {
            let message = format!("{} must be set in the environment", missing.join(", "));
            return Err(CniError::new(Code::InvalidEnvironment, message));
        }
        let args = Args::parse(&variable("CNI_ARGS").unwrap_or_default())?;
        if args.iptables_config.is_none() && (args.pod_name.is_empty() || args.pod_namespace.is_empty()) {
            let message = "not running in a pod, namespace and pod should have values";
            let hint = "CNI_ARGS must have K8S_POD_NAME and K8S_POD_NAMESPACE, or CONSUL_IPTABLES_CONFIG";
            return Err(CniError::new(Code::InvalidEnvironment, message).hint(hint));
        }
        Ok(Self { config, args, netns: filled(variable, "CNI_NETNS").unwrap_or_default() })
    }

    /// The container's addresses: as the plugins before this one say, or as they are, where there is none before it.
    fn addresses(&self, previous: Option<&Previous<'_>>) -> Result<Vec<IpAddr>, CniError> {
        if let Some(previous) = previous {
            return Ok(previous.addresses().to_vec());
        }
        let failed = |error: netns::Error| {
            CniError::new(Code::Io, format!("failed to enter the network namespace of pod {}", self.args.pod()))
                .hint(causes(&error))
        };
        self.namespace()?.run(sources::own_addresses).map_err(failed)
    }

    /// The container's network namespace, which must not be the node's.
    fn namespace(&self) -> Result<NetNs, CniError> {
        let failed = |error: netns::Error| {
            CniError::new(Code::Io, format!("failed to open the network namespace of pod {}", self.args.pod()))
                .hint(causes(&error))
        };
        let namespace = NetNs::open(&self.netns).map_err(failed)?;
        // without /proc nothing is to compare with
        if NetNs::current().is_ok_and(|own| own == namespace) {
            let message = format!("CNI_NETNS {} is the node's own network, which is not redirected", self.netns);
            return Err(CniError::new(Code::InvalidEnvironment, message));
        }
        Ok(namespace)
    }
}

/// An error with everything that led to it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
