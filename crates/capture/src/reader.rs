//! The thread that reads every interface of one recorder.
//!
//! One thread for all of them: it sleeps in `poll` until the kernel hands over a block of packets, which it does when
//! the block is full or [`BLOCK_TIMEOUT`] old. An idle interface costs nothing here.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap::{Active, Capture, Packet, PacketHeader, Precision, Savefile};
use tokio::sync::oneshot;

use crate::evidence::Log;
use crate::loopback;
use crate::table::Table;
use crate::{Direction, Place, Timestamp};

/// How old a block of packets may become before the kernel hands it over. Short, because statements wait for it; each
/// interface costs a kernel timer at this rate.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(10);
/// How long a settlement may take: blocks that are under way, and the time to read them on a busy machine.
const SETTLE_LIMIT: Duration = Duration::from_millis(100);
/// Enough for one segment of any offload; nothing is cut off.
const SNAP_LENGTH: i32 = 256 * 1024;
/// What is kept in the file of a packet of a long stream: all its headers.
const BULK_LENGTH: u32 = 128;

/// Bytes of packets that the kernel keeps while the reader does not get the processor. The kernel takes and clears
/// them when the interface is opened, which is most of what a tap costs. A loopback is the fastest interface and
/// has every packet twice.
pub(crate) fn buffer(place: Place) -> usize {
    match place {
        Place::Loopback => 8 << 20,
        Place::Eth0 | Place::Veth | Place::Uplink => 2 << 20,
    }
}

/// What a vantage has seen so far, shared between the reader and those who ask.
pub(crate) struct Live {
    log: Log,
    table: Table,
    /// The last snapshot, for as long as nothing has changed.
    cached: Option<Arc<Log>>,
}

