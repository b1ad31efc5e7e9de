//! Reads a Pod's annotations into typed values and collects every mistake on the way.

use crate::ports::Ports;
use crate::{Mistake, boolean};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

static NONE: BTreeMap<String, String> = BTreeMap::new();

static NOTHING: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);

/// The annotations of one Pod, and the mistakes found in them so far.
pub(crate) struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    ports: Ports<'a>,
    /// Mistakes found so far; others may add theirs.
    pub(crate) mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// A reader over the Pod's annotations.
    pub(crate) fn new(pod: &'a Pod) -> Self {
        let spec = pod.spec.as_ref().unwrap_or(&NOTHING);
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&NONE);
        Self { annotations, ports: Ports::of(spec), mistakes: Vec::new() }
    }

    /// The ports that annotations name.
    pub(crate) fn ports(&self) -> &Ports<'a> {
        &self.ports
    }

    /// The annotation's text, empty or not.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// The annotation's text unless it is empty.
    pub(crate) fn filled(&self, key: &str) -> Option<&'a str> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// Notes an annotation whose value is not allowed.
    pub(crate) fn wrong(&mut self, key: &'static str, value: &str, allowed: &str) {
        self.mistakes.push(Mistake::value(key, value, allowed));
    }

    /// A boolean; a key that is present must be readable, even when it is empty.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let text = self.text(key)?;
        let value = boolean::parse(text);
        if value.is_none() {
            self.wrong(key, text, boolean::ALLOWED);
        }
        value
    }

    /// A boolean where an empty value counts as absent.
    pub(crate) fn filled_boolean(&mut self, key: &'static str) -> Option<bool> {
        self.filled(key)?;
        self.boolean(key)
    }

    /// A value with a parser of its own; an empty one counts as absent.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.filled(key)?;
        let value = parse(text);
        if value.is_none() {
            self.wrong(key, text, allowed);
        }
        value
    }

    /// A whole number that is not negative.
    pub(crate) fn number<T: FromStr>(&mut self, key: &'static str) -> Option<T> {
        self.parsed(key, "a whole number, not negative", |text| text.parse().ok())
    }

    /// A port from `lowest` to 65535, by number or by the name of a container port.
    pub(crate) fn port(&mut self, key: &'static str, lowest: u16) -> Option<u16> {
        let text = self.filled(key)?;
        let port = self.ports.resolve(text).filter(|port| *port >= lowest);
        if port.is_none() {
            self.wrong(key, text, &format!("a port from {lowest} to 65535, or the name of a container port there"));
        }
        port
    }
}
