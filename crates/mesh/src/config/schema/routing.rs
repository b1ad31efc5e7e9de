//! `ServiceResolver`, `ServiceRouter` and `ServiceSplitter`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Headers, HttpMatch};

/// `ServiceResolver.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceResolver {
    pub(crate) default_subset: Option<String>,
    pub(crate) subsets: BTreeMap<String, Subset>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) failover: BTreeMap<String, Failover>,
    pub(crate) connect_timeout: Option<String>,
    pub(crate) request_timeout: Option<String>,
    pub(crate) load_balancer: Option<LoadBalancer>,
}

/// `ServiceResolver.spec.subsets.*`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subset {
    pub(crate) filter: String,
    pub(crate) only_passing: bool,
}

/// `ServiceResolver.spec.redirect`, and a failover target.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Redirect {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) partition: Option<String>,
    pub(crate) sameness_group: Option<String>,
}

/// `ServiceResolver.spec.failover.*`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Failover {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) datacenters: Vec<String>,
    pub(crate) sameness_group: Option<String>,
    pub(crate) targets: Vec<Redirect>,
}

/// `ServiceResolver.spec.loadBalancer`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LoadBalancer {
    pub(crate) policy: String,
    pub(crate) ring_hash_config: RingHash,
    pub(crate) least_request_config: LeastRequest,
    pub(crate) hash_policies: Vec<HashPolicy>,
}

impl LoadBalancer {
    /// Whether instances are chosen by what a request says.
    pub(crate) fn hashes(&self) -> bool {
        matches!(self.policy.as_str(), "ringHash" | "maglev")
    }
}

/// `ServiceResolver.spec.loadBalancer.ringHashConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RingHash {
    pub(crate) minimum_ring_size: u64,
    pub(crate) maximum_ring_size: u64,
}

/// `ServiceResolver.spec.loadBalancer.leastRequestConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LeastRequest {
    pub(crate) choice_count: u32,
}

/// `ServiceResolver.spec.loadBalancer.hashPolicies[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HashPolicy {
    pub(crate) field: String,
    pub(crate) field_value: String,
    pub(crate) cookie_config: Option<Cookie>,
    #[serde(rename = "sourceIP")]
    pub(crate) source_ip: bool,
    pub(crate) terminal: bool,
}

/// `ServiceResolver.spec.loadBalancer.hashPolicies[].cookieConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Cookie {
    pub(crate) session: bool,
    pub(crate) ttl: Option<String>,
    pub(crate) path: String,
}

/// `ServiceRouter.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceRouter {
    pub(crate) routes: Vec<Route>,
}

/// `ServiceRouter.spec.routes[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Route {
    #[serde(rename = "match")]
    pub(crate) matches: RouteMatch,
    pub(crate) destination: RouteDestination,
}

/// `ServiceRouter.spec.routes[].match`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RouteMatch {
    pub(crate) http: HttpMatch,
}

/// `ServiceRouter.spec.routes[].destination`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteDestination {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) request_timeout: Option<String>,
    pub(crate) idle_timeout: Option<String>,
    #[serde(flatten)]
    pub(crate) retries: Retries,
    #[serde(flatten)]
    pub(crate) headers: Headers,
}

/// How often, and after which failures, a request is sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Retries {
    pub(crate) num_retries: u32,
    pub(crate) retry_on: Vec<String>,
    pub(crate) retry_on_connect_failure: bool,
    pub(crate) retry_on_status_codes: Vec<u32>,
}

/// `ServiceSplitter.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSplitter {
    pub(crate) splits: Vec<Split>,
}

/// `ServiceSplitter.spec.splits[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Split {
    /// Percent.
    pub(crate) weight: f64,
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    #[serde(flatten)]
    pub(crate) headers: Headers,
}
