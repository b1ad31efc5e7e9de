//! Waiting until the control plane has registered the Pod: an application and its proxy, or a gateway, no more and no fewer.

use std::fmt;
use std::time::{Duration, Instant};

use redirect::contract;

use crate::catalog::{Catalog, Service};
use crate::client::ClientError;
use crate::log::chain;

/// The Pod whose registration is awaited.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The Consul node it is registered on.
    pub node: String,
    /// Only this service of a Pod that has several.
    pub service: Option<String>,
    /// The Pod is a gateway of this kind, as `mesh-gateway`.
    pub gateway: Option<String>,
    /// The Pod's service account, where its service has to have the same name.
    pub account: Option<String>,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod {}/{} on Consul node {}", self.namespace, self.name, self.node)
    }
}

impl Pod {
    /// The catalogue's filter expression for this Pod's services.
    #[must_use]
    pub fn filter(&self) -> String {
        let Self { name, namespace, service, .. } = self;
        let mut filter = format!(r#"Meta["pod-name"] == "{name}" and Meta["k8s-namespace"] == "{namespace}""#);
        if let Some(service) = service {
            filter.push_str(&format!(r#" and (Service == "{service}" or Service == "{service}-sidecar-proxy")"#));
        }
        filter
    }
}

/// How long to wait, and how often to say that one is waiting.
#[derive(Debug, Clone)]
pub struct Patience {
    /// When to give up.
    pub total: Duration,
    /// When to say for the first time what is missing.
    pub first_hint: Duration,
    /// How often to repeat it.
    pub hint_every: Duration,
    /// How often to ask a server that cannot hold an answer back.
    pub poll: Duration,
    /// How long what is registered has to stay so, where the server says when it does not: of a Pod that two Kubernetes services
    /// select, one is registered before the other.
    pub stand: Duration,
}

impl Default for Patience {
    /// Consul's: 120 tries, one a second, a hint every tenth; and one early, for whoever is watching.
    fn default() -> Self {
        Self {
            total: Duration::from_secs(120),
            first_hint: Duration::from_secs(2),
            hint_every: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            stand: Duration::from_millis(50),
        }
    }
}

/// A server that reports news all the time is not asked more often than this.
const NEWS_INTERVAL: Duration = Duration::from_millis(20);
/// After a failed request; doubles up to [`Patience::poll`].
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Why there is no usable registration.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Services were found, not an application and its proxy.
    #[error(
        "after {} s: did not find correct number of services, found: {}, services: [{}]: {}",
        waited.as_secs(), names.len(), names.join(", "), hint(names.len())
    )]
    Services {
        /// How long was waited.
        waited: Duration,
        /// The services that were there in the end.
        names: Vec<String>,
    },
    /// What was found is not a gateway of the kind that the Pod is, and nothing else.
    #[error(
        "after {} s: no {kind} is registered for this Pod alone, found: {}, services: [{}]: {GATEWAY_HINT}",
        waited.as_secs(), names.len(), names.join(", ")
    )]
    Gateway {
        /// How long was waited.
        waited: Duration,
        /// The kind of gateway.
        kind: String,
        /// The services that were there in the end.
        names: Vec<String>,
    },
    /// Two services, neither of which is a proxy.
    #[error("after {} s: services {} and {} are registered for this Pod, and neither is a sidecar proxy", waited.as_secs(), names[0], names[1])]
    NoProxy {
        /// How long was waited.
        waited: Duration,
        /// The services.
        names: [String; 2],
    },
    /// The service is not the one that the Pod may be. Waiting does not help.
    #[error(
        "service account name {account} doesn't match Consul service name {service}: with ACLs an account may register the \
         service of its own name alone, so name one after the other"
    )]
    Account {
        /// The Pod's service account.
        account: String,
        /// The service that is registered for it.
        service: String,
    },
    /// The catalogue could not be read in the end.
    #[error("after {} s", waited.as_secs())]
    Catalog {
        /// How long was waited.
        waited: Duration,
        /// The last failure.
        source: ClientError,
    },
}

/// What to check when a gateway is not registered.
const GATEWAY_HINT: &str = "check that one Kubernetes service, and no other, selects the gateway's Pod, and the log of the endpoints \
                            controller";

/// What to check, by the number of services that are registered.
fn hint(count: usize) -> String {
    match count {
        0 => "no Kubernetes service selects this Pod, or it is not registered yet: check that there is a Kubernetes \
              service whose selector matches the Pod's labels (kubectl get endpoints), and that the endpoints controller \
              runs"
            .to_owned(),
        1 | 2 => "the Pod's application and its proxy are not both registered yet: check the log of the endpoints \
                  controller"
            .to_owned(),
        _ => format!(
            "several Kubernetes services select this Pod and only one may: remove the others, or label them {}: \"true\"",
            contract::SERVICE_IGNORE
        ),
    }
}

