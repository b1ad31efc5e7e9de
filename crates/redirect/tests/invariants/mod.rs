//! What must hold for every input there is. The fuzz targets of `fuzz/` and the tests of `tests/fuzz.rs` both call this.
//!
//! An input is any bytes. What is no text, or no configuration, must only be refused without a panic.

pub(crate) mod lists;
mod packets;

use arbitrary::Unstructured;
use redirect::kernel::{demanded, script};
use redirect::rules::{Family, Ruleset, explain, normalise};
use redirect::{Backend, Config, Policy};

/// Packets for each policy.
const PACKETS: usize = 8;

/// A configuration up to the first zero byte, which no JSON has; what packets are made of behind it.
pub(crate) fn config_json(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (json, rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(json) = std::str::from_utf8(json) else { return };
    let Ok(config) = Config::from_json(json) else { return };
    let written = config.to_json();
    assert_eq!(Config::from_json(&written).expect("we read what we write"), config, "{written}");
    for dual_stack in [false, true] {
        match Policy::from_config(&config, dual_stack) {
            Ok(policy) => obeyed(&policy, &mut Unstructured::new(rest)),
            Err(errors) => {
                assert!(!errors.mistakes().is_empty(), "refused for a reason: {written}");
                for (key, mistake) in errors.mistakes() {
                    assert!(errors.to_string().contains(key) && !mistake.reason.is_empty(), "{errors}");
                }
            }
        }
    }
}

/// Every backend can write the policy down, iptables' words are read back as the same rules, and rules and policy decide alike.
fn obeyed(policy: &Policy, random: &mut Unstructured<'_>) {
    for backend in [Backend::Nftables, Backend::IptablesNft, Backend::IptablesLegacy] {
        assert!(!script(backend, policy).is_empty() && !demanded(backend, policy).is_empty(), "{backend}: {policy:?}");
    }
    let rules = Ruleset::of(policy);
    for family in Family::BOTH {
        assert_eq!(normalise(&rules.restore_script(family)), rules.expected(family), "{family}: {policy:?}");
    }
    for _ in 0..PACKETS {
        // where the input is at its end, numbers are zero and choices the first
        let Ok(packet) = packets::near(policy, random) else { return };
        let explanation = explain(policy, &packet);
        assert_eq!(explanation.decided(), policy.verdict(&packet), "{packet:?} under {policy:?}: {explanation}");
        if random.is_empty() {
            return;
        }
    }
}
