//! Times of one contestant.

use std::time::Duration;

/// Times of one contestant, one for each round or each request.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The quickest: what is left when nothing else disturbs.
    #[must_use]
    pub fn best(&self) -> Duration {
        self.quantile(0)
    }

    /// Half of them took no longer.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.quantile(50)
    }

    /// Nine of ten took no longer.
    #[must_use]
    pub fn p90(&self) -> Duration {
        self.quantile(90)
    }

    /// So many of a hundred took no longer.
    ///
    /// # Panics
    /// Nothing was measured: there is no time to tell.
    #[must_use]
    pub fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1).expect("every contestant was measured");
        sorted[(last * percent).div_ceil(100)]
    }
}

impl Extend<Duration> for Samples {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, times: T) {
        self.0.extend(times);
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        Self(times.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::one(1, [1, 1, 1, 1])]
    #[case::two(2, [1, 2, 2, 2])]
    #[case::hundred_and_one(101, [1, 51, 91, 100])]
    fn quantiles(#[case] count: u64, #[case] expected: [u64; 4]) {
        let samples: Samples = (1..=count).rev().map(Duration::from_secs).collect();
        let seen = [samples.best(), samples.median(), samples.p90(), samples.quantile(99)];
        assert_eq!(seen.map(|time| time.as_secs()), expected);
    }
}
