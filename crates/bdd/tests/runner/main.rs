//! The feature runner as a user starts it: what it leaves on the machine, and what it says about bad input.
//!
//! `test = false`: it needs the built programs and Envoy. `cargo xtask test` runs it.

mod bad_input;
mod host;
mod judgements;
mod machine;
mod started;
