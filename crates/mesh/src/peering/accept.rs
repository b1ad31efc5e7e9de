//! The accepting side: which peerings there are, and what the other sides bring.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Why somebody is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no peering of this id, or no more.
    Unknown,
    /// There may be one of this id: the servers have only just begun.
    TooEarly,
    /// The secret is another one.
    Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepting {
    name: Arc<str>,
    secret: String,
}

/// The peerings that were accepted.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    by_id: BTreeMap<String, Accepting>,
    /// Ids of those that have ended since the servers began.
    ended: BTreeSet<String>,
    is_complete: bool,
}

impl Accepted {
    /// Lets whoever knows the secret in as the peer of this name.
    pub(crate) fn add(&self, id: &str, name: &Arc<str>, secret: &str) {
        let accepting = Accepting { name: name.clone(), secret: secret.to_owned() };
        self.lock().by_id.insert(id.to_owned(), accepting);
    }

    /// All that there were before the servers began are there again.
    pub(super) fn complete(&self) {
        self.lock().is_complete = true;
    }

    /// Lets nobody in by this id any more.
    pub(crate) fn remove(&self, id: &str) {
        let mut all = self.lock();
        all.by_id.remove(id);
        all.ended.insert(id.to_owned());
    }

    /// The name of the peer that knows this secret.
    pub(crate) fn name(&self, id: &str, secret: &str) -> Result<Arc<str>, Refusal> {
        let all = self.lock();
        let is_known = all.is_complete || all.ended.contains(id);
        let missing = if is_known { Refusal::Unknown } else { Refusal::TooEarly };
        let accepting = all.by_id.get(id).ok_or(missing)?;
        if accepting.secret == secret { Ok(accepting.name.clone()) } else { Err(Refusal::Secret) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_secret_is_let_in() {
        let accepted = Accepted::default();
        accepted.add("1", &"east".into(), "s3cret");
        assert_eq!(accepted.name("1", "s3cret").as_deref(), Ok("east"));
        assert_eq!(accepted.name("1", "guess"), Err(Refusal::Secret));
        assert_eq!(accepted.name("2", "s3cret"), Err(Refusal::TooEarly));
        accepted.add("3", &"west".into(), "s3cret");
        accepted.remove("3");
        assert_eq!(accepted.name("3", "s3cret"), Err(Refusal::Unknown), "before all are there as well");
        accepted.complete();
        assert_eq!(accepted.name("2", "s3cret"), Err(Refusal::Unknown));
        accepted.remove("1");
        assert_eq!(accepted.name("1", "s3cret"), Err(Refusal::Unknown));
    }
}
