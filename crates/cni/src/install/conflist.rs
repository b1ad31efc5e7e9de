//! Network configurations: the one that the runtime will use, with the plugin's entry in it or without. Text in, text out.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Type of the plugin, name of its entry and of its program.
pub const PLUGIN: &str = "consul-cni";

/// A configuration that cannot have the plugin in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Unusable {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Beginning of the names of lists that the plugin's agent makes itself, beside a single plugin's file.
const OWN: &str = "00-consul-cni-";

/// The file that the runtime takes: the first by name that can be read as a configuration with plugins.
///
/// # Errors
/// The directory cannot be read.
pub fn first(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    Ok(find(directory, |_| true)?.map(|(file, _)| file))
}

/// The file that the runtime would take, were it not for a list that the plugin's agent has made, and what it holds.
///
/// # Errors
/// The directory cannot be read.
pub fn first_of_others(directory: &Path) -> std::io::Result<Option<(PathBuf, String)>> {
    find(directory, |file| !is_own(file))
}

/// Whether the plugin's agent has made this list.
#[must_use]
pub fn is_own(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(OWN))
}

/// The list beside a single plugin's file: by its name it comes first, and the file of another program stays as it is.
#[must_use]
pub fn own(single: &Path) -> PathBuf {
    let name = single.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    single.with_file_name(format!("{OWN}{name}.conflist"))
}

fn find(directory: &Path, wanted: impl Fn(&Path) -> bool) -> std::io::Result<Option<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| ["conf", "conflist", "json"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    files.retain(|file| wanted(file));
    files.sort();
    // one that another program is writing at this moment is no JSON, and comes again
    Ok(files.into_iter().find_map(|file| {
        let text = std::fs::read_to_string(&file).ok()?;
        list(&text, is_list(&file)).is_ok().then_some((file, text))
    }))
}

/// Whether a file is a list by its name.
#[must_use]
pub fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "conflist")
}

/// The configuration with this entry in the last place, once, and everything else as it was. `None` where it is so already.
///
/// # Errors
/// The text is no configuration with plugins.
pub fn with(text: &str, is_list: bool, entry: &Value) -> Result<Option<String>, String> {
    let mut list = list(text, is_list)?;
    let plugins = plugins(&mut list)?;
    if plugins.last() == Some(entry) && plugins.iter().filter(|plugin| is_ours(plugin)).count() == 1 {
        return Ok(None);
    }
    plugins.retain(|plugin| !is_ours(plugin));
    plugins.push(entry.clone());
    Ok(Some(written(&list)))
}

/// The configuration without any entry of the plugin. `None` where there is none.
///
/// # Errors
/// The text is no configuration with plugins.
pub fn without(text: &str) -> Result<Option<String>, String> {
    let mut list = list(text, true)?;
    let plugins = plugins(&mut list)?;
    let before = plugins.len();
    plugins.retain(|plugin| !is_ours(plugin));
    Ok((plugins.len() < before).then(|| written(&list)))
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == PLUGIN
}

/// A single plugin becomes a list of one, as a file of its own that the runtime prefers.
fn list(text: &str, is_list: bool) -> Result<Map<String, Value>, String> {
    let value: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    if is_list {
        return match value.get("plugins").and_then(Value::as_array) {
            Some(plugins) if !plugins.is_empty() => Ok(value),
            _ => Err("it has no plugins".to_owned()),
        };
    }
    if !value.get("type").is_some_and(Value::is_string) {
        return Err("it has no type".to_owned());
    }
    let text = |key: &str, default: &str| value.get(key).and_then(Value::as_str).unwrap_or(default).to_owned();
    let (version, name) = (text("cniVersion", "0.3.1"), text("name", "k8s-pod-network"));
    let mut plugin = value;
    plugin.remove("cniVersion");
    let list = json!({"cniVersion": version, "name": name, "plugins": [plugin]});
    list.as_object().cloned().ok_or_else(|| "it is no JSON object".to_owned())
}

