//! Names of workload instances: `db`, `db-0`, `db@dc2`, `db-0@dc2`, `db-0/container`.

use anyhow::{Result, bail};

/// A Pod of a workload, and perhaps one of its containers, as a step names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What the workload is known by: its name, with its cluster where there are several.
    pub workload: String,
    /// The number of the instance, counted in the order of creation.
    pub index: usize,
    /// Whether the step named an instance and not the whole workload.
    pub one: bool,
    /// The container, when one is named.
    pub container: Option<String>,
}

impl Instance {
    /// Reads a name. `known` says what the workload of a name is known by, in the cluster that is named if one is: `static-server` is a
    /// workload, not the instance `server` of `static`, and `lonely-2` may be either.
    ///
    /// # Errors
    /// When no workload is meant, or one of several is.
    pub fn parse(text: &str, known: impl Fn(&str, Option<&str>) -> Result<Option<String>>) -> Result<Self> {
        let (name, container) = match text.split_once('/') {
            Some((name, container)) => (name, Some(container.to_owned())),
            None => (text, None),
        };
        let (name, cluster) = match name.split_once('@') {
            Some((name, cluster)) => (name, Some(cluster)),
            None => (name, None),
        };
        if let Some(workload) = known(name, cluster)? {
            return Ok(Self { workload, index: 0, one: false, container });
        }
        if let Some((name, index)) = name.rsplit_once('-')
            && let Ok(index) = index.parse()
            && let Some(workload) = known(name, cluster)?
        {
            return Ok(Self { workload, index, one: true, container });
        }
        bail!("find the workload {text:?}: no step has made one of this name")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `db` and `lonely-2`, and `api` in two clusters.
    fn known(name: &str, cluster: Option<&str>) -> Result<Option<String>> {
        match (name, cluster) {
            ("db" | "lonely-2", None) => Ok(Some(name.to_owned())),
            ("api", Some(cluster)) => Ok(Some(format!("{name}@{cluster}"))),
            ("api", None) => bail!("two clusters"),
            _ => Ok(None),
        }
    }

    #[rstest]
    #[case("db", "db", 0, false, None)]
    #[case("db-2", "db", 2, true, None)]
    #[case("lonely-2", "lonely-2", 0, false, None)]
    #[case("db-1/app", "db", 1, true, Some("app"))]
    #[case("api@dc2", "api@dc2", 0, false, None)]
    #[case("api-1@dc2/app", "api@dc2", 1, true, Some("app"))]
    fn names(
        #[case] text: &str,
        #[case] workload: &str,
        #[case] index: usize,
        #[case] one: bool,
        #[case] c: Option<&str>,
    ) {
        let found = Instance::parse(text, known).expect("a good name");
        let expected = Instance { workload: workload.into(), index, one, container: c.map(str::to_owned) };
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case("web", "no step has made one")]
    #[case("db@dc2", "no step has made one")]
    #[case("api-1", "two clusters")]
    fn no_names(#[case] text: &str, #[case] message: &str) {
        let error = Instance::parse(text, known).expect_err("no such workload").to_string();
        assert!(error.contains(message), "{error}");
    }
}
