//! The steps: each reads its arguments, calls the World, and asserts.

mod events;
mod evidence;
mod lifecycle;
mod pod_properties;
mod results;
mod state;
mod submission;

pub(crate) use events::phrases as events;
pub(crate) use evidence::phrases as evidence;
pub(crate) use results::phrases as results;
pub(crate) use state::phrases as state;
