//! The bytes of an AdmissionReview: see `invariants::answered`.
#![no_main]

#[path = "../../tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::answered(input));