impl Live {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, table: Table::default(), cached: None }
    }

    pub(crate) fn snapshot(&mut self) -> Arc<Log> {
        Arc::clone(self.cached.get_or_insert_with(|| Arc::new(self.log.clone())))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

/// Locks, whatever became of a thread that held the lock: packets are only ever added.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An interface that is being recorded.
pub(crate) struct Source {
    pub(crate) id: u64,
    capture: Capture<Active>,
    savefile: Savefile,
    live: Arc<Mutex<Live>>,
    outgoing: Outgoing,
    /// How many times the kernel counts each packet.
    counted: u64,
    /// What the kernel has counted of the packets handed over so far.
    delivered: u64,
    /// How canaries begin, to look for them in long streams.
    marker: Option<Arc<Finder<'static>>>,
    /// What it has counted and will never hand over: what passed while the socket was opened.
    discounted: u64,
}

/// How to tell what an interface sends from what it receives.
#[derive(Debug, Clone, Copy)]
enum Outgoing {
    /// Not at all: on a loopback everything is both.
    Never,
    /// Frames from this address are sent by the interface, and go this way, seen from the host.
    From([u8; 6], Direction, Direction),
}

/// Opens an interface of the *calling thread's* namespace.
pub(crate) fn open(interface: &str, buffer: usize) -> Result<(Capture<Active>, Option<[u8; 6]>), pcap::Error> {
    let capture = Capture::from_device(interface)?
        .promisc(false)
        .snaplen(SNAP_LENGTH)
        .buffer_size(i32::try_from(buffer).unwrap_or(i32::MAX))
        .timeout(BLOCK_TIMEOUT.as_millis() as i32)
        .precision(Precision::Nano)
        .open()?
        .setnonblock()?;
    let mac = getifaddrs().ok().and_then(|mut all| {
        all.find_map(|found| {
            let link = found.address.as_ref().filter(|_| found.interface_name == interface)?;
            link.as_link_addr()?.addr()
        })
    });
    Ok((capture, mac))
}

impl Source {
    pub(crate) fn new(
        id: u64,
        mut capture: Capture<Active>,
        mac: Option<[u8; 6]>,
        place: Place,
        file: &Path,
        live: Arc<Mutex<Live>>,
        marker: Option<Arc<Finder<'static>>>,
    ) -> Result<Self, pcap::Error> {
        let outgoing = match (place, mac) {
            (Place::Loopback, _) | (_, None) => Outgoing::Never,
            (Place::Veth, Some(mac)) => Outgoing::From(mac, Direction::In, Direction::Out),
            (_, Some(mac)) => Outgoing::From(mac, Direction::Out, Direction::In),
        };
        let (counted, delivered, discounted) = match place {
            Place::Loopback => match loopback::prime(&mut capture)? {
                Some(primed) => (1, primed.delivered, primed.rejected),
                None => (2, 0, 0),
            },
            Place::Eth0 | Place::Veth | Place::Uplink => (1, 0, 0),
        };
        let savefile = capture.savefile(file)?;
        Ok(Self { id, capture, savefile, live, outgoing, counted, delivered, discounted, marker })
    }

    /// Takes all that the kernel has ready, and says whether the interface is still there.
    fn drain(&mut self) -> bool {
        let Self { capture, savefile, live, outgoing, counted, delivered, marker, .. } = self;
        let mut live = lock(live);
        let mut count = 0;
        let drained = capture.dispatch(None, |packet: Packet<'_>| {
            count += 1;
            if loopback::is_ours(packet.data) {
                return;
            }
            let time = packet.header.ts;
            let time = Timestamp::from_capture(time.tv_sec, time.tv_usec);
            let Live { log, table, .. } = &mut *live;
            let is_bulk = log.absorb(table, time, outgoing.direction(packet.data), packet.data);
            let is_marked = is_bulk && marker.as_ref().is_some_and(|marker| log.last_has(marker, packet.data));
            if is_marked {
                log.mark();
            }
            if is_bulk && !is_marked && packet.header.caplen > BULK_LENGTH {
                let header = PacketHeader { caplen: BULK_LENGTH, ..*packet.header };
                savefile.write(&Packet { header: &header, data: &packet.data[..BULK_LENGTH as usize] });
            } else {
                savefile.write(&packet);
            }
        });
        *delivered += count * *counted;
        if count > 0 {
            live.cached = None;
            if let Ok(stats) = capture.stats() {
                live.log.dropped = stats.dropped.into();
            }
        }
        drained.is_ok()
    }

    /// How many packets will have been delivered once all that has passed by now is here.
    fn target(&mut self) -> u64 {
        // libpcap counts what was dropped as received too
        let passed = self.capture.stats().map(|s| u64::from(s.received.saturating_sub(s.dropped)));
        passed.map_or(self.delivered, |passed| passed.saturating_sub(self.discounted))
    }

    fn end(&mut self) {
        // an interface that is gone gives its error before the packets it still had
        for _ in 0..3 {
            self.drain();
        }
        // nobody to tell: a full disk shows when the file is read
        let _ = self.savefile.flush();
        let mut live = lock(&self.live);
        live.log.ended = true;
        live.cached = None;
    }
}

impl Outgoing {
    fn direction(self, frame: &[u8]) -> Direction {
        match self {
            Self::Never => Direction::Within,
            Self::From(mac, ours, theirs) => {
                if frame.get(6..12) == Some(&mac[..]) {
                    ours
                } else {
                    theirs
                }
            }
        }
    }
}

/// What the thread is asked to do.
pub(crate) enum Command {
    /// Read this one too.
    Add(Box<Source>),
    /// Answer when every packet that has passed by now is in the logs and files.
    Settle(oneshot::Sender<()>),
    /// Settle, end these and answer; all when empty.
    Stop(Vec<u64>, oneshot::Sender<()>),
}

/// A settlement under way.
struct Waiting {
    deadline: Instant,
    targets: Vec<(u64, u64)>,
    stop: Option<Vec<u64>>,
    answer: oneshot::Sender<()>,
}

/// The interfaces that are read, and where their sockets go to be closed: the kernel makes that wait for every processor
/// to have passed a quiet moment, some 25 ms for each.
struct Sources {
    open: Vec<Source>,
    closing: Option<mpsc::Sender<Source>>,
}

