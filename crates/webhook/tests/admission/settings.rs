//! Flags and environment.

use rstest::rstest;
use std::collections::BTreeMap;
use webhook::flags::{BadSettings, Command, Options, help, read};

const NEEDED: [&str; 4] =
    ["-consul-k8s-image=k", "-consul-dataplane-image=d", "-release-namespace=consul", "-tls-cert-dir=/certs"];

fn options(flags: &[&str], environment: &[(&str, &str)]) -> Result<Box<Options>, BadSettings> {
    let arguments = NEEDED.iter().chain(flags).map(|flag| (*flag).to_owned());
    let mut variables = BTreeMap::from([("CONSUL_ADDRESSES".to_owned(), "10.0.0.1".to_owned())]);
    variables.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    match read(arguments, &variables)? {
        Command::Serve(options) => Ok(options),
        Command::Help => panic!("nobody asked for help"),
    }
}

#[rstest]
#[case::attached(&["-listen=:1"])]
#[case::apart(&["-listen", ":1"])]
#[case::two_dashes(&["--listen=:1"])]
fn a_value_is_given_as_go_takes_it(#[case] flags: &[&str]) -> Result<(), BadSettings> {
    assert_eq!(options(flags, &[])?.listen, ":1");
    Ok(())
}

#[rstest]
#[case::alone(&["-default-inject=false", "-default-inject"], true)]
#[case::attached(&["-default-inject=false"], false)]
#[case::letter(&["-default-inject=F"], false)]
#[case::absent(&[], true)]
fn a_switch(#[case] flags: &[&str], #[case] on: bool) -> Result<(), BadSettings> {
    assert_eq!(options(flags, &[])?.settings.default_inject, on);
    Ok(())
}

#[test]
fn what_is_given_arrives() -> Result<(), BadSettings> {
    let flags = [
        "-allow-k8s-namespace=a",
        "-allow-k8s-namespace=b",
        "-deny-k8s-namespace=c",
        "-enable-cni=true",
        "-log-level=WARN",
        "-default-sidecar-proxy-cpu-limit=1",
        "-init-container-cpu-limit=",
        "-enable-openshift=false",
        "-acl-auth-method=",
        "-release-name=consul",
    ];
    let environment = [
        ("CONSUL_USE_TLS", "true"),
        ("CONSUL_CACERT_PEM", "pem"),
        ("CONSUL_DUAL_STACK", "true"),
        ("CONSUL_API_TIMEOUT", "1m30s"),
    ];
    let settings = options(&flags, &environment)?.settings;
    assert_eq!(settings.allow_namespaces, ["a".to_owned(), "b".to_owned()].into());
    assert_eq!(settings.deny_namespaces, ["c".to_owned()].into());
    assert!(settings.cni && settings.dual_stack);
    assert_eq!(settings.log_level, "warn");
    assert_eq!(settings.sidecar_resources.cpu_limit.as_deref(), Some("1"));
    assert_eq!(settings.init_resources.cpu_limit, None);
    assert_eq!((settings.consul.http_port, settings.consul.api_timeout.as_str()), (8501, "1m30s"));
    assert_eq!(settings.consul.tls.and_then(|tls| tls.ca_pem).as_deref(), Some("pem"));
    Ok(())
}

#[rstest]
#[case::none(&[], None)]
#[case::one(&["-enable-namespaces"], Some("default"))]
#[case::another(&["-enable-namespaces", "-consul-destination-namespace=apps"], Some("apps"))]
#[case::mirrored(&["-enable-namespaces", "-enable-k8s-namespace-mirroring", "-k8s-namespace-mirroring-prefix=k8s-"], Some("k8s-web"))]
#[case::mirroring_alone(&["-enable-k8s-namespace-mirroring"], None)]
fn consul_namespaces(#[case] flags: &[&str], #[case] expected: Option<&str>) -> Result<(), BadSettings> {
    assert_eq!(options(flags, &[])?.settings.consul_namespace("web").as_deref(), expected);
    Ok(())
}

#[rstest]
#[case::flag(&["-enable-partitions", "-partition=east"], &[], Some("east"))]
#[case::variable(&["-enable-partitions"], &[("CONSUL_PARTITION", "west")], Some("west"))]
#[case::off(&[], &[("CONSUL_PARTITION", "west")], None)]
fn partitions(
    #[case] flags: &[&str],
    #[case] environment: &[(&str, &str)],
    #[case] expected: Option<&str>,
) -> Result<(), BadSettings> {
    assert_eq!(options(flags, environment)?.settings.partition.as_deref(), expected);
    Ok(())
}

