//! A kernel without xtables and nf_tables, as seen through system calls.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::{During, Failure};

/// `IPT_SO_{SET_REPLACE,SET_ADD_COUNTERS}` and `IPT_SO_GET_{INFO,ENTRIES,REVISION_MATCH,REVISION_TARGET}`.
const IPV4_OPTIONS: std::ops::RangeInclusive<u64> = 64..=67;
/// The same for IPv6, where the revisions moved because 66 and 67 were taken.
const IPV6_OPTIONS: [u64; 4] = [64, 65, 68, 69];

/// Makes iptables of either flavour, and `nft`, fail as they do where the kernel has no modules for them.
pub(super) fn hide_iptables() -> Result<(), Failure> {
    apply(netlink_rules()?, libc::EPROTONOSUPPORT)?;
    apply(socket_option_rules()?, libc::ENOPROTOOPT)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, Failure> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
        .during("write a seccomp condition")
}

fn all(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Failure> {
    SeccompRule::new(conditions).during("write a seccomp rule")
}

fn netlink_rules() -> Result<Rules, Failure> {
    let netfilter = u64::from(libc::NETLINK_NETFILTER.unsigned_abs());
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    Ok(Rules::from([(libc::SYS_socket, vec![all(vec![equals(0, netlink)?, equals(2, netfilter)?])?])]))
}

fn socket_option_rules() -> Result<Rules, Failure> {
    let mut rules = Vec::new();
    let v4 = IPV4_OPTIONS.map(|option| (libc::SOL_IP, option));
    let v6 = IPV6_OPTIONS.map(|option| (libc::SOL_IPV6, option));
    for (level, option) in v4.chain(v6) {
        rules.push(all(vec![equals(1, u64::from(level.unsigned_abs()))?, equals(2, option)?])?);
    }
    Ok(Rules::from([(libc::SYS_setsockopt, rules.clone()), (libc::SYS_getsockopt, rules)]))
}

fn apply(rules: Rules, errno: i32) -> Result<(), Failure> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).during("name the architecture for seccomp")?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).during("write a seccomp filter")?;
    let program = BpfProgram::try_from(filter).during("compile a seccomp filter")?;
    seccompiler::apply_filter(&program).during("install a seccomp filter")
}
