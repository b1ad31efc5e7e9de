//! The rules of what partitions and meshes have in common: exported services and sameness groups.

use super::{Consumer, ExportedServices, Mistakes, SamenessGroup, must};
use crate::names::DEFAULT;
use crate::tenancy::Tenancy;

pub(super) fn exported(name: &str, entry: &ExportedServices, tenancy: &Tenancy, mistakes: &mut Mistakes) {
    super::only_name("exported-services", tenancy.own(), name, mistakes);
    must(!entry.services.is_empty(), mistakes, || {
        "spec.services is empty; name at least one, or delete the resource".to_owned()
    });
    for (i, service) in entry.services.iter().enumerate() {
        let at = format!("spec.services[{i}]");
        must(!service.name.is_empty(), mistakes, || {
            format!("{at}.name is empty; name a service, or \"*\" for every one")
        });
        must(!service.consumers.is_empty(), mistakes, || format!("{at}.consumers is empty; name at least one"));
        for (j, consumer) in service.consumers.iter().enumerate() {
            let Consumer { peer, partition, sameness_group } = consumer;
            let named = [peer, partition, sameness_group].into_iter().flatten().count();
            must(named == 1, mistakes, || {
                let partition = if tenancy.is_on() { "partition, " } else { "" };
                format!("{at}.consumers[{j}]: exactly one of {partition}peer and samenessGroup must be set")
            });
            must(!tenancy.is_on() || partition.as_deref() != Some(tenancy.own()), mistakes, || {
                format!("{at}.consumers[{j}].partition is {:?}, where the service is itself", tenancy.own())
            });
        }
        must(!entry.services[..i].iter().any(|other| other.name == service.name), mistakes, || {
            format!("{at}: service {:?} is listed twice", service.name)
        });
    }
}

pub(super) fn group(entry: &SamenessGroup, namespace: &str, tenancy: &Tenancy, mistakes: &mut Mistakes) {
    let SamenessGroup { include_local, members, .. } = entry;
    must(namespace == DEFAULT, mistakes, || "sameness groups must reside in the default namespace".to_owned());
    must(!members.is_empty(), mistakes, || "spec.members is empty; name at least one".to_owned());
    for (i, member) in members.iter().enumerate() {
        let at = format!("spec.members[{i}]");
        must(member.peer.is_some() != member.partition.is_some(), mistakes, || {
            format!("{at}: exactly one of partition and peer must be set")
        });
        must(!members[..i].contains(member), mistakes, || format!("{at}: sameness group members must be unique"));
    }
    let has_local = members.iter().any(|member| member.partition.as_deref() == Some(tenancy.own()));
    must(has_local || *include_local, mistakes, || {
        "spec.members: the local partition must be a member of sameness groups, unless includeLocal is true".to_owned()
    });
}
