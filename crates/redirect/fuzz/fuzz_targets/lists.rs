//! A list of an annotation or a configuration: see `invariants::lists::hold`.
#![no_main]

#[path = "../../tests/invariants/mod.rs"]
#[expect(dead_code, reason = "the other target's part")]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::lists::hold(input));
