//! Evidence: statements about packets and rules with their deadlines and controls, and the folder a scenario leaves.

mod collect;
mod folder;
mod packets;
pub mod rules;
pub mod tables;

pub use collect::collect;
pub use folder::{Folder, slug};
