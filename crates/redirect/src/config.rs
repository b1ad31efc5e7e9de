//! The `redirect-traffic-config` JSON: Go's marshalling of Consul's struct, written and read as Go does.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Why a `redirect-traffic-config` could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("decode the redirect configuration: {0}")]
pub struct ConfigError(String);

/// The settings of the rules as webhook, CNI plugin and init container exchange them; not yet validated, see
/// [`Policy::from_config`](crate::Policy::from_config).
///
/// Serialises with Go's field names in Go's order, an empty list as `null`. Decodes as Go does: keys in any case, `null`
/// and a missing key as zero, unknown keys ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Address of the DNS server that answers the Pod, or empty.
    pub consul_dns_ip: String,
    /// Port of that server; 0 with an address set sends *all* DNS there, on port 53.
    pub consul_dns_port: i64,
    /// User id of the proxy, whose own traffic is not redirected.
    pub proxy_user_id: String,
    /// Port of the proxy's inbound listener.
    pub proxy_inbound_port: i64,
    /// Port of the proxy's outbound listener; 0 means 15001.
    pub proxy_outbound_port: i64,
    /// Inbound ports that are not redirected.
    pub exclude_inbound_ports: Vec<String>,
    /// Outbound destination ports that are not redirected.
    pub exclude_outbound_ports: Vec<String>,
    /// Outbound destination blocks that are not redirected.
    pub exclude_outbound_cidrs: Vec<String>,
    /// User ids whose traffic is not redirected.
    pub exclude_uids: Vec<String>,
    /// Group ids whose traffic is not redirected. Not in Consul's JSON, whose readers ignore it; written only when there are any.
    pub exclude_gids: Vec<String>,
    /// Names of [`Safeguard`](crate::Safeguard)s. Not in Consul's JSON either; written only when there are any.
    pub safeguards: Vec<String>,
    /// Inbound TCP ports that are not redirected for what comes from [`Self::probe_sources`]. Not in Consul's JSON either;
    /// written only when there are any.
    pub probe_ports: Vec<String>,
    /// Addresses and blocks that probes come from: the node's. Who applies the rules knows them better than who writes the
    /// configuration, so that it is usually empty in JSON; without any, no port is exempt. Not in Consul's JSON either; written
    /// only when there are any.
    pub probe_sources: Vec<String>,
    /// Redirect every user's dial of [`PROOF`](crate::contract::PROOF), excluded ones' too: proof that the rules are in force, for
    /// a program that the rules exempt. Not in Consul's JSON either; written only when set.
    pub proof: bool,
    /// Group id of the proxy, or empty. What its user sends with another group is none of the proxy's own, and is counted, where the
    /// backend can be asked for the number ([`bypasses`](crate::bypasses)). Not in Consul's JSON either; written only when set.
    pub proxy_group_id: String,
    /// Path of the network namespace the rules go into; empty means the current one. Filled in by a CNI plugin.
    pub net_ns: String,
}

impl Config {
    /// The JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always have a JSON form")
    }

    /// Decodes the JSON.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not a JSON object, or when keys have values of the wrong type: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        serde_json::from_str(json).map_err(|e| ConfigError(e.to_string()))
    }
}

