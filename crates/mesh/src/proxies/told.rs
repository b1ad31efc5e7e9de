//! What a proxy is told, and what of it is news to who has heard some of it before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;

use serde_json::Value;

use super::text::{Key, Text};

/// A proxy's resources and when each changed last; a resource without text is gone.
#[derive(Debug)]
pub(crate) struct Told {
    service: String,
    /// The world in which the proxy was first looked at. Who says to know an older one heard of another proxy.
    first: u64,
    /// The world in which something changed last.
    last: u64,
    resources: BTreeMap<Key, (u64, Option<Text>)>,
    /// What changed in which world, newest last: all of it after `logged_from`.
    log: VecDeque<(u64, Key)>,
    logged_from: u64,
}

/// How many changes are remembered in their order. Who is further behind has all resources looked at.
const LOG: usize = 256;

impl Told {
    pub(super) fn new(service: &str, resources: BTreeMap<Key, Text>, world: u64) -> Self {
        let resources = resources.into_iter().map(|(key, text)| (key, (world, Some(text)))).collect();
        Self {
            service: service.to_owned(),
            first: world,
            last: world,
            resources,
            log: VecDeque::new(),
            logged_from: world,
        }
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Whether something changed in this world.
    pub(super) fn is_of(&self, world: u64) -> bool {
        self.last == world
    }

    /// These are all the resources in a world. Says whether any changed.
    pub(super) fn renew(&mut self, fresh: BTreeMap<Key, Text>, world: u64) -> bool {
        let mut fresh = fresh.into_iter().peekable();
        let (mut changed, mut come) = (Vec::new(), Vec::new());
        // both are in the order of their keys
        for (key, (when, text)) in &mut self.resources {
            while let Some(new) = fresh.next_if(|(other, _)| other < key) {
                come.push(new);
            }
            let new = fresh.next_if(|(other, _)| other == key).map(|(_, text)| text);
            if *text != new {
                (*when, *text) = (world, new);
                changed.push(key.clone());
            }
        }
        for (key, text) in come.into_iter().chain(fresh) {
            changed.push(key.clone());
            self.resources.insert(key, (world, Some(text)));
        }
        changed.into_iter().for_each(|key| self.note(key, world));
        self.is_of(world)
    }

    fn note(&mut self, key: Key, world: u64) {
        self.last = world;
        self.log.push_back((world, key));
        if self.log.len() > LOG
            && let Some((world, _)) = self.log.pop_front()
        {
            self.logged_from = world;
        }
    }

    /// Puts a resource in the place of another. Says no when that is not what was there.
    pub(super) fn replace(&mut self, key: &Key, old: &Text, new: &Text, world: u64) -> bool {
        match self.resources.get_mut(key) {
            Some((_, Some(text))) if text == new => true,
            Some((changed, Some(text))) if text == old => {
                (*changed, *text) = (world, new.clone());
                self.note(key.clone(), world);
                true
            }
            _ => false,
        }
    }

    /// The [`Update`](crate::feed::Update) for who knows the world `index`: what changed since, or everything if that world
    /// is none of this proxy. `None`: nothing is news.
    pub(crate) fn update(&self, index: u64) -> Option<Answer> {
        let full = index < self.first || index > self.last;
        let news: Vec<_> = if !full && index >= self.logged_from {
            let news: BTreeSet<&Key> =
                self.log.iter().rev().take_while(|(world, _)| *world > index).map(|(_, key)| key).collect();
            news.into_iter().filter_map(|key| Some((key.clone(), self.resources.get(key)?.1.clone()))).collect()
        } else {
            let news = self.resources.iter().filter(|(_, (changed, text))| {
                // who knows nothing need not hear what is gone
                if full { text.is_some() } else { *changed > index }
            });
            news.map(|(key, (_, text))| (key.clone(), text.clone())).collect()
        };
        if news.is_empty() {
            return None;
        }
        let service = Value::from(self.service.as_str());
        let begin = format!(r#"{{"index":{},"service":{service},"full":{full},"resources":{{"#, self.last);
        Some(Answer { begin, section: None, news: news.into_iter().peekable() })
    }
}

/// JSON that is written as it is read: a whole configuration is megabytes, and hundreds of proxies may ask at once.
pub(crate) struct Answer {
    begin: String,
    section: Option<&'static str>,
    news: Peekable<std::vec::IntoIter<(Key, Option<Text>)>>,
}

/// So much is written at a time; more if a single resource is larger.
const CHUNK: usize = 64 * 1024;

impl Answer {
    /// Whether all of it was read.
    pub(crate) fn at_end(&mut self) -> bool {
        self.news.peek().is_none()
    }
}

impl Iterator for Answer {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.news.peek()?;
        let mut json = std::mem::take(&mut self.begin);
        while json.len() < CHUNK
            && let Some((key, text)) = self.news.next()
        {
            match self.section.replace(key.section) {
                Some(same) if same == key.section => json.push(','),
                before => {
                    json.push_str(if before.is_some() { "}," } else { "" });
                    json.push_str(&format!(r#""{}":{{"#, key.section));
                }
            }
            json.push_str(&Value::from(&*key.name).to_string());
            json.push(':');
            match text {
                Some(text) => text.pieces().for_each(|piece| json.push_str(piece)),
                None => json.push_str("null"),
            }
        }
        if self.at_end() {
            json.push_str("}}}");
        }
        Some(json)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::feed::Update;

    fn resources(list: &[(&'static str, &str, u64)]) -> BTreeMap<Key, Text> {
        let one = |(section, name, value): &(&'static str, &str, u64)| {
            (Key { section, name: (*name).into() }, Text::of(&json!(value)))
        };
        list.iter().map(one).collect()
    }

    #[rstest]
    #[case::knows_nothing(0, true, json!({"clusters": {"a": 1, "c\"": 1}, "listeners": {"l": 2}}))]
    #[case::of_another_server(9, true, json!({"clusters": {"a": 1, "c\"": 1}, "listeners": {"l": 2}}))]
    #[case::of_an_earlier_proxy(4, true, json!({"clusters": {"a": 1, "c\"": 1}, "listeners": {"l": 2}}))]
    #[case::knows_the_first(5, false, json!({"clusters": {"b": null, "c\"": 1}, "listeners": {"l": 2}}))]
    #[case::knows_the_second(6, false, json!({"listeners": {"l": 2}}))]
    #[case::knows_all(7, false, json!(null))]
    fn only_what_changed_is_told(#[case] index: u64, #[case] full: bool, #[case] expected: Value) {
        let first = resources(&[("clusters", "a", 1), ("clusters", "b", 1), ("listeners", "l", 1)]);
        let mut told = Told::new("web", first, 5);
        assert!(told.renew(resources(&[("clusters", "a", 1), ("clusters", "c\"", 1), ("listeners", "l", 1)]), 6));
        assert!(told.renew(resources(&[("clusters", "a", 1), ("clusters", "c\"", 1), ("listeners", "l", 2)]), 7));
        assert!(!told.renew(resources(&[("clusters", "a", 1), ("clusters", "c\"", 1), ("listeners", "l", 2)]), 8));
        let update = told
            .update(index)
            .map(|json| serde_json::from_str::<Update>(&json.collect::<String>()).expect("an update"));
        assert_eq!(json!(update.as_ref().map(|u| &u.resources)), expected);
        if let Some(update) = update {
            assert_eq!((update.index, update.service.as_str(), update.full), (7, "web", full));
        }
    }

    #[test]
    fn who_is_far_behind_hears_everything_that_changed() {
        let many: Vec<String> = (0..LOG + 10).map(|n| n.to_string()).collect();
        let all = |value| many.iter().map(|name| ("clusters", name.as_str(), value)).collect::<Vec<_>>();
        let mut told = Told::new("web", resources(&all(1)), 5);
        told.renew(resources(&all(2)), 6);
        told.renew(resources(&[("clusters", "0", 3)]), 7);
        for index in [5, 6] {
            let update = told.update(index).map(|json| json.collect::<String>()).expect("news");
            let update: Update = serde_json::from_str(&update).expect("an update");
            let clusters = &update.resources["clusters"];
            assert_eq!((clusters.len(), &clusters["0"], &clusters["1"]), (many.len(), &Some(json!(3)), &None));
        }
    }

    #[test]
    fn a_resource_is_replaced_if_it_is_there() {
        let key = Key { section: "endpoints", name: "a".into() };
        let [one, two, three] = [1, 2, 3].map(|n| Text::of(&json!(n)));
        let mut told = Told::new("web", BTreeMap::from([(key.clone(), one.clone())]), 5);
        assert!(!told.replace(&key, &two, &three, 6));
        assert!(told.replace(&key, &one, &two, 6));
        assert!(told.replace(&key, &one, &two, 7), "another upstream leads there as well");
        assert!(told.is_of(6));
    }
}