impl Sources {
    fn new() -> Self {
        let (closing, ended) = mpsc::channel::<Source>();
        let closer =
            std::thread::Builder::new().name("capture-close".into()).spawn(move || ended.iter().for_each(drop));
        // without a thread to spare they are closed here
        Self { open: Vec::new(), closing: closer.is_ok().then_some(closing) }
    }

    fn close_ended(&mut self) {
        for source in self.open.extract_if(.., |source| lock(&source.live).log.ended) {
            match &self.closing {
                Some(closing) => drop(closing.send(source)),
                None => drop(source),
            }
        }
    }
}

/// Reads until the recorder is gone.
pub(crate) fn run(commands: &Receiver<Command>, mut wake: PipeReader) {
    let mut sources = Sources::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    loop {
        let (woken, ready) = sleep(&sources.open, &wake, next_deadline(&waiting));
        for (source, ready) in sources.open.iter_mut().zip(ready) {
            if ready && !source.drain() {
                source.end();
            }
        }
        sources.close_ended();
        if woken {
            let mut bytes = [0; 64];
            // ends when the recorder is dropped
            if !matches!(wake.read(&mut bytes), Ok(1..)) {
                break;
            }
        }
        loop {
            match commands.try_recv() {
                Ok(Command::Add(source)) => sources.open.push(*source),
                Ok(Command::Settle(answer)) => waiting.push(settlement(&mut sources.open, None, answer)),
                Ok(Command::Stop(ids, answer)) => waiting.push(settlement(&mut sources.open, Some(ids), answer)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        conclude(&mut waiting, &mut sources);
    }
    sources.open.iter_mut().for_each(Source::end);
    sources.close_ended();
}

fn next_deadline(waiting: &[Waiting]) -> PollTimeout {
    let left = waiting.iter().map(|w| w.deadline.saturating_duration_since(Instant::now())).min();
    left.map_or(PollTimeout::NONE, |left| {
        // rounded up, so that the deadline has passed when it ends
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    })
}

/// Waits for packets or a command; says whether there is a command, and which sources have packets.
fn sleep(sources: &[Source], wake: &PipeReader, timeout: PollTimeout) -> (bool, Vec<bool>) {
    let mut fds: Vec<_> = std::iter::once(wake.as_fd())
        .chain(sources.iter().map(|source| source.capture.as_fd()))
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    if poll(&mut fds, timeout).is_err() {
        // a signal: as if nothing had come
        return (false, vec![false; sources.len()]);
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
    (ready.next().unwrap_or(false), ready.collect())
}

fn settlement(sources: &mut [Source], stop: Option<Vec<u64>>, answer: oneshot::Sender<()>) -> Waiting {
    let targets = sources.iter_mut().map(|source| (source.id, source.target())).collect();
    Waiting { deadline: Instant::now() + SETTLE_LIMIT, targets, stop, answer }
}

/// Answers the settlements that are reached, or out of time.
fn conclude(waiting: &mut Vec<Waiting>, sources: &mut Sources) {
    let mut index = 0;
    while index < waiting.len() {
        let Waiting { deadline, targets, .. } = &waiting[index];
        let missing = |source: &Source| {
            let target = targets.iter().find(|(id, _)| *id == source.id).map_or(0, |(_, target)| *target);
            target.saturating_sub(source.delivered)
        };
        let late = Instant::now() >= *deadline;
        if !late && sources.open.iter().any(|source| missing(source) > 0) {
            index += 1;
            continue;
        }
        for source in sources.open.iter_mut() {
            source.discounted += missing(source);
        }
        let Waiting { stop, answer, .. } = waiting.swap_remove(index);
        for source in sources.open.iter_mut() {
            if stop.as_ref().is_some_and(|ids| ids.is_empty() || ids.contains(&source.id)) {
                source.end();
            } else {
                // as above
                let _ = source.savefile.flush();
            }
        }
        sources.close_ended();
        // whoever asked may have given up
        let _ = answer.send(());
    }
}
