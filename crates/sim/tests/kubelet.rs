//! Pods on a real kernel: identity, capabilities, volumes, probes, restarts, the end. Needs root.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use sim::api::{ApiOptions, ApiServer};
use sim::kubelet::{Kubelet, KubeletApi, KubeletOptions};
use sim::net::Network;
use sim::{
    ExecRequest, Families, Image, ImageTable, LabOptions, LogRequest, Missing, NoObserver, NodeAgent, ProbeResult,
    SandboxInfo, SandboxObserver,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than anything here takes on a laden machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// One node, an API server and a kubelet.
struct Bed {
    network: Arc<Network>,
    server: ApiServer,
    kubelet: Arc<Kubelet>,
    seen: Arc<Seen>,
    directory: tempfile::TempDir,
}

/// Sandboxes, as observed: name and whether it was made (or removed).
#[derive(Default)]
struct Seen(Mutex<Vec<(String, bool)>>);

#[async_trait]
impl SandboxObserver for Seen {
    async fn created(&self, sandbox: &SandboxInfo) {
        self.0.lock().expect("no panic").push((sandbox.pod.clone(), true));
    }
    async fn removed(&self, sandbox: &SandboxInfo) {
        self.0.lock().expect("no panic").push((sandbox.pod.clone(), false));
    }
}

impl Bed {
    async fn new(lacks: Vec<Missing>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (scratch, artifacts) = (directory.path().join("scratch"), directory.path().join("artifacts"));
        let shell = Image { cmd: vec!["sleep".into(), "1000".into()], ..Image::default() };
        let images = ImageTable(BTreeMap::from([("test/shell".to_owned(), shell)]));
        let options = LabOptions {
            name: "kubelet".into(),
            nodes: 1,
            families: Families::V4,
            scratch: scratch.clone(),
            artifacts: artifacts.clone(),
            images: images.clone(),
            observer: Arc::new(NoObserver),
            tempo: 40.0,
            lacks: lacks.clone(),
            tamper: None,
        };
        let network = Arc::new(Network::build(&options).await.expect("a network (run as root)"));
        let node = network.nodes()[0].clone();
        let address = SocketAddr::new(node.addresses[0], 6443);
        let server = ApiServer::start(ApiOptions {
            artifacts: artifacts.clone(),
            listeners: vec![node.netns.tcp_listen(address).expect("a listener")],
            advertise: vec![address],
            dial: Arc::new(node.netns.clone()),
            tamper: None,
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        })
        .await
        .expect("an API server");
        let seen = Arc::new(Seen::default());
        let kubelet = Kubelet::start(KubeletOptions {
            node: node.clone(),
            client: server.client(),
            network: Arc::clone(&network),
            api: KubeletApi {
                ca_pem: server.ca_pem().to_owned(),
                server: "10.96.0.1:443".parse().expect("an address"),
                issue_token: Arc::new(|namespace, account, pod, _| format!("token of {namespace}/{account} for {pod}")),
            },
            images,
            observer: Arc::clone(&seen) as Arc<dyn SandboxObserver>,
            scratch,
            artifacts,
            tempo: 40.0,
            lacks,
            cluster_dns: "10.96.0.10".parse().expect("an address"),
        })
        .await
        .expect("a kubelet");
        server.register_agent(&node.name, Arc::clone(&kubelet) as Arc<dyn NodeAgent>);
        let nodes: Api<Node> = Api::all(server.client());
        let object = serde_json::from_value(json!({"metadata": {"name": node.name}})).expect("a node");
        nodes.create(&PostParams::default(), &object).await.expect("the node is created");
        Self { network, server, kubelet, seen, directory }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.server.client(), "default")
    }

    /// Creates a Pod on the node; `spec` lacks `nodeName`, and its containers' images are the shell's.
    async fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node-0");
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container.get("image").is_none() {
                    container["image"] = json!("test/shell:1");
                }
            }
        }
        let meta = json!({"name": name, "labels": {"app": "front"}, "annotations": {"a/b": "c"}});
        let pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created");
    }

    /// Waits until the Pod is as wanted.
    async fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let last = Mutex::new(None);
        let found = poll(async || {
            let pod = self.pods().get_opt(name).await.expect("the API answers");
            let fits = pod.as_ref().is_some_and(&wanted);
            *last.lock().expect("no panic") = pod.clone();
            pod.filter(|_| fits)
        });
        let found = found.await;
        found.unwrap_or_else(|| {
            panic!("{name} is not {what}: {:#?}", last.lock().expect("no panic").as_ref().map(|pod| &pod.status))
        })
    }

    async fn ready(&self, name: &str) -> Pod {
        self.wait(name, "ready", is_ready).await
    }

    /// Runs a shell command in a container: exit code, standard output, standard error.
    async fn shell(&self, pod: &str, container: &str, script: &str) -> (i32, String, String) {
        self.exec(pod, container, &["sh", "-c", script]).await
    }

    async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> (i32, String, String) {
        let request = ExecRequest {
            namespace: "default".into(),
            pod: pod.into(),
            container: container.into(),
            command: command.iter().map(ToString::to_string).collect(),
            stdin: false,
        };
        let mut session = self.kubelet.exec(request).await.expect("the exec starts");
        let (mut out, mut err) = (String::new(), String::new());
        let (code, read, read_too) = tokio::join!(
            session.exit,
            session.stdout.read_to_string(&mut out),
            session.stderr.read_to_string(&mut err)
        );
        read.and(read_too).expect("the output is text");
        (code, out, err)
    }

    async fn log(&self, pod: &str, container: &str, previous: bool) -> String {
        let request = LogRequest {
            namespace: "default".into(),
            pod: pod.into(),
            container: container.into(),
            previous,
            ..LogRequest::default()
        };
        let log = self.kubelet.logs(request).await.expect("a log");
        let parts: Vec<_> = log.try_collect().await.expect("a readable log");
        String::from_utf8(parts.concat()).expect("text")
    }

    async fn events(&self, pod: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.server.client(), "default");
        let all = api.list(&ListParams::default()).await.expect("events");
        let about = all.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
        about
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    async fn event(&self, pod: &str, part: &str) {
        let found = poll(async || self.events(pod).await.into_iter().find(|event| event.contains(part))).await;
        if found.is_none() {
            panic!("no event of {pod} says {part:?}: {:#?}", self.events(pod).await);
        }
    }

    async fn stop(self) {
        let pids = [self.pids("default")].concat();
        self.kubelet.stop().await;
        self.server.stop().await;
        assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()), "processes stay");
        drop(self.directory);
        drop(self.network);
    }

    /// Processes of all Pods' networks.
    fn pids(&self, namespace: &str) -> Vec<u32> {
        let names: Vec<String> = self.seen.0.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect();
        let sandboxes = names.iter().filter_map(|name| self.kubelet.sandbox(namespace, name));
        sandboxes.flat_map(|sandbox| pids_in(&sandbox)).collect()
    }
}

fn pids_in(sandbox: &SandboxInfo) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| netns::NetNs::of_process(*pid).is_ok_and(|netns| netns == sandbox.netns)).collect()
}

async fn poll<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt().await {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn container(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    statuses.into_iter().next().unwrap_or_default()
}

fn waits_for(pod: &Pod, reason: &str) -> bool {
    let state = container(pod).state.unwrap_or_default();
    state.waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
}

#[track_caller]
fn same<T: PartialEq + Debug>(actual: T, expected: T) {
    assert_eq!(actual, expected);
}

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
    let spec = json!({"containers": [{
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
            {"name": "polite", "command": ["sh", "-c", trap], "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/root/dev/null; touch /tmp/hooked"]}}}},
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
    assert!(log.contains("stdout F TERM\n") && log.contains("stdout F bye\n"), "{log}");
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
    use k8s_openapi::api::core::v1::Secret;
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
