//! Envoy's admin interface, asked from inside the Pod's network; and whether Envoy has what the control plane wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use netns::NetNs;
use redirect::contract;
use serde_json::Value;
use sim::Dial as _;

const TIMEOUT: Duration = Duration::from_secs(5);

/// One HTTP exchange with a listener on the Pod's own loopback, of whichever family: the sidecar of a dual-stack mesh uses that of
/// IPv6.
pub(super) async fn exchange(netns: &NetNs, port: u16, method: &str, path: &str) -> Result<String> {
    let address = format!("port {port} of the Pod's loopback");
    let talk = async {
        let [v4, v6]: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let stream = match netns.dial(SocketAddr::new(v4, port)).await {
            Ok(stream) => stream,
            // the first refusal says more, where IPv6 is not there at all
            Err(refused) => netns.dial(SocketAddr::new(v6, port)).await.map_err(|_| refused)?,
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // it ends with the answer, and says nothing that the answer does not
        let connection = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/{path}"))
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        connection.abort();
        if !status.is_success() {
            bail!("status {status}");
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let answer =
        tokio::time::timeout(TIMEOUT, talk).await.with_context(|| format!("ask {address} for /{path} in time"))?;
    answer.with_context(|| format!("ask {address} for /{path}"))
}

/// GET of Envoy's admin interface.
pub(super) async fn get(netns: &NetNs, path: &str) -> Result<String> {
    exchange(netns, contract::ENVOY_ADMIN_PORT, "GET", path).await
}

/// What Envoy works with.
pub(super) async fn dump(netns: &NetNs) -> Result<Value> {
    serde_json::from_str(&get(netns, "config_dump?include_eds").await?).context("read Envoy's configuration")
}

/// The proxy's id, as its bootstrap has it.
pub(super) fn proxy_id(dump: &Value) -> Option<&str> {
    dump["configs"].as_array()?.iter().find_map(|c| c["bootstrap"]["node"]["id"].as_str())
}

/// Where in a dump the resources of a section are: list, then the resource in an entry.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("listeners", "dynamic_listeners", "/active_state/listener"),
    ("clusters", "dynamic_active_clusters", "/cluster"),
    ("endpoints", "dynamic_endpoint_configs", "/endpoint_config"),
];

/// The first difference between what the control plane wants a proxy to have and what it has; `None` when there is none.
pub(super) fn difference(wanted: &Value, dump: &Value) -> Option<String> {
    let configs = dump["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (section, list, resource) in SECTIONS {
        let has: Vec<&Value> = configs
            .iter()
            .flat_map(|c| c[*list].as_array().into_iter().flatten())
            .filter_map(|entry| entry.pointer(resource))
            .collect();
        let wants = wanted[*section].as_object()?;
        for (name, resource) in wants {
            let found = has.iter().find(|h| h["name"] == **name || h["cluster_name"] == **name);
            match found {
                None => return Some(format!("{section} {name} is missing")),
                Some(found) => {
                    if let Some(path) = lacks(resource, found) {
                        return Some(format!("{section} {name} differs at {path}"));
                    }
                }
            }
        }
        if *section != "endpoints" && has.len() != wants.len() {
            return Some(format!("there are {} {section} instead of {}", has.len(), wants.len()));
        }
    }
    None
}

/// The path at which `found` does not say what `wanted` says. Values that Protobuf does not write down because they are
/// the default count as said.
fn lacks(wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, value)| {
            let other = found.get(key).or_else(|| found.get(&snake(key)));
            match other {
                Some(other) => lacks(value, other).map(|path| format!("{key}.{path}")),
                None if is_default(value) => None,
                None => Some(key.clone()),
            }
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            if wanted.len() != found.len() {
                return Some(format!("[{} instead of {}]", found.len(), wanted.len()));
            }
            let mut pairs = wanted.iter().zip(found).enumerate();
            pairs.find_map(|(i, (w, f))| lacks(w, f).map(|path| format!("[{i}].{path}")))
        }
        (wanted, found) => {
            let same = wanted == found || text(wanted) == text(found) || is_redacted(found);
            (!same).then(|| format!("= {found} instead of {wanted}"))
        }
    }
}

fn snake(key: &str) -> String {
    let mut snake = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn is_redacted(found: &Value) -> bool {
    found.as_str().is_some_and(|text| text.contains("redacted"))
}

/// Numbers and durations are written in more than one way.
fn text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok()) {
        Some(seconds) => format!("{seconds}s"),
        None => text,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0s",
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.values().all(is_default),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"a": 1}), json!({"a": "1", "b": 2}), None)]
    #[case(json!({"timeout": "5.000s"}), json!({"timeout": "5s"}), None)]
    #[case(json!({"on": false, "list": []}), json!({}), None)]
    #[case(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1]}}), Some("a.b.[1 instead of 2]"))]
    #[case(json!({"a": "x"}), json!({"a": "y"}), Some("a.= \"y\" instead of \"x\""))]
    fn what_is_lacking(#[case] wanted: Value, #[case] found: Value, #[case] expected: Option<&str>) {
        assert_eq!(lacks(&wanted, &found).as_deref(), expected);
    }
}
