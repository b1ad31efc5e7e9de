//! TLS to the Consul servers: whom the programs believe, and what they show.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use fake::{Consul, REGISTERED};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rstest::rstest;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

#[expect(dead_code, reason = "the catalogue does not change under these tests")]
mod fake;

const NAME: &str = "server.dc1.consul";

/// An authority, and a server that it vouches for.
struct Bed {
    directory: tempfile::TempDir,
    consul: Consul,
}

fn leaf(authority: &CertifiedIssuer<'_, KeyPair>, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (CertificateParams::new(names).expect("names").signed_by(&key, authority).expect("signed"), key)
}

impl Bed {
    /// A server of the name in Consul's certificates; it may demand a certificate of its clients.
    fn new(demands: bool) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let directory = tempfile::tempdir().expect("a directory");
        let (client, client_key) = leaf(&authority, &["client.dc1.consul"]);
        for (name, text) in
            [("ca.pem", authority.pem()), ("client.pem", client.pem()), ("client-key.pem", client_key.serialize_pem())]
        {
            fs::write(directory.path().join(name), text).expect("written");
        }
        let (server, key) = leaf(&authority, &[NAME]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("versions");
        let builder = if demands {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).expect("a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let tls = Arc::new(builder.with_single_cert(vec![server.der().clone()], key).expect("a pair"));
        let proxy = serde_json::from_str::<Vec<serde_json::Value>>(REGISTERED).expect("JSON").remove(1);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let consul = Consul::serve_tls(listener, &serde_json::json!([proxy]).to_string(), &tls);
        Self { directory, consul }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Looks the registration up, and prints what it would do about it.
    fn look_up(&self, arguments: &[String]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_redirect-traffic"))
            .args(["-proxy-uid=5995", "-proxy-id=web-0-web-sidecar-proxy", "-node-name=node-0-virtual", "-dry-run"])
            .arg(format!("-http-addr=https://{}", self.consul.address))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("start")
    }
}

#[rstest]
#[case::whom_it_knows(false, &["-ca-file=ca.pem", "-tls-server-name=server.dc1.consul"], None)]
#[case::of_a_directory(false, &["-ca-path=cas", "-tls-server-name=server.dc1.consul"], None)]
#[case::shows_its_own(
    true, &["-ca-file=ca.pem", "-tls-server-name=server.dc1.consul", "-client-cert=client.pem", "-client-key=client-key.pem"], None
)]
#[case::another_name(false, &["-ca-file=ca.pem"], Some("certificate not valid for name"))]
#[case::shows_nothing(true, &["-ca-file=ca.pem", "-tls-server-name=server.dc1.consul"], Some("CertificateRequired"))]
#[case::whom_nobody_knows(false, &["-tls-server-name=server.dc1.consul"], Some("ask Consul server 127.0.0.1"))]
fn a_server_is_believed_by_its_certificate(
    #[case] demands: bool,
    #[case] flags: &[&str],
    #[case] refusal: Option<&str>,
) {
    let bed = Bed::new(demands);
    let cas = bed.directory.path().join("cas");
    fs::create_dir(&cas).expect("made");
    fs::copy(bed.directory.path().join("ca.pem"), cas.join("ca.pem")).expect("copied");
    let is_file = |name: &str| bed.directory.path().join(name).exists();
    let flags: Vec<String> = flags
        .iter()
        .map(|flag| match flag.split_once('=') {
            Some((name, file)) if is_file(file) => format!("{name}={}", bed.path(file)),
            _ => (*flag).to_owned(),
        })
        .collect();
    let output = bed.look_up(&flags);
    let told = String::from_utf8_lossy(&output.stderr);
    match refusal {
        None => {
            assert!(output.status.success(), "{told}");
            // what only the registration knows
            assert!(String::from_utf8_lossy(&output.stdout).contains("--to-ports 15002"));
        }
        Some(refusal) => {
            assert_eq!(output.status.code(), Some(1));
            assert!(told.contains(refusal), "{told} does not say {refusal:?}");
            assert_eq!(bed.consul.requests(), Vec::<String>::new());
        }
    }
}

/// As the webhook of a cluster with TLS would say it.
#[rstest]
#[case::text(true)]
#[case::file(false)]
fn connect_init_speaks_tls_as_well(#[case] as_text: bool) {
    let bed = Bed::new(false);
    bed.consul.set(REGISTERED);
    let file = Path::new(&bed.path("proxyid")).to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_connect-init"));
    command
        .args(["-pod-name=web-0", "-pod-namespace=shop", "-consul-node-name=node-0-virtual"])
        .arg(format!("-proxy-id-file={}", file.display()))
        .env_clear()
        .env("CONSUL_ADDRESSES", "127.0.0.1")
        .env("CONSUL_HTTP_PORT", bed.consul.address.port().to_string())
        .env("CONSUL_USE_TLS", "true")
        .env("CONSUL_TLS_SERVER_NAME", NAME)
        .stdin(Stdio::null());
    let pem = fs::read_to_string(bed.path("ca.pem")).expect("there");
    let output = if as_text {
        command.env("CONSUL_CACERT_PEM", &pem)
    } else {
        command.env("CONSUL_CACERT_FILE", bed.path("ca.pem"))
    };
    let output = output.output().expect("start");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(file).expect("there"), "web-0-web-sidecar-proxy");
    // the sidecar has no such variable, and is told where the file is
    let of_sidecar = fs::read_to_string(bed.path("consul-ca.pem")).ok();
    assert_eq!(of_sidecar, as_text.then_some(pem));
}
