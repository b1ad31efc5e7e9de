//! A container's environment: the image's, the Service variables, `envFrom`, `env`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Secret};
use kube::Api;

use super::expand::expand;
use super::fields::Fields;
use crate::Image;

/// ConfigMaps and Secrets that a container's environment names; `None` for one that does not exist.
#[derive(Debug, Default)]
pub(super) struct Sources {
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

impl Sources {
    /// Gets what `container` names.
    pub(super) async fn get(
        client: &kube::Client,
        namespace: &str,
        container: &Container,
    ) -> Result<Self, kube::Error> {
        let mut sources = Self::default();
        let (config_maps, secrets) = references(container);
        for name in config_maps {
            let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(&name).await?;
            sources.config_maps.insert(name, found.map(|map| map.data.unwrap_or_default()));
        }
        for name in secrets {
            let found = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&name).await?;
            let text = found.map(|secret| {
                let data = secret.data.unwrap_or_default().into_iter();
                data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()
            });
            sources.secrets.insert(name, text);
        }
        Ok(sources)
    }
}

fn references(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// The environment, later values over earlier ones, in order of first appearance. An error is the message of a
/// `CreateContainerConfigError`, in a kubelet's words.
pub(super) fn environment(
    container: &Container,
    image: &Image,
    hostname: &str,
    server: SocketAddr,
    sources: &Sources,
    fields: &Fields<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Variables(vec![
        ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOSTNAME".into(), hostname.into()),
    ]);
    image.env.iter().for_each(|(name, value)| env.set(name, value.clone()));
    for (name, value) in service_variables(server) {
        env.set(&name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, all) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => ("configmap", &map.name, map.optional, &sources.config_maps),
            (_, Some(secret)) => ("secret", &secret.name, secret.optional, &sources.secrets),
            _ => continue,
        };
        match all.get(name).and_then(Option::as_ref) {
            Some(data) => data.iter().for_each(|(key, value)| env.set(&format!("{prefix}{key}"), value.clone())),
            None if optional == Some(true) => {}
            None => return Err(format!("{kind} {name:?} not found")),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, container, &env, sources, fields)? {
            env.set(&variable.name, value);
        }
    }
    if env.get("HOME").is_none() {
        env.set("HOME", "/root".into());
    }
    Ok(env.0)
}

fn value(
    variable: &EnvVar,
    container: &Container,
    env: &Variables,
    sources: &Sources,
    fields: &Fields<'_>,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| env.get(name).cloned())));
    };
    if let Some(field) = &from.field_ref {
        return fields.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return fields.resource(resource, &container.name).map(Some);
    }
    let (kind, title, name, key, optional, all) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(map), _) => ("configmap", "ConfigMap", &map.name, &map.key, map.optional, &sources.config_maps),
        (_, Some(secret)) => ("secret", "Secret", &secret.name, &secret.key, secret.optional, &sources.secrets),
        _ => return Ok(None),
    };
    let found = all.get(name).and_then(Option::as_ref);
    match found.map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(value.clone())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(format!("couldn't find key {key} in {title} {}/{name}", fields.field("metadata.namespace")?)),
        None => Err(format!("{kind} {name:?} not found")),
    }
}

/// The variables of the Service `kubernetes`. Those of other Services are not made: nothing that has a DNS needs them.
fn service_variables(server: SocketAddr) -> Vec<(String, String)> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let url = format!("tcp://{server}");
    let tcp = format!("KUBERNETES_PORT_{port}_TCP");
    vec![
        ("KUBERNETES_SERVICE_HOST".into(), host.clone()),
        ("KUBERNETES_SERVICE_PORT".into(), port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".into(), port.clone()),
        ("KUBERNETES_PORT".into(), url.clone()),
        (tcp.clone(), url),
        (format!("{tcp}_PROTO"), "tcp".into()),
        (format!("{tcp}_PORT"), port),
        (format!("{tcp}_ADDR"), host),
    ]
}

struct Variables(Vec<(String, String)>);

impl Variables {
    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn of(container: Value) -> Result<Vec<(String, String)>, String> {
        let mut container = container;
        container["name"] = json!("c");
        let container: Container = serde_json::from_value(container).expect("a container");
        let map = BTreeMap::from([("KEY".to_owned(), "from map".to_owned())]);
        let sources = Sources {
            config_maps: BTreeMap::from([("there".into(), Some(map.clone())), ("gone".into(), None)]),
            secrets: BTreeMap::from([("hidden".into(), Some(map)), ("gone".into(), None)]),
        };
        let pod = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}})).expect("a pod");
        let fields = Fields { pod: &pod, pod_ips: &["10.1.1.1".parse().expect("ip")], host_ips: &[] };
        let image = Image { env: vec![("A".into(), "image".into())], ..Image::default() };
        environment(&container, &image, "host", "10.96.0.1:443".parse().expect("address"), &sources, &fields)
    }

    #[rstest]
    #[case::image(json!({}), "A", Some("image"))]
    #[case::over_the_image(json!({"env": [{"name": "A", "value": "pod"}]}), "A", Some("pod"))]
    #[case::service(json!({}), "KUBERNETES_SERVICE_HOST", Some("10.96.0.1"))]
    #[case::expanded(
        json!({"env": [{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "C", "value": "$(B):$(A)"}]}),
        "C", Some("10.1.1.1:image")
    )]
    #[case::earlier_sees_no_later(
        json!({"env": [{"name": "C", "value": "$(B)"}, {"name": "B", "value": "1"}]}), "C", Some("$(B)")
    )]
    #[case::whole_map(json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "there"}}]}), "P_KEY", Some("from map"))]
    #[case::secret_key(
        json!({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "KEY"}}}]}), "S", Some("from map")
    )]
    #[case::optional_and_missing(
        json!({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "K", "optional": true}}}]}), "S", None
    )]
    fn values_come_from_where_they_should(
        #[case] container: Value,
        #[case] name: &str,
        #[case] expected: Option<&str>,
    ) {
        let env = of(container).expect("an environment");
        assert_eq!(env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()), expected);
    }

    #[rstest]
    #[case(json!({"envFrom": [{"configMapRef": {"name": "gone"}}]}), "configmap \"gone\" not found")]
    #[case(
        json!({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "NO"}}}]}),
        "couldn't find key NO in Secret ns/hidden"
    )]
    fn what_is_missing_is_named(#[case] container: Value, #[case] message: &str) {
        assert_eq!(of(container), Err(message.into()));
    }
}
