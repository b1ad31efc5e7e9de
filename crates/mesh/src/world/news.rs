//! What worlds differ in from those before them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// So many worlds back can be told; who is further behind looks at everything.
const REMEMBERED: usize = 64;

/// What a change concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Every proxy may be concerned, whatever its services.
    pub(crate) everything: bool,
    /// Services whose instances, addresses or entries are not what they were, new and gone ones included.
    pub(crate) services: BTreeSet<String>,
}

impl Touched {
    /// Adds what another change concerns.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.everything |= other.everything;
        self.services.extend(other.services.iter().cloned());
    }
}

/// The latest changes, by the index of the world that each made.
#[derive(Debug, Clone, Default)]
pub(crate) struct News(VecDeque<(u64, Arc<Touched>)>);

impl News {
    /// These news, and what made the world of this index.
    pub(crate) fn and(&self, index: u64, touched: Touched) -> Self {
        let forgotten = (self.0.len() + 1).saturating_sub(REMEMBERED);
        let mut news: VecDeque<_> = self.0.iter().skip(forgotten).cloned().collect();
        news.push_back((index, Arc::new(touched)));
        Self(news)
    }

    /// What changed after the world of this index.
    pub(crate) fn since(&self, index: u64) -> Touched {
        let mut touched = Touched::default();
        if self.0.front().is_none_or(|(oldest, _)| *oldest > index + 1) {
            touched.everything = true;
        }
        self.0.iter().filter(|(made, _)| *made > index).for_each(|(_, change)| touched.extend(change));
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_changes_are_told() {
        let one = |name: String| Touched { everything: false, services: BTreeSet::from([name]) };
        let made = 2..=100;
        let news = made.fold(News::default(), |news, index| news.and(index, one(format!("s{index}"))));
        let since = news.since(98);
        assert_eq!((since.everything, since.services), (false, BTreeSet::from(["s100".to_owned(), "s99".to_owned()])));
        assert_eq!(news.since(100), Touched::default());
        assert!(!news.since(36).everything, "64 worlds are remembered");
        assert!(news.since(35).everything, "and what was before is not");
    }
}
