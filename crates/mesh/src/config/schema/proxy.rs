//! `ProxyDefaults.spec.config`: settings that Consul passes to proxies without looking into them.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::config::Protocol;

/// Those of them that change something here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProxyConfig {
    pub(crate) protocol: Option<Protocol>,
    #[serde(deserialize_with = "whole")]
    pub(crate) local_connect_timeout_ms: Option<u32>,
    #[serde(deserialize_with = "whole")]
    pub(crate) local_request_timeout_ms: Option<u32>,
    #[serde(deserialize_with = "whole")]
    pub(crate) local_idle_timeout_ms: Option<u32>,
    #[serde(deserialize_with = "whole")]
    pub(crate) max_inbound_connections: Option<u32>,
    pub(crate) balance_inbound_connections: String,
}

/// A setting that is a number. It may be written as a text, as in Consul.
pub(crate) fn number(setting: &Value) -> Option<u32> {
    match setting {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let setting = Value::deserialize(deserializer)?;
    number(&setting).map(Some).ok_or_else(|| D::Error::custom(format!("{setting} is no whole number")))
}
