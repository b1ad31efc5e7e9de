//! What a mesh's settings say of Consul's ACLs.

use anyhow::Result;
use mesh::AclOptions;

use super::Settings;
use crate::vocabulary::parameters::Verdict;

/// Name of the auth method, as the chart derives it from the release's name.
const AUTH_METHOD: &str = "consul-k8s-auth-method";

impl Settings {
    /// `global.acls.manageSystemACLs`, and what else the chart says of them; `None` where there are none.
    ///
    /// # Errors
    /// As [`Settings::flag`].
    pub fn acls(&self) -> Result<Option<AclOptions>> {
        if !self.flag("global.acls.manageSystemACLs", false)? {
            return Ok(None);
        }
        Ok(Some(AclOptions {
            auth_method: AUTH_METHOD.to_owned(),
            selector: self
                .get("connectInject.aclBindingRuleSelector")
                .unwrap_or("serviceaccount.name!=default")
                .to_owned(),
            // DNS clients show no token
            anonymous_reads: self.flag("dns.enabled", self.transparent_proxy()?)?,
        }))
    }

    /// The default intention: what a step said, or else what the ACLs do by default.
    ///
    /// # Errors
    /// As [`Settings::acls`].
    pub fn intention_by_default(&self) -> Result<Verdict> {
        let of_acls = || Ok(if self.acls()?.is_some() { Verdict::Deny } else { Verdict::Allow });
        self.default_intention.map_or_else(of_acls, Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        let rows: Vec<_> = rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        settings.merge(&rows).expect("Helm values");
        settings
    }

    const ON: (&str, &str) = ("global.acls.manageSystemACLs", "true");

    #[test]
    fn acls_are_what_the_chart_makes_of_them() {
        assert_eq!(settings(&[]).acls().expect("chart defaults"), None);
        let acls = settings(&[ON]).acls().expect("chart defaults").expect("on");
        assert_eq!((acls.selector.as_str(), acls.anonymous_reads), ("serviceaccount.name!=default", true));
        let own = [ON, ("connectInject.aclBindingRuleSelector", "serviceaccount.name==web"), ("dns.enabled", "false")];
        let acls = settings(&own).acls().expect("values").expect("on");
        assert_eq!((acls.selector.as_str(), acls.anonymous_reads), ("serviceaccount.name==web", false));
    }

    #[rstest::rstest]
    #[case::off(&[], None, Verdict::Allow)]
    #[case::on(&[ON], None, Verdict::Deny)]
    #[case::said(&[ON], Some(Verdict::Allow), Verdict::Allow)]
    fn the_default_policy_is_the_default_intention(
        #[case] rows: &[(&str, &str)],
        #[case] said: Option<Verdict>,
        #[case] expected: Verdict,
    ) {
        let settings = Settings { default_intention: said, ..settings(rows) };
        assert_eq!(settings.intention_by_default().expect("a verdict"), expected);
    }
}
