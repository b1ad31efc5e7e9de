//! What is kept of each object: no more than a review can need.

use crate::boolean;
use crate::surroundings::{AllowedUsers, ProxyDefaults, ServiceDefaults};
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use kube::core::DynamicObject;
use redirect::contract::SERVICE_IGNORE;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::BitOr;
use std::sync::Arc;

/// A row: where it belongs, and what is kept.
pub(super) struct Row<V> {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) value: V,
}

/// Which Pods a Service selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    labels: BTreeMap<String, String>,
    marks: Marks,
}

impl Selector {
    fn new(labels: BTreeMap<String, String>) -> Self {
        Self { marks: Marks::of(&labels), labels }
    }

    /// Whether a Pod with these labels, and with the marks of these, is selected.
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>, marks: Marks) -> bool {
        marks.cover(self.marks) && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// A bit for each label, which others may share: most of a Namespace's Services are passed over by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u64);

impl Marks {
    pub(super) fn of(labels: &BTreeMap<String, String>) -> Self {
        let mark = |label| {
            let mut hasher = DefaultHasher::new();
            Hash::hash(&label, &mut hasher);
            1 << (hasher.finish() % u64::from(u64::BITS))
        };
        Self(labels.iter().map(mark).fold(0, BitOr::bitor))
    }

    fn cover(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }
}

/// A Namespace with its labels and annotations.
pub(super) fn namespace(namespace: &Namespace) -> Option<Row<Arc<Namespace>>> {
    let name = namespace.metadata.name.clone()?;
    let mut kept = Namespace::default();
    kept.metadata.name = Some(name.clone());
    kept.metadata.labels = namespace.metadata.labels.clone();
    kept.metadata.annotations = namespace.metadata.annotations.clone();
    Some(Row { namespace: String::new(), name, value: Arc::new(kept) })
}

/// A Service that registers the Pods it selects.
pub(super) fn service(service: &Service) -> Option<Row<Selector>> {
    let metadata = &service.metadata;
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_IGNORE));
    if label.and_then(|text| boolean::parse(text)) == Some(true) {
        return None;
    }
    let selector = service.spec.as_ref()?.selector.clone().filter(|selector| !selector.is_empty())?;
    let (namespace, name) = (metadata.namespace.clone()?, metadata.name.clone()?);
    Some(Row { namespace, name, value: Selector::new(selector) })
}

/// The mesh has one, `global`, whatever namespace its object is in.
pub(super) fn proxy_defaults(object: &DynamicObject) -> Option<Row<Arc<ProxyDefaults>>> {
    let Row { namespace, name, value } = spec::<ProxyDefaults>(object)?;
    Some(Row { namespace, name, value: Arc::new(value) })
}

/// One for each Consul service, whatever namespace its object is in.
pub(super) fn service_defaults(object: &DynamicObject) -> Option<Row<ServiceDefaults>> {
    spec(object)
}

fn spec<V: DeserializeOwned + Default>(object: &DynamicObject) -> Option<Row<V>> {
    let name = object.metadata.name.clone()?;
    // by reference: the object may be large, and most of it is not read
    let value = object.data.get("spec").map(V::deserialize).and_then(Result::ok).unwrap_or_default();
    Some(Row { namespace: String::new(), name, value })
}

/// The Secret with the token of a service account, where it names one.
pub(super) fn token_secret(account: &ServiceAccount) -> Option<Row<String>> {
    let secret = account.secrets.as_ref()?.first()?.name.clone()?;
    Some(Row { namespace: account.metadata.namespace.clone()?, name: account.metadata.name.clone()?, value: secret })
}

/// Which users a security context constraint of OpenShift allows.
pub(super) fn constraint(object: &DynamicObject) -> Option<Row<AllowedUsers>> {
    let name = object.metadata.name.clone()?;
    let strategy = object.data.get("runAsUser")?;
    let number = |key: &str| strategy.get(key)?.as_u64().and_then(|id| u32::try_from(id).ok());
    let value = match strategy.get("type")?.as_str()? {
        "MustRunAs" => AllowedUsers::One(number("uid")?),
        "MustRunAsRange" => match (number("uidRangeMin"), number("uidRangeMax")) {
            (Some(first), Some(last)) => AllowedUsers::Range(first, last),
            _ => AllowedUsers::OfNamespace,
        },
        _ => AllowedUsers::Any,
    };
    Some(Row { namespace: String::new(), name, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::selected(json!({}), json!({"selector": {"app": "web"}}), Some(true))]
    #[case::another(json!({}), json!({"selector": {"app": "web", "tier": "back"}}), Some(false))]
    #[case::no_selector(json!({}), json!({}), None)]
    #[case::empty_selector(json!({}), json!({"selector": {}}), None)]
    #[case::ignored(json!({SERVICE_IGNORE: "true"}), json!({"selector": {"app": "web"}}), None)]
    #[case::unreadable_label(json!({SERVICE_IGNORE: "yes"}), json!({"selector": {"app": "web"}}), Some(true))]
    fn services(
        #[case] labels: Value,
        #[case] spec: Value,
        #[case] selects: Option<bool>,
    ) -> Result<(), serde_json::Error> {
        let metadata = json!({"name": "web", "namespace": "default", "labels": labels});
        let row = service(&serde_json::from_value(json!({"metadata": metadata, "spec": spec}))?);
        let pod = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert_eq!(row.map(|row| row.value.selects(&pod, Marks::of(&pod))), selects);
        Ok(())
    }

    #[rstest]
    #[case::range(json!({"type": "MustRunAsRange", "uidRangeMin": 5, "uidRangeMax": 9}), Some(AllowedUsers::Range(5, 9)))]
    #[case::of_namespace(json!({"type": "MustRunAsRange"}), Some(AllowedUsers::OfNamespace))]
    #[case::one(json!({"type": "MustRunAs", "uid": 7}), Some(AllowedUsers::One(7)))]
    #[case::any(json!({"type": "RunAsAny"}), Some(AllowedUsers::Any))]
    #[case::not_root(json!({"type": "MustRunAsNonRoot"}), Some(AllowedUsers::Any))]
    #[case::negative(json!({"type": "MustRunAs", "uid": -7}), None)]
    fn constraints(#[case] strategy: Value, #[case] users: Option<AllowedUsers>) -> Result<(), serde_json::Error> {
        let object = json!({"metadata": {"name": "own"}, "runAsUser": strategy});
        assert_eq!(constraint(&serde_json::from_value(object)?).map(|row| row.value), users);
        Ok(())
    }
}
