//! A configuration and packets: see `invariants::config_json`.
#![no_main]

#[path = "../../tests/invariants/mod.rs"]
#[expect(dead_code, reason = "the other target's part")]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::config_json(input));
