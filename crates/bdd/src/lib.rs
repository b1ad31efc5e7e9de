//! The World, the steps, the reports: `features/*.feature` run against a test bed and judged by packets.
//!
//! A scenario *declares* first (a mesh, workloads, intentions): nothing runs yet, so that the order of declarations does
//! not matter. The first step that needs a cluster builds the bed and applies what was declared; declarations after
//! that change the running one. Steps speak to a [`bed::Bed`] and never know which one it is.
//!
//! What is absent: anything about network namespaces, Envoy or the Kubernetes API server's insides. Statements about
//! packets are the crate `capture`'s; this crate says which host, which window and which statement a phrase means.

pub mod action;
pub mod address;
pub mod bed;
pub mod cli;
pub mod cluster;
pub mod evidence;
pub mod field_path;
pub mod install;
mod later;
mod nearest;
pub mod pods;
pub mod preflight;
pub mod report;
pub mod run;
pub mod selftest;
pub mod settings;
mod steps;
pub mod suite;
pub mod timeline;
pub mod topology;
pub mod vocabulary;
mod wait;
pub mod workload;
pub mod world;
