//! Who the container's program is: capabilities, user, groups.

use std::collections::BTreeSet;
use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid};

use super::{During, Failure};
use crate::runtime::spec::ProcessSpec;

/// Becomes the process's user with its capabilities. As under containerd, nothing is inheritable or ambient: a user
/// other than root gets none from the set, whatever the Pod adds.
pub(super) fn assume(process: &ProcessSpec) -> Result<(), Failure> {
    let granted = granted(&process.capabilities)?;
    bound(&granted)?;
    // As runc: a program may open /dev/stdout anew, which the pipe's owner decides.
    let user = Some(Uid::from_raw(process.uid));
    let _ = nix::unistd::fchown(std::io::stdout(), user, None);
    let _ = nix::unistd::fchown(std::io::stderr(), user, None);
    let groups: Vec<Gid> = process.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).during(format_args!("set supplementary groups {:?}", process.groups))?;
    let gid = Gid::from_raw(process.gid);
    nix::unistd::setresgid(gid, gid, gid).during(format_args!("become group {gid}"))?;
    let uid = Uid::from_raw(process.uid);
    nix::unistd::setresuid(uid, uid, uid).during(format_args!("become user {uid}"))?;
    caps::clear(None, CapSet::Inheritable).during("clear inheritable capabilities")?;
    if uid.is_root() {
        caps::set(None, CapSet::Effective, &granted).during("set effective capabilities")?;
        caps::set(None, CapSet::Permitted, &granted).during("set permitted capabilities")?;
    }
    Ok(())
}

/// Those of the wanted capabilities that this machine gives us at all.
fn granted(names: &BTreeSet<String>) -> Result<CapsHashSet, Failure> {
    let ours = caps::read(None, CapSet::Permitted).during("read our own capabilities")?;
    let mut granted = CapsHashSet::new();
    for name in names {
        granted.insert(Capability::from_str(name).during(format_args!("grant {name}"))?);
    }
    Ok(granted.intersection(&ours).copied().collect())
}

fn bound(granted: &CapsHashSet) -> Result<(), Failure> {
    let bounding = caps::read(None, CapSet::Bounding).during("read the bounding set")?;
    for capability in bounding.difference(granted) {
        caps::drop(None, CapSet::Bounding, *capability).during(format_args!("drop {capability}"))?;
    }
    Ok(())
}
