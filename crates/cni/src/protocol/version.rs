//! Versions of the CNI specification.

/// Every version there is, the oldest first.
pub const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version that a configuration without one means.
pub const IMPLIED: &str = "0.1.0";

/// The place of a version among all; `None` for one that does not exist.
#[must_use]
pub fn rank(version: &str) -> Option<usize> {
    SUPPORTED.iter().position(|known| *known == version)
}

/// Whether results of this version are lists of interfaces and addresses (from 0.3.0 on); before, there was one address of each
/// family.
#[must_use]
pub fn has_lists(version: &str) -> bool {
    rank(version) >= rank("0.3.0")
}

/// Whether addresses in results of this version say which family they are of (0.3.0 to 0.4.0).
#[must_use]
pub fn names_families(version: &str) -> bool {
    has_lists(version) && rank(version) <= rank("0.4.0")
}
