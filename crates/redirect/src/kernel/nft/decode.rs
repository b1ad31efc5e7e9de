//! Tables as the kernel tells them: ours in full, other people's as far as they concern us.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, NfTablesMessage, SetAttribute, SetMessage, TableAttribute,
    TableMessage,
};

use super::elements;
use super::rules::{self, Found};
use super::socket::{Netlink, Refused};
use super::table::{Chain, Hook, Kind, Set, Table};
use crate::contract::NFT_TABLE;
use crate::rules::Family;

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) family: NetfilterProtoFamily,
    pub(super) table: String,
    pub(super) name: String,
    hook: Option<Hook>,
}

/// All chains of the namespace.
pub(super) fn chains(netlink: &Netlink) -> Result<Vec<Known>, Refused> {
    let question = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let found = netlink.dump(NetfilterProtoFamily::Unspec, question, "list chains")?;
    let chain = |(family, message)| match message {
        NfTablesMessage::NewChain(chain) => Some(known(family, &chain)),
        _ => None,
    };
    Ok(found.into_iter().filter_map(chain).collect())
}

/// Whether a table of family `inet` is there, with or without chains.
pub(super) fn has_table(netlink: &Netlink, name: &str) -> Result<bool, Refused> {
    let question = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    let found = netlink.dump(NetfilterProtoFamily::Inet, question, "list tables")?;
    Ok(found.iter().any(|(family, message)| match message {
        NfTablesMessage::NewTable(TableMessage { attributes }) => {
            *family == NetfilterProtoFamily::Inet
                && attributes.iter().any(|attribute| matches!(attribute, TableAttribute::Name(own) if own == name))
        }
        _ => false,
    }))
}

/// Our table's content; `chains` are all of the namespace.
pub(super) fn table(netlink: &Netlink, chains: &[Known]) -> Result<Table, Refused> {
    let own = chains.iter().filter(|chain| chain.family == NetfilterProtoFamily::Inet && chain.table == NFT_TABLE);
    let mut table = Table::default();
    for Known { name, hook, .. } in own {
        table.chains.push(Chain { name: name.clone(), hook: hook.clone(), rules: Vec::new() });
    }
    for Found { chain, expressions, .. } in rules::of(netlink, NetfilterProtoFamily::Inet, NFT_TABLE)? {
        if let Some(own) = table.chains.iter_mut().find(|own| own.name == chain) {
            own.rules.push(expressions);
        }
    }
    let question = NfTablesMessage::GetSet(SetMessage { attributes: vec![SetAttribute::Table(NFT_TABLE.to_owned())] });
    for (_, message) in netlink.dump(NetfilterProtoFamily::Inet, question, "list sets")? {
        let NfTablesMessage::NewSet(set) = message else { continue };
        let (name, kind) = set_of(&set);
        let intervals = elements::of(netlink, &name)?;
        table.sets.push(Set { name, kind, intervals });
    }
    Ok(table)
}

fn known(family: NetfilterProtoFamily, message: &ChainMessage) -> Known {
    let mut chain = Known { family, table: String::new(), name: String::new(), hook: None };
    let mut hook = Hook { kind: String::new(), number: 0, priority: 0 };
    let mut is_called = false;
    for attribute in &message.attributes {
        match attribute {
            ChainAttribute::Table(name) => chain.table.clone_from(name),
            ChainAttribute::Name(name) => chain.name.clone_from(name),
            ChainAttribute::Type(kind) => hook.kind.clone_from(kind),
            ChainAttribute::Hook(attributes) => {
                is_called = true;
                for attribute in attributes {
                    match attribute {
                        HookAttribute::Number(number) => hook.number = (*number).into(),
                        HookAttribute::Priority(priority) => hook.priority = priority.cast_signed(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Known { hook: is_called.then_some(hook), ..chain }
}

fn set_of(message: &SetMessage) -> (String, Option<Kind>) {
    const KINDS: [Kind; 5] =
        [Kind::Address(Family::V4), Kind::Address(Family::V6), Kind::Port, Kind::User, Kind::Group];
    let (mut name, mut kind) = (String::new(), None);
    for attribute in &message.attributes {
        match attribute {
            SetAttribute::Name(own) => name.clone_from(own),
            SetAttribute::KeyType(number) => kind = KINDS.into_iter().find(|kind| kind.number() == *number),
            _ => {}
        }
    }
    (name, kind)
}
