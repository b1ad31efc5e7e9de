//! Ports of a Pod as annotations name them: by number or by a container port's name.

use k8s_openapi::api::core::v1::PodSpec;

/// The port meant by `text`: a container port of that name, else a number from 1 to 65535 as Go reads it.
pub(crate) fn resolve(spec: &PodSpec, text: &str) -> Option<u16> {
    named(spec, text).or_else(|| number(text)).filter(|port| *port > 0)
}

fn named(spec: &PodSpec, name: &str) -> Option<u16> {
    spec.containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(name))
        .and_then(|port| u16::try_from(port.container_port).ok())
}

/// A number with Go's prefixes: `0x`, `0o`, `0b`, and a leading `0` for octal.
fn number(text: &str) -> Option<u16> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
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
    #[case::zero("0", None)]
    #[case::too_big("65536", None)]
    #[case::negative("-1", None)]
    #[case::unknown_name("web", None)]
    #[case::empty("", None)]
    fn ports(#[case] text: &str, #[case] port: Option<u16>) -> Result<(), serde_json::Error> {
        let spec = serde_json::from_value(serde_json::json!({
            "containers": [{"name": "a"}, {"name": "b", "ports": [{"name": "api", "containerPort": 9090}]}]
        }))?;
        assert_eq!(resolve(&spec, text), port);
        Ok(())
    }
}
