//! Admin partitions: `global.adminPartitions` and `global.enableConsulNamespaces`.

use anyhow::{Result, bail};

use super::Settings;
use crate::topology::DEFAULT_PARTITION;

impl Settings {
    /// Whether there are admin partitions: `global.adminPartitions.enabled`. Consul namespaces come with them, all Pods being in the one
    /// of the name `default`.
    ///
    /// # Errors
    /// As [`Settings::flag`], or when `global.enableConsulNamespaces` does not go with it.
    pub fn has_partitions(&self) -> Result<bool> {
        let partitions = self.flag("global.adminPartitions.enabled", false)?;
        match (partitions, self.flag("global.enableConsulNamespaces", partitions)?) {
            (true, false) => bail!(
                "set global.enableConsulNamespaces to false: it must be true if global.adminPartitions.enabled is true"
            ),
            (false, true) => bail!(
                "set global.enableConsulNamespaces to true: here there is one Consul namespace, which is named where there are \
                 partitions; set global.adminPartitions.enabled to true as well"
            ),
            _ => Ok(partitions),
        }
    }

    /// What the partition of clusters without servers is called, when it is not called as the cluster:
    /// `global.adminPartitions.name`.
    #[must_use]
    pub fn partition_name(&self) -> Option<&str> {
        self.get("global.adminPartitions.name")
    }

    /// Refuses a name for a partition that no cluster can have, where `several` says whether there are others than that of the servers.
    pub(super) fn partitions_fit(&self, several: bool) -> Result<()> {
        let has_partitions = self.has_partitions()?;
        match self.partition_name().filter(|name| !has_partitions || !several && *name != DEFAULT_PARTITION) {
            Some(name) => bail!(
                "set global.adminPartitions.name to {name:?}: that is about a cluster without servers, among several with \
                 global.adminPartitions.enabled=true; where the servers are, it is {DEFAULT_PARTITION:?}"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::without_namespaces(&[("global.adminPartitions.enabled", "true"), ("global.enableConsulNamespaces", "false")],
        "global.enableConsulNamespaces to false: it must be true if global.adminPartitions.enabled")]
    #[case::namespaces_alone(&[("global.enableConsulNamespaces", "true")], "global.adminPartitions.enabled to true as well")]
    #[case::not_the_default_one(&[("global.adminPartitions.enabled", "true"), ("global.adminPartitions.name", "ap1")],
        "where the servers are, it is \"default\"")]
    #[case::without_partitions(&[("global.adminPartitions.name", "ap1")], "global.adminPartitions.enabled=true")]
    fn partitions_that_cannot_be_are_refused(#[case] said: &[(&str, &str)], #[case] expected: &str) {
        let mut settings = Settings::default();
        let rows: Vec<_> = said.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        settings.merge(&rows).expect("Helm values");
        let error = settings.buildable(None).expect_err("one cluster").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
