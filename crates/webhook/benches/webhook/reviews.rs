//! Reviews to send.

use axum::body::Bytes;
use serde_json::{Value, json};

/// A review, and what it is called.
pub(crate) struct Review {
    pub(crate) name: &'static str,
    pub(crate) body: Bytes,
}

impl Review {
    fn of(name: &'static str, pod: &Value) -> Self {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:serviceaccounts"]},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
        }});
        Self { name, body: review.to_string().into() }
    }
}

/// A small Pod, a typical one of five containers, and one of about 200 KiB.
pub(crate) fn all() -> [Review; 3] {
    [
        Review::of("small", &pod(1, 1, 0)),
        Review::of("typical", &pod(5, 12, 1024)),
        Review::of("large", &pod(24, 70, 40 * 1024)),
    ]
}

/// A Pod of so many containers with so many variables each, and an annotation of so many bytes.
fn pod(containers: usize, variables: usize, annotation: usize) -> Value {
    let container = |index: usize| {
        let variables: Vec<Value> = (0..variables)
            .map(|n| match n % 4 {
                0 => json!({"name": format!("SETTING_{n}"), "valueFrom": {"configMapKeyRef": {"name": "settings", "key": format!("setting-{n}")}}}),
                _ => json!({"name": format!("VARIABLE_{n}"), "value": format!("http://service-{n}.default.svc.cluster.local:8080/")}),
            })
            .collect();
        let probe = json!({"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3});
        json!({
            "name": format!("container-{index}"),
            "image": format!("registry.example/team/application-{index}:1.2.3"),
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": 8080 + index, "protocol": "TCP"}],
            "env": variables,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "livenessProbe": probe,
            "readinessProbe": probe,
            "volumeMounts": [
                {"name": "settings", "mountPath": "/etc/settings", "readOnly": true},
                {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
            ],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "application-7c5ddbdf54-",
            "namespace": "default",
            "labels": {"app": "application", "pod-template-hash": "7c5ddbdf54"},
            "annotations": {
                "consul.hashicorp.com/connect-inject": "true",
                "consul.hashicorp.com/transparent-proxy-exclude-outbound-ports": "5432,6379",
                "note": "x".repeat(annotation),
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "application-7c5ddbdf54", "uid": "0f8f6c0e-3f5e-4a3b-9d0b-1c1d5a3c9b11", "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "containers": (0..containers).map(container).collect::<Vec<_>>(),
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings", "defaultMode": 420}},
                {"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]}},
            ],
            "serviceAccountName": "application",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
        },
    })
}
