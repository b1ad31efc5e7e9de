//! The end at SIGTERM: at once, whatever the program is doing.
//!
//! In a container the program is process 1 of its namespace, which the kernel spares every signal that it does not handle;
//! without this, a Pod that is deleted while its registration is awaited would stay for its whole grace period.

use std::io;

use nix::sys::signal::{SigSet, Signal};

/// Ends the process when SIGTERM comes, from now on. There is nothing to finish first: a family's rules go in as one transaction, and
/// a Pod whose init container has failed does not start.
///
/// Call it before other threads are started: they inherit that the signal is left to the one that waits for it.
///
/// # Errors
/// When that thread cannot be started.
pub fn end_at_sigterm() -> io::Result<()> {
    let awaited = SigSet::from(Signal::SIGTERM);
    awaited.thread_block()?;
    std::thread::Builder::new().name("termination".into()).spawn(move || {
        if let Ok(signal) = awaited.wait() {
            eprintln!(
                "connect-init: ended by {signal} before it was done: the Pod is being stopped and does not start"
            );
            std::process::exit(128 + signal as i32);
        }
    })?;
    Ok(())
}
