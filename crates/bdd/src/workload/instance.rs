//! Names of workload instances: `db`, `db-0`, `db@dc2`, `db-0/container`.

use anyhow::{Result, bail};

use crate::later::{Issue, comes_with};

/// A Pod of a workload, and perhaps one of its containers, as a step names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The workload's name.
    pub workload: String,
    /// The number of the instance, counted in the order of creation.
    pub index: usize,
    /// Whether the step named an instance and not the whole workload.
    pub one: bool,
    /// The container, when one is named.
    pub container: Option<String>,
}

impl Instance {
    /// Reads a name. `known` says which workload names exist: `static-server` is a workload, not the instance `server`
    /// of `static`, and `lonely-2` may be either.
    ///
    /// # Errors
    /// When no workload is meant, or one in another cluster.
    pub fn parse(text: &str, known: impl Fn(&str) -> bool) -> Result<Self> {
        let (name, container) = match text.split_once('/') {
            Some((name, container)) => (name, Some(container.to_owned())),
            None => (text, None),
        };
        if let Some((_, cluster)) = name.split_once('@') {
            return Err(comes_with(&format!("a workload in the cluster {cluster}"), Issue::Clusters));
        }
        if known(name) {
            return Ok(Self { workload: name.to_owned(), index: 0, one: false, container });
        }
        if let Some((workload, index)) = name.rsplit_once('-')
            && let Ok(index) = index.parse()
            && known(workload)
        {
            return Ok(Self { workload: workload.to_owned(), index, one: true, container });
        }
        bail!("find the workload {text:?}: no step has made one of this name")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("db", "db", 0, false, None)]
    #[case("db-2", "db", 2, true, None)]
    #[case("lonely-2", "lonely-2", 0, false, None)]
    #[case("db-1/app", "db", 1, true, Some("app"))]
    fn names(
        #[case] text: &str,
        #[case] workload: &str,
        #[case] index: usize,
        #[case] one: bool,
        #[case] c: Option<&str>,
    ) {
        let found = Instance::parse(text, |n| n == "db" || n == "lonely-2").expect("a good name");
        let expected = Instance { workload: workload.into(), index, one, container: c.map(str::to_owned) };
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case("api", "no step has made one")]
    #[case("db@dc2", "comes with issue 7")]
    fn no_names(#[case] text: &str, #[case] message: &str) {
        let error = Instance::parse(text, |n| n == "db").expect_err("no such workload").to_string();
        assert!(error.contains(message), "{error}");
    }
}
