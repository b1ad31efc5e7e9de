//! Whose processes a container sees, and that all of them go with it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use sim::{ExecRequest, NodeAgent};

use crate::bed::*;

/// Numbers in a listing of `/proc`.
fn numbers(listing: &str) -> Vec<u32> {
    let mut all: Vec<u32> = listing.split_whitespace().filter_map(|name| name.parse().ok()).collect();
    all.sort_unstable();
    all
}

async fn gone(bed: &Bed, name: &str) {
    let gone = poll(async || bed.pods().get_opt(name).await.expect("the API answers").is_none().then_some(())).await;
    assert!(gone.is_some(), "{name} stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sees_and_signals_its_own_processes_only() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "containers": [
            {"name": "a"},
            {"name": "b", "command": ["sh", "-c", "sleep 1000 & sleep 1001 & wait"]},
        ],
    });
    bed.create("two", spec).await;
    bed.ready("two").await;

    // `ls` is the exec's own process.
    let (_, listing, _) = bed.exec("two", "a", &["ls", "/proc"]).await;
    same(numbers(&listing).len(), 2);
    same(numbers(&listing)[0], 1);
    same(bed.exec("two", "a", &["cat", "/proc/1/cmdline"]).await.1, "sleep\x001000\x00".into());
    let (_, own, _) = bed.exec("two", "a", &["readlink", "/proc/self"]).await;
    assert!(numbers(&own)[0] > 1, "an exec is no first process: {own}");
    let three = poll(async || {
        let (_, listing, _) = bed.exec("two", "b", &["ls", "/proc"]).await;
        (numbers(&listing).len() == 4).then_some(())
    });
    assert!(three.await.is_some(), "the shell, its two children and ls");

    // Numbers as the node counts, and as the other container does.
    let sandbox = bed.kubelet.sandbox("default", "two").expect("a sandbox");
    for pid in pids_in(&sandbox) {
        let (code, _, err) = bed.shell("two", "a", &format!("kill -0 {pid}")).await;
        assert!(code != 0 && err.contains("No such process"), "{pid}: {code} {err}");
    }
    // What is mounted at /proc is read-only where it would change the machine, as ever.
    let (_, _, err) = bed.shell("two", "a", "echo 1 > /proc/sys/kernel/panic").await;
    assert!(err.contains("Read-only file system"), "{err}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_the_first_process() {
    let bed = Bed::new(vec![]).await;
    // In a session and a mount namespace of its own, and deaf: nothing but the kernel's own count finds it.
    let daemon =
        "unshare --mount setsid sh -c 'trap \"\" TERM HUP INT; echo up > /shared/pipe; while :; do sleep 1000; done' &";
    let script = format!("mkfifo /shared/pipe; {daemon} read line < /shared/pipe; exit 5");
    let spec = json!({
        "restartPolicy": "Never",
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "containers": [{
            "name": "c", "command": ["sh", "-c", script],
            "securityContext": {"privileged": true},
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        }],
    });
    bed.create("leaving", spec).await;
    let pod = bed.wait("leaving", "failed", |pod| phase(pod) == "Failed").await;
    let ended = container(&pod).state.and_then(|state| state.terminated).expect("an end");
    same((ended.exit_code, ended.reason.as_deref()), (5, Some("Error")));
    // At once: the end of the container was not told before theirs.
    let sandbox = bed.kubelet.sandbox("default", "leaving").expect("a sandbox");
    same(pids_in(&sandbox), vec![]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_process_without_a_handler_has_its_grace_and_is_killed() {
    let bed = Bed::new(vec![]).await;
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    bed.create("deaf", spec).await;
    bed.ready("deaf").await;
    let began = Instant::now();
    bed.pods().delete("deaf", &DeleteParams::default()).await.expect("deletion begins");
    gone(&bed, "deaf").await;
    assert!(began.elapsed() >= Duration::from_millis(900), "SIGTERM ended it: {:?}", began.elapsed());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_container_whether_or_not_it_is_waited_for() {
    let bed = Bed::new(vec![]).await;
    bed.create("shell", json!({"containers": [{"name": "c"}]})).await;
    bed.ready("shell").await;
    let request = ExecRequest {
        namespace: "default".into(),
        pod: "shell".into(),
        container: "c".into(),
        command: ["sleep", "1000"].map(str::to_owned).to_vec(),
        stdin: false,
    };
    let session = bed.kubelet.exec(request.clone()).await.expect("an exec");
    let forgotten = bed.kubelet.exec(request).await.expect("an exec");
    let sandbox = bed.kubelet.sandbox("default", "shell").expect("a sandbox");
    same(pids_in(&sandbox).len(), 3);
    drop(forgotten);
    let fewer = poll(async || (pids_in(&sandbox).len() == 2).then_some(())).await;
    assert!(fewer.is_some(), "a command stays that nobody listens to");

    bed.pods().delete("shell", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    let ended = poll(async || pids_in(&sandbox).is_empty().then_some(())).await;
    assert!(ended.is_some(), "{:?} stay", pids_in(&sandbox));
    let removed = poll(async || (bed.seen.0.lock().expect("no panic").len() == 2).then_some(())).await;
    assert!(removed.is_some(), "the container's end waits for a command's");
    same(session.exit.await, 137);
    bed.stop().await;
}

#[rstest]
#[case::shared(json!({"shareProcessNamespace": true}), "spec.shareProcessNamespace: true")]
#[case::of_the_node(json!({"hostPID": true}), "spec.hostPID: true")]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_would_see_other_processes_is_refused(#[case] spec: Value, #[case] field: &str) {
    let bed = Bed::new(vec![]).await;
    let mut spec = spec;
    spec["initContainers"] = json!([{"name": "i", "command": ["true"]}]);
    spec["containers"] = json!([{"name": "c"}]);
    bed.create("nosy", spec).await;
    let init = |pod: &Pod| {
        let status = pod.status.as_ref()?.init_container_statuses.as_ref()?.first()?.state.clone()?.waiting?;
        (status.reason.as_deref() == Some("CreateContainerConfigError")).then(|| status.message.unwrap_or_default())
    };
    let pod = bed.wait("nosy", "refused", |pod| init(pod).is_some()).await;
    let message = init(&pod).expect("it is");
    assert!(message.contains(field) && message.contains("remove the field"), "{message}");
    same(phase(&pod), "Pending");
    bed.event("nosy", &format!("Failed: Error: {field} is not supported by the simulator")).await;
    let sandbox = bed.kubelet.sandbox("default", "nosy").expect("a sandbox");
    same(pids_in(&sandbox), vec![]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_container_is_alone_and_refused_where_it_would_not_be() {
    let bed = Bed::new(vec![]).await;
    bed.create("web", json!({"containers": [{"name": "c"}]})).await;
    bed.ready("web").await;
    let list = json!([
        {"name": "alone", "image": "test/shell:1"},
        {"name": "nosy", "image": "test/shell:1", "targetContainerName": "c"},
    ]);
    let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": list}}));
    bed.pods().patch_ephemeral_containers("web", &PatchParams::default(), &patch).await.expect("patched");
    let state = |pod: &Pod, name: &str| {
        let all = pod.status.iter().flat_map(|status| status.ephemeral_container_statuses.iter().flatten());
        all.into_iter().find(|status| status.name == name).and_then(|status| status.state.clone()).unwrap_or_default()
    };
    let settled = |pod: &Pod| {
        let waiting = state(pod, "nosy").waiting.and_then(|waiting| waiting.reason);
        state(pod, "alone").running.is_some() && waiting.as_deref() == Some("CreateContainerConfigError")
    };
    let pod = bed.wait("web", "joined by one of the two", settled).await;
    let message = state(&pod, "nosy").waiting.and_then(|waiting| waiting.message).unwrap_or_default();
    assert!(message.contains("targetContainerName: c"), "{message}");
    same(numbers(&bed.exec("web", "alone", &["ls", "/proc"]).await.1).len(), 2);
    bed.stop().await;
}
