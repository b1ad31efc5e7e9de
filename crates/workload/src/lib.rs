//! The test program that features run in Pods: servers of a few protocols, and a client that says what became of each
//! attempt in one line of JSON.
//!
//! The library part is the contract between that client and whoever started it: how a payload is described
//! ([`payload::Payload`]) and what became of it ([`report::Report`]).

pub mod payload;
pub mod report;
