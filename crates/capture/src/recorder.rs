//! Recording: which interfaces, into which files, and what has been seen so far.

use std::io::{self, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use memchr::memmem::Finder;
use netns::NetNs;
use tokio::sync::oneshot;

use crate::evidence::{Evidence, Log};
use crate::reader::{self, Command, Live, Source, lock};
use crate::{ProxyPorts, Vantage};

/// Why an interface is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory for the files, or the thread, could not be had.
    #[error("start a recorder in {directory}")]
    Start {
        /// The directory.
        directory: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("record {vantage}")]
    Namespace {
        /// The vantage.
        vantage: Vantage,
        /// Why.
        source: netns::Error,
    },
    /// The interface could not be opened.
    #[error("record {interface} as {vantage} (is it up, and is there CAP_NET_RAW in its namespace?)")]
    Interface {
        /// The vantage.
        vantage: Vantage,
        /// The interface.
        interface: String,
        /// libpcap's answer.
        source: pcap::Error,
    },
    /// The capture file could not be made.
    #[error("write packets of {vantage} to {file}")]
    File {
        /// The vantage.
        vantage: Vantage,
        /// The file.
        file: PathBuf,
        /// libpcap's answer.
        source: pcap::Error,
    },
    /// The recorder has finished.
    #[error("record {0}: the recorder has finished")]
    Finished(Vantage),
}

/// Records interfaces of any network namespace, one file each, read by one thread.
pub struct Recorder {
    directory: PathBuf,
    ports: ProxyPorts,
    buffer: Option<usize>,
    marker: Option<Arc<Finder<'static>>>,
    /// With the number of the tap that feeds it.
    logs: Mutex<Vec<(u64, Arc<Mutex<Live>>)>>,
    next: AtomicU64,
    reader: Arc<Reader>,
}

/// The way to the reading thread.
struct Reader {
    commands: Sender<Command>,
    wake: PipeWriter,
}

/// An interface that is being recorded. Dropping it changes nothing.
#[derive(Clone)]
pub struct Tap {
    id: u64,
    live: Arc<Mutex<Live>>,
    reader: Arc<Reader>,
}

