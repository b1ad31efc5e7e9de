//! Defaults of the kinds that make Pods.

use serde_json::{Value, json};

use super::{default, pod};

pub(crate) fn deployment(deployment: &mut Value) {
    let spec = &mut deployment["spec"];
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    default(spec, "strategy", json!({}));
    default(&mut spec["strategy"], "type", "RollingUpdate");
    if spec["strategy"]["type"] == "RollingUpdate" {
        default(&mut spec["strategy"], "rollingUpdate", json!({}));
        default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
        default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
    }
    pod::spec(&mut spec["template"]["spec"]);
}

pub(crate) fn replica_set(set: &mut Value) {
    let labels = set["spec"]["template"]["metadata"]["labels"].clone();
    default(&mut set["spec"], "replicas", 1);
    if set["spec"]["selector"].is_null() && labels.is_object() {
        set["spec"]["selector"] = json!({ "matchLabels": labels });
    }
    pod::spec(&mut set["spec"]["template"]["spec"]);
}

pub(crate) fn stateful_set(set: &mut Value) {
    let spec = &mut set["spec"];
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "updateStrategy", json!({}));
    default(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
    }
    pod::spec(&mut spec["template"]["spec"]);
}

pub(crate) fn daemon_set(set: &mut Value) {
    let spec = &mut set["spec"];
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "updateStrategy", json!({ "type": "RollingUpdate" }));
    pod::spec(&mut spec["template"]["spec"]);
}

pub(crate) fn job(job: &mut Value) {
    let spec = &mut job["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = 1.into();
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    pod::spec(&mut spec["template"]["spec"]);
}
