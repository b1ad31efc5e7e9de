//! Bringing a network namespace to what a policy demands, by one of three backends; checking it; undoing it.
//!
//! All of these work on the network namespace of the *calling thread* (see `netns::NetNs::run`).
//!
//! # What it takes
//!
//! Ratios of the medians of one run of `cargo xtask bench redirect` (40 rounds, iptables 1.8.9, Linux 6.18, two idle cores):
//!
//! | | nftables | iptables-legacy | iptables-nft |
//! |---|--:|--:|--:|
//! | Consul's process for each of 17 rules and chains / [`apply`] | 50 | 16 | 16 |
//! | the same with DNS, 21 of them | 55 | 18 | 18 |
//! | [`verify`] / [`apply`] | 0.5 | 0.7 | 0.8 |
//! | [`apply`] where the policy is in force / where nothing is | 0.6 | 0.7 | 0.8 |
//! | [`apply`] with 1,000 excluded blocks and as many ports / with 10 of each | 11 | 3 | 10 |
//! | TCP connections a second, redirected / without rules | 0.77 | 0.78 | 0.78 |
//! | the same with 1,000 excluded blocks and as many ports | 0.76 | 0.43 | 0.51 |
//! | the proxy's own / without rules | 0.84 | 0.84 | 0.84 |
//! | the same with 1,000 excluded blocks and as many ports | 0.82 | 0.45 | 0.53 |
//!
//! nf_tables looks exclusions up in a set; iptables walks through them, in Consul's order before the rule about the proxy.

use crate::policy::Policy;
use crate::rules::{ChainSet, Family, Program, Ruleset};

mod backend;
mod drift;
mod error;
mod iptables;
mod legacy;
mod lock;
mod nft;

pub use backend::Backend;
use backend::Scene;
pub use drift::{Drift, Place};
pub use error::ApplyError;
use iptables::{Programs, Variant};
use lock::lock;

/// What was done, and by what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// The backend that was used; never [`Backend::Auto`].
    pub backend: Backend,
    /// Why that one.
    pub reason: String,
    /// Whether anything had to be changed.
    pub changed: bool,
}

/// What a namespace holds against what it should.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The backend whose rules were looked at; never [`Backend::Auto`].
    pub backend: Backend,
    /// Why that one.
    pub reason: String,
    /// Every difference; none when the policy is in force.
    pub drift: Vec<Drift>,
}

/// Puts `policy` in force in the current network namespace.
///
/// A transaction each for what a backend can change at once: nf_tables both families, iptables a family's table. A namespace
/// that holds an earlier version of the rules, or Consul's own of either generation, converges; where the rules are in force
/// already nothing is touched. After a failure everything is as it was before.
///
/// # Errors
/// [`ApplyError`], which says what to do about it.
pub fn apply(policy: &Policy) -> Result<Applied, ApplyError> {
    apply_with(Backend::Auto, policy)
}

/// [`apply`] by a given backend.
///
/// # Errors
/// As [`apply`].
pub fn apply_with(backend: Backend, policy: &Policy) -> Result<Applied, ApplyError> {
    let _lock = lock()?;
    let scene = Scene::look()?;
    let (program, rules) = (Program::of(policy), Ruleset::of(policy));
    let (backend, reason, changed) = scene.first_that_works(backend, |backend| match variant(backend) {
        None => Ok(scene.survey()?.apply(&program)?),
        Some(variant) => {
            // the other family's rules go where the policy has none
            let programs = scene.programs(variant, &scene.families(&rules))?;
            bring_to(&programs, |family| rules.chains(family))
        }
    })?;
    let cleaned = scene.clear_all_but(backend)?;
    tracing::debug!(%backend, reason, changed, "rules are in force");
    Ok(Applied { backend, reason, changed: changed || cleaned })
}

/// Compares the current network namespace with what `policy` demands.
///
/// # Errors
/// [`ApplyError`] when the rules cannot be read.
pub fn verify(policy: &Policy) -> Result<Verified, ApplyError> {
    verify_with(Backend::Auto, policy)
}

