//! What was accepted stays in force when its author changes it to something that is refused, as an entry in Consul does.

use std::collections::{BTreeSet, HashMap};

use super::{Config, Home, Resource, Verdict, accept, protocols};

/// The resources as they were when each was last accepted, by uid.
#[derive(Debug, Default, Clone)]
pub(crate) struct Accepted(HashMap<String, Resource>);

/// What a list of resources comes to. Places are those in the list.
pub(super) struct Settled {
    config: Config,
    pub(super) verdicts: Vec<Verdict>,
    /// What is in force, as it is now or as it was, and not in vain.
    pub(super) works: BTreeSet<usize>,
}

impl Accepted {
    /// As [`accept`], with the last accepted state of those that are refused now.
    pub(crate) fn accept<'a>(
        &mut self,
        resources: impl IntoIterator<Item = &'a Resource>,
        home: &Home,
    ) -> (Config, Vec<(&'a Resource, Verdict)>) {
        let resources: Vec<&Resource> = resources.into_iter().collect();
        let (mut settled, any_held) = self.guarded(&resources, home);
        self.remember(&resources, &settled.verdicts);
        if any_held {
            // the same is held, but what it would break is known only with what was accepted beside it
            (settled, _) = self.guarded(&resources, home);
        }
        (settled.config, resources.into_iter().zip(settled.verdicts).collect())
    }

    fn guarded(&self, resources: &[&Resource], home: &Home) -> (Settled, bool) {
        protocols::guard(self, resources, |held| self.settle(resources, held, home))
    }

    fn remember(&mut self, resources: &[&Resource], verdicts: &[Verdict]) {
        let mut last = std::mem::take(&mut self.0);
        for (resource, verdict) in resources.iter().zip(verdicts) {
            let before = last.remove(&resource.uid);
            let now = match verdict {
                Ok(()) if before.as_ref() != Some(*resource) => Some((*resource).clone()),
                _ => before,
            };
            self.0.extend(now.map(|now| (resource.uid.clone(), now)));
        }
    }

    /// A resource as it was last accepted, if it ever was.
    pub(super) fn last(&self, resource: &Resource) -> Option<&Resource> {
        self.0.get(&resource.uid)
    }

    /// What the resources come to when those at the places `held` are as they were, or not there if they never were.
    fn settle(&self, resources: &[&Resource], held: &BTreeSet<usize>, home: &Home) -> Settled {
        let standing = resources.iter().enumerate().filter_map(|(place, resource)| match held.contains(&place) {
            true => Some((place, self.last(resource)?)),
            false => Some((place, *resource)),
        });
        let mut standing: Vec<(usize, &Resource)> = standing.collect();
        let (mut config, judged) = accept(standing.iter().map(|(_, resource)| *resource), home);
        let mut verdicts: Vec<Verdict> = vec![Ok(()); resources.len()];
        let mut kept = BTreeSet::new();
        for ((place, resource), (_, verdict)) in standing.iter_mut().zip(judged) {
            if let (Err(_), Some(last)) = (&verdict, self.last(resource)) {
                kept.insert(*place);
                *resource = last;
            }
            verdicts[*place] = verdict;
        }
        let mut works: BTreeSet<usize> = standing.iter().map(|(place, _)| *place).collect();
        works.retain(|place| verdicts[*place].is_ok());
        if !kept.is_empty() {
            let judged;
            (config, judged) = accept(standing.iter().map(|(_, resource)| *resource), home);
            let in_force = standing.iter().zip(judged).filter(|(_, (_, verdict))| verdict.is_ok());
            works = in_force.map(|((place, _), _)| *place).collect();
        }
        for (place, _) in standing.iter().filter(|(_, resource)| protocols::is_void(&config, resource)) {
            works.remove(place);
        }
        Settled { config, verdicts, works }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Protocol;

    #[test]
    fn a_refused_change_leaves_what_was_there() {
        let defaults = |protocol: &str| Resource {
            kind: "ServiceDefaults".into(),
            namespace: "default".into(),
            name: "web".into(),
            uid: "1".into(),
            generation: 1,
            spec: json!({"protocol": protocol}),
        };
        let mut accepted = Accepted::default();
        let mut step = |protocol: &str| {
            let resources = [defaults(protocol)];
            let (config, verdicts) = accepted.accept(&resources, &Home::new("dc1"));
            (config.protocol("web"), verdicts[0].1.is_ok())
        };
        assert_eq!(step("grpc"), (Protocol::Grpc, true));
        assert_eq!(step("gopher"), (Protocol::Grpc, false));
        assert_eq!(step("http"), (Protocol::Http, true));
        assert_eq!(step("gopher"), (Protocol::Http, false));
        assert!(accepted.accept(&[], &Home::new("dc1")).0.service_defaults.is_empty());
        let mut again = defaults("gopher");
        again.uid = "2".into();
        assert!(accepted.accept(&[again], &Home::new("dc1")).0.service_defaults.is_empty());
    }
}
