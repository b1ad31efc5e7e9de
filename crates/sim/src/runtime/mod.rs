//! Containers as processes: a specification, the shim that turns it into a process, and the handle to that process.

mod container;
mod exec;
mod launch;
mod log;
mod pids;
pub mod shim;
mod spec;

pub use container::{Container, Exit};
pub use launch::{StartError, shim_path};
pub use log::{LogFile, read_log};
pub use spec::{ContainerSpec, Mount, Order, ProcessSpec, Report, Target, capability_set};