/// [`verify`] of the rules of a given backend.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(backend: Backend, policy: &Policy) -> Result<Verified, ApplyError> {
    let scene = Scene::look()?;
    let (program, rules) = (Program::of(policy), Ruleset::of(policy));
    let (backend, reason, drift) = scene.first_that_works(backend, |backend| match variant(backend) {
        None => {
            let (wanted, found) = scene.survey()?.compare(&program)?;
            Ok(drift::between(Place::Nftables, &wanted, &found))
        }
        Some(variant) => {
            let programs = scene.programs(variant, &scene.families(&rules))?;
            let mut drift = scene.beside_iptables();
            for (family, present) in &programs.present {
                drift.extend(drift::between((*family).into(), &rules.expected(*family), &present.lines()));
            }
            Ok(drift)
        }
    })?;
    Ok(Verified { backend, reason, drift })
}

/// Takes our rules out of the current network namespace, whichever backend installed them, and nothing else. Says whether
/// there were any.
///
/// # Errors
/// [`ApplyError`].
pub fn remove() -> Result<bool, ApplyError> {
    let _lock = lock()?;
    let scene = Scene::look()?;
    let by_nft = match &scene.nft {
        Ok(survey) => survey.remove()?,
        // where nf_tables cannot be used directly, iptables' way to it may work
        Err(_) => match scene.programs(Variant::Nft, &Family::BOTH) {
            Ok(programs) => bring_to(&programs, |_| ChainSet::default())?,
            Err(error) if error.is_unsupported() => false,
            Err(error) => return Err(error),
        },
    };
    Ok(by_nft | scene.clear_legacy()?)
}

/// What [`apply_with`] would bring about in a namespace without rules, in the backend's own language: for `nft -f`, or for
/// `iptables-restore --noflush` and `ip6tables-restore --noflush` by family.
#[must_use]
pub fn script(backend: Backend, policy: &Policy) -> Vec<(Place, String)> {
    match variant(backend) {
        None => vec![(Place::Nftables, nft::script(&Program::of(policy)))],
        Some(_) => {
            let rules = Ruleset::of(policy);
            let script = |family| (Place::from(family), rules.restore_script(family));
            Family::BOTH.into_iter().map(script).filter(|(_, script)| !script.is_empty()).collect()
        }
    }
}

/// One of our rules, chains, sets or elements, in the words of its backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Line {
    /// Whose words.
    pub place: Place,
    /// `-A …` and the like, or `add rule …`.
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

fn lines(place: Place, texts: Vec<String>) -> impl Iterator<Item = Line> {
    texts.into_iter().map(move |text| Line { place, text })
}