/// Field names and order of the JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    #[serde(rename = "ConsulDNSIP")]
    consul_dns_ip: &'a str,
    #[serde(rename = "ConsulDNSPort")]
    consul_dns_port: i64,
    #[serde(rename = "ProxyUserID")]
    proxy_user_id: &'a str,
    proxy_inbound_port: i64,
    proxy_outbound_port: i64,
    exclude_inbound_ports: Option<&'a [String]>,
    exclude_outbound_ports: Option<&'a [String]>,
    #[serde(rename = "ExcludeOutboundCIDRs")]
    exclude_outbound_cidrs: Option<&'a [String]>,
    #[serde(rename = "ExcludeUIDs")]
    exclude_uids: Option<&'a [String]>,
    #[serde(rename = "NetNS")]
    net_ns: &'a str,
    /// An interface in Go, of which JSON can only carry nil.
    iptables_provider: Option<()>,
    #[serde(rename = "ExcludeGIDs", skip_serializing_if = "<[_]>::is_empty")]
    exclude_gids: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    safeguards: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    probe_ports: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    probe_sources: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    proof: bool,
    #[serde(rename = "ProxyGroupID", skip_serializing_if = "str::is_empty")]
    proxy_group_id: &'a str,
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Go marshals a nil slice, which is what an empty list is there, as `null`.
        fn list(entries: &[String]) -> Option<&[String]> {
            (!entries.is_empty()).then_some(entries)
        }
        let Self {
            consul_dns_ip,
            consul_dns_port,
            proxy_user_id,
            proxy_inbound_port,
            proxy_outbound_port,
            exclude_inbound_ports,
            exclude_outbound_ports,
            exclude_outbound_cidrs,
            exclude_uids,
            exclude_gids,
            safeguards,
            probe_ports,
            probe_sources,
            proof,
            proxy_group_id,
            net_ns,
        } = self;
        Wire {
            consul_dns_ip,
            consul_dns_port: *consul_dns_port,
            proxy_user_id,
            proxy_inbound_port: *proxy_inbound_port,
            proxy_outbound_port: *proxy_outbound_port,
            exclude_inbound_ports: list(exclude_inbound_ports),
            exclude_outbound_ports: list(exclude_outbound_ports),
            exclude_outbound_cidrs: list(exclude_outbound_cidrs),
            exclude_uids: list(exclude_uids),
            net_ns,
            iptables_provider: None,
            exclude_gids,
            safeguards,
            probe_ports,
            probe_sources,
            proof: *proof,
            proxy_group_id,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GoDecoder)
    }
}

struct GoDecoder;

impl<'de> Visitor<'de> for GoDecoder {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with the keys of redirect-traffic-config")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        let mut wrong = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let folded = key.to_ascii_lowercase();
            if !KEYS.contains(&folded.as_str()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<Value>()?;
            if let Err(problem) = set(&mut config, &folded, &value) {
                wrong.push(format!("{key} = {value}: {problem}"));
            }
        }
        if wrong.is_empty() { Ok(config) } else { Err(serde::de::Error::custom(wrong.join("; "))) }
    }
}

/// The keys, folded as Go compares them.
const KEYS: [&str; 17] = [
    "consuldnsip",
    "consuldnsport",
    "proxyuserid",
    "proxyinboundport",
    "proxyoutboundport",
    "excludeinboundports",
    "excludeoutboundports",
    "excludeoutboundcidrs",
    "excludeuids",
    "netns",
    "iptablesprovider",
    "excludegids",
    "safeguards",
    "probeports",
    "probesources",
    "proof",
    "proxygroupid",
];

