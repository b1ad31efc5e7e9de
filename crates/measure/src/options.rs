//! The arguments that every measurement takes.

/// How a measurement is to be run and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// One JSON document instead of tables.
    pub json: bool,
    /// How often every contestant has a turn.
    pub rounds: usize,
}

/// An argument that no measurement takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongArgument {
    /// Not known.
    #[error("unexpected argument {0:?}; a measurement takes --json and --rounds N")]
    Unknown(String),
    /// Not a number of rounds.
    #[error("--rounds takes a number above 0, and {0:?} is none")]
    Rounds(String),
}

impl Options {
    /// Reads the arguments behind the program's name; `rounds` is for who gives none.
    ///
    /// # Errors
    /// An argument is unknown, or its value of no use.
    pub fn read(words: impl IntoIterator<Item = String>, rounds: usize) -> Result<Self, WrongArgument> {
        let mut options = Self { json: false, rounds };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                // given by cargo
                "--bench" => {}
                "--json" => options.json = true,
                "--rounds" => {
                    let text = words.next().unwrap_or_default();
                    let number = text.parse().ok().filter(|number| *number > 0);
                    options.rounds = number.ok_or(WrongArgument::Rounds(text))?;
                }
                _ => return Err(WrongArgument::Unknown(word)),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(&[], Ok(Options { json: false, rounds: 7 }))]
    #[case::all(&["--bench", "--json", "--rounds", "3"], Ok(Options { json: true, rounds: 3 }))]
    #[case::no_number(&["--rounds"], Err(WrongArgument::Rounds(String::new())))]
    #[case::zero(&["--rounds", "0"], Err(WrongArgument::Rounds("0".into())))]
    #[case::unknown(&["--fast"], Err(WrongArgument::Unknown("--fast".into())))]
    fn arguments(#[case] words: &[&str], #[case] expected: Result<Options, WrongArgument>) {
        assert_eq!(Options::read(words.iter().map(|word| (*word).to_owned()), 7), expected);
    }
}
