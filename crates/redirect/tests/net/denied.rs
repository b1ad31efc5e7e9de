//! Kernels that lack something, as seen through system calls.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Denied {
    /// nf_tables, and with it iptables-nft.
    Nftables,
    /// x_tables' own interface, of which iptables-legacy makes use.
    Xtables,
    /// Programs to run.
    Programs,
}

/// `IPT_SO_SET_REPLACE` to `IPT_SO_GET_REVISION_TARGET`, with the numbers that IPv6 has instead of the last two.
const TABLE_OPTIONS: std::ops::RangeInclusive<u64> = 64..=69;

impl Denied {
    /// Denies these to the calling thread and what it starts, for good.
    pub(crate) fn apply(denied: &[Self]) {
        for one in denied {
            let (rules, errno) = one.rules();
            let action = SeccompAction::Errno(errno.unsigned_abs());
            let architecture = std::env::consts::ARCH.try_into().expect("an architecture with seccomp");
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).expect("a filter");
            let program: BpfProgram = filter.try_into().expect("short enough");
            seccompiler::apply_filter(&program).expect("the kernel takes it");
        }
    }

    fn rules(self) -> (BTreeMap<i64, Vec<SeccompRule>>, i32) {
        match self {
            Self::Nftables => {
                let netfilter = [(0, libc::AF_NETLINK), (2, libc::NETLINK_NETFILTER)];
                (BTreeMap::from([(libc::SYS_socket, vec![when(&netfilter)])]), libc::EPROTONOSUPPORT)
            }
            Self::Xtables => {
                let options = |level| TABLE_OPTIONS.map(move |option| when(&[(1, level), (2, option as i32)]));
                let rules: Vec<_> = options(libc::SOL_IP).chain(options(libc::SOL_IPV6)).collect();
                let calls = [(libc::SYS_setsockopt, rules.clone()), (libc::SYS_getsockopt, rules)];
                (BTreeMap::from(calls), libc::ENOPROTOOPT)
            }
            Self::Programs => {
                let calls = [libc::SYS_execve, libc::SYS_execveat].map(|call| (call, Vec::new()));
                (BTreeMap::from(calls), libc::ENOENT)
            }
        }
    }
}

/// When arguments have these values.
fn when(arguments: &[(u8, i32)]) -> SeccompRule {
    let condition = |(argument, value): &(u8, i32)| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).expect("an argument")
    };
    SeccompRule::new(arguments.iter().map(condition).collect()).expect("conditions")
}
