//! Flags and environment of the program `webhook`, with the names of consul-k8s; every bad setting is reported at once.

mod assign;
mod environment;
mod table;
mod tenancy;

use crate::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use table::FLAGS;
use tenancy::Tenancy;

/// Everything that the program is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the webhook does to Pods.
    pub settings: Settings,
    /// Where reviews arrive: `host:port`, the host may be empty.
    pub listen: String,
    /// Where health is asked for: `host:port`, the host may be empty.
    pub health_listen: String,
    /// Where numbers are asked for: `host:port`, the host may be empty.
    pub metrics_listen: String,
    /// Where the certificate comes from.
    pub tls: Tls,
    /// Name servers for Pods with Consul DNS; empty means those of the webhook's own resolver configuration.
    pub cluster_dns: Vec<String>,
    tenancy: Tenancy,
}

/// Where the certificate comes from: exactly one of the first two is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Directory of `tls.crt` and `tls.key`.
    pub directory: Option<PathBuf>,
    /// Name of the MutatingWebhookConfiguration that is to trust a certificate of the webhook's own making.
    pub configuration: Option<String>,
    /// Names and addresses in it.
    pub hosts: BTreeSet<String>,
    /// Name of the Secret that it is kept in.
    pub secret: String,
}

impl Default for Tls {
    fn default() -> Self {
        let secret = "consul-connect-inject-webhook-cert".to_owned();
        Self { directory: None, configuration: None, hosts: BTreeSet::new(), secret }
    }
}

impl Tls {
    fn problem(&self) -> Option<&'static str> {
        match (&self.directory, &self.configuration) {
            (None, None) => Some("-tls-cert-dir: must be set, or -tls-auto"),
            (Some(_), Some(_)) => Some("-tls-auto: only one of it and -tls-cert-dir can be set"),
            (None, Some(_)) if self.hosts.is_empty() => Some("-tls-auto-hosts: must be set with -tls-auto"),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Serve(Box<Options>),
    /// Print [`help`].
    Help,
}

/// Every setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadSettings(Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to read the settings; -help lists them:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One flag.
struct Flag {
    name: &'static str,
    group: &'static str,
    help: &'static str,
    kind: Kind,
}

/// What follows a flag, and what it does.
#[derive(Clone, Copy)]
enum Kind {
    /// Stands alone or is followed by `=true` or `=false`.
    Switch(fn(&mut Options) -> &mut bool),
    /// Takes a value.
    Value(fn(&mut Options, &str) -> Result<(), String>),
    /// Known to consul-k8s and accepted, but without meaning here.
    Unused,
    /// The same, without a value.
    UnusedSwitch,
    /// A switch that consul-k8s knows and that cannot be turned on here.
    UnsupportedSwitch,
}

/// Reads the arguments (without the program's name) and the environment.
///
/// Flags are written as Go programs take them: `-name=value`, `-name value` or `--name=value`; a switch stands alone or has `=value`.
///
/// # Errors
/// Some settings are wrong; all of them are in the error.
pub fn read(
    arguments: impl IntoIterator<Item = String>,
    environment: &BTreeMap<String, String>,
) -> Result<Command, BadSettings> {
    let mut options = Options::default();
    let mut problems = Vec::new();
    let mut given: Vec<&str> = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let Some(text) =
            argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).filter(|text| !text.is_empty())
        else {
            problems.push(format!("{argument:?}: not a flag; flags begin with a dash"));
            continue;
        };
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if ["h", "help"].contains(&name) {
            return Ok(Command::Help);
        }
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            problems.push(format!("-{name}: no such flag"));
            continue;
        };
        given.push(flag.name);
        let value = match attached {
            Some(value) => value,
            None if flag.kind.is_switch() => "true".to_owned(),
            None => match arguments.next() {
                Some(value) => value,
                None => {
                    problems.push(format!("-{name}: a value must follow"));
                    continue;
                }
            },
        };
        if let Err(problem) = flag.kind.apply(&mut options, &value) {
            problems.push(format!("-{name}={value}: {problem}"));
        }
    }
    for name in table::REQUIRED {
        if !given.contains(&name) {
            problems.push(format!("-{name}: must be set"));
        }
    }
    problems.extend(options.tls.problem().map(str::to_owned));
    problems.extend(environment::apply(&mut options, environment));
    problems.extend(tenancy::settle(&mut options, environment));
    if problems.is_empty() { Ok(Command::Serve(Box::new(options))) } else { Err(BadSettings(problems)) }
}

/// All flags and variables, in groups.
#[must_use]
pub fn help() -> String {
    let mut text = "webhook: injects the Consul sidecar into Pods, with transparent proxy\n".to_owned();
    let mut group = "";
    for flag in FLAGS {
        if flag.group != group {
            group = flag.group;
            text.push_str(&format!("\n{group}:\n"));
        }
        let value = if flag.kind.is_switch() { "[=true|false]" } else { "=VALUE" };
        text.push_str(&format!("  -{}{value}\n      {}\n", flag.name, flag.help));
    }
    text.push_str("\nEnvironment:\n");
    for (name, help) in environment::names() {
        text.push_str(&format!("  {name}\n      {help}\n"));
    }
    text
}

impl Kind {
    fn is_switch(self) -> bool {
        matches!(self, Self::Switch(_) | Self::UnusedSwitch | Self::UnsupportedSwitch)
    }

    fn apply(self, options: &mut Options, value: &str) -> Result<(), String> {
        match self {
            Self::Switch(field) => {
                *field(options) = assign::boolean(value)?;
                Ok(())
            }
            Self::Value(set) => set(options, value),
            Self::Unused => Ok(()),
            Self::UnusedSwitch => assign::boolean(value).map(|_| ()),
            Self::UnsupportedSwitch if assign::boolean(value)? => Err("not supported; leave it out".to_owned()),
            Self::UnsupportedSwitch => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings {
                // As the program of consul-k8s does without flags, where its chart says otherwise.
                default_inject: true,
                allow_namespaces: std::collections::BTreeSet::new(),
                ..Settings::default()
            },
            listen: ":8080".to_owned(),
            health_listen: ":9445".to_owned(),
            metrics_listen: ":9444".to_owned(),
            tls: Tls::default(),
            cluster_dns: Vec::new(),
            tenancy: Tenancy::default(),
        }
    }
}
