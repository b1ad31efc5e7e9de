//! What is wrong with the link between a Pod and its node, or with one between labs.
//!
//! Not every kernel has `netem`. Here rules of the node drop what is lost or too much, a queue of netfilter holds back what is late,
//! and the smaller of the largest packets is an attribute of both ends. What passes is untouched.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns::NetNs;
use nfq::{Message, Queue, Verdict};

use super::iptables::restore;
use super::rtnl::Batch;
use super::wire::ETH0;
use super::{Error, blocking};
use crate::{Impairment, SandboxInfo};

/// How often the queue is looked at when nothing comes: well below any delay that matters.
const LOOK: Duration = Duration::from_millis(1);

/// What a link with a limit takes at once beyond a second's worth, in bytes: iptables demands some.
const BURST: u64 = 4096;

/// Goes on as long as the value lives.
#[derive(Default)]
pub(crate) struct Impaired(Arc<AtomicBool>);

impl Drop for Impaired {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Impairs the link of a Pod from now on.
///
/// # Errors
/// When the kernel refuses a rule, a queue or the size.
pub(crate) async fn impair(sandbox: &SandboxInfo, impairment: Impairment) -> Result<Impaired, Error> {
    let sandbox = sandbox.clone();
    blocking(move || {
        let mut impaired = Impaired::default();
        let interface = &sandbox.host_interface;
        // its index in the node is the number in its name
        let number: u16 =
            interface.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
        match impairment {
            Impairment::Mtu(bytes) => {
                sandbox.netns.run(|| resize(ETH0, bytes))??;
                sandbox.node_netns.run(|| resize(number.into(), bytes))??;
            }
            Impairment::Loss(percent) => {
                let some = format!("-m statistic --mode random --probability {}", f64::from(percent) / 100.0);
                let rules = format!("-A FORWARD -i {interface} {some} -j DROP\n");
                sandbox.node_netns.run(|| add(&sandbox.addresses, &rules))??;
            }
            Impairment::Rate(kilobits) => {
                let bytes = kilobits * 125;
                let too_much = format!(
                    "-m hashlimit --hashlimit-name {interface} --hashlimit-above {bytes}b/s --hashlimit-burst {}b -j DROP",
                    bytes + BURST
                );
                let rules = both_ways(interface, &too_much);
                sandbox.node_netns.run(|| add(&sandbox.addresses, &rules))??;
            }
            Impairment::Delay(delay) => {
                impaired = hold_back(&sandbox.node_netns, number, delay)?;
                let rule = format!("-A FORWARD -i {interface} -j NFQUEUE --queue-num {number}\n");
                sandbox.node_netns.run(|| add(&sandbox.addresses, &rule))??;
            }
        }
        Ok(impaired)
    })
    .await
}

/// Has every packet wait that a rule of the namespace sends to this queue, for as long as the value lives.
pub(super) fn hold_back(netns: &NetNs, number: u16, delay: Duration) -> Result<Impaired, Error> {
    let queue = netns.run(|| open(number))?.map_err(Error::Rules)?;
    let impaired = Impaired::default();
    let over = Arc::clone(&impaired.0);
    std::thread::Builder::new()
        .name("delay".to_owned())
        .spawn(move || hold(queue, delay, &over))
        .map_err(Error::Rules)?;
    Ok(impaired)
}

fn both_ways(interface: &str, what: &str) -> String {
    format!("-A FORWARD -i {interface} {what}\n-A FORWARD -o {interface} {what}\n")
}

/// Adds rules for the families of these addresses.
fn add(addresses: &[IpAddr], rules: &str) -> Result<(), Error> {
    let script = format!("*mangle\n{rules}COMMIT\n");
    for v4 in [true, false] {
        if addresses.iter().any(|address| address.is_ipv4() == v4) {
            restore(v4, &script).map_err(Error::Rules)?;
        }
    }
    Ok(())
}

fn resize(index: u32, bytes: u32) -> Result<(), Error> {
    let mut batch = Batch::default();
    batch.mtu(index, bytes);
    batch.commit().map(drop)
}

/// A queue of the namespace of the calling thread.
fn open(number: u16) -> io::Result<Queue> {
    let mut queue = Queue::open()?;
    queue.bind(number)?;
    queue.set_nonblocking(true);
    Ok(queue)
}

/// Lets every packet go when it has waited, until `over`; then all that are left.
fn hold(mut queue: Queue, delay: Duration, over: &AtomicBool) {
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        match queue.recv() {
            Ok(mut message) => {
                message.set_verdict(Verdict::Accept);
                held.push_back((Instant::now() + delay, message));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            // the kernel had no room for a packet: it is lost, as on any link that is too full
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(_) => return,
        }
        while held.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let Some((_, message)) = held.pop_front() else { break };
            if queue.verdict(message).is_err() {
                return;
            }
        }
    }
}
