//! What a fabric does with packets that come over a join or leave by it, as input of `iptables-restore --noflush`: data
//! from data.

use std::fmt::Write;
use std::net::IpAddr;

use crate::Reach;
use crate::net::Plan;

/// What the names of all joins' links begin with.
pub(super) const JOINS: &str = "join";

/// One end of a join.
pub(super) struct Passage<'a> {
    pub(super) interface: &'a str,
    /// Of the lab whose end it is.
    pub(super) plan: Plan,
    pub(super) reach: Reach,
}

impl Passage<'_> {
    /// The rules for the family of this address, which is the fabric's. What leaves waits in `queue`, if there is one.
    pub(super) fn script(&self, fabric: IpAddr, queue: Option<u16>) -> String {
        let Self { interface, plan, reach } = self;
        let mut script = String::from("*filter\n");
        // A lab is no way from one lab to another.
        script.push_str(&refusal(fabric.is_ipv4(), &format!("-i {interface} -o {JOINS}+")));
        let pods = plan.pod_networks().into_iter().find(|network| network.network().is_ipv4() == fabric.is_ipv4());
        if let (Reach::Nodes, Some(pods)) = (reach, pods) {
            // Answers to what Pods have sent are for Pods by now: their translation is undone before.
            let uninvited = format!("-i {interface} -d {pods} -m conntrack ! --ctstate RELATED,ESTABLISHED");
            script.push_str(&refusal(fabric.is_ipv4(), &uninvited));
            let _ =
                write!(script, "COMMIT\n*nat\n-A POSTROUTING -o {interface} -s {pods} -j SNAT --to-source {fabric}\n");
        }
        if let Some(queue) = queue {
            let _ = write!(script, "COMMIT\n*mangle\n-A POSTROUTING -o {interface} -j NFQUEUE --queue-num {queue}\n");
        }
        script.push_str("COMMIT\n");
        script
    }
}

/// Rules that refuse packets which are to be passed on, at once. For TCP over IPv6 by a reset: an ICMPv6 error that comes
/// while the client is still in `connect`, as it does between namespaces, is forgotten until the SYN is repeated after a
/// second.
fn refusal(v4: bool, which: &str) -> String {
    if v4 {
        return format!("-A FORWARD {which} -j REJECT --reject-with icmp-host-unreachable\n");
    }
    format!(
        "-A FORWARD {which} -p tcp -j REJECT --reject-with tcp-reset\n\
         -A FORWARD {which} -j REJECT --reject-with icmp6-addr-unreachable\n"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{Families, Ranges};

    #[rstest]
    #[case::nodes(Reach::Nodes, None, &["-s 10.244.0.0/16 -j SNAT --to-source 172.18.0.1", "-d 10.244.0.0/16 -m conntrack !"])]
    #[case::pods(Reach::Pods, None, &[])]
    #[case::late_pods(Reach::Pods, Some(107), &["*mangle\n-A POSTROUTING -o join107 -j NFQUEUE --queue-num 107"])]
    fn what_an_end_does(#[case] reach: Reach, #[case] queue: Option<u16>, #[case] expected: &[&str]) {
        let plan = Plan::new(Families::Dual, Ranges::default());
        let passage = Passage { interface: "join107", plan, reach };
        let script = passage.script(plan.fabric()[0], queue);
        for rule in expected {
            assert!(script.contains(rule), "{script}");
        }
        assert!(script.contains("-A FORWARD -i join107 -o join+ -j REJECT"), "{script}");
        let rules = script.lines().filter(|line| line.starts_with("-A")).count();
        assert_eq!(rules, expected.len() + 1, "{script}");
        assert_eq!(script.matches('*').count(), script.matches("COMMIT\n").count(), "{script}");
    }

    #[test]
    fn a_family_has_rules_of_its_own() {
        let plan = Plan::new(Families::UnannouncedV6, Ranges::default());
        let passage = Passage { interface: "join100", plan, reach: Reach::Nodes };
        let script = passage.script(plan.fabric()[1], None);
        assert!(script.contains("-s fd00:10:244::/48 -j SNAT --to-source fd00:172:18::1"), "{script}");
        assert!(script.contains("-p tcp -j REJECT --reject-with tcp-reset") && !script.contains("10.244."), "{script}");
    }
}
