//! Certificates change while API servers call: no call fails.

use crate::running::{Failure, PATIENCE, Tested, start};
use async_trait::async_trait;
use axum::http::StatusCode;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use sim::api::{ApiOptions, ApiServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use webhook::server::certificates::{Files, Managed, Policy};
use webhook::server::{Certificates, Metrics};

const HOUR: i64 = 60 * 60;

/// Certificates that live so long are made and replaced within the time that the test's clock has to go.
const POLICY: Policy = Policy {
    authority: Duration::from_secs(8 * 24 * 60 * 60),
    leaf: Duration::from_secs(7 * 24 * 60 * 60),
    settling: Duration::from_millis(200),
};

struct Direct;

#[async_trait]
impl sim::Dial for Direct {
    async fn dial(&self, peer: std::net::SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(peer).await
    }
}

/// An API server that calls webhooks as one of Kubernetes does, trusting what their configuration says.
async fn api_server() -> Result<(ApiServer, tempfile::TempDir), Failure> {
    let artifacts = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let server = ApiServer::start(ApiOptions {
        artifacts: artifacts.path().to_owned(),
        advertise: vec![listener.local_addr()?],
        listeners: vec![listener],
        dial: Arc::new(Direct),
        tamper: None,
        service_cidrs: vec!["10.96.0.0/16".parse()?],
    })
    .await?;
    Ok((server, artifacts))
}

/// A webhook that makes its certificates itself, by a clock that the test moves.
struct Replica {
    reviews: std::net::SocketAddr,
    certificates: Certificates,
}

/// The time so many hours from now. API servers have the real one, so that the test's clock comes from the past.
fn clock(hours: &Arc<AtomicI64>) -> Arc<dyn Fn() -> SystemTime + Send + Sync> {
    let hours = Arc::clone(hours);
    Arc::new(move || {
        let offset = hours.load(Ordering::SeqCst) * HOUR;
        let distance = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
    })
}

async fn replica(client: &kube::Client, identity: &str, hours: &Arc<AtomicI64>) -> Result<Replica, Failure> {
    let metrics = Metrics::default();
    let certificates = Certificates::none(metrics.clone());
    let managed = Managed {
        client: client.clone(),
        namespace: "consul".to_owned(),
        secret: "webhook-cert".to_owned(),
        configuration: "injector".to_owned(),
        hosts: ["127.0.0.1".to_owned()].into(),
        identity: identity.to_owned(),
        policy: POLICY,
        clock: clock(hours),
        certificates: certificates.clone(),
    };
    tokio::spawn(managed.run());
    let server = crate::running::server(client.clone(), certificates.clone(), metrics).await?;
    let reviews = server.reviews.local_addr()?;
    tokio::spawn(server.run(std::future::pending()));
    Ok(Replica { reviews, certificates })
}

fn configuration(reviews: std::net::SocketAddr) -> MutatingWebhookConfiguration {
    let webhook = json!({
        "name": "injector.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": format!("https://{reviews}/mutate")},
        "namespaceSelector": {"matchLabels": {"meshed": "true"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
    });
    serde_json::from_value(json!({"metadata": {"name": "injector"}, "webhooks": [webhook]})).expect("a configuration")
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        assert!(Instant::now() < deadline, "{what} was awaited");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Bed {
    client: kube::Client,
    hours: Arc<AtomicI64>,
    _server: (ApiServer, tempfile::TempDir),
}

async fn bed(hours: i64) -> Result<Bed, Failure> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = api_server().await?;
    let client = server.0.https_client()?;
    for name in ["consul", "web"] {
        let labels = json!({"meshed": (name == "web").to_string()});
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    let hours = Arc::new(AtomicI64::new(hours));
    let replica = replica(&client, "one", &hours).await?;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    configurations.create(&PostParams::default(), &configuration(replica.reviews)).await?;
    until("a certificate that is trusted", async || {
        let trusted = bundle(&client).await?.is_some() && replica.certificates.waiting().is_none();
        Ok(trusted.then_some(()))
    })
    .await?;
    Ok(Bed { client, hours, _server: server })
}

async fn bundle(client: &kube::Client) -> Result<Option<String>, Failure> {
    let configuration = Api::<MutatingWebhookConfiguration>::all(client.clone()).get("injector").await?;
    let bundle = configuration.webhooks.into_iter().flatten().find_map(|webhook| webhook.client_config.ca_bundle);
    Ok(bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()))
}

async fn leaf(client: &kube::Client) -> Result<Vec<u8>, Failure> {
    let secret = Api::<Secret>::namespaced(client.clone(), "consul").get("webhook-cert").await?;
    Ok(secret.data.unwrap_or_default().remove("tls.crt").map(|text| text.0).unwrap_or_default())
}

async fn create(client: &kube::Client, name: &str) -> Result<Pod, kube::Error> {
    let mut pod: Pod = serde_json::from_value(crate::running::pod()).map_err(kube::Error::SerdeError)?;
    pod.metadata.name = Some(name.to_owned());
    let pods: Api<Pod> = Api::namespaced(client.clone(), "web");
    let pod = pods.create(&PostParams::default(), &pod).await?;
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    Ok(pod)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_loses_no_admission() -> Tested {
    let bed = bed(-144).await?;
    let (stop, created) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|worker| {
            let (client, stop, created) = (bed.client.clone(), Arc::clone(&stop), Arc::clone(&created));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let pod = create(&client, &format!("load-{worker}")).await?;
                    assert!(pod.spec.is_some_and(|spec| spec.containers.len() == 2), "injected");
                    created.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, kube::Error>(())
            })
        })
        .collect();
    // first another server certificate by the same authority, then another authority and one by that
    for (hours, other_authority) in [(-31, false), (-12, true)] {
        let (before, trusted) = (leaf(&bed.client).await?, bundle(&bed.client).await?);
        bed.hours.store(hours, Ordering::SeqCst);
        until("another server certificate", async || Ok((leaf(&bed.client).await? != before).then_some(()))).await?;
        assert_eq!(bundle(&bed.client).await? != trusted, other_authority);
        let count = created.load(Ordering::SeqCst);
        until("some admissions", async || Ok((created.load(Ordering::SeqCst) > count + 20).then_some(()))).await?;
    }
    stop.store(true, Ordering::SeqCst);
    for worker in load {
        worker.await??;
    }
    let bundle = bundle(&bed.client).await?.unwrap_or_default();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2, "the authority before is trusted until it expires");
    Ok(())
}

