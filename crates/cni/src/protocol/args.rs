//! `CNI_ARGS`: pairs `KEY=VALUE`, separated by semicolons.

use super::{CniError, Code};

/// The keys that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Name of the Pod; empty outside of Kubernetes.
    pub pod_name: String,
    /// Namespace of the Pod.
    pub pod_namespace: String,
    /// Uid of the Pod; runtimes pass it since Kubernetes 1.27 or so.
    pub pod_uid: String,
    /// Nomad's way: the configuration of the rules itself.
    pub iptables_config: Option<String>,
}

/// Keys of other plugins and of the specification that are no mistake.
const IGNORED: [&str; 2] = ["K8S_POD_INFRA_CONTAINER_ID", "IP"];

impl Args {
    /// Reads the variable; unset and empty say nothing.
    ///
    /// # Errors
    /// A pair is none, or a key is unknown and `IgnoreUnknown` does not allow that.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) if !value.contains('=') => (key, value),
                _ => {
                    let message = format!("CNI_ARGS: invalid pair {pair:?}: it must be KEY=VALUE with one equals sign");
                    return Err(CniError::new(Code::InvalidEnvironment, message));
                }
            };
            match key {
                "K8S_POD_NAME" => args.pod_name = value.to_owned(),
                "K8S_POD_NAMESPACE" => args.pod_namespace = value.to_owned(),
                "K8S_POD_UID" => args.pod_uid = value.to_owned(),
                "CONSUL_IPTABLES_CONFIG" => args.iptables_config = Some(value.to_owned()),
                // Go's booleans
                "IgnoreUnknown" => ignore_unknown = matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True"),
                other if IGNORED.contains(&other) => {}
                other => unknown.push(other),
            }
        }
        if unknown.is_empty() || ignore_unknown {
            return Ok(args);
        }
        let message =
            format!("CNI_ARGS: unknown keys {}; with IgnoreUnknown=true they are passed over", unknown.join(", "));
        Err(CniError::new(Code::InvalidEnvironment, message))
    }

    /// `namespace/name`, for messages.
    #[must_use]
    pub fn pod(&self) -> String {
        format!("{}/{}", self.pod_namespace, self.pod_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::kubernetes(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c0;K8S_POD_UID=u",
        "default/web"
    )]
    #[case::empty("", "/")]
    #[case::empty_pairs(";;K8S_POD_NAME=web;", "/web")]
    #[case::unknown_before_the_permission("X=1;IgnoreUnknown=true", "/")]
    fn pods(#[case] text: &str, #[case] pod: &str) {
        assert_eq!(Args::parse(text).map(|args| args.pod()), Ok(pod.to_owned()));
    }

    #[test]
    fn nomad() {
        let args = Args::parse(r#"CONSUL_IPTABLES_CONFIG={"ProxyUserID":"101"}"#);
        assert_eq!(args.map(|args| args.iptables_config), Ok(Some(r#"{"ProxyUserID":"101"}"#.to_owned())));
    }

    #[rstest]
    #[case::word("K8S_POD_NAME", "invalid pair \"K8S_POD_NAME\"")]
    #[case::two_equals("A=b=c", "invalid pair \"A=b=c\"")]
    #[case::unknown("X=1;Y=2", "unknown keys X, Y")]
    #[case::not_allowed("X=1;IgnoreUnknown=yes", "unknown keys X")]
    fn mistakes(#[case] text: &str, #[case] part: &str) {
        let error = Args::parse(text).expect_err("a mistake");
        assert!(error.code == Code::InvalidEnvironment && error.msg.contains(part), "{error}");
    }
}
