//! Listeners of the sidecar that the mesh's configuration puts elsewhere.
//!
//! In init mode connect-init reads them from the proxy's registration. A CNI plugin knows nothing but the Pod's annotation,
//! so that they are written there.

use crate::Surroundings;
use crate::reader::Reader;
use crate::surroundings::ProxyConfig;
use redirect::contract::PROXY_CONFIG_MAP;

/// Ports that differ from the usual ones, or come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listeners {
    /// Where inbound connections go.
    pub(crate) inbound: Option<u16>,
    /// Where outbound connections go.
    pub(crate) outbound: Option<u16>,
    /// Envoy's own statistics, which are scraped past the proxy.
    pub(crate) statistics: Option<u16>,
}

/// The Pod's own configuration of its proxy. What cannot be read is passed over, as the control plane does.
pub(crate) fn own_config(reader: &Reader<'_>) -> Option<ProxyConfig> {
    serde_json::from_str(reader.filled(PROXY_CONFIG_MAP)?).ok()
}

/// What applies to one Pod: its own configuration before the mesh's, its service's before the one for all.
pub(crate) fn of_pod(own: Option<&ProxyConfig>, service: Option<&str>, surroundings: &Surroundings) -> Listeners {
    let mesh = &surroundings.proxy_defaults;
    let service = service.and_then(|name| surroundings.service_defaults.get(name));
    let given = |port: u16| Some(port).filter(|port| *port > 0);
    let statistics =
        |config: &ProxyConfig| config.envoy_stats_bind_addr.rsplit_once(':')?.1.parse().ok().and_then(given);
    Listeners {
        inbound: own.and_then(|own| given(own.bind_port)).or_else(|| given(mesh.config.bind_port)),
        outbound: service
            .and_then(|service| given(service.transparent_proxy.outbound_listener_port))
            .or_else(|| given(mesh.transparent_proxy.outbound_listener_port)),
        statistics: own.and_then(statistics).or_else(|| statistics(&mesh.config)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::{ListenerPorts, ProxyDefaults, ServiceDefaults};
    use rstest::rstest;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn config(bind_port: u16, statistics: &str) -> ProxyConfig {
        ProxyConfig { bind_port, envoy_stats_bind_addr: statistics.to_owned() }
    }

    #[rstest]
    #[case::nothing_of_its_own(None, None, (Some(20001), Some(15011), Some(9901)))]
    #[case::own(Some(config(20002, "0.0.0.0:9902")), None, (Some(20002), Some(15011), Some(9902)))]
    #[case::own_is_silent(Some(config(0, "")), Some("api"), (Some(20001), Some(15011), Some(9901)))]
    #[case::service(None, Some("web"), (Some(20001), Some(15012), Some(9901)))]
    #[case::unreadable(Some(config(0, "9902")), None, (Some(20001), Some(15011), Some(9901)))]
    fn the_nearest_counts(
        #[case] own: Option<ProxyConfig>,
        #[case] service: Option<&str>,
        #[case] (inbound, outbound, statistics): (Option<u16>, Option<u16>, Option<u16>),
    ) {
        let ports = |outbound_listener_port| ListenerPorts { outbound_listener_port };
        let proxy_defaults = ProxyDefaults {
            config: config(20001, "[::]:9901"),
            transparent_proxy: ports(15011),
            ..ProxyDefaults::default()
        };
        let web = ServiceDefaults { transparent_proxy: ports(15012) };
        let surroundings = Surroundings {
            proxy_defaults: Arc::new(proxy_defaults),
            service_defaults: Arc::new(HashMap::from([("web".to_owned(), web)])),
            ..Surroundings::default()
        };
        assert_eq!(of_pod(own.as_ref(), service, &surroundings), Listeners { inbound, outbound, statistics });
    }

    #[test]
    fn nothing_is_said() {
        assert_eq!(of_pod(None, Some("web"), &Surroundings::default()), Listeners::default());
    }
}
