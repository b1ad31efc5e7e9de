//! The invariants of the fuzz targets on a stable compiler: over the seeds, and over inputs made here.
//!
//! `PELLUCID_FUZZ_INPUTS` sets how many inputs each target gets.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;

mod invariants;

/// Inputs for each target, unless the environment says otherwise.
const INPUTS: u32 = 4_000;

fn inputs() -> ProptestConfig {
    let asked = std::env::var("PELLUCID_FUZZ_INPUTS").ok().map(|text| text.parse().expect("a number of inputs"));
    ProptestConfig::with_cases(asked.unwrap_or(INPUTS))
}

fn seeds(target: &str, invariant: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("seeds").map(|file| file.expect("a seed").path()).collect();
    assert!(!files.is_empty(), "{} holds no seed", folder.display());
    for file in files {
        invariant(&std::fs::read(file).expect("readable"));
    }
}

#[test]
fn seeds_hold() {
    seeds("config_json", invariants::config_json);
    seeds("lists", invariants::lists::hold);
}

const KEYS: [&str; 18] = [
    "ConsulDNSIP",
    "ConsulDNSPort",
    "ProxyUserID",
    "ProxyInboundPort",
    "ProxyOutboundPort",
    "ExcludeInboundPorts",
    "ExcludeOutboundPorts",
    "ExcludeOutboundCIDRs",
    "ExcludeUIDs",
    "ExcludeGIDs",
    "Safeguards",
    "ProbePorts",
    "ProbeSources",
    "Proof",
    "NetNS",
    "IptablesProvider",
    "excludeuids",
    "Later",
];

/// Entries and values that some list or key takes, or nearly takes.
const WORDS: [&str; 40] = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "+1",
    "01",
    "53",
    "80",
    " 80\t",
    "8200",
    "65535",
    "65536",
    "80:90",
    "80-90",
    "90:80",
    "8 : 9",
    "1:65535",
    "5995",
    "5996",
    "1000-2000",
    "0-4294967294",
    "4294967294",
    "4294967295",
    "18446744073709551616",
    "10.0.0.0/8",
    "10.1.2.3",
    "10.0.0.0/33",
    "0.0.0.0/0",
    "127.0.0.1",
    "255.255.255.255",
    "fd00::/8",
    "::/0",
    "::1",
    "fe80::/10",
    "::ffff:10.0.0.1",
    "http",
    "refuse-udp",
    "refuse-ipv6",
    "٨٠",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(str::to_owned),
        1 => any::<u16>().prop_map(|number| number.to_string()),
        1 => (any::<std::net::IpAddr>(), 0..=130_u8).prop_map(|(address, length)| format!("{address}/{length}")),
        1 => (any::<u16>(), select(&[":", "-", " : "][..]), any::<u16>()).prop_map(|(a, s, b)| format!("{a}{s}{b}")),
        1 => string_regex("[-+:./0-9a-fx \t]{0,12}").expect("an expression"),
        1 => ".{0,8}",
        1 => select(redirect::Safeguard::ALL.to_vec()).prop_map(|safeguard| safeguard.to_string()),
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        3 => vec(word(), 0..6).prop_map(serde_json::Value::from),
        3 => word().prop_map(serde_json::Value::from),
        2 => (0..70_000_i64).prop_map(serde_json::Value::from),
        1 => any::<i64>().prop_map(serde_json::Value::from),
        1 => any::<f64>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
        1 => Just(serde_json::json!([null, {"a": [1, "b"]}])),
    ]
}

/// A configuration that is right, with a few keys set to anything behind it, of which the last ones count.
fn json() -> impl Strategy<Value = String> {
    let lists = (vec(word(), 0..4), vec(word(), 0..4), vec(word(), 0..4), vec(word(), 0..3), vec(word(), 0..2));
    let right = lists.prop_map(|(inbound, outbound, blocks, uids, gids)| {
        let take = |entries: Vec<String>, like: fn(&str) -> bool| -> Vec<String> {
            entries.into_iter().filter(|entry| like(entry)).collect()
        };
        let dns = if blocks.len() % 2 == 0 { ("127.0.0.1", 8600) } else { ("", outbound.len() as i64) };
        redirect::Config {
            consul_dns_ip: dns.0.to_owned(),
            consul_dns_port: dns.1,
            proxy_user_id: "5995".into(),
            proxy_inbound_port: 20000,
            exclude_inbound_ports: take(inbound, |entry| redirect::parse::ports(entry).is_ok()),
            exclude_outbound_ports: take(outbound, |entry| redirect::parse::ports(entry).is_ok()),
            exclude_outbound_cidrs: take(blocks, |entry| redirect::parse::cidrs(entry).is_ok()),
            exclude_uids: take(uids, |entry| redirect::parse::ids(entry).is_ok()),
            exclude_gids: take(gids, |entry| redirect::parse::ids(entry).is_ok()),
            ..redirect::Config::default()
        }
        .to_json()
    });
    let more = vec((select(&KEYS[..]), value()), 0..3);
    (right, more).prop_map(|(right, more)| {
        let mut json = right.trim_end_matches('}').to_owned();
        for (key, value) in more {
            json += &format!(",\"{key}\":{value}");
        }
        json + "}"
    })
}

/// Bytes with some of them replaced.
fn scratched(text: String, at: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    for (index, byte) in at.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
        let at = index.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

fn scratches() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop_oneof![4 => Just(Vec::new()), 1 => vec(any::<(prop::sample::Index, u8)>(), 1..4)]
}

proptest! {
    #![proptest_config(inputs())]

    #[test]
    fn configurations_hold(json in json(), scratches in scratches(), packets in vec(any::<u8>(), 0..256)) {
        let mut input = scratched(json, &scratches);
        input.push(0);
        input.extend(packets);
        invariants::config_json(&input);
    }

    #[test]
    fn any_lists_hold(words in vec(word(), 0..8), scratches in scratches()) {
        invariants::lists::hold(&scratched(words.join(","), &scratches));
    }
}
