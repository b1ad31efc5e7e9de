//! Which rule decides about a packet, in words.

use std::fmt;
use std::net::SocketAddr;

use super::Family;
use super::program::{Action, Base, Chain, Match, Program, Rule};
use crate::packet::{DNS_PORT, Hook, Packet, Protocol, Verdict};
use crate::policy::Policy;
use crate::range::any;

/// What becomes of a packet, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// What becomes of it, in words.
    pub verdict: String,
    /// The rules that had a part in it, in order, each with its chain and its reason.
    pub because: Vec<String>,
    #[serde(skip)]
    decided: Verdict,
}

impl Explanation {
    /// The verdict that the rules come to. It is the policy's own.
    #[must_use]
    pub fn decided(&self) -> Verdict {
        self.decided
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        for reason in &self.because {
            write!(f, "\n  {reason}")?;
        }
        Ok(())
    }
}

/// Follows a packet through the rules of a policy.
#[must_use]
pub fn explain(policy: &Policy, packet: &Packet) -> Explanation {
    let program = Program::of(policy);
    let bases = match packet.hook {
        Hook::Output => [Base::NatOutput, Base::FilterOutput],
        Hook::Prerouting => [Base::NatPrerouting, Base::FilterInput],
    };
    let mut because = Vec::new();
    let mut decided = Verdict::Accept;
    // translation happens first; what safeguards see of a translated packet is none of theirs
    for base in bases {
        for chain in program.chains.iter().filter(|chain| chain.base == Some(base)) {
            if let (Verdict::Accept, Some(verdict)) = (decided, follow(&program, chain, packet, &mut because)) {
                decided = verdict;
            }
        }
    }
    if because.is_empty() {
        because.push("no rule is about it".to_owned());
    }
    let verdict = match decided {
        Verdict::Accept => "goes where it was sent".to_owned(),
        Verdict::RedirectTo(port) => format!("is redirected to port {port}"),
        Verdict::DnsTo(server) => format!("is sent to the DNS server {server}"),
        Verdict::Refuse => "is refused".to_owned(),
    };
    Explanation { verdict, because, decided }
}

fn follow(program: &Program, chain: &Chain, packet: &Packet, because: &mut Vec<String>) -> Option<Verdict> {
    let decides = |rule: &&Rule| rule.action != Action::Count && matches(rule, packet);
    for rule in chain.rules.iter().filter(decides) {
        because.push(format!("{}: {}, because {}", chain.name, words(rule.action), rule.why));
        match rule.action {
            Action::Count => {}
            Action::Return => return None,
            Action::Jump(name) => {
                if let Some(verdict) = program.chain(name).and_then(|next| follow(program, next, packet, because)) {
                    return Some(verdict);
                }
            }
            Action::Redirect(port) => return Some(Verdict::RedirectTo(port)),
            Action::Translate(server) => {
                let port = if server.port() == 0 { DNS_PORT } else { server.port() };
                return Some(Verdict::DnsTo(SocketAddr::new(server.ip(), port)));
            }
            Action::Reset | Action::Unreachable | Action::Drop => return Some(Verdict::Refuse),
        }
    }
    None
}

fn words(action: Action) -> String {
    match action {
        Action::Count => "counted".to_owned(),
        Action::Return => "left alone".to_owned(),
        Action::Jump(chain) => format!("on to {chain}"),
        Action::Redirect(port) => format!("redirected to port {port}"),
        Action::Translate(server) if server.port() == 0 => format!("sent to {}", server.ip()),
        Action::Translate(server) => format!("sent to {server}"),
        Action::Reset | Action::Unreachable => "refused".to_owned(),
        Action::Drop => "dropped".to_owned(),
    }
}

fn matches(rule: &Rule, packet: &Packet) -> bool {
    rule.matches.iter().all(|condition| match condition {
        Match::Family(family) => Family::of(packet.destination) == *family,
        Match::Protocol(protocol) => packet.protocol == *protocol,
        Match::Users(list) => packet.uid.is_some_and(|uid| any(&list.values, uid)),
        Match::Groups(list) => packet.gid.is_some_and(|gid| any(&list.values, gid)),
        Match::OtherGroup(group) => packet.gid.is_some_and(|gid| gid != *group),
        Match::To(list) => list.values.iter().any(|block| block.contains(&packet.destination)),
        Match::From(list) => list.values.iter().any(|block| block.contains(&packet.source)),
        Match::Ports(list) => {
            matches!(packet.protocol, Protocol::Tcp | Protocol::Udp) && any(&list.values, packet.destination_port)
        }
        Match::OutLoopback => packet.hook == Hook::Output && packet.local,
        Match::InLoopback => false,
        // the first packet of a connection belongs to none yet, and is valid
        Match::Tracked(_) => false,
    })
}
