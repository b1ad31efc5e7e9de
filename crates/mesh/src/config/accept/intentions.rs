//! The rules of intentions.

use super::{IntentionSource, Mistakes, ServiceIntentions, http, must};

pub(super) fn check(entry: &ServiceIntentions, mistakes: &mut Mistakes) {
    let destination = entry.destination.name.as_str();
    name("spec.destination.name", destination, mistakes);
    must(!entry.sources.is_empty(), mistakes, || {
        "spec.sources is empty; name at least one source, or delete the resource".to_owned()
    });
    for (i, source) in entry.sources.iter().enumerate() {
        let at = format!("spec.sources[{i}]");
        name(&format!("{at}.name"), &source.name, mistakes);
        match (&source.action, source.permissions.is_empty()) {
            (None, true) => mistakes.push(format!("{at}: one of action and permissions must be set")),
            (Some(_), false) => mistakes.push(format!("{at}: action and permissions exclude each other")),
            (None, false) if destination == "*" => {
                mistakes.push(format!("{at}: permissions need an exact destination, not \"*\""));
            }
            _ => {}
        }
        let IntentionSource { name: source_name, peer, partition, sameness_group, .. } = source;
        must([peer, partition, sameness_group].into_iter().flatten().count() <= 1, mistakes, || {
            format!("{at}: peer, partition and samenessGroup exclude each other")
        });
        let same = |other: &IntentionSource| {
            (&other.name, &other.peer, &other.partition, &other.sameness_group)
                == (source_name, peer, partition, sameness_group)
        };
        if entry.sources[..i].iter().any(same) {
            mistakes.push(format!("{at}: source {:?} is listed twice", source.name));
        }
        for (j, permission) in source.permissions.iter().enumerate() {
            let at = format!("{at}.permissions[{j}]");
            must(permission.action.is_some(), mistakes, || format!("{at}.action is not set; it must be allow or deny"));
            http::check(&permission.http, &format!("{at}.http"), mistakes);
        }
    }
}

/// A star stands for every name, and never for a part of one.
fn name(at: &str, name: &str, mistakes: &mut Mistakes) {
    must(!name.is_empty(), mistakes, || format!("{at} is empty; name a service, or \"*\" for every one"));
    must(name == "*" || !name.contains('*'), mistakes, || {
        format!("{at} is {name:?}: \"*\" stands for a whole name, not for a part of one")
    });
}
