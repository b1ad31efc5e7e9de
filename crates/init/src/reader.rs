//! Settings looked up in flags first and environment variables second, with every mistake kept.

use std::fmt;

use redirect::{Backend, Config, contract};
use tracing_subscriber::filter::LevelFilter;

use crate::flags::{self, Given, Program};
use crate::log;

/// Every mistake in the settings; never empty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(Vec<String>);

impl SettingsErrors {
    /// Each of them.
    #[must_use]
    pub fn mistakes(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// What the arguments ask for.
#[derive(Debug)]
pub enum Asked<T> {
    /// To print this text.
    Help(String),
    /// To run.
    Run(Box<T>),
}

/// Where settings are read from, and what was wrong with them.
pub(crate) struct Reader<'a> {
    program: Program,
    given: Given,
    environment: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) mistakes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads the arguments of a program and, unless it is to help, its settings.
    pub(crate) fn read<T>(
        program: Program,
        arguments: &[String],
        environment: &'a dyn Fn(&str) -> Option<String>,
        settings: impl FnOnce(&mut Self) -> T,
    ) -> Result<Asked<T>, SettingsErrors> {
        let given = program.parse(arguments).map_err(SettingsErrors)?;
        if given.help {
            return Ok(Asked::Help(program.help()));
        }
        let mut reader = Self { program, given, environment, mistakes: Vec::new() };
        let settings = settings(&mut reader);
        if reader.mistakes.is_empty() {
            Ok(Asked::Run(Box::new(settings)))
        } else {
            Err(SettingsErrors(reader.mistakes))
        }
    }

    /// A setting's value and the name it was given under; an empty environment variable is none.
    pub(crate) fn find(&self, name: &str) -> Option<(String, String)> {
        if let Some(value) = self.given.last(name) {
            return Some((value.to_owned(), format!("-{name}")));
        }
        let variable = self.program.flags.iter().find(|flag| flag.name == name)?.variable?;
        self.variable(variable).map(|value| (value, variable.to_owned()))
    }

    /// An environment variable that is not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.find(name).map(|(value, _)| value).filter(|value| !value.is_empty())
    }

    /// Every value of a flag that may be repeated.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.given.all(name).map(str::to_owned).collect()
    }

    pub(crate) fn required(&mut self, name: &str, hint: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.mistakes.push(format!("-{name} must be set{hint}"));
            String::new()
        })
    }

    pub(crate) fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>, want: &str) -> Option<T> {
        let (value, source) = self.find(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.mistakes.push(format!("{source} = {value:?}: must be {want}"));
        }
        parsed
    }

    pub(crate) fn switch(&mut self, name: &str) -> bool {
        self.parsed(name, flags::boolean, "true or false").unwrap_or(false)
    }

    /// The environment variable `name` as a switch; `None` where it is not set.
    pub(crate) fn variable_switch(&mut self, name: &str) -> Option<bool> {
        let value = self.variable(name)?;
        let read = flags::boolean(&value);
        if read.is_none() {
            self.mistakes.push(format!("{name} = {value:?}: must be true or false"));
        }
        read
    }

    /// The text of the file that a setting names.
    pub(crate) fn file(&mut self, name: &str) -> Option<String> {
        let (path, source) = self.find(name).filter(|(path, _)| !path.is_empty())?;
        std::fs::read_to_string(&path)
            .inspect_err(|error| self.mistakes.push(format!("{source} = {path:?}: {error}")))
            .ok()
    }

    /// The least important level that is logged.
    pub(crate) fn log_level(&mut self, default: LevelFilter) -> LevelFilter {
        self.parsed("log-level", log::level, "trace, debug, info, warn or error").unwrap_or(default)
    }

    pub(crate) fn backend(&mut self) -> Backend {
        let want = Backend::ALL.map(Backend::name).join(", ");
        self.parsed("rule-backend", |text| text.parse().ok(), &format!("one of {want}")).unwrap_or(Backend::Auto)
    }

    /// The configuration in [`contract::REDIRECT_TRAFFIC_CONFIG_ENV`] or the flag of that name.
    pub(crate) fn redirect_config(&mut self) -> Option<Config> {
        let (json, source) = self.find("redirect-traffic-config").filter(|(json, _)| !json.is_empty())?;
        Config::from_json(&json)
            .inspect_err(|error| {
                let hint = if source == contract::REDIRECT_TRAFFIC_CONFIG_ENV {
                    "; the webhook writes this value, was it edited?"
                } else {
                    ""
                };
                self.mistakes.push(format!("{source}: {error}{hint}"));
            })
            .ok()
    }

    /// The node's addresses as the kubelet tells them; nothing where the configuration has no use for them, so that a variable
    /// of somebody else's is no mistake there.
    pub(crate) fn node_addresses(&mut self, config: &Config) -> Vec<String> {
        if config.probe_ports.is_empty() || !config.probe_sources.is_empty() {
            return Vec::new();
        }
        let names = [contract::HOST_IPS_ENV, contract::HOST_IP_ENV];
        let Some((name, list)) = names.into_iter().find_map(|name| Some((name, self.variable(name)?))) else {
            return Vec::new();
        };
        let addresses = redirect::parse::cidrs(&list).unwrap_or_else(|mistakes| {
            self.mistakes.extend(mistakes.iter().map(|mistake| format!("{name} {mistake}")));
            Vec::new()
        });
        addresses.iter().map(ToString::to_string).collect()
    }

    /// Query parameters that choose datacenter, partition and namespace.
    pub(crate) fn scope(&self) -> Vec<(&'static str, String)> {
        [("ns", "namespace"), ("partition", "partition"), ("dc", "datacenter")]
            .into_iter()
            .filter_map(|(parameter, name)| Some((parameter, self.text(name)?)))
            .collect()
    }
}

/// For tables of tests: the settings, or what was printed in place of running.
#[cfg(test)]
pub(crate) fn settings_of<T>(asked: Result<Asked<T>, SettingsErrors>) -> Result<T, String> {
    match asked {
        Ok(Asked::Run(settings)) => Ok(*settings),
        Ok(Asked::Help(text)) => Err(text),
        Err(errors) => Err(errors.to_string()),
    }
}
