//! Reads a resolver configuration (`resolv.conf`), from which that of Pods with Consul DNS is made.

/// A resolver configuration. Values that equal the resolver's defaults are as good as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub nameservers: Vec<String>,
    /// Search list.
    pub searches: Vec<String>,
    /// Options in order; the value is absent for switches.
    pub options: Vec<(String, Option<String>)>,
}

impl ResolvConf {
    /// Reads the text of a `resolv.conf`. As the resolver does, takes the last search list and ignores what it does not know.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.nameservers.extend(words.next().map(str::to_owned)),
                Some("domain") => conf.searches = words.next().map(str::to_owned).into_iter().collect(),
                Some("search") => conf.searches = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(|word| match word.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word.to_owned(), None),
                })),
                _ => {}
            }
        }
        conf
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::ResolvConf;

    #[test]
    fn reads_what_a_cluster_writes() {
        let conf = ResolvConf::parse(
            "# made by the kubelet\nsearch consul.svc.cluster.local svc.cluster.local cluster.local\n\
             nameserver 10.96.0.10\nnameserver\noptions ndots:5 rotate\n",
        );
        assert_eq!(conf.nameservers, ["10.96.0.10"]);
        assert_eq!(conf.searches, ["consul.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!(conf.option("ndots"), Some("5"));
        assert_eq!(conf.option("rotate"), None);
        assert_eq!(conf.option("timeout"), None);
    }

    #[test]
    fn the_last_search_list_counts() {
        let conf = ResolvConf::parse("search a b\ndomain c\n");
        assert_eq!(conf.searches, ["c"]);
    }
}
