//! A Lease, which says which of several replicas may change what they share. Held only while there is something to change.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::{Duration, Instant};

/// A holder that has not been heard of for so long is gone. Clocks of others are not relied on: this one's counts.
const DURATION: Duration = Duration::from_secs(15);

/// One Lease, and who we are.
pub(super) struct Holder {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The holder that was seen last, its own time, and since when both are the same.
    seen: Option<(String, Option<Timestamp>, Instant)>,
}

impl Holder {
    pub(super) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Takes the Lease, or keeps it. `false` where another one has it.
    pub(super) async fn take(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.name.clone());
            lease.spec = Some(self.claim(None));
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !self.may_take(&spec, Instant::now()) {
            return Ok(false);
        }
        lease.spec = Some(self.claim(Some(&spec)));
        // a conflict means that another one was quicker
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Gives the Lease back, so that nobody has to wait for it to run out.
    pub(super) async fn give_back(&mut self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            won(self.api.replace(&self.name, &PostParams::default(), &lease).await)?;
        }
        Ok(())
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let changes = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        let is_ours = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: match before {
                Some(spec) if is_ours => spec.acquire_time.clone(),
                _ => now.clone(),
            },
            renew_time: now,
            lease_transitions: Some(if is_ours { changes } else { changes.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    /// Whether it is free, ours, or held by one who is gone.
    fn may_take(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            self.seen = None;
            return true;
        }
        let renewed = spec.renew_time.as_ref().map(|time| time.0);
        match &self.seen {
            Some((known, time, since)) if known == holder && *time == renewed => {
                now.saturating_duration_since(*since) >= DURATION
            }
            _ => {
                self.seen = Some((holder.to_owned(), renewed, now));
                false
            }
        }
    }
}

fn won(outcome: kube::Result<Lease>) -> kube::Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str, second: i64) -> LeaseSpec {
        let renew_time = Timestamp::from_second(second).ok().map(MicroTime);
        LeaseSpec { holder_identity: Some(by.to_owned()), renew_time, ..LeaseSpec::default() }
    }

    #[tokio::test]
    async fn one_who_is_silent_for_long_is_gone() -> Result<(), Box<dyn std::error::Error>> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse()?))?;
        let mut holder = Holder::new(client, "consul", "certificates", "me");
        let start = Instant::now();
        assert!(holder.may_take(&LeaseSpec::default(), start), "free");
        assert!(holder.may_take(&held("me", 1), start), "ours");
        assert!(!holder.may_take(&held("you", 1), start), "held");
        assert!(!holder.may_take(&held("you", 2), start + DURATION), "renewed meanwhile");
        assert!(!holder.may_take(&held("she", 2), start + DURATION), "held by another");
        assert!(holder.may_take(&held("she", 2), start + 2 * DURATION), "silent");
        Ok(())
    }
}
