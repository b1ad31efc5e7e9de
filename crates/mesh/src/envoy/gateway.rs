//! A mesh gateway: passes connections on by the server name that they ask for, and never sees what is in them.

use serde_json::{Value, json};

use super::{Resources, bind, cluster, tcp_proxy, tls, typed};
use crate::chain::Target;
use crate::names::Names;
use crate::peering;
use crate::place::Place;
use crate::registration::Instance;
use crate::world::World;

/// Name of the listener, before its address.
const LISTENER: &str = "default";

/// A chain for who asks for exactly this name.
fn exact(asked: &str, label: &str, cluster: &str) -> Value {
    json!({
        "filter_chain_match": {"server_names": [asked]},
        "filters": [tcp_proxy(&format!("mesh_gateway_peered.{label}"), cluster)],
    })
}

pub(super) fn render(world: &World, instance: &Instance, resources: &mut Resources) {
    let mut chains: Vec<Value> = Vec::new();
    for (datacenter, abroad) in &*world.abroad {
        let name = world.names.at(&Place::Datacenter(datacenter.clone())).gateway_sni();
        cluster::passed_on(&name, &abroad.gateways, resources);
        chains.push(json!({
            "filter_chain_match": {"server_names": [format!("*.{name}")]},
            "filters": [tcp_proxy(&format!("mesh_gateway_remote.{datacenter}"), &name)],
        }));
    }
    for (partition, told) in &*world.partitions {
        let name = world.names.in_partition(partition).gateway_sni();
        cluster::passed_on(&name, &told.gateways, resources);
        chains.push(json!({
            "filter_chain_match": {"server_names": [format!("*.{name}")]},
            "filters": [tcp_proxy(&format!("mesh_gateway_remote.{partition}"), &name)],
        }));
    }
    for (peer, told) in &*world.peers {
        for service in peering::exports(world, peer) {
            let target = Target { service: service.clone(), subset: None, place: Place::Here };
            let cluster = format!("exported~{}", world.names.sni(&service, None));
            cluster::passed_on(&cluster, &cluster::healthy(cluster::selected(world, &target)), resources);
            let asked = Names::peer_sni(&service, world.names.partition(), peer, world.names.trust_domain());
            chains.push(exact(&asked, &format!("exported.{service}.{peer}"), &cluster));
        }
        for service in told.services.keys() {
            let asked = Names::peer_sni(service, &told.partition, &told.your_name, &told.trust_domain);
            cluster::passed_on(&asked, &told.gateways, resources);
            chains.push(exact(&asked, &format!("imported.{service}.{peer}"), &asked));
        }
    }
    for service in world.catalog.services() {
        cluster::passed_on_to(world, service, resources);
    }
    // whatever is left is for a service here: its cluster has the name that is asked for
    let by_name = json!({
        "name": "envoy.filters.network.sni_cluster",
        "typed_config": {"@type": typed!("extensions.filters.network.sni_cluster.v3.SniCluster")},
    });
    chains.push(json!({"filters": [by_name, tcp_proxy("mesh_gateway_local", "")]}));
    let mut body = json!({"listener_filters": [tls::inspector()], "filter_chains": chains});
    let address = bind(&mut body, instance.addresses(), instance.proxy_port);
    resources.listener(format!("{LISTENER}:{address}"), body);
}
