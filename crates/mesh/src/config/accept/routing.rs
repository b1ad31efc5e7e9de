//! The rules of resolvers, routers and splitters, as far as each can be judged by itself.

use serde_json::Value;

use super::{
    Failover, HashPolicy, LoadBalancer, Mistakes, ServiceResolver, ServiceRouter, ServiceSplitter, http, must,
};
use crate::filter::Filter;

pub(super) fn resolver(entry: &ServiceResolver, spec: &Value, mistakes: &mut Mistakes) {
    must(entry.failover.is_empty() || entry.redirect.is_none(), mistakes, || {
        "spec: redirect and failover exclude each other".to_owned()
    });
    if let Some(redirect) = &entry.redirect {
        let empty = spec["redirect"].as_object().is_none_or(|r| r.values().all(|v| v.is_null() || *v == ""));
        must(!empty, mistakes, || "spec.redirect is empty; say where to".to_owned());
        must(redirect.service_subset.is_none() || redirect.service.is_some(), mistakes, || {
            "spec.redirect.serviceSubset needs redirect.service".to_owned()
        });
    }
    for (name, subset) in &entry.subsets {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let legal = name.starts_with(word) && name.ends_with(word) && name.chars().all(|c| word(c) || c == '-');
        must(legal, mistakes, || {
            format!("spec.subsets: {name:?} is no name for a subset; use small letters, digits and \"-\" in between")
        });
        if let Err(error) = Filter::parse(&subset.filter) {
            mistakes.push(format!("spec.subsets.{name}.filter: {error}"));
        }
    }
    for (subset, failover) in &entry.failover {
        self::failover(failover, &format!("spec.failover.{subset}"), mistakes);
    }
    if let Some(load_balancer) = &entry.load_balancer {
        self::load_balancer(load_balancer, mistakes);
    }
}

fn failover(entry: &Failover, at: &str, mistakes: &mut Mistakes) {
    let Failover { service, service_subset, datacenters, sameness_group, targets } = entry;
    let named = service.is_some() || service_subset.is_some() || sameness_group.is_some();
    must(named || !datacenters.is_empty() || !targets.is_empty(), mistakes, || {
        format!("{at} is empty; say where to, by service, serviceSubset or targets")
    });
    must(targets.is_empty() || (!named && datacenters.is_empty()), mistakes, || {
        format!("{at}: targets exclude service, serviceSubset and datacenters")
    });
}

fn load_balancer(entry: &LoadBalancer, mistakes: &mut Mistakes) {
    let at = "spec.loadBalancer";
    let LoadBalancer { policy, ring_hash_config, least_request_config, hash_policies } = entry;
    must(hash_policies.is_empty() || entry.hashes(), mistakes, || {
        format!("{at}.hashPolicies need the policy ringHash or maglev, not {policy:?}")
    });
    must(*ring_hash_config == super::RingHash::default() || policy == "ringHash", mistakes, || {
        format!("{at}.ringHashConfig needs the policy ringHash, not {policy:?}")
    });
    must(*least_request_config == super::LeastRequest::default() || policy == "leastRequest", mistakes, || {
        format!("{at}.leastRequestConfig needs the policy leastRequest, not {policy:?}")
    });
    for (i, HashPolicy { field, field_value, cookie_config, source_ip, terminal: _ }) in
        hash_policies.iter().enumerate()
    {
        let at = format!("{at}.hashPolicies[{i}]");
        must(field.is_empty() || !source_ip, mistakes, || format!("{at}: field and sourceIP exclude each other"));
        must(!field.is_empty() || *source_ip, mistakes, || format!("{at}: one of field and sourceIP must be set"));
        must(field.is_empty() || !field_value.is_empty(), mistakes, || {
            format!("{at}.fieldValue is empty; name the {field}")
        });
        if let Some(cookie) = cookie_config {
            must(field == "cookie", mistakes, || format!("{at}.cookieConfig needs the field cookie"));
            must(!(cookie.session && cookie.ttl.is_some()), mistakes, || {
                format!("{at}.cookieConfig: session and ttl exclude each other")
            });
        }
    }
}

pub(super) fn router(entry: &ServiceRouter, mistakes: &mut Mistakes) {
    for (i, route) in entry.routes.iter().enumerate() {
        let at = format!("spec.routes[{i}]");
        let matches = &route.matches.http;
        http::check(matches, &format!("{at}.match.http"), mistakes);
        let replaced = matches.path_prefix.is_some() || matches.path_exact.is_some();
        must(route.destination.prefix_rewrite.is_none() || replaced, mistakes, || {
            format!("{at}.destination.prefixRewrite needs match.http.pathPrefix or match.http.pathExact")
        });
        for (j, code) in route.destination.retries.retry_on_status_codes.iter().enumerate() {
            must((100..600).contains(code), mistakes, || {
                format!("{at}.destination.retryOnStatusCodes[{j}] is {code}, which is no status of HTTP")
            });
        }
    }
}

pub(super) fn splitter(name: &str, entry: &ServiceSplitter, mistakes: &mut Mistakes) {
    must(!entry.splits.is_empty(), mistakes, || "spec.splits is empty; name at least one".to_owned());
    let mut seen = Vec::new();
    for (i, split) in entry.splits.iter().enumerate() {
        let hundredths = split.weight * 100.0;
        must((0.0..=100.0).contains(&split.weight) && (hundredths - hundredths.round()).abs() < 1e-6, mistakes, || {
            format!(
                "spec.splits[{i}].weight is {}; it must be a percentage from 0 to 100 with at most two decimals",
                split.weight
            )
        });
        let leg = (split.service.as_deref().unwrap_or(name), split.service_subset.as_deref());
        must(!seen.contains(&leg), mistakes, || {
            format!("spec.splits[{i}]: {:?} with this subset is listed twice", leg.0)
        });
        seen.push(leg);
    }
    let sum: f64 = entry.splits.iter().map(|s| (s.weight * 100.0).round()).sum();
    must(sum == 10_000.0, mistakes, || {
        format!("spec.splits: the sum of all split weights must be 100, but was {}", sum / 100.0)
    });
}
