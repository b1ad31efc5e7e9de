//! The rules of how a service may say that it dials others.

use serde_json::Value;

use super::{Mistakes, PassiveHealthCheck, UpstreamConfig, UpstreamSettings, must};
use crate::go;

pub(super) fn check(entry: &UpstreamConfig, spec: &Value, mistakes: &mut Mistakes) {
    let UpstreamConfig { defaults, overrides } = entry;
    for field in ["name", "namespace", "partition", "peer"] {
        let named = spec["defaults"][field].as_str().unwrap_or_default();
        must(named.is_empty(), mistakes, || {
            format!("spec.upstreamConfig.defaults.{field} is {named:?}; names belong in overrides")
        });
    }
    settings(defaults, "spec.upstreamConfig.defaults", mistakes);
    for (i, own) in overrides.iter().enumerate() {
        let at = format!("spec.upstreamConfig.overrides[{i}]");
        must(!own.name.is_empty(), mistakes, || format!("{at}.name is empty; name the upstream"));
        must(own.name != "*", mistakes, || {
            format!("{at}.name is \"*\"; what is said of every upstream belongs in defaults")
        });
        let which = |of: &UpstreamSettings| (of.name.clone(), of.peer.clone(), of.partition.clone());
        let twice = overrides[..i].iter().any(|other| which(other) == which(own));
        must(!twice, mistakes, || format!("{at}: upstream {:?} is listed twice", own.name));
        settings(own, &at, mistakes);
    }
}

/// Envoy would refuse the whole cluster for one number that it does not take.
fn settings(said: &UpstreamSettings, at: &str, mistakes: &mut Mistakes) {
    let Some(check) = &said.passive_health_check else { return };
    let at = format!("{at}.passiveHealthCheck");
    let PassiveHealthCheck { enforcing_consecutive_5xx, max_ejection_percent, base_ejection_time, .. } = check;
    for (field, percent) in
        [("enforcingConsecutive5xx", enforcing_consecutive_5xx), ("maxEjectionPercent", max_ejection_percent)]
    {
        must(percent.is_none_or(|percent| percent <= 100), mistakes, || {
            format!("{at}.{field} is {}; it must be a percentage from 0 to 100", percent.unwrap_or_default())
        });
    }
    let time = base_ejection_time.as_deref().and_then(go::duration);
    must(time.is_none_or(|time| !time.is_zero()), mistakes, || {
        format!("{at}.baseEjectionTime is \"0s\"; it must be longer, or left out")
    });
}
