//! A container's log: one line per line, each with its time and stream, in a file that outlives the lab.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// A log that is being written. Lines are `<RFC 3339 time> <stdout|stderr> F <text>`, as CRI runtimes write them.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Bytes written so far; closed with the log.
    written: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    bytes: u64,
    closed: bool,
}

impl LogFile {
    /// Begins a log at `path`; a log that is there becomes `previous`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, previous: &Path) -> io::Result<Self> {
        if path.exists() {
            std::fs::rename(path, previous)?;
        }
        let file = Mutex::new(File::create(path)?);
        Ok(Self { path: path.to_owned(), file, written: watch::Sender::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies a stream of the container into the log until it ends.
    pub(super) async fn copy(&self, mut from: impl AsyncRead + Unpin, stream: &str) {
        let mut buffer = Vec::with_capacity(8 * 1024);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                if buffer.len() < 64 * 1024 {
                    continue;
                }
                self.write(&buffer, stream);
                buffer.clear();
                continue;
            };
            self.write(&buffer[..end], stream);
            buffer.drain(..=end);
        }
        if !buffer.is_empty() {
            self.write(&buffer, stream);
        }
    }

    /// Writes whole lines. Into the page cache: quicker than handing it to another thread.
    fn write(&self, text: &[u8], stream: &str) {
        let now = Timestamp::now();
        let mut lines = Vec::with_capacity(text.len() + 64);
        for line in text.split(|byte| *byte == b'\n') {
            let _ = write!(lines, "{now:.9} {stream} F ");
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not kill the container; the evidence will be short.
        if file.write_all(&lines).is_ok() {
            self.written.send_modify(|progress| progress.bytes += lines.len() as u64);
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.written.send_modify(|progress| progress.closed = true);
    }

    /// The last bytes of what was said, without times; for `FallbackToLogsOnError`.
    #[must_use]
    pub fn tail(&self, bytes: usize) -> String {
        let text = std::fs::read(&self.path).map(|raw| plain(&raw)).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(bytes)..]).into_owned()
    }

    /// Everything from `offset`, then what is added, until the container has ended.
    fn follow(&self, offset: u64) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + use<> {
        let state = (self.path.clone(), self.written.subscribe(), offset);
        futures::stream::try_unfold(state, |(path, mut written, offset)| async move {
            let done = |progress: &Progress| progress.bytes > offset || progress.closed;
            let Ok(progress) = written.wait_for(done).await.map(|progress| *progress) else { return Ok(None) };
            if progress.bytes <= offset {
                return Ok(None);
            }
            let mut raw = vec![0; usize::try_from(progress.bytes - offset).unwrap_or(usize::MAX)];
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut raw)?;
            Ok(Some((Bytes::from(plain(&raw)), (path, written, progress.bytes))))
        })
    }
}

/// Reads a log for `kubectl logs`: without times, perhaps only the last lines, perhaps on and on.
///
/// # Errors
/// When the file cannot be read.
pub fn read_log(
    path: &Path,
    tail: Option<usize>,
    follow: Option<&LogFile>,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    use futures::StreamExt;
    let raw = std::fs::read(path)?;
    let start = tail.map_or(0, |lines| {
        raw.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines).map_or(0, |(at, _)| at + 1)
    });
    let now = futures::stream::iter([Ok(Bytes::from(plain(&raw[start..])))]);
    Ok(match follow {
        Some(log) => now.chain(log.follow(raw.len() as u64)).boxed(),
        None => now.boxed(),
    })
}

/// The lines without time, stream and flag.
fn plain(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(line.splitn(4, |byte| *byte == b' ').nth(3).unwrap_or(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn all(stream: BoxStream<'static, io::Result<Bytes>>) -> String {
        let parts: Vec<Bytes> = stream.try_collect().await.expect("the log is readable");
        String::from_utf8(parts.concat()).expect("the log is text")
    }

    #[tokio::test]
    async fn a_log_is_read_back_as_it_was_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, previous) = (dir.path().join("c.log"), dir.path().join("c.previous.log"));
        let log = LogFile::create(&path, &previous).expect("a log");
        log.copy(&b"one\ntwo words\n\nlast without end"[..], "stdout").await;
        assert_eq!(all(read_log(&path, None, None).expect("readable")).await, "one\ntwo words\n\nlast without end\n");
        assert_eq!(all(read_log(&path, Some(2), None).expect("readable")).await, "\nlast without end\n");
        log.close();
        assert_eq!(all(read_log(&path, Some(1), Some(&log)).expect("readable")).await, "last without end\n");

        LogFile::create(&path, &previous).expect("a second log");
        assert!(all(read_log(&previous, None, None).expect("readable")).await.starts_with("one\n"));
    }
}
