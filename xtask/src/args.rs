//! Arguments of the verbs that take none.

use crate::Stop;

/// Refuses arguments, naming the first.
pub(crate) fn none(rest: &[String]) -> Result<(), Stop> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(Stop::could_not_run(format!("unexpected argument {word:?}; see cargo xtask help"))),
    }
}
