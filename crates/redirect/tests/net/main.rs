//! Rules against the kernel: what is installed, what it does to real connections, and what it leaves alone.
//!
//! Every test makes network namespaces of its own.

#[path = "../arbitrary/mod.rs"]
mod arbitrary;
mod bed;
mod converge;
mod denied;
mod dns;
mod faults;
mod installed;
mod model;
mod probes;
mod safeguards;
mod traffic;
