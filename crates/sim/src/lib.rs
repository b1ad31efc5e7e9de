//! A Kubernetes cluster on one machine: nodes and Pods are network namespaces, containers are processes.
//!
//! What is absent: the product. Nothing here knows Consul, Envoy or redirection; the product's programs run as Pods.

pub mod api;
pub mod controllers;
pub mod kubelet;
pub mod lab;
pub mod net;
pub mod runtime;
pub mod sandbox;
mod types;

pub use lab::Lab;
pub use net::{RangeFault, Ranges, RangesError, RangesText};
pub use types::*;
