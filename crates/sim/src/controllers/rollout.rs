//! The arithmetic of a rolling update: how many Pods the new and the old ReplicaSets may have now.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One ReplicaSet's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// What it is asked to have.
    pub(super) wanted: usize,
    /// How many of those serve.
    pub(super) available: usize,
}

/// How far an update may deviate from the wanted number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slack {
    pub(super) surge: usize,
    pub(super) unavailable: usize,
}

impl Slack {
    /// Percentages are of the wanted number: surge is rounded up, unavailable down. Both zero would be a standstill.
    pub(super) fn new(replicas: usize, surge: Option<&IntOrString>, unavailable: Option<&IntOrString>) -> Self {
        let surge = surge.map_or(1, |value| resolve(value, replicas, true));
        let unavailable = unavailable.map_or(0, |value| resolve(value, replicas, false)).min(replicas);
        let standstill = surge == 0 && unavailable == 0;
        Self { surge, unavailable: if standstill { 1 } else { unavailable } }
    }
}

fn resolve(value: &IntOrString, of: usize, up: bool) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            if up { (percent * of).div_ceil(100) } else { percent * of / 100 }
        }
    }
}

/// The next numbers of the new ReplicaSet and of the old ones, in their order.
pub(super) fn step(replicas: usize, slack: Slack, new: Count, old: &[Count]) -> (usize, Vec<usize>) {
    let old_wanted: usize = old.iter().map(|count| count.wanted).sum();
    let room = (replicas + slack.surge).saturating_sub(new.wanted + old_wanted);
    let next_new = if new.wanted > replicas { replicas } else { replicas.min(new.wanted + room) };

    let least = replicas.saturating_sub(slack.unavailable);
    let mut next_old: Vec<usize> = old.iter().map(|count| count.wanted).collect();
    // Old Pods that do not serve can go without loss.
    let mut may_go = (new.wanted + old_wanted).saturating_sub(least + new.wanted.saturating_sub(new.available));
    for (next, count) in next_old.iter_mut().zip(old) {
        let broken = count.wanted.saturating_sub(count.available).min(may_go);
        *next -= broken;
        may_go -= broken;
    }
    // Of those that serve, what is above the least.
    let available = new.available.min(new.wanted) + old.iter().map(|count| count.available).sum::<usize>();
    let mut surplus = available.saturating_sub(least);
    for next in &mut next_old {
        let gone = (*next).min(surplus);
        *next -= gone;
        surplus -= gone;
    }
    (next_new, next_old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn count(wanted: usize, available: usize) -> Count {
        Count { wanted, available }
    }

    #[rstest]
    #[case(4, "25%", "25%", 1, 1)]
    #[case(1, "25%", "25%", 1, 0)]
    #[case(3, "0", "0%", 0, 1)]
    fn slack(
        #[case] replicas: usize,
        #[case] surge: &str,
        #[case] unavailable: &str,
        #[case] up: usize,
        #[case] down: usize,
    ) {
        let [surge, unavailable] = [surge, unavailable].map(|text| IntOrString::String(text.to_owned()));
        let expected = Slack { surge: up, unavailable: down };
        assert_eq!(Slack::new(replicas, Some(&surge), Some(&unavailable)), expected);
    }

    #[test]
    fn an_update_ends_and_never_falls_below_the_least() {
        for replicas in 1..8 {
            for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (replicas, 0)] {
                let slack = Slack { surge, unavailable };
                let (mut new, mut old) = (count(0, 0), vec![count(replicas, replicas)]);
                let mut steps = 0;
                while new != count(replicas, replicas) || old[0].wanted > 0 {
                    let (next_new, next_old) = step(replicas, slack, new, &old);
                    // Availability of the new comes one Pod at a time.
                    new = count(next_new, (new.available + 1).min(next_new));
                    old = vec![count(next_old[0], next_old[0].min(old[0].available))];
                    assert!(
                        new.available + old[0].available >= replicas.saturating_sub(unavailable),
                        "{replicas} {slack:?}"
                    );
                    assert!(new.wanted + old[0].wanted <= replicas + surge, "{replicas} {slack:?}");
                    steps += 1;
                    assert!(steps < 50, "no end: {replicas} {slack:?} {new:?} {old:?}");
                }
            }
        }
    }

    #[test]
    fn broken_old_pods_make_way() {
        let (new, old) = step(3, Slack { surge: 1, unavailable: 0 }, count(1, 0), &[count(3, 0)]);
        assert_eq!((new, old), (1, vec![3]), "nothing serves: nothing may go below three wanted");
        let (new, old) = step(3, Slack { surge: 1, unavailable: 1 }, count(1, 1), &[count(3, 1)]);
        assert_eq!((new, old), (1, vec![1]));
    }
}
