//! What Prometheus is told.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Instant;

/// Label of reviews: what became of them, `injected`, `unchanged`, `refused` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) outcome: &'static str,
}

/// Label of what was no review: `large`, `slow`, `cut`, `unreadable` or `busy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: &'static str,
}

/// Label of what is followed, such as `namespaces`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Resource {
    pub(super) resource: &'static str,
}

/// Label of what was done to the certificate: `loaded`, `rotated`, `published` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Step {
    pub(super) step: &'static str,
}

/// The numbers. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub(super) reviews: Family<Outcome, Counter>,
    pub(super) rejected: Family<Reason, Counter>,
    pub(super) seconds: Histogram,
    pub(super) under_way: Gauge,
    pub(super) warnings: Counter,
    pub(super) asked: Counter,
    pub(super) synced: Family<Resource, Gauge>,
    pub(super) watch_errors: Family<Resource, Counter>,
    pub(super) certificate: Family<Step, Counter>,
    pub(super) certificate_expiry: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pellucid_webhook");
        let mut metrics = Self {
            registry: Arc::default(),
            reviews: Family::default(),
            rejected: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            under_way: Gauge::default(),
            warnings: Counter::default(),
            asked: Counter::default(),
            synced: Family::default(),
            watch_errors: Family::default(),
            certificate: Family::default(),
            certificate_expiry: Gauge::default(),
        };
        registry.register("reviews", "Reviews answered, by what became of the Pod", metrics.reviews.clone());
        registry.register("rejected_requests", "Requests that were no review", metrics.rejected.clone());
        let (seconds, about) = (metrics.seconds.clone(), "Time from a review's last byte to its answer");
        registry.register_with_unit("review_duration", about, Unit::Seconds, seconds);
        registry.register("reviews_under_way", "Reviews being answered", metrics.under_way.clone());
        registry.register("warnings", "Warnings given with answers", metrics.warnings.clone());
        let about = "Reviews that had to ask the API server for their namespace";
        registry.register("namespace_requests", about, metrics.asked.clone());
        registry.register("watch_synced", "1 once the list has been received", metrics.synced.clone());
        registry.register("watch_errors", "Failures of a watch", metrics.watch_errors.clone());
        registry.register("certificate_steps", "What was done to the certificate", metrics.certificate.clone());
        let (expiry, about) = (metrics.certificate_expiry.clone(), "When the served certificate expires, Unix time");
        registry.register_with_unit("certificate_expiry", about, Unit::Seconds, expiry);
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // writing to a String does not fail
        prometheus_client::encoding::text::encode(&mut text, &self.registry).ok();
        text
    }

    /// Counts a request that was no review.
    pub(super) fn reject(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    /// Counts something that was done to the certificate.
    pub(super) fn certificate(&self, step: &'static str) {
        self.certificate.get_or_create(&Step { step }).inc();
    }

    /// Counts a review as under way until the value is dropped.
    pub(super) fn review(&self) -> UnderWay<'_> {
        self.under_way.inc();
        UnderWay { metrics: self, since: Instant::now() }
    }
}

/// A review that is being answered.
pub(super) struct UnderWay<'a> {
    metrics: &'a Metrics,
    since: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.metrics.under_way.dec();
        self.metrics.seconds.observe(self.since.elapsed().as_secs_f64());
    }
}
