//! Ports of a Pod as annotations name them: by number or by a container port's name.

use k8s_openapi::api::core::v1::PodSpec;
use std::cell::OnceCell;
use std::collections::HashMap;

/// The named ports of one Pod, gathered when the first one is asked for.
pub(crate) struct Ports<'a> {
    spec: &'a PodSpec,
    named: OnceCell<HashMap<&'a str, i32>>,
}

impl<'a> Ports<'a> {
    /// The ports of this Pod's main containers.
    pub(crate) fn of(spec: &'a PodSpec) -> Self {
        Self { spec, named: OnceCell::new() }
    }

    /// The port meant by `text`: a container port of that name, else a number from 1 to 65535 as Go reads it.
    pub(crate) fn resolve(&self, text: &str) -> Option<u16> {
        let named = self.named.get_or_init(|| {
            let ports = self.spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
            let mut named = HashMap::new();
            for port in ports {
                if let Some(name) = &port.name {
                    // of two with one name, the first counts, as for upstream
                    named.entry(name.as_str()).or_insert(port.container_port);
                }
            }
            named
        });
        let port = match named.get(text) {
            Some(port) => u16::try_from(*port).ok(),
            None => number(text),
        };
        port.filter(|port| *port > 0)
    }
}

/// A number with Go's prefixes: `0x`, `0o`, `0b`, and a leading `0` for octal.
fn number(text: &str) -> Option<u16> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    // `from_str_radix` would take a sign as well; Go's positive sign is no port anybody writes.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u16::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::number("1234", Some(1234))]
    #[case::hexadecimal("0x1F90", Some(8080))]
    #[case::octal("010", Some(8))]
    #[case::name("api", Some(9090))]
    #[case::twice_the_name("twice", Some(1))]
    #[case::zero("0", None)]
    #[case::too_big("65536", None)]
    #[case::negative("-1", None)]
    #[case::unknown_name("web", None)]
    #[case::not_ascii("0é", None)]
    #[case::empty("", None)]
    fn ports(#[case] text: &str, #[case] port: Option<u16>) -> Result<(), serde_json::Error> {
        let spec = serde_json::from_value(serde_json::json!({"containers": [
            {"name": "a", "ports": [{"name": "twice", "containerPort": 1}, {"containerPort": 3}]},
            {"name": "b", "ports": [{"name": "api", "containerPort": 9090}, {"name": "twice", "containerPort": 2}]},
        ]}))?;
        assert_eq!(Ports::of(&spec).resolve(text), port);
        Ok(())
    }
}
