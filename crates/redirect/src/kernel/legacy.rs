//! What x_tables says of itself.

use std::fs;

use crate::rules::Family;

/// Tables that x_tables keeps for the namespace of the *calling thread*: none until somebody used one, and reading this makes
/// none. It needs neither a program nor `/lib/modules`.
pub(super) fn tables(family: Family) -> Vec<String> {
    let file = match family {
        Family::V4 => "ip_tables_names",
        Family::V6 => "ip6_tables_names",
    };
    let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    names.lines().map(str::to_owned).collect()
}
