//! What becomes of containers: restarts, init containers, probes, the end.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use sim::ProbeResult;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_fails_is_restarted_with_back_off() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({"containers": [{"name": "c", "command": ["sh", "-c", "echo said by $$; echo why > /dev/termination-log; (sleep 1000 &); exit 7"]}]});
    bed.create("crash", spec).await;
    let pod = bed
        .wait("crash", "in back-off", |pod| waits_for(pod, "CrashLoopBackOff") && container(pod).restart_count >= 2)
        .await;
    let status = container(&pod);
    let last = status.last_state.and_then(|state| state.terminated).expect("an end");
    same((last.exit_code, last.reason.as_deref(), last.message.as_deref()), (7, Some("Error"), Some("why\n")));
    let message = status.state.and_then(|state| state.waiting).and_then(|waiting| waiting.message).expect("a message");
    assert!(
        message.starts_with("back-off ") && message.contains("restarting failed container=c pod=crash_default("),
        "{message}"
    );
    assert!(bed.log("crash", "c", true).await.starts_with("said by "));
    bed.event("crash", "Back-off restarting failed container c in pod crash_default(").await;
    // What a container leaves behind goes with it.
    let sandbox = bed.kubelet.sandbox("default", "crash").expect("a sandbox");
    let alone = poll(async || pids_in(&sandbox).is_empty().then_some(())).await;
    assert!(alone.is_some(), "{:?} stay", pids_in(&sandbox));
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_images_and_programs_are_named() {
    let bed = Bed::new(vec![]).await;
    bed.create("image", json!({"containers": [{"name": "c", "image": "registry.example/none:1"}]})).await;
    bed.create("program", json!({"containers": [{"name": "c", "command": ["none"]}]})).await;
    bed.create("root", json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]})).await;
    let pod = bed.wait("image", "in back-off", |pod| waits_for(pod, "ImagePullBackOff")).await;
    let message =
        container(&pod).state.and_then(|state| state.waiting).and_then(|waiting| waiting.message).unwrap_or_default();
    assert!(message.contains("registry.example/none:1"), "{message}");
    bed.event("image", "Failed: Failed to pull image \"registry.example/none:1\": no such image in the simulator's table; known images: test/shell").await;
    same(phase(&pod), "Pending");
    bed.event("program", "exec: \"none\": executable file not found in $PATH").await;
    bed.wait("program", "in error", |pod| {
        container(pod)
            .last_state
            .and_then(|state| state.terminated)
            .is_some_and(|ended| ended.reason.as_deref() == Some("StartError"))
    })
    .await;
    bed.wait("root", "refused", |pod| waits_for(pod, "CreateContainerConfigError")).await;
    bed.event("root", "container has runAsNonRoot and image will run as root (pod: \"root_default(").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_in_order_and_sidecars_go_on() {
    let bed = Bed::new(vec![]).await;
    let volume = json!([{"name": "order", "mountPath": "/order"}]);
    let note = |text: &str| format!("echo {text} >> /order/list");
    let spec = json!({
        "restartPolicy": "Never",
        "volumes": [{"name": "order", "emptyDir": {"medium": "Memory"}}],
        "initContainers": [
            {"name": "first", "command": ["sh", "-c", note("first")], "volumeMounts": volume},
            {"name": "proxy", "restartPolicy": "Always", "volumeMounts": volume,
             "command": ["sh", "-c", format!("sleep 0.05; {}; touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 0.02; done", note("proxy"))],
             "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/up"]}}},
            {"name": "second", "command": ["sh", "-c", note("second")], "volumeMounts": volume},
        ],
        "containers": [{"name": "main", "command": ["sh", "-c", format!("{}; cat /order/list", note("main"))], "volumeMounts": volume}],
    });
    bed.create("job", spec).await;
    let pod = bed
        .wait("job", "complete and its sidecar stopped", |pod| {
            let proxy = pod
                .status
                .iter()
                .flat_map(|status| status.init_container_statuses.iter().flatten())
                .find(|status| status.name == "proxy");
            phase(pod) == "Succeeded"
                && proxy.is_some_and(|proxy| proxy.state.as_ref().is_some_and(|state| state.terminated.is_some()))
        })
        .await;
    same(bed.log("job", "main", false).await, "first\nproxy\nsecond\nmain\n".into());
    same(condition(&pod, "Initialized"), true);

    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "command": ["false"]}], "containers": [{"name": "c"}]});
    bed.create("broken", spec).await;
    let pod = bed.wait("broken", "failed", |pod| phase(pod) == "Failed").await;
    same(waits_for(&pod, "PodInitializing"), true);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_come_from_the_node_and_decide() {
    let bed = Bed::new(vec![]).await;
    // `sleep`, as a first process, ends only with its grace period.
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "c",
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"port": "web", "path": "/healthz"}},
        "livenessProbe": {"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 1},
    }]});
    bed.create("probed", spec).await;
    let pod = bed.wait("probed", "running", |pod| phase(pod) == "Running").await;
    same(is_ready(&pod), false);
    let address: IpAddr = pod.status.and_then(|status| status.pod_ip).expect("an address").parse().expect("an IP");
    bed.event("probed", &format!("Unhealthy: Readiness probe failed: Get \"http://{address}:8080/healthz\": dial tcp {address}:8080: connect: connection refused")).await;

    let sandbox = bed.kubelet.sandbox("default", "probed").expect("a sandbox");
    let listener = sandbox.netns.tcp_listen(SocketAddr::new(address, 8080)).expect("a listener");
    let (peers, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let answer: Arc<Mutex<&str>> = Arc::new(Mutex::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let answering = tokio::spawn(serve(listener, Arc::clone(&answer), peers));
    bed.ready("probed").await;
    let (peer, request) = seen.recv().await.expect("a request");
    same(peer.ip(), bed.network.nodes()[0].addresses[0]);
    assert!(
        request.starts_with("GET /healthz HTTP/1.1\r\n") && request.contains("user-agent: kube-probe/"),
        "{request}"
    );

    let outcomes = bed.kubelet.probe_now("default", "probed").await.expect("outcomes");
    let readiness = outcomes.iter().find(|outcome| outcome.kind == "readiness").expect("a readiness probe");
    same((readiness.success, readiness.result), (true, ProbeResult::Answered));
    let flows = poll(async || {
        let (peer, _) = seen.recv().await?;
        (Some(peer.port()) == readiness.local_port).then_some(())
    });
    assert!(flows.await.is_some(), "the flow is the one named");

    *answer.lock().expect("no panic") = "HTTP/1.1 503 Sorry\r\ncontent-length: 0\r\n\r\n";
    bed.wait("probed", "not ready", |pod| !is_ready(pod)).await;
    bed.event("probed", "Readiness probe failed: HTTP probe failed with statuscode: 503").await;
    *answer.lock().expect("no panic") = "";
    let outcomes = bed.kubelet.probe_now("default", "probed").await.expect("outcomes");
    let readiness = outcomes.iter().find(|outcome| outcome.kind == "readiness").expect("a readiness probe");
    same(readiness.result, ProbeResult::Reset);
    answering.abort();

    bed.shell("probed", "c", "touch /tmp/dead").await;
    bed.wait("probed", "restarted", |pod| container(pod).restart_count == 1).await;
    bed.event("probed", "Killing: Container c failed liveness probe, will be restarted").await;
    bed.stop().await;
}

/// Answers every request with what `answer` is then; nothing at all when it is empty.
async fn serve(
    listener: std::net::TcpListener,
    answer: Arc<Mutex<&'static str>>,
    peers: tokio::sync::mpsc::UnboundedSender<(SocketAddr, String)>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((mut stream, peer)) = listener.accept().await {
        let mut request = vec![0; 1024];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let text = *answer.lock().expect("no panic");
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = peers.send((peer, String::from_utf8_lossy(&request[..read]).into_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_orderly_and_complete() {
    let bed = Bed::new(vec![]).await;
    let trap = "trap 'echo TERM; sleep 0.1; echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": "polite", "command": ["sh", "-c", trap], "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}},
            {"name": "stubborn", "command": ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"]},
        ],
    });
    bed.create("leaving", spec.clone()).await;
    bed.ready("leaving").await;
    let up = poll(async || {
        let logs = [bed.log("leaving", "polite", false).await, bed.log("leaving", "stubborn", false).await];
        logs.iter().all(|log| log.contains("up")).then_some(())
    });
    assert!(up.await.is_some(), "both containers run");
    let sandbox = bed.kubelet.sandbox("default", "leaving").expect("a sandbox");
    let began = Instant::now();
    bed.pods().delete("leaving", &DeleteParams::default()).await.expect("deletion begins");
    let gone =
        poll(async || bed.pods().get_opt("leaving").await.expect("the API answers").is_none().then_some(())).await;
    assert!(gone.is_some(), "the pod stays");
    assert!(began.elapsed() >= Duration::from_millis(900), "the stubborn one had its grace: {:?}", began.elapsed());
    same(pids_in(&sandbox), vec![]);
    same(
        bed.seen.0.lock().expect("no panic").clone(),
        vec![("leaving".to_owned(), true), ("leaving".to_owned(), false)],
    );
    let file = bed.directory.path().join("artifacts/logs/default_leaving/polite.log");
    let log = std::fs::read_to_string(file).expect("the log outlives the pod");
    // A hook is a process of the container: its number 1 is the container's, and so is what that one writes to.
    let said = ["hook", "TERM", "bye"].map(|word| log.find(&format!("stdout F {word}\n")));
    assert!(said.iter().all(Option::is_some) && said.is_sorted(), "{log}");
    bed.event("leaving", "Killing: Stopping container polite").await;
    let left = std::fs::read_dir(bed.directory.path().join("scratch/pods")).expect("the directory").count();
    same(left, 0);

    // Its name can be used again, and deletion without grace is at once.
    bed.create("leaving", spec).await;
    bed.ready("leaving").await;
    let began = Instant::now();
    bed.pods().delete("leaving", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    let gone = poll(async || (bed.seen.0.lock().expect("no panic").len() == 4).then_some(())).await;
    assert!(gone.is_some() && began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
    assert!(bed.directory.path().join("artifacts/logs/default_leaving.1/polite.log").exists());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_waited_for() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({
        "volumes": [{"name": "keys", "secret": {"secretName": "later", "defaultMode": 256}}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}],
    });
    bed.create("waiting", spec).await;
    bed.event("waiting", "FailedMount: MountVolume.SetUp failed for volume \"keys\" : secret \"later\" not found")
        .await;
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "later"}, "stringData": {"key": "value"}, "data": {"key": "dmFsdWU="}}),
    )
    .expect("a secret");
    let secrets: Api<Secret> = Api::namespaced(bed.server.client(), "default");
    secrets.create(&PostParams::default(), &secret).await.expect("the secret is created");
    bed.ready("waiting").await;
    same(bed.shell("waiting", "c", "cat /keys/key; stat -c %a /keys/key").await.1, "value400\n".into());
    bed.stop().await;
}