impl Recorder {
    /// Starts without interfaces. Files go to `directory`, which is made if missing.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn new(directory: impl AsRef<Path>, ports: ProxyPorts) -> Result<Self, Error> {
        let directory = directory.as_ref().to_owned();
        let start = || {
            std::fs::create_dir_all(&directory)?;
            let (commands, receiver) = mpsc::channel();
            let (wait, wake) = io::pipe()?;
            std::thread::Builder::new().name("capture".into()).spawn(move || reader::run(&receiver, wait))?;
            Ok(Reader { commands, wake })
        };
        let reader = start().map_err(|source| Error::Start { directory: directory.clone(), source })?;
        let (logs, next) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { directory, ports, buffer: None, marker: None, logs, next, reader: Arc::new(reader) })
    }

    /// How many bytes of packets the kernel keeps for each interface of later taps while the reader does not get the
    /// processor; 8 MiB for a loopback and 2 MiB for others unless more is set. A reader that has to wait loses nothing of a stream
    /// that fits.
    #[must_use]
    pub fn with_buffer(mut self, bytes: usize) -> Self {
        self.buffer = Some(bytes);
        self
    }

    /// How every canary begins, in at most 64 bytes. Long streams, of which memory holds the beginning only, are searched for it as they
    /// pass; without it [`Evidence::canary_free`] cannot speak of them.
    #[must_use]
    pub fn with_marker(mut self, prefix: &str) -> Self {
        self.marker = Some(Arc::new(Finder::new(prefix.as_bytes()).into_owned()));
        self
    }

    /// Records an interface of a namespace; every packet after this returns is recorded.
    ///
    /// An open tap keeps its namespace alive: [`Tap::stop`] it when that is to go.
    ///
    /// # Errors
    /// [`Error::Namespace`], [`Error::Interface`], [`Error::File`]; [`Error::Finished`] after [`Recorder::finish`].
    pub async fn tap(&self, netns: &NetNs, interface: &str, vantage: Vantage) -> Result<Tap, Error> {
        self.tap_busy(netns, interface, vantage, 0).await
    }

    /// [`Recorder::tap`] of an interface that many talk to at a time: the kernel keeps this many bytes at least.
    ///
    /// # Errors
    /// As [`Recorder::tap`].
    pub async fn tap_busy(&self, netns: &NetNs, interface: &str, vantage: Vantage, bytes: usize) -> Result<Tap, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let buffer = reader::buffer(vantage.place).max(self.buffer.unwrap_or_default()).max(bytes);
        let (namespace, name) = (netns.clone(), interface.to_owned());
        let opened = tokio::task::spawn_blocking(move || namespace.run(|| reader::open(&name, buffer))).await;
        let opened = opened.map_err(|_| Error::Finished(vantage.clone()))?;
        let opened = opened.map_err(|source| Error::Namespace { vantage: vantage.clone(), source })?;
        let (capture, mac) = opened.map_err(|source| Error::Interface {
            vantage: vantage.clone(),
            interface: interface.to_owned(),
            source,
        })?;
        let file = self.directory.join(file_name(id, &vantage));
        let live = Arc::new(Mutex::new(Live::new(Log::new(vantage.clone(), interface, file.clone()))));
        let source = Source::new(id, capture, mac, vantage.place, &file, Arc::clone(&live), self.marker.clone())
            .map_err(|source| Error::File { vantage: vantage.clone(), file, source })?;
        if !self.reader.send(Command::Add(Box::new(source))) {
            return Err(Error::Finished(vantage));
        }
        lock(&self.logs).push((id, Arc::clone(&live)));
        Ok(Tap { id, live, reader: Arc::clone(&self.reader) })
    }

    /// What has been recorded so far. Cheap: only what has changed since the last one is copied.
    #[must_use]
    pub fn snapshot(&self) -> Evidence {
        let logs = lock(&self.logs).iter().map(|(_, live)| lock(live).snapshot()).collect();
        Evidence { logs, ports: self.ports, marked: self.marker.is_some() }
    }

    /// Waits until every packet that passed before the call is in the next snapshot and in the files: the kernel is asked how
    /// many there were. Takes up to the age at which it hands packets over, about 10 ms; 100 ms at the very most.
    pub async fn settle(&self) {
        self.reader.ask(Command::Settle).await;
    }

    /// Vantages where packets passed that were not recorded, and how many.
    #[must_use]
    pub fn dropped(&self) -> Vec<(Vantage, u64)> {
        self.snapshot().dropped()
    }

    /// Settles, ends all recording and gives the whole evidence.
    pub async fn finish(&self) -> Evidence {
        self.reader.ask(|answer| Command::Stop(Vec::new(), answer)).await;
        self.snapshot()
    }
}

impl Tap {
    /// Which interface of whom.
    #[must_use]
    pub fn vantage(&self) -> Vantage {
        lock(&self.live).log().vantage.clone()
    }

    /// The capture file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        lock(&self.live).log().file.clone()
    }

    /// Packets that passed and were not recorded.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.live).log().dropped
    }

    /// Ends the recording, after settling.
    pub async fn stop(&self) {
        self.reader.ask(|answer| Command::Stop(vec![self.id], answer)).await;
    }
}

impl Reader {
    /// Whether the thread is still there to take it.
    fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && (&self.wake).write_all(&[0]).is_ok()
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (answer, answered) = oneshot::channel();
        if self.send(command(answer)) {
            // an error means that the thread has ended, and with it everything that could be waited for
            let _ = answered.await;
        }
    }
}

/// Names are unique by the number, and sort in the order in which recording began.
fn file_name(id: u64, vantage: &Vantage) -> String {
    let host: String =
        vantage.host.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect();
    format!("{id:02}-{host}-{}.pcap", vantage.place)
}
