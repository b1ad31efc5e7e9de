//! Admin partitions: which one is ours, and which others there are.

use std::sync::Arc;

use crate::names::DEFAULT;
use crate::place::Place;

/// The partitions of a datacenter, seen from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenancy {
    own: Arc<str>,
    others: Arc<[Arc<str>]>,
    is_on: bool,
}

impl Default for Tenancy {
    /// Where there are no partitions, which is as if everything were in the default one.
    fn default() -> Self {
        Self { own: DEFAULT.into(), others: Arc::default(), is_on: false }
    }
}

impl Tenancy {
    /// Partition `own` of all of these.
    pub(crate) fn new(own: &str, all: &[Arc<str>]) -> Self {
        let others = all.iter().filter(|name| &***name != own).cloned().collect();
        Self { own: own.into(), others, is_on: true }
    }

    /// Name of ours.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// Whether there are partitions at all, and so the names of the Enterprise edition.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether there is a partition of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        name == &*self.own || self.others.iter().any(|other| **other == *name)
    }

    /// Where the partition of this name is, seen from ours.
    pub(crate) fn place(&self, name: &str) -> Place {
        if name == &*self.own { Place::Here } else { Place::Partition(name.into()) }
    }

    /// The name, unless it is that of ours.
    pub(crate) fn foreign<'a>(&self, name: Option<&'a str>) -> Option<&'a str> {
        name.filter(|name| **name != *self.own)
    }

    /// Names of the other partitions.
    pub(crate) fn others(&self) -> &[Arc<str>] {
        &self.others
    }

    /// The partitions by their names, ours first.
    pub(crate) fn listed(&self) -> String {
        let all: Vec<&str> = std::iter::once(&*self.own).chain(self.others.iter().map(|name| &**name)).collect();
        all.join(", ")
    }
}
