//! Command-line flags as Go's `flag` package reads them: one dash or two, `-name=value` or `-name value`.

/// A flag that may be given, and the environment variable that stands in for it.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// The environment variable that is looked at when the flag is absent.
    pub variable: Option<&'static str>,
    /// Whether it may stand alone, meaning `true`.
    pub boolean: bool,
    /// What it is for.
    pub about: &'static str,
}

/// A program, for messages about its flags.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What comes before the list of flags in its help.
    pub usage: &'static str,
    /// The flags that exist.
    pub flags: &'static [Flag],
}

/// What was given: flag names and values, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    values: Vec<(&'static str, String)>,
    /// Whether help was asked for.
    pub help: bool,
}

impl Given {
    /// The value of a flag; the last one wins.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every value of a flag that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_str())
    }
}

impl Program {
    /// Reads `arguments`, which hold flags and nothing else.
    ///
    /// # Errors
    /// Every argument that is not understood, each as a phrase.
    pub fn parse(&self, arguments: &[String]) -> Result<Given, Vec<String>> {
        let mut given = Given::default();
        let mut mistakes = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                let example = self.flags.first().map_or("name", |flag| flag.name);
                mistakes.push(format!("unexpected argument {argument:?}: only flags are taken, as -{example}=…"));
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            if matches!(name, "h" | "help") {
                given.help = true;
                continue;
            }
            let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else {
                mistakes.push(format!("unknown flag -{name}: see {} -help", self.name));
                continue;
            };
            let value = match value {
                None if flag.boolean => Some("true".to_owned()),
                None => arguments.next().cloned(),
                given => given,
            };
            match value {
                Some(value) => given.values.push((flag.name, value)),
                None => mistakes.push(format!("-{name} needs a value")),
            }
        }
        if mistakes.is_empty() { Ok(given) } else { Err(mistakes) }
    }

    /// Usage and the list of flags, for `-help`.
    #[must_use]
    pub fn help(&self) -> String {
        let mut text = format!("Usage: {}\n\n", self.usage);
        for Flag { name, variable, about, .. } in self.flags {
            let variable = variable.map(|name| format!(" (environment: {name})")).unwrap_or_default();
            text.push_str(&format!("  -{name}\n        {about}{variable}\n"));
        }
        text
    }
}

/// A flag with a value; an empty `variable` is none.
pub(crate) const fn flag(name: &'static str, variable: &'static str, about: &'static str) -> Flag {
    Flag { name, variable: if variable.is_empty() { None } else { Some(variable) }, boolean: false, about }
}

/// A flag that may stand alone.
pub(crate) const fn switch(name: &'static str, variable: &'static str, about: &'static str) -> Flag {
    Flag { boolean: true, ..flag(name, variable, about) }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PROGRAM: Program = Program {
        name: "program",
        usage: "program [flags]",
        flags: &[flag("pod-name", "POD_NAME", "The Pod."), switch("multiport", "", "Several.")],
    };

    fn read(arguments: &[&str]) -> Result<Given, Vec<String>> {
        PROGRAM.parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[rstest]
    #[case(&["-pod-name=web"], &[("pod-name", "web")])]
    #[case(&["-pod-name", "web"], &[("pod-name", "web")])]
    #[case(&["--pod-name=a=b"], &[("pod-name", "a=b")])]
    #[case(&["-pod-name="], &[("pod-name", "")])]
    #[case(&["-pod-name", "-multiport"], &[("pod-name", "-multiport")])]
    #[case(&["-multiport", "--pod-name", "web"], &[("multiport", "true"), ("pod-name", "web")])]
    #[case(&["-multiport=false"], &[("multiport", "false")])]
    #[case(&["-pod-name=a", "-pod-name=b"], &[("pod-name", "a"), ("pod-name", "b")])]
    #[case(&["--", "-multiport"], &[("multiport", "true")])]
    fn go_flags(#[case] arguments: &[&str], #[case] expected: &[(&str, &str)]) {
        let given = read(arguments).expect("understood");
        let values: Vec<(&str, &str)> = given.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(values, expected);
        for (name, value) in expected.last().into_iter() {
            assert_eq!(given.last(name), Some(*value));
        }
    }

    #[rstest]
    #[case(&["-pod-nam=web"], "unknown flag -pod-nam: see program -help")]
    #[case(&["-pod-name"], "-pod-name needs a value")]
    #[case(&["web"], "unexpected argument \"web\"")]
    fn what_is_not_understood(#[case] arguments: &[&str], #[case] expected: &str) {
        let mistakes = read(arguments).expect_err("refused");
        assert!(mistakes[0].starts_with(expected), "{mistakes:?}");
    }

    #[test]
    fn help_names_flags_and_variables() {
        let text = "Usage: program [flags]\n\n  -pod-name\n        The Pod. (environment: POD_NAME)\n  -multiport\n        Several.\n";
        assert_eq!(PROGRAM.help(), text);
    }

    #[test]
    fn all_mistakes_at_once() {
        assert_eq!(read(&["-a", "b", "-pod-name=c", "-d=e"]).expect_err("three").len(), 3);
    }
}
