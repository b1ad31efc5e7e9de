//! The end at SIGTERM: at once, whatever the program is doing.
//!
//! In a container the program is process 1 of its namespace, which the kernel spares every signal that it does not handle;
//! without this, a Pod that is deleted while its registration is awaited would stay for its whole grace period.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};

type Last = Box<dyn FnOnce() + Send>;

/// What is to be done before the end, however it comes.
#[derive(Clone, Default)]
pub struct Termination {
    last: Arc<Mutex<Option<Last>>>,
}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Termination").finish_non_exhaustive()
    }
}

impl Termination {
    /// Ends the process when SIGTERM comes, from now on. Rules need no care: a family's go in as one transaction, and a Pod whose
    /// init container has failed does not start.
    ///
    /// Call it before other threads are started: they inherit that the signal is left to the one that waits for it.
    ///
    /// # Errors
    /// When that thread cannot be started.
    pub fn at_sigterm() -> io::Result<Self> {
        let termination = Self::default();
        let awaited = SigSet::from(Signal::SIGTERM);
        awaited.thread_block()?;
        let told = termination.clone();
        std::thread::Builder::new().name("termination".into()).spawn(move || {
            if let Ok(signal) = awaited.wait() {
                told.finish();
                eprintln!(
                    "connect-init: ended by {signal} before it was done: the Pod is being stopped and does not start"
                );
                std::process::exit(128 + signal as i32);
            }
        })?;
        Ok(termination)
    }

    /// Has `last` done before the end, in place of what was to be done so far.
    pub(crate) fn before_the_end(&self, last: impl FnOnce() + Send + 'static) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(last));
    }

    /// Does what is to be done before the end, once. It is not the end yet.
    pub(crate) fn finish(&self) {
        // held meanwhile: who comes second leaves when the first is done
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.take() {
            last();
        }
    }
}