/// A machine that slept for years: everything has expired, and nobody tells the webhook.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_long_sleep_it_works_again() -> Tested {
    let bed = bed(-3000 * 24).await?;
    let error = create(&bed.client, "too-late").await.expect_err("an expired certificate").to_string();
    assert!(error.contains("certificate"), "{error}");
    let (before, start) = (bundle(&bed.client).await?, Instant::now());
    bed.hours.store(0, Ordering::SeqCst);
    until("another authority", async || Ok((bundle(&bed.client).await? != before).then_some(()))).await?;
    until("an admission", async || Ok(create(&bed.client, "awake").await.ok())).await?;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let bundle = bundle(&bed.client).await?.unwrap_or_default();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "what has expired is trusted no more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_was_reset_is_put_back() -> Tested {
    let bed = bed(0).await?;
    let wanted = bundle(&bed.client).await?;
    let patch: json_patch::Patch =
        serde_json::from_value(json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]))?;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(bed.client.clone());
    configurations.patch("injector", &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
    until("the bundle", async || Ok((bundle(&bed.client).await? == wanted).then_some(()))).await?;
    create(&bed.client, "after").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_a_certificate() -> Tested {
    let bed = bed(0).await?;
    let before = leaf(&bed.client).await?;
    let second = replica(&bed.client, "two", &bed.hours).await?;
    until("a certificate", async || Ok(second.certificates.waiting().is_none().then_some(()))).await?;
    assert_eq!(leaf(&bed.client).await?, before, "the second replica made none of its own");
    // calls go to the second one now, and the bundle stays what it is
    let path = "/webhooks/0/clientConfig/url";
    let url = format!("https://{}/mutate", second.reviews);
    let patch: json_patch::Patch = serde_json::from_value(json!([{"op": "replace", "path": path, "value": url}]))?;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(bed.client.clone());
    configurations.patch("injector", &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
    create(&bed.client, "by-the-second").await?;
    Ok(())
}

#[tokio::test]
async fn files_are_read_again() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    let directory = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let first = pair()?;
    write("tls.crt", &first.cert.pem())?;
    write("tls.key", &first.signing_key.serialize_pem())?;
    tokio::spawn(Files::load(directory.path(), server.certificates.clone())?.follow());
    let serves = async |certified: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        crate::running::tls(server.reviews, "localhost", certified.cert.der().clone(), "h2").await.is_ok()
    };
    assert!(serves(&first).await);
    // between two files the pair does not fit, and the one before stays
    let second = pair()?;
    write("tls.crt", &second.cert.pem())?;
    until("a failure that is counted", async || {
        Ok(server.numbers().await?.contains("certificate_steps_total{step=\"failed\"} 1").then_some(()))
    })
    .await?;
    assert!(serves(&first).await);
    write("tls.key", &second.signing_key.serialize_pem())?;
    until("the second certificate", async || Ok(serves(&second).await.then_some(()))).await
}

#[test]
fn files_that_are_not_there() {
    let certificates = Certificates::none(Metrics::default());
    let error = Files::load(std::path::Path::new("/nowhere"), certificates).err().expect("an error").to_string();
    assert!(error.contains("/nowhere/tls.crt") && error.contains("Secret of type kubernetes.io/tls"), "{error}");
}