fn set(config: &mut Config, folded: &str, value: &Value) -> Result<(), &'static str> {
    /// `null` leaves the field as it was, as in Go.
    fn put<T: DeserializeOwned>(field: &mut T, value: &Value, want: &'static str) -> Result<(), &'static str> {
        if !value.is_null() {
            *field = T::deserialize(value).map_err(|_| want)?;
        }
        Ok(())
    }
    fn put_list(field: &mut Vec<String>, value: &Value) -> Result<(), &'static str> {
        let mut entries: Vec<Option<String>> = Vec::new();
        put(&mut entries, value, "must be a list of strings, as [\"8080\"], or null")?;
        *field = entries.into_iter().map(Option::unwrap_or_default).collect();
        Ok(())
    }
    const STRING: &str = "must be a string";
    const INTEGER: &str = "must be a whole number";
    match folded {
        "consuldnsip" => put(&mut config.consul_dns_ip, value, STRING),
        "consuldnsport" => put(&mut config.consul_dns_port, value, INTEGER),
        "proxyuserid" => put(&mut config.proxy_user_id, value, "must be a string, as \"5995\""),
        "proxyinboundport" => put(&mut config.proxy_inbound_port, value, INTEGER),
        "proxyoutboundport" => put(&mut config.proxy_outbound_port, value, INTEGER),
        "excludeinboundports" => put_list(&mut config.exclude_inbound_ports, value),
        "excludeoutboundports" => put_list(&mut config.exclude_outbound_ports, value),
        "excludeoutboundcidrs" => put_list(&mut config.exclude_outbound_cidrs, value),
        "excludeuids" => put_list(&mut config.exclude_uids, value),
        "excludegids" => put_list(&mut config.exclude_gids, value),
        "safeguards" => put_list(&mut config.safeguards, value),
        "probeports" => put_list(&mut config.probe_ports, value),
        "probesources" => put_list(&mut config.probe_sources, value),
        "proxygroupid" => put(&mut config.proxy_group_id, value, "must be a string, as \"5995\""),
        "proof" => put(&mut config.proof, value, "must be true or false"),
        "netns" => put(&mut config.net_ns, value, STRING),
        "iptablesprovider" if !value.is_null() => Err("must be null"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The example of consul-k8s: DNS and metrics on, one container with HTTP readiness and liveness probes.
    const GOLDEN: &str = r#"{"ConsulDNSIP":"127.0.0.1","ConsulDNSPort":8600,"ProxyUserID":"5995","ProxyInboundPort":20000,"ProxyOutboundPort":15001,"ExcludeInboundPorts":["20200","20300","20400"],"ExcludeOutboundPorts":null,"ExcludeOutboundCIDRs":null,"ExcludeUIDs":["5996"],"NetNS":"","IptablesProvider":null}"#;

    fn golden() -> Config {
        Config {
            consul_dns_ip: "127.0.0.1".into(),
            consul_dns_port: 8600,
            proxy_user_id: "5995".into(),
            proxy_inbound_port: 20000,
            proxy_outbound_port: 15001,
            exclude_inbound_ports: ["20200", "20300", "20400"].map(String::from).into(),
            exclude_uids: vec!["5996".into()],
            ..Config::default()
        }
    }

    #[test]
    fn json_is_consuls_byte_for_byte() {
        assert_eq!(golden().to_json(), GOLDEN);
        assert_eq!(Config::from_json(GOLDEN).expect("Consul's own JSON"), golden());
    }

    #[test]
    fn what_consul_does_not_know_comes_last_and_only_when_set() {
        let config = Config {
            exclude_gids: vec!["7".into()],
            safeguards: vec!["refuse-udp".into()],
            probe_ports: vec!["9000".into()],
            probe_sources: vec!["10.0.0.1".into()],
            proof: true,
            ..golden()
        };
        let ours = r#","ExcludeGIDs":["7"],"Safeguards":["refuse-udp"],"ProbePorts":["9000"],"ProbeSources":["10.0.0.1"],"Proof":true}"#;
        let expected = GOLDEN.replace('}', ours);
        assert_eq!(config.to_json(), expected);
        assert_eq!(Config::from_json(&expected).expect("ours"), config);
    }

    #[rstest]
    #[case::missing_keys_are_zero("{}", Config::default())]
    #[case::unknown_keys(r#"{"Later":{"a":[1]}}"#, Config::default())]
    #[case::any_case(r#"{"proxyUSERid":"7"}"#, Config { proxy_user_id: "7".into(), ..Config::default() })]
    #[case::nulls(r#"{"ExcludeUIDs":null,"ProxyInboundPort":null,"NetNS":null}"#, Config::default())]
    #[case::null_entry(r#"{"ExcludeUIDs":[null]}"#, Config { exclude_uids: vec![String::new()], ..Config::default() })]
    #[case::last_wins(r#"{"NetNS":"/a","netns":"/b"}"#, Config { net_ns: "/b".into(), ..Config::default() })]
    fn decodes_as_go_does(#[case] json: &str, #[case] expected: Config) {
        assert_eq!(Config::from_json(json).expect("Go decodes it"), expected);
    }

    #[rstest]
    #[case::not_json("{\"ProxyUserID\":", &["EOF while parsing"])]
    #[case::not_an_object("[1]", &["a JSON object"])]
    #[case::provider(r#"{"IptablesProvider":{}}"#, &["IptablesProvider = {}", "must be null"])]
    #[case::fraction(r#"{"ConsulDNSPort":8600.5}"#, &["ConsulDNSPort = 8600.5", "whole number"])]
    #[case::all_at_once(r#"{"ProxyUserID":5995,"ProxyInboundPort":"20000","excludeUIDs":"1"}"#,
        &["ProxyUserID = 5995: must be a string", "ProxyInboundPort = \"20000\"", "excludeUIDs = \"1\": must be a list"])]
    fn refuses_by_naming_key_and_value(#[case] json: &str, #[case] parts: &[&str]) {
        let message = Config::from_json(json).expect_err("Go refuses it").to_string();
        for part in parts {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    }
}
