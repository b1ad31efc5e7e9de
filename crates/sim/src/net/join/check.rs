//! Which labs can be joined: those whose routers can tell everybody apart afterwards.

use std::sync::Arc;

use ipnet::IpNet;

use super::Side;
use crate::net::{Error, lock};
use crate::{Families, Reach};

/// Why two labs were not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// They are joined.
    #[error("join labs {0} and {1}: they are joined already (one join lasts as long as both labs)")]
    Twice(String, String),
    /// They have different address families.
    #[error("join labs {0} ({2:?}) and {1} ({3:?}): their address families differ (give both the same)")]
    Families(String, String, Families, Families),
    /// A lab would have two ways to an address.
    #[error(
        "route {network} of lab {owner} into lab {lab}: it overlaps {taken}, which is lab {taken_by}'s (give the labs networks that \
         differ; where a join reaches nodes only, Pod networks may be the same)"
    )]
    Overlap {
        /// The lab that was to get the route.
        lab: String,
        /// Whose network it is to.
        owner: String,
        /// Where it leads.
        network: IpNet,
        /// What the lab reaches already.
        taken: IpNet,
        /// Whose that is.
        taken_by: String,
    },
    /// The kernel refused.
    #[error("connect the routers of labs {0} and {1}")]
    Kernel(String, String, #[source] Error),
}

impl Side {
    /// Whether a router could tell everybody apart afterwards.
    pub(super) fn check(&self, other: &Self, reach: Reach) -> Result<(), JoinError> {
        let both = (self.joints.lab.clone(), other.joints.lab.clone());
        let families = (self.plan.families(), other.plan.families());
        if families.0 != families.1 {
            return Err(JoinError::Families(both.0, both.1, families.0, families.1));
        }
        let identity = Arc::downgrade(&other.joints);
        if lock(&self.joints.made).iter().any(|joint| joint.other.ptr_eq(&identity)) {
            return Err(JoinError::Twice(both.0, both.1));
        }
        for (side, other) in [(self, other), (other, self)] {
            for (taken_by, taken) in side.reaches() {
                let overlaps = |offer: &IpNet| offer.contains(&taken) || taken.contains(offer);
                if let Some(network) = other.offers(reach).into_iter().find(overlaps) {
                    let (lab, owner) = (side.joints.lab.clone(), other.joints.lab.clone());
                    return Err(JoinError::Overlap { lab, owner, network, taken, taken_by });
                }
            }
        }
        Ok(())
    }

    /// What another lab gets routes to.
    pub(super) fn offers(&self, reach: Reach) -> Vec<IpNet> {
        let pods = if reach == Reach::Pods { self.plan.pod_networks() } else { Vec::new() };
        self.plan.site_networks().into_iter().chain(pods).collect()
    }

    /// What the lab knows a way to already, and whose it is.
    fn reaches(&self) -> Vec<(String, IpNet)> {
        let plan = self.plan;
        let own = [plan.site_networks(), plan.pod_networks(), plan.service_cidrs()].into_iter().flatten();
        let mut reached: Vec<_> = own.map(|network| (self.joints.lab.clone(), network)).collect();
        let mut made = lock(&self.joints.made);
        made.retain(|joint| joint.other.strong_count() > 0);
        for joint in made.iter() {
            reached.extend(joint.reached.iter().map(|network| (joint.name.clone(), *network)));
        }
        reached
    }
}