/// What the last answer was, until there is a usable one.
enum Standing {
    Services(Vec<Service>),
    Unreachable(ClientError),
}

impl Standing {
    fn tell(&self, pod: &Pod, waited: Duration) {
        let seconds = waited.as_secs();
        match self {
            Self::Services(services) => {
                let hint = if pod.gateway.is_some() { GATEWAY_HINT.to_owned() } else { hint(services.len()) };
                tracing::warn!(%pod, seconds, found = services.len(), "still waiting: {hint}");
            }
            Self::Unreachable(error) => {
                tracing::warn!(%pod, seconds, "still waiting: failed to {}", chain(error));
            }
        }
    }

    fn give_up(self, pod: &Pod, waited: Duration) -> RegistrationError {
        let names = match self {
            Self::Unreachable(source) => return RegistrationError::Catalog { waited, source },
            Self::Services(services) => services.into_iter().map(|service| service.service),
        };
        if let Some(kind) = pod.gateway.clone() {
            return RegistrationError::Gateway { waited, kind, names: names.collect() };
        }
        match <[String; 2]>::try_from(names.collect::<Vec<_>>()) {
            Ok(names) => RegistrationError::NoProxy { waited, names },
            Err(names) => RegistrationError::Services { waited, names },
        }
    }
}

/// The proxy or the gateway, if everything is there that should be, and nothing else.
fn awaited<'a>(pod: &Pod, services: &'a [Service]) -> Option<&'a Service> {
    match (&pod.gateway, services) {
        (None, [_, _]) => services.iter().find(|service| service.kind == "connect-proxy"),
        (Some(kind), [one]) => (one.kind == *kind).then_some(one),
        _ => None,
    }
}

/// An error if the application is not named as the Pod's service account is and has to be.
fn named_as_the_account(pod: &Pod, services: &[Service]) -> Result<(), RegistrationError> {
    let Some(account) = &pod.account else { return Ok(()) };
    let other = services.iter().find(|service| service.kind.is_empty() && service.service != *account);
    match other {
        None => Ok(()),
        Some(other) => Err(RegistrationError::Account { account: account.clone(), service: other.service.clone() }),
    }
}

/// Waits for the registration and returns the proxy's part of it: where the server can hold an answer back until there is news,
/// as soon as it has stood for [`Patience::stand`].
///
/// # Errors
/// [`RegistrationError`] when patience has run out, or when what is registered is not what the Pod may be.
pub fn wait(catalog: &Catalog<'_>, pod: &Pod, patience: &Patience) -> Result<Service, RegistrationError> {
    let started = Instant::now();
    let filter = pod.filter();
    let mut hint_at = patience.first_hint;
    let mut retry = FIRST_RETRY;
    let mut index = None;
    let mut complete_since: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let waited = started.elapsed();
        let until_hint = hint_at.saturating_sub(waited);
        let until_it_stands = complete_since.map(|since| patience.stand.saturating_sub(since.elapsed()));
        let news_for = until_it_stands.unwrap_or(until_hint).max(NEWS_INTERVAL);
        let news_for = news_for.min(patience.total.saturating_sub(waited));
        let (standing, pause) = match catalog.services(&pod.node, &filter, index, news_for) {
            Ok(snapshot) => {
                retry = FIRST_RETRY;
                // an index that goes back means another history, as after a restored server
                let news = snapshot.index.is_some_and(|new| new > index.unwrap_or(0));
                let waited_for_news = index.is_some() && snapshot.index == index && asked.elapsed() >= news_for / 2;
                index = snapshot.index.filter(|new| *new > 0 && index.is_none_or(|old| *new >= old));
                if let Some(proxy) = awaited(pod, &snapshot.services) {
                    named_as_the_account(pod, &snapshot.services)?;
                    let since = *complete_since.get_or_insert_with(Instant::now);
                    let is_over = started.elapsed() >= patience.total;
                    if index.is_none() || since.elapsed() >= patience.stand || is_over {
                        return Ok(proxy.clone());
                    }
                    // nothing is missing that there is to tell of
                    std::thread::sleep(NEWS_INTERVAL.saturating_sub(asked.elapsed()));
                    continue;
                }
                complete_since = None;
                let pause = if news || waited_for_news { NEWS_INTERVAL } else { patience.poll };
                (Standing::Services(snapshot.services), pause)
            }
            Err(error) => {
                index = None;
                let pause = retry;
                retry = (retry * 2).min(patience.poll);
                (Standing::Unreachable(error), pause)
            }
        };
        let waited = started.elapsed();
        if waited >= patience.total {
            return Err(standing.give_up(pod, waited));
        }
        if waited >= hint_at {
            standing.tell(pod, waited);
            hint_at = waited + patience.hint_every;
        }
        let pause = pause.saturating_sub(asked.elapsed()).min(patience.total.saturating_sub(waited));
        std::thread::sleep(pause);
    }
}
