//! Results of the plugins before this one, handed on as they came.

use super::{CniError, Code, version};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::net::IpAddr;

/// `prevResult`.
#[derive(Debug)]
pub struct Previous<'a> {
    raw: &'a RawValue,
    version: String,
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Read {
    #[serde(rename = "cniVersion", default)]
    cni_version: String,
    #[serde(default)]
    ips: Vec<Address>,
    #[serde(default)]
    ip4: Option<Single>,
    #[serde(default)]
    ip6: Option<Single>,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

#[derive(Deserialize)]
struct Single {
    ip: String,
}

impl<'a> Previous<'a> {
    /// Reads a previous result; `wanted` is the version of the configuration, which it is meant to have.
    ///
    /// # Errors
    /// It is no result of a known version.
    pub fn read(raw: &'a RawValue, wanted: &str) -> Result<Self, CniError> {
        let wrong = |why: String| CniError::new(Code::Decode, format!("could not parse prevResult: {why}"));
        let read: Read = serde_json::from_str(raw.get()).map_err(|error| wrong(error.to_string()))?;
        let version = if read.cni_version.is_empty() { wanted.to_owned() } else { read.cni_version };
        if version::rank(&version).is_none() {
            return Err(wrong(format!("its version {version:?} is unknown")));
        }
        let texts = read.ips.iter().map(|ip| &ip.address).chain(read.ip4.iter().chain(&read.ip6).map(|ip| &ip.ip));
        let addresses = texts.map(|text| {
            let address = text.split('/').next().unwrap_or_default();
            address.parse().map_err(|_| wrong(format!("{text:?} is no address")))
        });
        Ok(Self { raw, version, addresses: addresses.collect::<Result<_, _>>()? })
    }

    /// The container's addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The same result in a version: byte for byte where it has it already.
    ///
    /// # Errors
    /// There is no way from the one version to the other.
    pub fn in_version(&self, wanted: &str) -> Result<Cow<'a, str>, CniError> {
        if self.version == wanted {
            return Ok(Cow::Borrowed(self.raw.get()));
        }
        if !version::has_lists(&self.version) || !version::has_lists(wanted) {
            let message = format!("could not turn prevResult of version {} into version {wanted}", self.version);
            return Err(CniError::new(Code::IncompatibleVersion, message));
        }
        let mut result: Map<String, Value> = serde_json::from_str(self.raw.get())
            .map_err(|error| CniError::new(Code::Decode, format!("could not parse prevResult: {error}")))?;
        result.insert("cniVersion".to_owned(), json!(wanted));
        for ip in result.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
            let six = ip["address"].as_str().is_some_and(|address| address.contains(':'));
            let Some(ip) = ip.as_object_mut() else { continue };
            if version::names_families(wanted) {
                ip.insert("version".to_owned(), json!(if six { "6" } else { "4" }));
            } else {
                ip.remove("version");
            }
        }
        Ok(Cow::Owned(Value::Object(result).to_string()))
    }
}

/// The result of a plugin that stands alone and makes nothing.
#[must_use]
pub fn empty(version: &str) -> String {
    json!({"cniVersion": version}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn the_same_version_is_the_same_bytes() {
        let raw = raw(r#"{ "ips":[{"address":"10.0.0.2/24"}],"cniVersion" : "1.0.0","own":1e3}"#);
        let previous = Previous::read(&raw, "1.0.0").expect("a result");
        assert_eq!(previous.in_version("1.0.0").as_deref(), Ok(raw.get()));
        assert_eq!(previous.addresses(), ["10.0.0.2".parse::<IpAddr>().expect("an address")]);
    }

    #[rstest]
    #[case::older("1.0.0", r#"{"address":"fd00::2/64"}"#, "0.4.0", r#"{"address":"fd00::2/64","version":"6"}"#)]
    #[case::newer("0.3.1", r#"{"version":"4","address":"10.0.0.2/24"}"#, "1.1.0", r#"{"address":"10.0.0.2/24"}"#)]
    fn another_version(#[case] from: &str, #[case] ip: &str, #[case] to: &str, #[case] expected: &str) {
        let raw = raw(&format!(r#"{{"cniVersion":"{from}","ips":[{ip}],"dns":{{}}}}"#));
        let converted = Previous::read(&raw, to).and_then(|previous| previous.in_version(to).map(Cow::into_owned));
        let expected: Value =
            serde_json::from_str(&format!(r#"{{"cniVersion":"{to}","ips":[{expected}],"dns":{{}}}}"#)).expect("JSON");
        assert_eq!(converted.map(|text| serde_json::from_str::<Value>(&text).expect("JSON")), Ok(expected));
    }

    #[rstest]
    #[case::number("7", Code::Decode)]
    #[case::no_address(r#"{"cniVersion":"1.0.0","ips":[{"address":"ten"}]}"#, Code::Decode)]
    #[case::unknown_version(r#"{"cniVersion":"7.0.0"}"#, Code::Decode)]
    #[case::too_old(r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}"#, Code::IncompatibleVersion)]
    fn mistakes(#[case] text: &str, #[case] code: Code) {
        let raw = raw(text);
        let failed = Previous::read(&raw, "1.0.0").and_then(|previous| previous.in_version("1.0.0").map(drop));
        assert_eq!(failed.map_err(|error| error.code), Err(code));
    }
}
