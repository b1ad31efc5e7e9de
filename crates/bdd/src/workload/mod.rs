//! Workloads of a scenario: what a step says about one, the fixture it starts from, and the objects it becomes.

mod fixture;
mod instance;
mod keys;
pub mod manifest;
pub mod program;
mod spec;

pub use fixture::fixture;
pub use instance::Instance;
pub use spec::{
    Bind, Command, Container, Controller, InitContainer, InitSidecar, Library, Listen, Placement, Probe, ProbeAction,
    ProbeKind, Role, ServicePort, ServiceShape, Workload,
};
