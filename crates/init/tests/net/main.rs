//! The programs in network namespaces of their own.

mod connect_init;
#[path = "../fake/mod.rs"]
#[expect(dead_code, reason = "the catalogue does not change under these tests")]
mod fake;
mod killed;
mod pod;
mod probes;
mod proof;
mod redirect_traffic;
