//! Two labs joined: a cable between their fabrics, and routes to what each lab reaches of the other.
//!
//! As on every other cable ([`super::wire`]), both ends know each other's hardware address. What must not cross, and from
//! which address the rest comes, is said by [`rules`]; which labs can be joined, by [`check`].

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use ipnet::IpNet;
use netns::NetNs;

use super::iptables::restore;
use super::link::{Impaired, hold_back};
use super::rtnl::{Batch, End, Route};
use super::{Error, Network, Plan, lock, primary, ready};
use crate::{Join, Reach};

mod check;
mod rules;

pub use check::JoinError;

/// Hardware addresses of the two ends, the asking lab's first.
const MACS: [[u8; 6]; 2] = [[0xee, 0xee, 0xee, 0xee, 0xee, 0x01], [0xee, 0xee, 0xee, 0xee, 0xee, 0x02]];

/// Joins wait for each other: each depends on those that its labs have already.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The joins of a lab. Its address is the lab's identity.
pub(super) struct Joints {
    lab: String,
    made: Mutex<Vec<Joint>>,
}

/// One join, as one of the labs sees it.
struct Joint {
    other: Weak<Joints>,
    name: String,
    reached: Vec<IpNet>,
    _late: Option<Impaired>,
}

/// A lab that is being joined. It is not kept: a lab must not keep the namespaces of another one.
struct Side {
    joints: Arc<Joints>,
    plan: Plan,
    fabric: NetNs,
    interface: String,
    index: u32,
}

impl Joints {
    pub(super) fn of(lab: &str) -> Self {
        Self { lab: lab.to_owned(), made: Mutex::default() }
    }
}

impl Network {
    /// Lets the nodes, and with [`Reach::Pods`] the Pods, of two labs reach each other for as long as both live.
    ///
    /// # Errors
    /// When the labs are joined, have different address families or networks that a router could not tell apart, or the
    /// kernel refuses.
    pub async fn join(&self, other: &Self, join: Join) -> Result<(), JoinError> {
        let (here, there) = (Side::of(self), Side::of(other));
        let names = (here.joints.lab.clone(), there.joints.lab.clone());
        // A thread, once begun, ends its work even when nobody waits for it: there are no half-made joins.
        let done = tokio::task::spawn_blocking(move || here.join(&there, join)).await;
        done.unwrap_or_else(|panic| Err(JoinError::Kernel(names.0, names.1, Error::Thread(panic))))
    }
}

impl Side {
    fn of(network: &Network) -> Self {
        let index = network.next_index.fetch_add(1, Ordering::Relaxed);
        let interface = format!("{}{index}", rules::JOINS);
        let (joints, fabric) = (Arc::clone(&network.joints), network.fabric.clone());
        Self { joints, plan: network.plan, fabric, interface, index }
    }

    fn join(&self, other: &Self, join: Join) -> Result<(), JoinError> {
        let _turn = lock(&ONE_AT_A_TIME);
        self.check(other, join.reach)?;
        let both = || (self.joints.lab.clone(), other.joints.lab.clone());
        let late = self.connect(other, join).map_err(|error| JoinError::Kernel(both().0, both().1, error))?;
        for ((side, other), late) in [(self, other), (other, self)].into_iter().zip(late) {
            lock(&side.joints.made).push(Joint {
                other: Arc::downgrade(&other.joints),
                name: other.joints.lab.clone(),
                reached: other.offers(join.reach),
                _late: late,
            });
        }
        Ok(())
    }

    /// Rules first: no packet may cross before they hold.
    fn connect(&self, other: &Self, join: Join) -> Result<[Option<Impaired>; 2], Error> {
        let late = [self.prepare(join)?, other.prepare(join)?];
        let connected = self.cable(other, join.reach);
        if connected.is_err() {
            // Rules that are left name a link that there will never be again. The link may not even have been made.
            let _ = super::remove(&self.fabric, &self.interface);
        }
        connected.map(|()| late)
    }

    fn prepare(&self, join: Join) -> Result<Option<Impaired>, Error> {
        let queue = u16::try_from(self.index).map_err(std::io::Error::other).map_err(Error::Rules)?;
        let late = join.delay.map(|delay| hold_back(&self.fabric, queue, delay)).transpose()?;
        let passage = rules::Passage { interface: &self.interface, plan: self.plan, reach: join.reach };
        for fabric in self.plan.fabric() {
            let script = passage.script(fabric, late.as_ref().map(|_| queue));
            self.fabric.run(|| restore(fabric.is_ipv4(), &script))?.map_err(Error::Rules)?;
        }
        Ok(late)
    }

    fn cable(&self, other: &Self, reach: Reach) -> Result<(), Error> {
        let [mac, other_mac] = MACS;
        let socket = self.fabric.run(|| {
            let mut batch = Batch::default();
            batch.pair(
                &End { name: &self.interface, index: self.index, mac },
                &End { name: &other.interface, index: other.index, mac: other_mac },
                &other.fabric,
            );
            self.route(&mut batch, other, other_mac, reach);
            batch.commit()
        })??;
        other.fabric.run(|| {
            let mut batch = Batch::default();
            batch.up(other.index);
            other.route(&mut batch, self, mac, reach);
            batch.commit()
        })??;
        ready::link_is_up(&socket, self.index)
    }

    /// The ways to another lab, through its fabric.
    fn route(&self, batch: &mut Batch, other: &Self, mac: [u8; 6], reach: Reach) {
        let (own, others) = (self.plan.fabric(), other.plan.fabric());
        let of = |addresses: &[IpAddr], network: &IpNet| primary(addresses, network.network().is_ipv4());
        for gateway in &others {
            batch.neighbour(self.index, *gateway, mac);
        }
        for network in other.offers(reach) {
            if let Some(gateway) = of(&others, &network) {
                let route = Route::via(network.network(), network.prefix_len(), gateway, self.index);
                batch.route(route.from(of(&own, &network)));
            }
        }
    }
}
