//! The accepting side: which peerings there are, and what the other sides bring.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why somebody is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no peering of this id, or no more.
    Unknown,
    /// The secret is another one.
    Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepting {
    name: Arc<str>,
    secret: String,
}

/// The peerings that were accepted, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Mutex<BTreeMap<String, Accepting>>);

impl Accepted {
    /// Lets whoever knows the secret in as the peer of this name.
    pub(super) fn add(&self, id: &str, name: &Arc<str>, secret: &str) {
        let accepting = Accepting { name: name.clone(), secret: secret.to_owned() };
        self.lock().insert(id.to_owned(), accepting);
    }

    /// Lets nobody in by this id any more.
    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// The name of the peer that knows this secret.
    pub(crate) fn name(&self, id: &str, secret: &str) -> Result<Arc<str>, Refusal> {
        let all = self.lock();
        let accepting = all.get(id).ok_or(Refusal::Unknown)?;
        if accepting.secret == secret { Ok(accepting.name.clone()) } else { Err(Refusal::Secret) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Accepting>> {
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
        assert_eq!(accepted.name("2", "s3cret"), Err(Refusal::Unknown));
        accepted.remove("1");
        assert_eq!(accepted.name("1", "s3cret"), Err(Refusal::Unknown));
    }
}