/// Everything of ours in the current network namespace, whichever backend installed it; what [`demanded`] says when a policy is
/// in force.
///
/// # Errors
/// [`ApplyError`] when it cannot be read.
pub fn held() -> Result<Vec<Line>, ApplyError> {
    let scene = Scene::look()?;
    let mut held = Vec::new();
    if let Ok(survey) = &scene.nft {
        held.extend(lines(Place::Nftables, survey.lines()?));
    }
    for variant in [Variant::Nft, Variant::Legacy] {
        for family in Family::BOTH {
            if scene.is_empty(variant, family) {
                continue;
            }
            match scene.programs(variant, &[family]) {
                Ok(programs) => {
                    let present = programs.present.iter().flat_map(|(_, present)| present.lines());
                    held.extend(lines(family.into(), present.collect()));
                }
                Err(error) if error.is_unsupported() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(held)
}

/// What a namespace holds of ours when a policy is in force by a backend, and nothing is left of another.
#[must_use]
pub fn demanded(backend: Backend, policy: &Policy) -> Vec<Line> {
    match variant(backend) {
        None => lines(Place::Nftables, nft::expected(&Program::of(policy))).collect(),
        Some(_) => {
            let rules = Ruleset::of(policy);
            Family::BOTH.into_iter().flat_map(|family| lines(family.into(), rules.expected(family))).collect()
        }
    }
}

/// Connections of the current network namespace that went around the proxy because their user is the proxy's, though they are none of
/// its own: those counted for [`Policy::proxy_gid`] since the rules were put in force, of both families. Nothing where the rules
/// count none, as those of iptables.
///
/// # Errors
/// [`ApplyError`] when it cannot be read.
pub fn bypasses() -> Result<Option<u64>, ApplyError> {
    match &Scene::look()?.nft {
        Ok(survey) => Ok(survey.counted()?),
        Err(_) => Ok(None),
    }
}

/// The variant of iptables that a backend is; none for native nf_tables.
fn variant(backend: Backend) -> Option<Variant> {
    match backend {
        Backend::Auto | Backend::Nftables => None,
        Backend::IptablesNft => Some(Variant::Nft),
        Backend::IptablesLegacy => Some(Variant::Legacy),
    }
}

impl Scene {
    /// nf_tables; the reason why there is none is given once, to the first who asks.
    fn survey(&self) -> Result<&nft::Survey, ApplyError> {
        self.nft.as_ref().map_err(ApplyError::copied)
    }

    /// Families that iptables must look at: those that get rules, and those that may hold some.
    fn families(&self, rules: &Ruleset) -> Vec<Family> {
        let holds = |family| self.nft.as_ref().is_ok_and(|survey| survey.has_compat(family));
        let is_concerned =
            |family: &Family| !rules.chains(*family).is_empty() || holds(*family) || !self.legacy(*family).is_empty();
        Family::BOTH.into_iter().filter(is_concerned).collect()
    }

    /// The first of the candidates that this kernel and image allow, with its result.
    fn first_that_works<T>(
        &self,
        asked: Backend,
        act: impl Fn(Backend) -> Result<T, ApplyError>,
    ) -> Result<(Backend, String, T), ApplyError> {
        let mut tried = Vec::new();
        for (backend, reason) in self.candidates(asked) {
            match act(backend) {
                Ok(done) => return Ok((backend, reason, done)),
                Err(error) if asked == Backend::Auto && error.is_unsupported() => tried.push((backend, error)),
                Err(error) => return Err(error),
            }
        }
        Err(ApplyError::NoBackend { tried })
    }

    /// Takes away rules of ours that other backends left.
    fn clear_all_but(&self, used: Backend) -> Result<bool, ApplyError> {
        let by_nft = match (&self.nft, used) {
            (Ok(survey), Backend::IptablesNft) => survey.yield_to_iptables()?,
            (Ok(survey), Backend::IptablesLegacy) => survey.remove()? | survey.yield_to_iptables()?,
            _ => false,
        };
        let by_legacy = used != Backend::IptablesLegacy && self.clear_legacy()?;
        Ok(by_nft || by_legacy)
    }

    /// Takes our rules out of x_tables, if it has any.
    fn clear_legacy(&self) -> Result<bool, ApplyError> {
        let used: Vec<Family> = Family::BOTH.into_iter().filter(|family| !self.legacy(*family).is_empty()).collect();
        if used.is_empty() {
            return Ok(false);
        }
        match self.programs(Variant::Legacy, &used) {
            Ok(programs) => bring_to(&programs, |_| ChainSet::default()),
            // what cannot be read was not installed from here
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Rules of nf_tables' own that redirect beside those of iptables.
    fn beside_iptables(&self) -> Vec<Drift> {
        let Ok(survey) = &self.nft else { return Vec::new() };
        survey.others().map(|line| Drift::Extra { place: Place::Nftables, line }).collect()
    }
}

/// Brings every family to what it should hold, or none of them. Says whether there was anything to do.
fn bring_to(programs: &Programs, wanted: impl Fn(Family) -> ChainSet) -> Result<bool, ApplyError> {
    let mut done: Vec<(Family, &ChainSet, ChainSet)> = Vec::new();
    for (family, present) in &programs.present {
        let wanted = wanted(*family);
        let script = wanted.script_from(present);
        if script.is_empty() {
            continue;
        }
        if let Err(error) = programs.restore(*family, &script) {
            // transactions are by family and table, so what is done has to be taken back; the failed family may have done a
            // part of its tables
            done.push((*family, present, wanted));
            for (family, before, _) in done.into_iter().rev() {
                if let Err(undo) = programs.bring_back(family, before) {
                    tracing::error!(%family, error = %undo, "could not restore the rules of before");
                }
            }
            return Err(error);
        }
        done.push((*family, present, wanted));
    }
    Ok(!done.is_empty())
}
