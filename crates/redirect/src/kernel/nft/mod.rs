//! Native nf_tables over netlink: our own table, one batch for both families, no program at all.
//!
//! What is absent: other people's tables are never changed, but for Consul's own rules of either generation, whose place ours
//! take: the chains of [`crate::rules`] that iptables-nft made in the tables `nat` and `filter`, and the table `consul_tproxy`.

use netlink_packet_netfilter::NetfilterProtoFamily;

mod attributes;
mod decode;
mod elements;
mod encode;
mod expr;
mod interval;
mod rules;
mod socket;
mod table;

use decode::Known;
use expr::Expr;
pub(in crate::kernel) use socket::Refused;
use socket::{Netlink, Order};
use table::Table;

use crate::contract::{CONSUL_NFT_TABLE, NFT_TABLE, chain};
use crate::rules::{Family, OURS, Program};

/// What nf_tables holds in a namespace that concerns us.
pub(super) struct Survey {
    netlink: Netlink,
    chains: Vec<Known>,
}

impl Survey {
    /// Looks at the current namespace.
    pub(super) fn take() -> Result<Self, Refused> {
        let netlink = Netlink::open()?;
        let chains = decode::chains(&netlink)?;
        Ok(Self { netlink, chains })
    }

    /// Whether our own table is there.
    pub(super) fn has_own(&self) -> bool {
        self.inet(NFT_TABLE).next().is_some()
    }

    /// Whether the table of Consul's nf_tables generation is there, and is Consul's: somebody else may use that name too.
    pub(super) fn has_consul(&self) -> bool {
        let mut chains = self.inet(CONSUL_NFT_TABLE).peekable();
        chains.peek().is_some() && chains.all(|chain| chain.name.starts_with("CONSUL_"))
    }

    /// Whether iptables-nft, or somebody else in its tables, has anything for a family.
    pub(super) fn has_iptables(&self, family: Family) -> bool {
        let number = proto(family);
        self.chains.iter().any(|chain| chain.family == number)
    }

    /// What redirects beside rules of iptables.
    pub(super) fn others(&self) -> impl Iterator<Item = String> {
        let tables = [(self.has_own(), NFT_TABLE), (self.has_consul(), CONSUL_NFT_TABLE)];
        let there = tables.into_iter().filter(|(there, _)| *there);
        there.map(|(_, name)| format!("table inet {name}, which redirects too"))
    }

    /// Whether iptables-nft made chains of ours for a family.
    pub(super) fn has_compat(&self, family: Family) -> bool {
        self.compat(family).next().is_some()
    }

    fn inet<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Known> {
        self.chains.iter().filter(move |chain| chain.family == NetfilterProtoFamily::Inet && chain.table == table)
    }

    fn compat(&self, family: Family) -> impl Iterator<Item = &Known> {
        let number = proto(family);
        self.chains.iter().filter(move |chain| {
            chain.family == number
                && ["nat", "filter"].contains(&chain.table.as_str())
                && OURS.contains(&chain.name.as_str())
        })
    }

    /// Brings the namespace to what a program demands and takes Consul's rules of either generation away, all in one
    /// transaction. Says whether there was anything to do.
    pub(super) fn apply(&self, program: &Program) -> Result<bool, Refused> {
        let mut orders = self.without_others()?;
        let wanted = Table::of(program);
        if !self.has_own() && !decode::has_table(&self.netlink, NFT_TABLE)? {
            orders.extend(encode::install(&wanted));
        } else if decode::table(&self.netlink, &self.chains)?.lines() != wanted.lines() {
            orders.extend(encode::replace(&wanted));
        }
        self.commit(&orders)
    }

    /// Takes our table away, and what iptables-nft made of the same rules.
    pub(super) fn remove(&self) -> Result<bool, Refused> {
        let mut orders = self.without_compat()?;
        if self.has_own() || decode::has_table(&self.netlink, NFT_TABLE)? {
            orders.push(encode::delete_table(NFT_TABLE));
        }
        self.commit(&orders)
    }

