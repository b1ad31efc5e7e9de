//! What the measurements of `cargo xtask bench` share: samples, ratios of one run, the aims that they are held against, and how
//! all of it is told.
//!
//! Only ratios of contestants that took turns in the same run are to be compared. An aim that is missed is told and is no
//! failure: a busy machine must not look like a broken program.

mod options;
mod report;
mod samples;

pub use options::{Options, WrongArgument};
pub use report::{Aim, Report};
pub use samples::Samples;