fn plugins(list: &mut Map<String, Value>) -> Result<&mut Vec<Value>, String> {
    list.get_mut("plugins").and_then(Value::as_array_mut).ok_or_else(|| "it has no plugins".to_owned())
}

fn written(list: &Map<String, Value>) -> String {
    // an object of strings and values always has a JSON form
    let mut text = serde_json::to_string_pretty(list).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const KINDNET: &str = r#"{"cniVersion":"0.3.1","name":"kindnet","foreign":{"a":[1,null]},"plugins":[{"type":"ptp","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

    fn entry() -> Value {
        json!({"type": PLUGIN, "name": PLUGIN, "log_level": "info"})
    }

    fn types(text: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(text).expect("JSON");
        let plugins = list["plugins"].as_array().expect("plugins");
        plugins.iter().map(|plugin| plugin["type"].as_str().expect("a type").to_owned()).collect()
    }

    #[test]
    fn it_comes_last_and_everything_else_stays() {
        let text = with(KINDNET, true, &entry()).expect("a list").expect("a change");
        assert_eq!(types(&text), ["ptp", "portmap", PLUGIN]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(list["foreign"], json!({"a": [1, null]}));
        assert_eq!(list["plugins"][0], json!({"type": "ptp", "ipam": {"type": "host-local"}}));
        assert_eq!(with(&text, true, &entry()), Ok(None), "twice is once");
        let back: Value = serde_json::from_str(&without(&text).expect("a list").expect("a change")).expect("JSON");
        assert_eq!(back, serde_json::from_str::<Value>(KINDNET).expect("JSON"));
    }

    #[rstest]
    #[case::not_last(r#"{"plugins":[{"type":"consul-cni","name":"consul-cni","log_level":"info"},{"type":"ptp"}]}"#)]
    #[case::twice(r#"{"plugins":[{"type":"consul-cni"},{"type":"ptp"},{"type":"consul-cni","name":"consul-cni","log_level":"info"}]}"#)]
    #[case::older(r#"{"plugins":[{"type":"ptp"},{"type":"consul-cni","name":"consul-cni","kubeconfig":"gone"}]}"#)]
    fn it_is_put_right(#[case] text: &str) {
        let text = with(text, true, &entry()).expect("a list").expect("a change");
        assert_eq!(types(&text), ["ptp", PLUGIN]);
        assert_eq!(with(&text, true, &entry()), Ok(None));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let text = r#"{"cniVersion":"0.4.0","name":"net","type":"bridge","mtu":1400}"#;
        let text = with(text, false, &entry()).expect("a plugin").expect("a change");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let bridge = json!({"name": "net", "type": "bridge", "mtu": 1400});
        assert_eq!(list, json!({"cniVersion": "0.4.0", "name": "net", "plugins": [bridge, entry()]}));
    }

    #[rstest]
    #[case::half("{\"plugins\":[{\"ty", true, "no JSON object")]
    #[case::array("[]", true, "no JSON object")]
    #[case::empty_list(r#"{"plugins":[]}"#, true, "no plugins")]
    #[case::no_list(r#"{"type":"ptp"}"#, true, "no plugins")]
    #[case::no_type(r#"{"name":"net"}"#, false, "no type")]
    fn no_configuration(#[case] text: &str, #[case] is_list: bool, #[case] part: &str) {
        let error = with(text, is_list, &entry()).expect_err("no configuration");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn the_first_that_can_be_used() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        assert_eq!(first(directory.path())?, None);
        write("00-half.conflist", "{\"plugins\"")?;
        write("05-other.txt", KINDNET)?;
        write("10-kindnet.conflist", KINDNET)?;
        write("20-later.conflist", KINDNET)?;
        assert_eq!(first(directory.path())?, Some(directory.path().join("10-kindnet.conflist")));
        Ok(())
    }
}
