//! The ServiceAccount admission: every Pod has an account, and its containers the account's token.

use serde_json::{Value, json};

use crate::api::call::Call;
use crate::api::metadata::random_suffix;
use crate::api::status::Result;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Completes a new Pod.
pub(crate) fn service_account(call: &Call, pod: &mut Value) -> Result<()> {
    let spec = &mut pod["spec"];
    let name = match spec["serviceAccountName"].as_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    spec["serviceAccountName"] = name.clone().into();
    spec["serviceAccount"] = name.clone().into();
    let account = call.cluster.store.get("serviceaccounts", call.namespace(), &name);
    let Some(account) = account else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            call.namespace()
        );
        let metadata = &pod["metadata"];
        let pod = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default();
        return Err(call.forbidden(pod, &why));
    };
    if spec["imagePullSecrets"].is_null() && account.value["imagePullSecrets"].is_array() {
        spec["imagePullSecrets"] = account.value["imagePullSecrets"].clone();
    }
    let automount = &account.value["automountServiceAccountToken"];
    if spec["automountServiceAccountToken"].as_bool().or(automount.as_bool()).unwrap_or(true) {
        mount_token(spec);
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let volume = format!("kube-api-access-{}", random_suffix());
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["volumeMounts"].is_null() {
                container["volumeMounts"] = json!([]);
            }
            let Some(mounts) = container["volumeMounts"].as_array_mut() else { continue };
            if !mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
                used = true;
            }
        }
    }
    if !used {
        return;
    }
    if spec["volumes"].is_null() {
        spec["volumes"] = json!([]);
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({ "name": volume, "projected": { "defaultMode": 0o644, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
            ] } },
        ] } }));
    }
}
