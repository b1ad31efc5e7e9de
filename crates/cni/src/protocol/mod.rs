//! The CNI specification, as far as a chained plugin meets it: environment, configuration, results, errors.

mod args;
mod config;
mod error;
mod result;
pub mod version;

pub use args::Args;
pub use config::{NetConf, RuntimeConfig, version_of};
pub use error::{CniError, Code};
pub use result::{Previous, empty};

/// What is asked of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A container joins the network.
    Add,
    /// It leaves.
    Del,
    /// Whether everything is as `ADD` left it.
    Check,
    /// Whether an `ADD` would work now.
    Status,
    /// Remove what belongs to nobody any more.
    Gc,
    /// Which versions are supported.
    Version,
}

impl Verb {
    /// Reads `CNI_COMMAND`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "STATUS" => Self::Status,
            "GC" => Self::Gc,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }
}
