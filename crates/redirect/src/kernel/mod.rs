//! Bringing a network namespace to what a policy demands, through `iptables-restore`; checking it; undoing it.
//!
//! All of these work on the network namespace of the *calling thread* (see `netns::NetNs::run`).

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use crate::policy::Policy;
use crate::rules::{ChainSet, Family, Ruleset};

mod drift;
mod error;
mod program;

pub use drift::Drift;
pub use error::ApplyError;
pub use program::Backend;
use program::Programs;

/// How long to wait for another program that is changing the same namespace.
const PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Puts `policy` in force in the current network namespace.
///
/// One transaction per family; a namespace that holds an earlier version of the rules, or Consul's own, converges; where
/// the rules are in force already nothing is touched. After a failure each family is as it was before.
///
/// # Errors
/// [`ApplyError`], which says what to do about it.
pub fn apply(policy: &Policy) -> Result<(), ApplyError> {
    apply_with(Backend::Auto, policy)
}

/// [`apply`] through a given variant of iptables.
///
/// # Errors
/// As [`apply`].
pub fn apply_with(backend: Backend, policy: &Policy) -> Result<(), ApplyError> {
    let _lock = lock()?;
    let rules = Ruleset::of(policy);
    let targets: Vec<_> = policy.families().iter().map(|family| (*family, rules.chains(*family))).collect();
    bring_to(backend, &targets)
}

/// Compares the current network namespace with what `policy` demands; empty when it is in force.
///
/// # Errors
/// [`ApplyError`] when the rules cannot be read.
pub fn verify(policy: &Policy) -> Result<Vec<Drift>, ApplyError> {
    verify_with(Backend::Auto, policy)
}

/// [`verify`] through a given variant of iptables.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(backend: Backend, policy: &Policy) -> Result<Vec<Drift>, ApplyError> {
    let programs = Programs::choose(backend, policy.families())?;
    let rules = Ruleset::of(policy);
    let mut drift = Vec::new();
    for (family, present) in &programs.present {
        drift.extend(drift::between(*family, &rules.expected(*family), &present.lines()));
    }
    Ok(drift)
}

/// Takes our chains and the jumps to them out of the current network namespace, and nothing else. Does nothing where
/// there are none.
///
/// # Errors
/// [`ApplyError`].
pub fn remove(families: &[Family]) -> Result<(), ApplyError> {
    remove_with(Backend::Auto, families)
}

/// [`remove`] through a given variant of iptables.
///
/// # Errors
/// As [`remove`].
pub fn remove_with(backend: Backend, families: &[Family]) -> Result<(), ApplyError> {
    let _lock = lock()?;
    let targets: Vec<_> = families.iter().map(|family| (*family, ChainSet::default())).collect();
    bring_to(backend, &targets)
}

fn bring_to(backend: Backend, targets: &[(Family, ChainSet)]) -> Result<(), ApplyError> {
    let families: Vec<Family> = targets.iter().map(|(family, _)| *family).collect();
    let programs = Programs::choose(backend, &families)?;
    let mut done: Vec<(Family, &ChainSet, &ChainSet)> = Vec::new();
    for ((family, wanted), (_, present)) in targets.iter().zip(&programs.present) {
        let script = wanted.script_from(present);
        if script.is_empty() {
            tracing::debug!(%family, "the rules are in force already");
            continue;
        }
        if let Err(error) = programs.restore(*family, &script) {
            // transactions are per family, so the families that are done have to be taken back
            for (family, before, after) in done.into_iter().rev() {
                if let Err(undo) = programs.restore(family, &before.script_from(after)) {
                    tracing::error!(%family, error = %undo, "could not restore the rules of before");
                }
            }
            return Err(error);
        }
        tracing::debug!(%family, program = programs.name(*family), rules = wanted.lines().len(), "rules are in force");
        done.push((*family, present, wanted));
    }
    Ok(())
}

/// One change of a namespace at a time. The lock is on the namespace itself, unlike `/run/xtables.lock`, which makes Pods
/// of a node wait for each other and for the node although their tables have nothing in common.
fn lock() -> Result<File, ApplyError> {
    let namespace = File::open("/proc/thread-self/ns/net").map_err(ApplyError::Lock)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match namespace.try_lock() {
            Ok(()) => return Ok(namespace),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(ApplyError::Busy),
            Err(TryLockError::Error(error)) => return Err(ApplyError::Lock(error)),
        }
    }
}
