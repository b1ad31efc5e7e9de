//! What a container is given: identity, root, capabilities, environment, volumes, exec.

use std::time::Instant;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use sim::{ExecRequest, Missing, NodeAgent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_its_own_identity_root_and_network() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({
        "securityContext": {"runAsUser": 5995, "runAsGroup": 5996, "fsGroup": 77},
        "hostname": "own-name",
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "containers": [
            {"name": "a", "volumeMounts": [{"name": "shared", "mountPath": "/shared/deep"}]},
            {"name": "b", "volumeMounts": [{"name": "shared", "mountPath": "/in", "subPath": "sub", "readOnly": true}],
             "securityContext": {"runAsUser": 0, "readOnlyRootFilesystem": true}},
        ],
    });
    let began = Instant::now();
    bed.create("web", spec).await;
    let pod = bed.ready("web").await;
    eprintln!("two containers ready after {:?}", began.elapsed());
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("an address");
    same(phase(&pod), "Running");

    same(
        bed.shell("web", "a", "id -u; id -g; id -G; hostname; cat /etc/hostname").await.1,
        "5995\n5996\n5996 77\nown-name\nown-name\n".into(),
    );
    let (_, hosts, _) = bed.shell("web", "a", "cat /etc/hosts").await;
    assert!(hosts.contains(&format!("{address}\town-name")), "{hosts}");
    let (_, resolv, _) = bed.shell("web", "a", "cat /etc/resolv.conf").await;
    assert!(
        resolv.contains("nameserver 10.96.0.10") && resolv.contains("search default.svc.cluster.local"),
        "{resolv}"
    );

    same(
        bed.shell(
            "web",
            "a",
            "mkdir /shared/deep/sub; echo hello > /shared/deep/sub/file && stat -c %g /shared/deep/sub/file",
        )
        .await
        .1,
        "77\n".into(),
    );
    // b was started before the directory was there, and has it by subPath all the same.
    same(bed.shell("web", "b", "cat /in/file; id -u").await.1, "hello\n0\n".into());
    let refused = bed
        .shell("web", "b", "echo x > /in/file; echo x > /tmp/file; echo x > /etc/hosts; echo x > /usr/local/bin/x")
        .await;
    same(refused.2.matches("Read-only file system").count(), 4);
    same(
        bed.shell("web", "a", "echo x > /tmp/file; touch /usr/bin/x").await.2.matches("Read-only file system").count(),
        1,
    );

    // Only lo and eth0, and none of the machine's processes' mounts.
    let (_, links, _) = bed
        .shell("web", "a", "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")
        .await;
    let mut links: Vec<_> = links.split_whitespace().collect();
    links.sort_unstable();
    same(links, vec!["eth0", "lo"]);
    same(bed.seen.0.lock().expect("no panic").clone(), vec![("web".to_owned(), true)]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn net_admin_is_had_when_granted_and_not_otherwise() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({
        "containers": [
            {"name": "without"},
            {"name": "with", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
            {"name": "user", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 1000}},
            {"name": "bare", "securityContext": {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false}},
        ],
    });
    bed.create("caps", spec).await;
    bed.ready("caps").await;
    let add = "iptables -t nat -A OUTPUT -p tcp --dport 9 -j RETURN";
    let (code, _, err) = bed.shell("caps", "without", add).await;
    assert!(code != 0 && err.contains("Permission denied"), "{code} {err}");
    let (code, _, err) = bed.shell("caps", "with", add).await;
    same((code, err.as_str()), (0, ""));
    // The network is the Pod's: what one container adds, another one sees.
    same(bed.shell("caps", "with", "iptables -t nat -S OUTPUT").await.1.contains("--dport 9"), true);
    // As in Kubernetes: a user other than root does not get what is added.
    same(bed.shell("caps", "user", add).await.0 != 0, true);
    let (_, status, _) = bed.shell("caps", "bare", "grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status").await;
    same(
        status.split_whitespace().collect::<Vec<_>>(),
        vec!["CapEff:", "0000000000000000", "CapBnd:", "0000000000000000", "NoNewPrivs:", "1"],
    );
    let (_, status, _) = bed.shell("caps", "without", "grep CapBnd /proc/self/status").await;
    same(status.split_whitespace().last(), Some("00000000a80425fb"));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_xtables_refuses_iptables_of_both_kinds() {
    let bed = Bed::new(vec![Missing::IpTables]).await;
    let spec = json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]});
    bed.create("lacking", spec).await;
    bed.ready("lacking").await;
    for (program, words) in [("iptables-nft", "Protocol not supported"), ("iptables-legacy", "")] {
        let (code, _, err) = bed.shell("lacking", "c", &format!("{program} -t nat -S")).await;
        assert!(code != 0 && err.contains(words), "{program}: {code} {err}");
    }
    // Ordinary sockets and netlink work.
    same(bed.shell("lacking", "c", "ip -o link show eth0 | wc -l").await.1, "1\n".into());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_token_and_files_come_from_the_pod() {
    let bed = Bed::new(vec![]).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.server.client(), "default");
    let robot = serde_json::from_value(json!({"metadata": {"name": "robot"}})).expect("an account");
    accounts.create(&PostParams::default(), &robot).await.expect("the account is created");
    let spec = json!({
        "serviceAccountName": "robot",
        "volumes": [{"name": "info", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}}],
        "containers": [{
            "name": "c",
            "command": ["sh", "-c", "echo \"$(WHO) $POD_IP $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT $(NOT)\"; sleep 1000"],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "WHO", "value": "$(NAME)"},
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "volumeMounts": [{"name": "info", "mountPath": "/var/run/info", "readOnly": true}],
        }],
    });
    bed.create("info", spec).await;
    let pod = bed.ready("info").await;
    let address = pod.status.and_then(|status| status.pod_ip).expect("an address");
    let expected = format!("info {address} 10.96.0.1:443 ");
    let log = poll(async || Some(bed.log("info", "c", false).await).filter(|log| log.contains(&expected))).await;
    assert!(log.is_some(), "{}", bed.log("info", "c", false).await);
    same(
        bed.shell("info", "c", "cat /run/info/token; echo; cat /run/info/labels").await.1,
        "token of default/robot for info\napp=\"front\"".into(),
    );
    same(bed.shell("info", "c", "head -1 /var/run/info/ca.crt").await.1, "-----BEGIN CERTIFICATE-----\n".into());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_input_output_and_an_exit_code() {
    let bed = Bed::new(vec![]).await;
    bed.create("shell", json!({"containers": [{"name": "c"}]})).await;
    bed.ready("shell").await;
    let request = ExecRequest {
        namespace: "default".into(),
        pod: "shell".into(),
        container: String::new(),
        command: ["sh", "-c", "cat; echo oops >&2; exit 3"].map(str::to_owned).to_vec(),
        stdin: true,
    };
    let mut session = bed.kubelet.exec(request).await.expect("an exec");
    let mut stdin = session.stdin.take().expect("an input");
    stdin.write_all(b"through").await.expect("written");
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    session.stdout.read_to_string(&mut out).await.expect("read");
    session.stderr.read_to_string(&mut err).await.expect("read");
    same((session.exit.await, out.as_str(), err.as_str()), (3, "through", "oops\n"));

    let (code, _, err) = bed.exec("shell", "c", &["no-such-program"]).await;
    same(code, 127);
    assert!(err.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{err}");
    same(bed.exec("shell", "c", &["/etc/passwd"]).await.0, 126);
    same(bed.shell("shell", "c", "kill -9 $$").await.0, 137);
    let times: Vec<_> = {
        let mut times = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            bed.exec("shell", "c", &["true"]).await;
            times.push(began.elapsed());
        }
        times
    };
    eprintln!("exec: {times:?}");
    bed.stop().await;
}
