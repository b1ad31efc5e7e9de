//! Network configurations as libcni finds and reads them.

use std::path::Path;

use serde_json::Value;

/// A list of plugins.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kubelet) struct List {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) plugins: Vec<Value>,
}

impl List {
    /// The first of a directory, by the names of the files; files that cannot be read are passed over, as containerd does.
    pub(super) fn first(directory: &Path) -> Result<Self, String> {
        let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| {
            let extension = file.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("conf" | "conflist" | "json"))
        });
        files.sort();
        let read = files.iter().find_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            Self::parse(&text, file.extension().is_some_and(|extension| extension == "conflist"))
        });
        read.ok_or_else(|| format!("cni plugin not initialized: no network config found in {}", directory.display()))
    }

    fn parse(text: &str, is_list: bool) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let plugins = match is_list {
            true => value["plugins"].as_array()?.clone(),
            false => vec![value.clone()],
        };
        let version = value["cniVersion"].as_str().unwrap_or("0.1.0").to_owned();
        let well_formed = !plugins.is_empty() && plugins.iter().all(|plugin| plugin["type"].is_string());
        well_formed.then(|| Self { name: value["name"].as_str().unwrap_or_default().to_owned(), version, plugins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::by_name(&[("20-b.conflist", r#"{"name":"b","plugins":[{"type":"y"}]}"#), ("10-a.conf", r#"{"name":"a","cniVersion":"0.3.1","type":"x"}"#)], Some("a"))]
    #[case::half_written(&[("10-a.conflist", r#"{"name":"a","plug"#), ("20-b.conflist", r#"{"name":"b","plugins":[{"type":"y"}]}"#)], Some("b"))]
    #[case::no_plugins(&[("10-a.conflist", r#"{"name":"a","plugins":[]}"#)], None)]
    #[case::other_files(&[("10-a.conflist.tmp", r#"{"name":"a","plugins":[{"type":"x"}]}"#)], None)]
    fn the_first(#[case] files: &[(&str, &str)], #[case] name: Option<&str>) -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        for (file, text) in files {
            std::fs::write(directory.path().join(file), text)?;
        }
        assert_eq!(List::first(directory.path()).ok().map(|list| list.name).as_deref(), name);
        Ok(())
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list = List::parse(r#"{"name":"a","cniVersion":"0.3.1","type":"x","mtu":1}"#, false);
        let plugin = json!({"name": "a", "cniVersion": "0.3.1", "type": "x", "mtu": 1});
        assert_eq!(list, Some(List { name: "a".into(), version: "0.3.1".into(), plugins: vec![plugin] }));
    }
}