    /// Takes away what would redirect beside rules of iptables.
    pub(super) fn yield_to_iptables(&self) -> Result<bool, Refused> {
        let tables = [(self.has_own(), NFT_TABLE), (self.has_consul(), CONSUL_NFT_TABLE)];
        let orders: Vec<Order> =
            tables.into_iter().filter(|(there, _)| *there).map(|(_, name)| encode::delete_table(name)).collect();
        self.commit(&orders)
    }

    fn commit(&self, orders: &[Order]) -> Result<bool, Refused> {
        if orders.is_empty() {
            return Ok(false);
        }
        self.netlink.commit(orders)?;
        Ok(true)
    }

    /// Our rules as they should be and as they are, as lines.
    pub(super) fn compare(&self, program: &Program) -> Result<(Vec<String>, Vec<String>), Refused> {
        let mut found = decode::table(&self.netlink, &self.chains)?.lines();
        if self.has_consul() {
            found.push(format!("table inet {CONSUL_NFT_TABLE}, which redirects too"));
        }
        for family in Family::BOTH {
            let others = self
                .compat(family)
                .map(|chain| format!("{family} chain {} of iptables, which redirects too", chain.name));
            found.extend(others);
        }
        Ok((Table::of(program).lines(), found))
    }

    /// Connections that our table has counted; nothing where it counts none.
    pub(super) fn counted(&self) -> Result<Option<u64>, Refused> {
        if !self.has_own() {
            return Ok(None);
        }
        let rules = rules::of(&self.netlink, NetfilterProtoFamily::Inet, NFT_TABLE)?;
        Ok(rules.iter().filter(|rule| rule.chain == chain::OUTPUT).find_map(|rule| rule.counted))
    }

    /// The lines of our table; empty when there is none.
    pub(super) fn lines(&self) -> Result<Vec<String>, Refused> {
        if self.has_own() { Ok(decode::table(&self.netlink, &self.chains)?.lines()) } else { Ok(Vec::new()) }
    }

    fn without_others(&self) -> Result<Vec<Order>, Refused> {
        let mut orders = self.without_compat()?;
        if self.has_consul() {
            orders.push(encode::delete_table(CONSUL_NFT_TABLE));
        }
        Ok(orders)
    }

    /// First the jumps into the chains, then their rules, then the chains.
    fn without_compat(&self) -> Result<Vec<Order>, Refused> {
        let mut orders = Vec::new();
        for family in Family::BOTH {
            let number = proto(family);
            let chains: Vec<&Known> = self.compat(family).collect();
            let mut tables: Vec<&str> = chains.iter().map(|chain| chain.table.as_str()).collect();
            tables.sort_unstable();
            tables.dedup();
            for table in tables {
                let own: Vec<&str> =
                    chains.iter().filter(|chain| chain.table == table).map(|chain| chain.name.as_str()).collect();
                for rule in rules::of(&self.netlink, number, table)? {
                    let leads_here =
                        |e: &Expr| matches!(e, Expr::Jump(to) | Expr::Goto(to) if own.contains(&to.as_str()));
                    if !own.contains(&rule.chain.as_str()) && rule.expressions.iter().any(leads_here) {
                        let message = encode::delete_rule(table, &rule.chain, rule.handle);
                        let what = format!("delete a jump from {} of table {table}", rule.chain);
                        orders.push(Order::change(message, what).of(number));
                    }
                }
                for name in &own {
                    let what = format!("empty chain {name} of table {table}");
                    orders.push(Order::change(encode::flush_chain(table, name), what).of(number));
                }
                for name in &own {
                    let what = format!("delete chain {name} of table {table}");
                    orders.push(Order::change(encode::delete_chain(table, name), what).of(number));
                }
            }
        }
        Ok(orders)
    }
}

fn proto(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    }
}

/// What `apply` would bring about, as input for `nft -f`.
pub(super) fn script(program: &Program) -> String {
    let head = format!("table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\ntable inet {NFT_TABLE} {{\n");
    Table::of(program).script(head) + "}\n"
}

/// The lines that a program's table has.
pub(super) fn expected(program: &Program) -> Vec<String> {
    Table::of(program).lines()
}