#[rstest]
#[case::both(&["-tls-auto=injector", "-tls-auto-hosts=a"], "only one of it and -tls-cert-dir can be set")]
#[case::no_name(&["-tls-auto-hosts=a,,b"], "names must not be empty")]
fn where_the_certificate_comes_from(#[case] flags: &[&str], #[case] part: &str) {
    let message = options(flags, &[]).expect_err("bad settings").to_string();
    assert!(message.contains(part), "{part} in {message}");
}

/// What the chart of consul-k8s passes when everything is turned on.
#[test]
fn flags_of_the_chart_are_known() -> Result<(), BadSettings> {
    let flags = [
        "-enable-federation",
        "-consul-image=c",
        "-release-name=consul",
        "-resource-prefix=consul-consul",
        "-enable-cni=true",
        "-enable-peering=true",
        "-enable-openshift",
        "-enable-consul-dns=true",
        "-enable-gateway-metrics=true",
        "-acl-auth-method=consul-k8s-auth-method",
        "-consul-cross-namespace-acl-policy=cross-namespace-policy",
        "-default-consul-sidecar-memory-limit=50Mi",
        "-default-enable-consul-dataplane-as-sidecar=true",
    ];
    let settings = options(&flags, &[])?.settings;
    assert!(settings.openshift && settings.cni && settings.consul_dns && settings.native_sidecar.enabled);
    assert_eq!(settings.acl.map(|acl| acl.auth_method).as_deref(), Some("consul-k8s-auth-method"));
    Ok(())
}

#[test]
fn every_bad_setting_is_reported() {
    let flags = [
        "-no-such-flag",
        "stray",
        "-default-inject=yes",
        "-log-level=loud",
        "-default-merged-metrics-port=0",
        "-default-sidecar-proxy-memory-limit=much",
        "-enable-webhook-ca-update",
        "-enable-partitions",
        "-cluster-dns=10.96.0.10,dns",
        "-listen",
    ];
    let arguments = flags.iter().map(|flag| (*flag).to_owned());
    let environment = [("CONSUL_GRPC_PORT", "x"), ("CONSUL_USE_TLS", "on"), ("CONSUL_API_TIMEOUT", "5")];
    let variables = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let message = read(arguments, &variables).expect_err("bad settings").to_string();
    for part in [
        "-no-such-flag: no such flag",
        "\"stray\": not a flag",
        "-default-inject=yes: allowed is one of",
        "-log-level=loud: allowed is one of",
        "-default-merged-metrics-port=0: allowed is a port",
        "-default-sidecar-proxy-memory-limit=much: allowed is a quantity",
        "-enable-webhook-ca-update=true: not supported",
        "-enable-partitions: -partition or CONSUL_PARTITION must be set",
        "-cluster-dns=10.96.0.10,dns: \"dns\" is no address",
        "-listen: a value must follow",
        "-consul-k8s-image: must be set",
        "-tls-cert-dir: must be set, or -tls-auto",
        "CONSUL_ADDRESSES: must be set",
        "CONSUL_GRPC_PORT=x: allowed is a port",
        "CONSUL_USE_TLS=on: allowed is one of",
        "CONSUL_API_TIMEOUT=5: allowed is a duration",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn help_names_flags_and_variables() {
    let text = help();
    for part in ["Transparent proxy:", "-enable-cni[=true|false]", "-tls-cert-dir=VALUE", "CONSUL_ADDRESSES"] {
        assert!(text.contains(part), "{part}");
    }
    assert_eq!(read(["-help".to_owned()], &BTreeMap::new()), Ok(Command::Help));
}

#[test]
fn the_manifest_is_understood() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = include_str!("../../../../clusters/consul/connect-injector.yaml");
    let flags = manifest.lines().filter_map(|line| line.trim().strip_prefix("- -"));
    let variables = BTreeMap::from([("CONSUL_ADDRESSES".to_owned(), "consul-server.consul.svc".to_owned())]);
    let Command::Serve(options) = read(flags.map(|flag| format!("-{flag}")), &variables)? else {
        return Err("the manifest asks for help".into());
    };
    assert_eq!(options.settings, webhook::Settings::default(), "the manifest holds the chart's defaults");
    Ok(())
}
