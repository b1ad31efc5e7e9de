//! `connect-init`, the init container of an injected Pod: waits until the control plane knows the Pod, leaves the proxy's
//! service id for the sidecar, and redirects the Pod's traffic to it. It fails closed: a Pod whose traffic cannot be
//! redirected does not start.
//!
//! Settings come from Go-style flags ([`flags`]) and environment variables ([`Settings`]), as consul-k8s has them. What
//! cannot work (a wrong setting, no iptables, no capability) is found before the wait, not after it.
//!
//! Probes that the configuration lets through come from the node, whose addresses are found in the environment and the Pod's
//! routes: see [`probe_sources`] for what is assumed, and what a wrong assumption leads to.
//!
//! Where a CNI plugin redirects, the program proves by a connection that it has, and fails the Pod otherwise.
//!
//! It prepares the Pods of gateways, too, of which only the registration of the gateway itself is awaited.
//!
//! Where the servers have ACLs it logs in with the Pod's service account first, and out when the registration is known: see
//! [`login`].
//!
//! A second program, `redirect-traffic`, does the redirection alone, checks it, undoes it and explains it: see
//! [`redirect_traffic`].

use std::io::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use nix::unistd::{Uid, setfsuid};
use redirect::{Applied, Policy, contract};

pub mod catalog;
pub mod client;
pub mod duration;
pub mod flags;
mod log;
pub mod login;
pub mod overrides;
pub mod probe_sources;
mod proof;
mod reader;
pub mod redirect_traffic;
pub mod registration;
pub mod settings;
pub mod termination;
pub mod tls;
mod volume;

use catalog::{Catalog, Service};
pub use reader::{Asked, SettingsErrors};
use registration::Patience;
pub use settings::Settings;
use termination::Termination;

/// Runs the program with its arguments (without its own name) and a look-up of environment variables.
///
/// # Errors
/// A phrase that follows "failed to …" and says what to check next.
pub fn main(
    arguments: Vec<String>,
    environment: impl Fn(&str) -> Option<String>,
    termination: &Termination,
) -> anyhow::Result<()> {
    match Settings::read(arguments, environment).context("read the settings")? {
        Asked::Help(text) => std::io::stdout().write_all(text.as_bytes()).context("print the flags"),
        Asked::Run(settings) => {
            log::start(&settings.log);
            run(&settings, termination)
        }
    }
}

/// Waits for the registration, then acts on it. What must not be left behind is undone by `termination`, if the end comes earlier.
///
/// # Errors
/// As [`main`].
pub fn run(settings: &Settings, termination: &Termination) -> anyhow::Result<()> {
    if let Some(port) = settings.proof {
        proof::prove(port).context("prove that this Pod is redirected")?;
        tracing::info!(port, "the CNI plugin has redirected this Pod");
    }
    let mut redirection = settings.redirect.clone();
    let mut exempt = None;
    if let Some(config) = &mut redirection {
        probe_sources::fill(config, &settings.node_addresses);
        let policy = Policy::from_config(config, settings.dual_stack)
            .with_context(|| format!("understand {}", settings::REDIRECT_SOURCE))?;
        // whatever stops the rules from being read would stop them from being written: say so now, not in two minutes
        redirect::kernel::verify_with(settings.backend, &policy).context(REDIRECTING)?;
        exempt = Some(policy.proxy_uid());
    }
    let proxy = with_sockets_of(exempt, || registered(settings, exempt, termination));
    // with or without it: before the rules, which would be in the way
    termination.finish();
    let proxy = proxy?;
    tracing::info!(proxy = %proxy.id, pod = %settings.pod, "the Pod is registered");
    volume::write(&settings.proxy_id_file, "the proxy's service id", &proxy.id)?;
    if let Some(authority) = &settings.servers_authority {
        let file = settings.proxy_id_file.with_file_name(contract::CA_FILE);
        volume::write(&file, "the authority of the Consul servers", authority)?;
    }
    if let Some(config) = redirection {
        let config = overrides::apply(config, &proxy)?;
        let policy = Policy::from_config(&config, settings.dual_stack)
            .with_context(|| format!("follow the registration of proxy {}", proxy.id))?;
        let Applied { backend, reason, changed } =
            redirect::kernel::apply_with(settings.backend, &policy).context(REDIRECTING)?;
        let (inbound, outbound) = (policy.inbound_port(), policy.outbound_port());
        tracing::info!(inbound, outbound, %backend, reason, changed, "traffic is redirected");
    }
    Ok(())
}

/// Waits for the registration, logged in if need be. Logging out is left to `termination`.
fn registered(settings: &Settings, exempt: Option<u32>, termination: &Termination) -> anyhow::Result<Service> {
    let started = Instant::now();
    let mut patience = Patience::default();
    let mut servers = settings.servers.clone();
    if let Some(login) = &settings.login {
        servers = login::log_in(&servers, login, &patience)
            .with_context(|| format!("get a token of Consul's for {}", settings.pod))?;
        patience.total = patience.total.saturating_sub(started.elapsed());
        let servers = servers.clone();
        termination.before_the_end(move || with_sockets_of(exempt, || login::log_out(&servers)));
    }
    registration::wait(&Catalog::new(&servers), &settings.pod, &patience)
        .with_context(|| format!("wait for the registration of {}", settings.pod))
}

/// Runs `work` with sockets that the rules take for this user's: where a run before this one has left rules, and no proxy
/// listens yet, the servers would be out of reach. Needs the capability SETUID; without it nothing changes.
fn with_sockets_of<T>(uid: Option<u32>, work: impl FnOnce() -> T) -> T {
    let Some(uid) = uid else { return work() };
    let own = setfsuid(Uid::from_raw(uid));
    let done = work();
    setfsuid(own);
    done
}

const REDIRECTING: &str = "redirect this Pod's traffic";
