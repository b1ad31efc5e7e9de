//! What was accepted stays in force when its author changes it to something that is refused, as an entry in Consul does.

use std::collections::HashMap;

use super::{Config, Resource, Verdict, accept};

/// The resources as they were when each was last accepted, by uid.
#[derive(Debug, Default, Clone)]
pub(crate) struct Accepted(HashMap<String, Resource>);

impl Accepted {
    /// As [`accept`], with the last accepted state of those that are refused now.
    pub(crate) fn accept<'a>(
        &mut self,
        resources: impl IntoIterator<Item = &'a Resource>,
        datacenter: &str,
    ) -> (Config, Vec<(&'a Resource, Verdict)>) {
        let (mut config, verdicts) = accept(resources, datacenter);
        let kept = |(resource, verdict): &(&'a Resource, Verdict)| match verdict {
            Ok(()) => None,
            Err(_) => self.0.get(&resource.uid),
        };
        if verdicts.iter().any(|judged| kept(judged).is_some()) {
            config = accept(verdicts.iter().map(|judged| kept(judged).unwrap_or(judged.0)), datacenter).0;
        }
        let mut last = std::mem::take(&mut self.0);
        for (resource, verdict) in &verdicts {
            let before = last.remove(&resource.uid);
            let now = match verdict {
                Ok(()) if before.as_ref() != Some(resource) => Some((*resource).clone()),
                _ => before,
            };
            self.0.extend(now.map(|now| (resource.uid.clone(), now)));
        }
        (config, verdicts)
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
            let (config, verdicts) = accepted.accept(&resources, "dc1");
            (config.protocol("web"), verdicts[0].1.is_ok())
        };
        assert_eq!(step("grpc"), (Protocol::Grpc, true));
        assert_eq!(step("gopher"), (Protocol::Grpc, false));
        assert_eq!(step("http"), (Protocol::Http, true));
        assert_eq!(step("gopher"), (Protocol::Http, false));
        assert!(accepted.accept(&[], "dc1").0.service_defaults.is_empty());
        let mut again = defaults("gopher");
        again.uid = "2".into();
        assert!(accepted.accept(&[again], "dc1").0.service_defaults.is_empty());
    }
}
