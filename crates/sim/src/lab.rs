//! placeholder

/// A running cluster.
pub struct Lab;
