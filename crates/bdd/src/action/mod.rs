//! What clients are asked to do, and what came of it.

mod attempt;
mod request;

pub use attempt::{Attempt, classify_probe};
pub use request::{Ask, Request, Technique};
