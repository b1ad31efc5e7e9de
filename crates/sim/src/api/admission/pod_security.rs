//! Pod Security admission: the levels `baseline` and `restricted` of the Pod Security Standards, as a namespace's label
//! `pod-security.kubernetes.io/enforce` asks for them. The newest version of the standards, whatever `enforce-version` says.

use serde_json::Value;

use crate::api::call::Call;
use crate::api::status::Result;

const LABEL: &str = "pod-security.kubernetes.io/enforce";
const ADDABLE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

/// Refuses a Pod that its namespace does not allow.
pub(crate) fn enforce(call: &Call, pod: &Value) -> Result<()> {
    let Some(namespace) = call.cluster.store.get("namespaces", "", call.namespace()) else { return Ok(()) };
    let level = namespace.value["metadata"]["labels"][LABEL].as_str().unwrap_or("privileged");
    let violations = violations(level, pod);
    if violations.is_empty() {
        return Ok(());
    }
    let name = pod["metadata"]["name"].as_str().or(pod["metadata"]["generateName"].as_str()).unwrap_or_default();
    Err(call.forbidden(name, &format!("violates PodSecurity \"{level}:latest\": {}", violations.join(", "))))
}

/// What a level forbids, in the words of Kubernetes.
fn violations(level: &str, pod: &Value) -> Vec<String> {
    let pod = Checked::new(pod);
    match level {
        "baseline" => pod.baseline(false),
        // with the stricter word where both have one
        "restricted" => pod.baseline(true).into_iter().chain(pod.restricted()).collect(),
        _ => Vec::new(),
    }
}

