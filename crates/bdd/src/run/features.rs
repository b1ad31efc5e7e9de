//! Feature files: found, parsed, expanded, selected; with a name and a folder for every scenario.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cucumber::feature::Ext as _;
use cucumber::tag::Ext as _;
use futures::stream;
use gherkin::tagexpr::TagOperation;
use gherkin::{Feature, GherkinEnv, ParseFileError, Rule, Scenario};
use regex::Regex;

use super::mechanisms;
use crate::evidence::slug;

/// Which scenarios are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By tags.
    pub tags: Option<TagOperation>,
    /// By name.
    pub name: Option<Regex>,
}

/// What a scenario is called.
#[derive(Debug, Clone)]
pub struct Named {
    /// Feature, scenario and row.
    pub name: String,
    /// Where its evidence goes, below the output directory.
    pub folder: PathBuf,
    /// The feature file, as it was given.
    pub path: String,
}

/// Scenarios by file and line.
#[derive(Debug, Default)]
pub struct Names(HashMap<(PathBuf, usize, String), Named>);

impl Names {
    /// The name of a scenario; its own name when it is not known.
    #[must_use]
    pub fn of(&self, feature: &Feature, scenario: &Scenario) -> Named {
        let path = feature.path.clone().unwrap_or_default();
        self.0.get(&(path.clone(), scenario.position.line, scenario.name.clone())).cloned().unwrap_or_else(|| Named {
            name: scenario.name.clone(),
            folder: slug(&scenario.name).into(),
            path: path.display().to_string(),
        })
    }
}

/// Parsed and expanded features, without the scenarios that are not wanted.
#[derive(Debug, Clone)]
pub struct Parsed(Vec<Feature>);

/// Tags of a scenario with those of its rule and feature, without `@`.
pub(super) fn tags<'a>(
    feature: &'a Feature,
    rule: Option<&'a Rule>,
    scenario: &'a Scenario,
) -> impl Iterator<Item = &'a str> + Clone {
    let of_rule = rule.map(|r| r.tags.iter()).into_iter().flatten();
    feature.tags.iter().chain(of_rule).chain(&scenario.tags).map(String::as_str)
}

/// Parses files, and every `*.feature` file in directories.
///
/// # Errors
/// Names the file, the line and what was expected there.
pub fn parse(paths: &[PathBuf]) -> Result<Parsed> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            find(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        bail!("find feature files: there is no *.feature in {}", names.join(", "));
    }
    let mut features = Vec::new();
    for file in files {
        let feature = Feature::parse_path(&file, GherkinEnv::default()).map_err(|e| explain(&file, &e))?;
        // a mistyped keyword in the first line makes a description of all steps, and a scenario that proves nothing
        let all = || feature.scenarios.iter().chain(feature.rules.iter().flat_map(|r| &r.scenarios));
        if let Some(empty) = all().find(|s| s.steps.is_empty()) {
            bail!(
                "parse the feature file {}:{}: the scenario {:?} has no steps; is a keyword mistyped?",
                file.display(),
                empty.position.line,
                empty.name
            );
        }
        let feature = feature.expand_examples().map_err(|e| {
            anyhow::anyhow!(
                "expand the examples of {}:{}: no column is called {:?}",
                file.display(),
                e.pos.line,
                e.name
            )
        })?;
        features.push(mechanisms::each(feature));
    }
    Ok(Parsed(features))
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("read the directory {}", directory.display());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .with_context(context)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            find(&entry, files)?;
        } else if entry.extension().is_some_and(|e| e == "feature") {
            files.push(entry);
        }
    }
    Ok(())
}

fn explain(file: &Path, error: &ParseFileError) -> anyhow::Error {
    match error {
        ParseFileError::Reading { source, .. } => anyhow::anyhow!("read the feature file {}: {source}", file.display()),
        ParseFileError::Parsing { error, source, .. } => {
            let text = error.as_ref().map_or_else(|| source.to_string(), ToString::to_string);
            // the position is in the parser's words as `line:column`
            let line = Regex::new(r"(\d+):(\d+)").ok().and_then(|r| r.captures(&text).map(|c| c[1].to_owned()));
            let line = line.or_else(|| line_of_keyword(file, &text).map(|n| n.to_string()));
            let line = line.map(|l| format!(":{l}")).unwrap_or_default();
            anyhow::anyhow!("parse the feature file {}{line}: {text}", file.display())
        }
    }
}

/// The line that begins with what the parser calls an unknown keyword, of which it says the beginning and not the place.
fn line_of_keyword(file: &Path, error: &str) -> Option<usize> {
    let word = error.split('\'').nth(1)?;
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().position(|line| line.trim_start().starts_with(word)).map(|at| at + 1)
}

impl Parsed {
    /// Without the scenarios that are not wanted.
    #[must_use]
    pub fn select(mut self, selection: &Selection) -> Self {
        for feature in &mut self.0 {
            let whole = feature.clone();
            let wanted = |rule: Option<&Rule>, scenario: &Scenario| {
                selection.name.as_ref().is_none_or(|re| re.is_match(&scenario.name))
                    && selection.tags.as_ref().is_none_or(|e| e.eval(tags(&whole, rule, scenario)))
            };
            feature.scenarios.retain(|s| wanted(None, s));
            for rule in &mut feature.rules {
                let of = rule.clone();
                rule.scenarios.retain(|s| wanted(Some(&of), s));
            }
        }
        self.0.retain(|f| f.count_scenarios() > 0);
        self
    }

