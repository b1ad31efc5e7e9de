//! What people see: progress while it runs, the summary at its end, and a failed lab that is left to look at.

mod keep;
mod progress;
mod summary;

pub use keep::keep;
pub use progress::Progress;
pub use summary::{again, could_not_run, saboteurs, summary};
