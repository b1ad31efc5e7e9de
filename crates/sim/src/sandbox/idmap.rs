//! Which user and group ids exist in the sandbox, written by a process outside it.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::process::Command;

use nix::unistd::{User, getegid, geteuid};

/// Users of containers go up to 65534 (`nobody`), and 0 is the caller.
const NEEDED: u32 = 65_535;

/// A range of ids: the first one inside, the first one outside, how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Waits for the word that the namespace is there, writes its maps, and returns the exit status; the reason of a failure
/// is on standard error.
pub(super) fn run(target: i32) -> i32 {
    let mut go = [0];
    if io::stdin().read_exact(&mut go).is_err() {
        // There will be no namespace.
        return 0;
    }
    match map(target) {
        Ok(()) => 0,
        Err(reason) => {
            let _ = writeln!(io::stderr(), "{reason}");
            1
        }
    }
}

fn map(target: i32) -> Result<(), String> {
    if geteuid().is_root() {
        for kind in ["uid_map", "gid_map"] {
            let own = std::fs::read_to_string(format!("/proc/self/{kind}"));
            let own = own.map_err(|error| format!("read /proc/self/{kind}: {error}"))?;
            let path = format!("/proc/{target}/{kind}");
            std::fs::write(&path, identity(&own)).map_err(|error| {
                format!("write {path}: {error} (check: capabilities SETUID, SETGID and SETFCAP of this container)")
            })?;
        }
        return Ok(());
    }
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let outside = [("newuidmap", "/etc/subuid", uid.as_raw()), ("newgidmap", "/etc/subgid", getegid().as_raw())];
    for (program, file, own) in outside {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        let ranges = subordinate(&table, name.as_deref(), uid.as_raw());
        let count: u32 = ranges.iter().map(|range| range.count).fold(0, u32::saturating_add);
        if count < NEEDED {
            let who = name.clone().unwrap_or_else(|| uid.to_string());
            return Err(format!(
                "{file} gives {who} {count} subordinate ids, and {NEEDED} are needed: as root, add the line `{who}:100000:65536`"
            ));
        }
        let mut command = Command::new(program);
        command.arg(target.to_string());
        for Range { inside, outside, count } in
            std::iter::once(Range { inside: 0, outside: own, count: 1 }).chain(ranges)
        {
            command.args([inside, outside, count].map(|number| number.to_string()));
        }
        let output = command.output().map_err(|error| match error.kind() {
            // a directory in PATH that this user may not enter turns "not found" into "permission denied"
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                format!("{program} is missing: install the package uidmap")
            }
            _ => format!("run {program}: {error}"),
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program} failed: {} (check: it is set-user-id root, and {file})", said.trim()));
        }
    }
    Ok(())
}

/// The map under which every id that exists here is itself. A user namespace in a user namespace can have no others.
fn identity(own: &str) -> String {
    let mut map = String::new();
    for line in own.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(inside), _, Some(count)) = (fields.next(), fields.next(), fields.next()) {
            let _ = writeln!(map, "{inside} {inside} {count}");
        }
    }
    map
}

/// The ranges that `/etc/subuid` gives a user, by name or number, put one after the other from 1 on.
fn subordinate(table: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let uid = uid.to_string();
    let mut inside = 1u32;
    let mut ranges = Vec::new();
    for line in table.lines() {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(outside), Some(count)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (Ok(outside), Ok(count)) = (outside.parse(), count.parse::<u32>()) else { continue };
        if (Some(owner) == name || owner == uid) && count > 0 {
            ranges.push(Range { inside, outside, count });
            inside = inside.saturating_add(count);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::machine("         0          0 4294967295\n", "0 0 4294967295\n")]
    #[case::in_a_container("0 1000 1\n1 100000 65536\n", "0 0 1\n1 1 65536\n")]
    fn root_keeps_every_id_it_has(#[case] own: &str, #[case] map: &str) {
        assert_eq!(identity(own), map);
    }

    #[rstest]
    #[case::by_name("root:1:2\nann:100000:65536\n", vec![(1, 100_000, 65_536)])]
    #[case::by_number("1000:5:10", vec![(1, 5, 10)])]
    #[case::two_ranges("ann:100:10\nbob:1:9\nann:300:5\n", vec![(1, 100, 10), (11, 300, 5)])]
    #[case::others_and_noise("bob:1:9\n# ann:1:9\nann:x:9\nann\n", vec![])]
    fn subordinate_ids(#[case] table: &str, #[case] expected: Vec<(u32, u32, u32)>) {
        let ranges = subordinate(table, Some("ann"), 1000);
        let ranges: Vec<_> = ranges.iter().map(|range| (range.inside, range.outside, range.count)).collect();
        assert_eq!(ranges, expected);
    }
}
