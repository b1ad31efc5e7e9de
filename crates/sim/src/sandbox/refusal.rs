//! Why a machine refuses a sandbox, and what to change.

use nix::errno::Errno;

/// Settings that switch user namespaces off, the value that does, and what to do.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("user/max_user_namespaces", "0", "user namespaces are switched off: sysctl -w user.max_user_namespaces=65536"),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "unprivileged user namespaces are switched off: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts unprivileged user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// Why `unshare` was refused.
pub(super) fn namespaces(error: Errno) -> String {
    let found = switches(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).ok());
    if !found.is_empty() {
        return found;
    }
    match error {
        Errno::ENOSPC | Errno::EUSERS => {
            "a limit is reached: sysctl user.max_user_namespaces, user.max_net_namespaces and the like".to_owned()
        }
        Errno::EINVAL => {
            "the kernel lacks a kind of namespace: CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_PID_NS".to_owned()
        }
        _ => "in a container, start it with --privileged; its seccomp profile or security module forbids namespaces"
            .to_owned(),
    }
}

/// Why a mount was refused in a user namespace that was granted.
pub(super) fn mounts() -> String {
    let found = switches(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).ok());
    if !found.is_empty() {
        return found;
    }
    "in a container whose /proc is partly hidden, start it with --privileged or --security-opt systempaths=unconfined"
        .to_owned()
}

fn switches(read: impl Fn(&str) -> Option<String>) -> String {
    let found: Vec<_> = SWITCHES
        .iter()
        .filter(|(name, off, _)| read(name).is_some_and(|value| value.trim() == *off))
        .map(|(.., advice)| *advice)
        .collect();
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all_as_it_should_be(&[("user/max_user_namespaces", "96365\n")], "")]
    #[case::off(&[("user/max_user_namespaces", "0\n")], "user.max_user_namespaces=65536")]
    #[case::apparmor(
        &[("kernel/apparmor_restrict_unprivileged_userns", "1\n")],
        "kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    fn the_switch_is_named(#[case] settings: &[(&str, &str)], #[case] expected: &str) {
        let said =
            switches(|name| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()));
        assert_eq!(expected.is_empty(), said.is_empty());
        assert!(said.contains(expected), "{said}");
    }
}