    /// How many scenarios there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(cucumber::feature::Ext::count_scenarios).sum()
    }

    /// The text of every step, with the place where it stands.
    #[must_use]
    pub fn steps(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for feature in &self.0 {
            let file = feature.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            let background = feature.background.iter().flat_map(|b| &b.steps);
            let rules = feature.rules.iter().flat_map(|r| {
                r.background.iter().flat_map(|b| &b.steps).chain(r.scenarios.iter().flat_map(|s| &s.steps))
            });
            let steps = background.chain(feature.scenarios.iter().flat_map(|s| &s.steps)).chain(rules);
            found.extend(steps.map(|s| (s.value.clone(), format!("{file}:{}", s.position.line))));
        }
        found
    }

    /// Names and folders for all scenarios; rows of an outline are numbered. No two have one folder: each clears its own.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut names = HashMap::new();
        let mut taken = HashSet::new();
        for feature in &self.0 {
            let path = feature.path.clone().unwrap_or_default();
            let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            let all = || feature.scenarios.iter().chain(feature.rules.iter().flat_map(|r| &r.scenarios));
            for scenario in all() {
                rows.entry(&scenario.name).or_default().push(scenario.position.line);
            }
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            for scenario in all() {
                let lines = &rows[scenario.name.as_str()];
                let row = lines.iter().position(|l| *l == scenario.position.line).unwrap_or_default() + 1;
                let outline = !scenario.examples.is_empty();
                let (suffix, end) =
                    if outline { (format!(" (row {row})"), format!("-{row}")) } else { (String::new(), String::new()) };
                let folder = PathBuf::from(&stem).join(format!("{}{end}", slug(&scenario.name)));
                let others = (2..).map(|n| PathBuf::from(format!("{}-{n}", folder.display())));
                let mut candidates = std::iter::once(folder.clone()).chain(others);
                let named = Named {
                    name: format!("{}: {}{suffix}", feature.name, scenario.name),
                    folder: candidates.find(|folder| taken.insert(folder.clone())).unwrap_or(folder),
                    path: path.display().to_string(),
                };
                names.insert((path.clone(), scenario.position.line, scenario.name.clone()), named);
            }
        }
        Names(names)
    }
}

impl cucumber::Parser<()> for Parsed {
    type Cli = cucumber::cli::Empty;
    type Output = stream::Iter<std::vec::IntoIter<cucumber::parser::Result<Feature>>>;

    fn parse(self, (): (), _: Self::Cli) -> Self::Output {
        stream::iter(self.0.into_iter().map(Ok).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: &str = "@all\nFeature: F\n  @a\n  Scenario: one\n    Given a mesh\n\n  @b @serial\n  Scenario Outline: two\n    \
                        Given the workload \"<w>\"\n\n    Examples:\n      | w |\n      | x |\n      | y |\n";

    fn parsed(text: &str) -> Result<Parsed> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("f.feature"), text)?;
        parse(&[directory.path().to_owned()])
    }

    #[rstest]
    #[case("@a", None, 1)]
    #[case("@all and not @serial", None, 1)]
    #[case("@b or @a", None, 3)]
    #[case("@all", Some("tw"), 2)]
    #[case("@none", None, 0)]
    fn selections(#[case] tags: &str, #[case] name: Option<&str>, #[case] expected: usize) {
        let selection = Selection {
            tags: Some(tags.parse().expect("an expression")),
            name: name.map(|n| Regex::new(n).expect("a regular expression")),
        };
        assert_eq!(parsed(TEXT).expect("a feature").select(&selection).count(), expected);
    }

    #[test]
    fn rows_are_numbered() {
        let parsed = parsed(TEXT).expect("a feature");
        let names = parsed.names();
        let mut all: Vec<_> = names.0.values().map(|n| n.name.clone()).collect();
        all.sort();
        assert_eq!(all, ["F: one", "F: two (row 1)", "F: two (row 2)"]);
    }

    #[rstest]
    #[case::alike(["it works, at once", "it works at once"])]
    #[case::alike_as_far_as_a_folder_goes([
        "A pod that starts while the control plane is away says why it waits, and starts when it is back: by one",
        "A pod that starts while the control plane is away says why it waits, and starts when it is back: by two",
    ])]
    #[case::without_a_letter(["…", "¿?"])]
    #[case::the_same(["s", "s"])]
    fn every_scenario_has_a_folder_of_its_own(#[case] names: [&str; 2]) {
        let [one, two] = names;
        let text = format!("Feature: F\n  Scenario: {one}\n    Given a mesh\n  Scenario: {two}\n    Given a mesh\n");
        let names = parsed(&text).expect("a feature").names();
        let folders: HashSet<_> = names.0.values().map(|named| &named.folder).collect();
        assert_eq!(folders.len(), 2, "{folders:?}");
        assert!(folders.iter().all(|folder| folder.parent() == Some("f".as_ref())), "{folders:?}");
    }

    #[test]
    fn a_scenario_without_steps_is_no_scenario() {
        let error = parsed("Feature: F\n  Scenario: s\n    Givn a mesh\n").expect_err("no steps");
        assert!(error.to_string().contains("f.feature:2"), "{error}");
    }

    #[test]
    fn a_malformed_file_is_named_with_its_line() {
        let error = parsed("Feature: F\n  Scenario: s\n    Given a mesh\n    Nonsense here\n").expect_err("no Gherkin");
        let text = format!("{error:#}");
        assert!(text.contains("f.feature:4"), "{text}");
    }
}
