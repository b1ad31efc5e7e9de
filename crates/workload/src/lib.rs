//! The test program that features run in Pods: servers of a few protocols, and a client that says what became of each
//! attempt in one line of JSON.
//!
//! The library part is the contract between that client and whoever started it ([`report::Report`]); everything else
//! belongs to the binary and is public only for its tests.

pub mod report;
