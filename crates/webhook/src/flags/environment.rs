//! Environment variables: how the injected containers reach the Consul servers.

use super::{Options, assign};
use crate::boolean;
use crate::settings::{ConsulServers, ServerTls};
use redirect::contract::{DUAL_STACK_ENV, servers};
use std::collections::BTreeMap;

const NAMES: [(&str, &str); 11] = [
    (servers::ADDRESSES, "host name, address or exec= command that yields the Consul servers; must be set"),
    (servers::GRPC_PORT, "gRPC port of the servers, 8502"),
    (servers::HTTP_PORT, "HTTP port of the servers, 8500, with TLS 8501"),
    (servers::API_TIMEOUT, "timeout of one call to the servers, 5s"),
    ("CONSUL_SKIP_SERVER_WATCH", "the servers' addresses do not change"),
    (servers::USE_TLS, "TLS towards the servers"),
    (servers::CACERT_PEM, "certificate authority of the servers, PEM"),
    (servers::CACERT_FILE, "file with the certificate authority of the servers"),
    (servers::TLS_SERVER_NAME, "name to expect in the servers' certificates"),
    (servers::PARTITION, "this cluster's admin partition, with -enable-partitions"),
    (DUAL_STACK_ENV, "true: redirect both address families"),
];

/// The variables and what they mean.
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMES.into_iter()
}

/// Takes over what is set; returns what is wrong.
pub(super) fn apply(options: &mut Options, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let mut switch = |name: &str| {
        let value = get(name)?;
        let read = boolean::parse(value);
        if read.is_none() {
            problems.push(format!("{name}={value}: allowed is {}", boolean::ALLOWED));
        }
        read
    };
    let tls = switch(servers::USE_TLS).unwrap_or(false);
    let skip_server_watch = switch("CONSUL_SKIP_SERVER_WATCH").unwrap_or(false);
    let mut consul = ConsulServers { skip_server_watch, ..ConsulServers::default() };
    if tls {
        consul.http_port = 8501;
    }
    let mut take = |name: &str, set: &mut dyn FnMut(&str) -> Result<(), String>| {
        if let Some(value) = get(name)
            && let Err(problem) = set(value)
        {
            problems.push(format!("{name}={value}: {problem}"));
        }
    };
    take(servers::ADDRESSES, &mut |text| assign::filled(&mut consul.addresses, text));
    take(servers::GRPC_PORT, &mut |text| assign::port(&mut consul.grpc_port, text));
    take(servers::HTTP_PORT, &mut |text| assign::port(&mut consul.http_port, text));
    take(servers::API_TIMEOUT, &mut |text| assign::duration(&mut consul.api_timeout, text));
    let mut ca_pem = get(servers::CACERT_PEM).map(str::to_owned);
    take(servers::CACERT_FILE, &mut |path| {
        ca_pem = Some(std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?);
        Ok(())
    });
    if get(servers::ADDRESSES).is_none() {
        problems.push("CONSUL_ADDRESSES: must be set".to_owned());
    }
    consul.tls = tls.then(|| ServerTls { server_name: get(servers::TLS_SERVER_NAME).map(str::to_owned), ca_pem });
    options.settings.consul = consul;
    options.settings.dual_stack = get(DUAL_STACK_ENV) == Some("true");
    problems
}
