//! Pods on a real kernel: identity, capabilities, volumes, probes, restarts, the end. Needs root.

mod bed;
mod container;
mod lifecycle;
mod processes;