struct Checked<'a> {
    spec: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Checked<'a> {
    fn new(pod: &'a Value) -> Self {
        let spec = &pod["spec"];
        let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        Self { spec, containers: lists.flat_map(|key| spec[key].as_array().into_iter().flatten()).collect() }
    }

    /// `what (container "a" must …)`, or nothing where no container is meant.
    fn of(&self, what: &str, must: &str, is_wrong: impl Fn(&Value) -> bool) -> Option<String> {
        let named: Vec<String> =
            self.containers.iter().filter(|c| is_wrong(c)).map(|c| format!("\"{}\"", name(c))).collect();
        let subject = match named.len() {
            0 => return None,
            1 => format!("container {}", named[0]),
            _ => format!("containers {}", named.join(", ")),
        };
        Some(format!("{what} ({subject} {must})"))
    }

    /// The container's word, or else the Pod's.
    fn effective<'b>(&'b self, container: &'b Value, path: &str) -> &'b Value {
        let of = |context: &'b Value| context.pointer(path).filter(|value| !value.is_null());
        of(&container["securityContext"]).or_else(|| of(&self.spec["securityContext"])).unwrap_or(&Value::Null)
    }

    fn baseline(&self, strict: bool) -> Vec<String> {
        let hosts: Vec<_> =
            ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|key| self.spec[key] == true).collect();
        let volumes: Vec<_> = self.volumes().filter(|volume| volume["hostPath"].is_object()).map(name).collect();
        let sysctls = self.spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
        let unsafe_ones: Vec<_> = sysctls.filter_map(|s| s["name"].as_str()).filter(|s| !is_safe(s)).collect();
        let quoted = |list: &[&str]| list.iter().map(|entry| format!("\"{entry}\"")).collect::<Vec<_>>().join(", ");
        let checks = [
            (!hosts.is_empty()).then(|| format!("host namespaces ({}=true)", hosts.join("=true, "))),
            (!volumes.is_empty() && !strict).then(|| format!("hostPath volumes (volume {})", quoted(&volumes))),
            (!unsafe_ones.is_empty()).then(|| format!("forbidden sysctls ({})", unsafe_ones.join(", "))),
            self.of("privileged", "must not set securityContext.privileged=true", |c| {
                c["securityContext"]["privileged"] == true
            }),
            self.of("hostPort", "uses hostPorts", |c| {
                c["ports"].as_array().into_iter().flatten().any(|port| port["hostPort"].as_u64().unwrap_or(0) > 0)
            }),
            self.of("non-default capabilities", "must not include others in securityContext.capabilities.add", |c| {
                !strict && added(c).any(|capability| !ADDABLE.contains(&capability))
            }),
            self.of("seccompProfile", "must not set securityContext.seccompProfile.type to \"Unconfined\"", |c| {
                !strict && self.effective(c, "/seccompProfile/type") == "Unconfined"
            }),
            self.of("procMount", "must not set securityContext.procMount to \"Unmasked\"", |c| {
                c["securityContext"]["procMount"] == "Unmasked"
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn restricted(&self) -> Vec<String> {
        let others: Vec<_> =
            self.volumes().filter(|volume| !VOLUMES.iter().any(|kind| volume[kind].is_object())).collect();
        let names: Vec<_> = others.into_iter().map(|volume| format!("\"{}\"", name(volume))).collect();
        let drops_all = |c: &Value| {
            let dropped = c["securityContext"]["capabilities"]["drop"].as_array();
            dropped.into_iter().flatten().any(|capability| capability == "ALL")
        };
        let checks = [
            (!names.is_empty()).then(|| format!("restricted volume types (volumes {})", names.join(", "))),
            self.of(
                "allowPrivilegeEscalation != false",
                "must set securityContext.allowPrivilegeEscalation=false",
                |c| c["securityContext"]["allowPrivilegeEscalation"] != false,
            ),
            self.of("unrestricted capabilities", "must set securityContext.capabilities.drop=[\"ALL\"]", |c| {
                !drops_all(c)
            }),
            self.of("unrestricted capabilities", &self.added_beyond(), |c| {
                added(c).any(|capability| capability != "NET_BIND_SERVICE")
            }),
            self.of("runAsNonRoot != true", "must set securityContext.runAsNonRoot=true", |c| {
                self.effective(c, "/runAsNonRoot") != true
            }),
            self.of("runAsUser=0", "must not set runAsUser=0", |c| self.effective(c, "/runAsUser") == 0),
            self.of(
                "seccompProfile",
                "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                |c| !matches!(self.effective(c, "/seccompProfile/type").as_str(), Some("RuntimeDefault" | "Localhost")),
            ),
        ];
        checks.into_iter().flatten().collect()
    }

    fn added_beyond(&self) -> String {
        let mut all: Vec<_> =
            self.containers.iter().flat_map(|c| added(c)).filter(|c| *c != "NET_BIND_SERVICE").collect();
        all.sort_unstable();
        all.dedup();
        let list = all.iter().map(|capability| format!("\"{capability}\"")).collect::<Vec<_>>().join(", ");
        format!("must not include {list} in securityContext.capabilities.add")
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        self.spec["volumes"].as_array().into_iter().flatten()
    }
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

fn added(container: &Value) -> impl Iterator<Item = &str> {
    let list = container["securityContext"]["capabilities"]["add"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn is_safe(sysctl: &str) -> bool {
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    ]
    .contains(&sysctl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn strict() -> Value {
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    }

    fn with(change: Value) -> Value {
        let mut context = strict();
        for (key, value) in change.as_object().expect("an object") {
            context[key] = value.clone();
        }
        json!({"spec": {"containers": [{"name": "a", "securityContext": context}]}})
    }

    #[rstest]
    #[case::strict("restricted", with(json!({})), &[])]
    #[case::of_the_pod("restricted", json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}]}}), &[])]
    #[case::nothing_said("restricted", json!({"spec": {"containers": [{"name": "a"}]}}), &["allowPrivilegeEscalation != false", "drop=[\"ALL\"]", "runAsNonRoot != true", "seccompProfile"])]
    #[case::net_admin("restricted", with(json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}})), &["must not include \"NET_ADMIN\""])]
    #[case::root("restricted", with(json!({"runAsUser": 0})), &["runAsUser=0"])]
    #[case::host_path("restricted", json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []}}), &["restricted volume types (volumes \"v\")"])]
    #[case::baseline("baseline", json!({"spec": {"containers": [{"name": "a"}]}}), &[])]
    #[case::baseline_network("baseline", json!({"spec": {"hostNetwork": true, "containers": [{"name": "a"}]}}), &["host namespaces (hostNetwork=true)"])]
    #[case::baseline_capability("baseline", with(json!({"capabilities": {"add": ["NET_ADMIN"]}})), &["non-default capabilities"])]
    #[case::baseline_path("baseline", json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []}}), &["hostPath volumes (volume \"v\")"])]
    #[case::unbound("privileged", json!({"spec": {"hostPID": true, "containers": []}}), &[])]
    fn levels(#[case] level: &str, #[case] pod: Value, #[case] expected: &[&str]) {
        let found = violations(level, &pod);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, part) in found.iter().zip(expected) {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn init_containers_count_too() {
        let pod = json!({"spec": {"initContainers": [{"name": "i", "securityContext": {"privileged": true}}], "containers": []}});
        assert_eq!(
            violations("baseline", &pod),
            ["privileged (container \"i\" must not set securityContext.privileged=true)"]
        );
    }
}
