//! The configuration as Envoy is served from it, with the versions that tell whether it is newer.

use std::collections::BTreeMap;

use mesh::feed::Update;
use serde_json::Value;

/// Everything there is at one moment. Versions are counted here: the feed's index starts again with the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Counts the updates; 0 until the first.
    pub(crate) revision: u64,
    sections: BTreeMap<String, Section>,
}

/// Resources of one kind.
#[derive(Debug, Clone, Default)]
struct Section {
    /// When any of them changed last.
    version: u64,
    /// By name, with when each changed.
    resources: BTreeMap<String, (u64, Value)>,
}

impl Snapshot {
    /// Takes in what changed.
    pub(crate) fn apply(&mut self, update: Update) {
        let Update { index: _, service: _, full, mut resources } = update;
        self.revision += 1;
        let revision = self.revision;
        if full {
            for (section, known) in &self.sections {
                let fresh = resources.entry(section.clone()).or_default();
                for name in known.resources.keys() {
                    fresh.entry(name.clone()).or_insert(None);
                }
            }
        }
        for (section, changes) in resources {
            let Section { version, resources: known } = self.sections.entry(section).or_default();
            for (name, value) in changes {
                let changed = match value {
                    Some(value) if known.get(&name).is_none_or(|(_, old)| *old != value) => {
                        known.insert(name, (revision, value));
                        true
                    }
                    Some(_) => false,
                    None => known.remove(&name).is_some(),
                };
                if changed {
                    *version = revision;
                }
            }
        }
    }

    /// When a section changed last; that of the first update if it is empty.
    pub(crate) fn version(&self, section: &str) -> u64 {
        self.sections.get(section).map_or(1, |s| s.version.max(1))
    }

    /// All resources of a section.
    pub(crate) fn all(&self, section: &str) -> Vec<&Value> {
        self.sections.get(section).into_iter().flat_map(|s| s.resources.values()).map(|(_, value)| value).collect()
    }

    /// One resource and when it changed.
    pub(crate) fn one(&self, section: &str, name: &str) -> Option<(u64, &Value)> {
        self.sections.get(section)?.resources.get(name).map(|(version, value)| (*version, value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(index: u64, full: bool, resources: Value) -> Update {
        let resources = serde_json::from_value(resources).expect("a section of resources");
        Update { index, service: String::new(), full, resources }
    }

    #[test]
    fn only_what_changed_gets_a_new_version() {
        let mut snapshot = Snapshot::default();
        snapshot.apply(update(3, true, json!({"clusters": {"a": 1, "b": 1}, "listeners": {"l": 1}})));
        snapshot.apply(update(7, false, json!({"clusters": {"a": 2, "b": null}})));
        assert_eq!((snapshot.version("clusters"), snapshot.version("listeners")), (2, 1));
        assert_eq!(snapshot.all("clusters"), [&json!(2)]);
        // a server that was started again tells everything
        snapshot.apply(update(2, true, json!({"clusters": {"c": 1}, "listeners": {"l": 1}})));
        assert_eq!(snapshot.all("clusters"), [&json!(1)]);
        assert_eq!(snapshot.one("clusters", "a"), None);
        assert_eq!((snapshot.version("clusters"), snapshot.version("listeners")), (3, 1));
    }
}
