//! A catalogue that is changed is the one that would have been made anew.

use super::*;
use crate::fixture::{instance, world};
use crate::intentions::Intention;

#[test]
fn the_last_of_one_id_has_it_and_the_other_one_returns() {
    let one = instance(&world(&["web"], Intention::Allow, &[]), "web").clone();
    let other = Arc::new(Instance { namespace: "other".to_owned(), ..Instance::clone(&one) });
    let proxy = "web-web-sidecar-proxy";
    let mut catalog = Catalog::new([&other, &one]);
    assert_eq!(catalog.instances("web"), [one.clone(), other.clone()]);
    assert_eq!(catalog.on_node("node-0-virtual").map(Iterator::count), Some(1));
    assert_eq!(catalog.proxy(None, proxy), Some(&other));
    catalog.replace(std::slice::from_ref(&other), &[]);
    assert_eq!(catalog.proxy(Some("node-0-virtual"), proxy), Some(&one));
    catalog.replace(&[one], &[]);
    assert_eq!((catalog.services().count(), catalog.on_node("node-0-virtual").is_none()), (0, true));
}
