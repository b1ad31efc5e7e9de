//! The end at SIGTERM.
//!
//! In a container the program is process 1 of its namespace, which the kernel spares every signal that it does not handle:
//! each command has to listen.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Status of a command that had an end of its own and was not let come to it: as a shell says SIGTERM.
pub(crate) const CUT_OFF: u8 = 143;

/// Listens for SIGTERM, and for SIGINT from a terminal.
pub(crate) struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Listens from now on. A first process loses what comes before.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns when the process is asked to end.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
