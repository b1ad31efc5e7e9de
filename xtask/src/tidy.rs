//! House rules that a test can hold: the crate graph, module sizes, what every module says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::run::root;

/// Lines above which a module must be split.
const LONGEST: usize = 600;
/// Lines that half of the modules must stay under.
const MEDIAN: usize = 150;

/// Who may depend on whom, as the README draws it. Everything that is not here is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("bdd", &["capture", "mesh", "netns", "redirect", "sim", "workload"]),
    ("capture", &["netns"]),
    ("cni", &["netns", "redirect"]),
    ("init", &["netns", "redirect"]),
    ("measure", &["redirect"]),
    ("mesh", &["redirect"]),
    ("netns", &[]),
    ("redirect", &["netns"]),
    ("sim", &["netns"]),
    ("webhook", &["redirect"]),
    ("workload", &[]),
];

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates"), root().join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable folder") {
            let path = entry.expect("readable entry").path();
            if path.ends_with("target") {
                // what the fuzzer built
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn modules_are_small() {
    let lengths: BTreeMap<_, _> = sources()
        .into_iter()
        .map(|path| (shown(&path), fs::read_to_string(&path).expect("readable source").lines().count()))
        .collect();
    let long: Vec<_> = lengths.iter().filter(|(_, lines)| **lines > LONGEST).collect();
    assert!(long.is_empty(), "over {LONGEST} lines, split them: {long:?}");
    let mut counts: Vec<_> = lengths.values().copied().collect();
    counts.sort_unstable();
    let median = counts[counts.len() / 2];
    assert!(median <= MEDIAN, "the median module has {median} lines, the bound is {MEDIAN}");
}

#[test]
fn modules_say_what_they_do() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).expect("readable source").starts_with("//! "))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "start these with a //! sentence: {silent:?}");
}

#[test]
fn crates_depend_as_drawn() {
    let drawn: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    for entry in fs::read_dir(root().join("crates")).expect("readable folder") {
        let folder = entry.expect("readable entry").path();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("crate folder").to_owned();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("crate manifest");
        let normal = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let normal = normal.split("\n[").next().unwrap_or_default();
        let used: BTreeSet<&str> = normal
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|dependency| drawn.contains_key(dependency))
            .collect();
        let allowed = drawn
            .get(name.as_str())
            .unwrap_or_else(|| panic!("crate {name} is not in the drawing: add it to ARROWS and the README"));
        let extra: Vec<_> = used.difference(allowed).collect();
        assert!(extra.is_empty(), "crate {name} must not depend on {extra:?} (README, \"The house\")");
    }
}

#[test]
fn product_crates_do_not_know_the_simulator() {
    let product =
        ["redirect", "netns", "webhook", "init", "cni"].map(|name| root().join("crates").join(name).join("src"));
    let telling: Vec<_> = sources()
        .into_iter()
        .filter(|path| product.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| fs::read_to_string(path).expect("readable source").to_lowercase().contains("simulator"))
        .map(|path| shown(&path))
        .collect();
    assert!(telling.is_empty(), "product modules that speak of the simulator: {telling:?}");
}
