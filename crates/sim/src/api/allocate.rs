//! Service addresses and node ports: which are taken, and the next free ones.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::status::FieldError;

/// Addresses below this offset are for those who ask for one by name (the API, cluster DNS).
const STATIC_BAND: u128 = 256;
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

#[derive(Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u16>,
    /// Counts up, so that an address is not reused at once.
    next: u128,
}

/// The allocations of a cluster.
pub(crate) struct Allocator {
    cidrs: Vec<IpNet>,
    taken: Mutex<Taken>,
}

/// The address of the `kubernetes` Service in a range.
pub(crate) fn first_address(cidr: IpNet) -> Option<IpAddr> {
    nth(cidr, 1)
}

fn nth(cidr: IpNet, offset: u128) -> Option<IpAddr> {
    let address = match cidr.network() {
        IpAddr::V4(network) => {
            IpAddr::V4(Ipv4Addr::from_bits(network.to_bits().checked_add(u32::try_from(offset).ok()?)?))
        }
        IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits().checked_add(offset)?)),
    };
    cidr.contains(&address).then_some(address)
}

fn size(cidr: IpNet) -> u128 {
    1_u128 << (u32::from(cidr.max_prefix_len()) - u32::from(cidr.prefix_len())).min(100)
}

fn family(cidr: &IpNet) -> &'static str {
    if matches!(cidr, IpNet::V4(_)) { "IPv4" } else { "IPv6" }
}

impl Allocator {
    pub(crate) fn new(cidrs: Vec<IpNet>) -> Self {
        Self { cidrs, taken: Mutex::default() }
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn api_address(&self) -> Option<IpAddr> {
        first_address(*self.cidrs.first()?)
    }

    /// Gives a Service the addresses, families and node ports it has not named itself. `before`: the Service until now.
    pub(crate) fn assign(&self, service: &mut Value, before: Option<&Value>) -> Result<(), FieldError> {
        if service["spec"]["type"] == "ExternalName" {
            return Ok(());
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.families(&mut service["spec"])?;
        self.addresses(&mut taken, &mut service["spec"], before.map(|before| &before["spec"]))?;
        node_ports(&mut taken, &mut service["spec"], before.map(|before| &before["spec"]))
    }

    /// Which ranges a Service is of.
    fn families(&self, spec: &mut Value) -> Result<(), FieldError> {
        let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack").to_owned();
        let given: Vec<String> =
            spec["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        for wanted in &given {
            if !self.cidrs.iter().any(|cidr| family(cidr) == wanted) {
                return Err(FieldError::invalid(
                    "spec.ipFamilies[0]",
                    &json!(wanted),
                    "not configured on this cluster",
                ));
            }
        }
        if policy == "RequireDualStack" && self.cidrs.len() < 2 {
            return Err(FieldError::invalid(
                "spec.ipFamilyPolicy",
                &json!(policy),
                "this cluster is not configured for dual-stack services",
            ));
        }
        let explicit = spec["clusterIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
        let mut families = given;
        if let (true, Some(ip)) = (families.is_empty(), explicit) {
            families.push(if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned());
        }
        let count = if policy == "SingleStack" { 1 } else { self.cidrs.len() };
        for cidr in &self.cidrs {
            if families.len() < count && !families.iter().any(|f| f == family(cidr)) {
                families.push(family(cidr).to_owned());
            }
        }
        spec["ipFamilies"] = families.into();
        spec["ipFamilyPolicy"] = policy.into();
        Ok(())
    }

    fn addresses(&self, taken: &mut Taken, spec: &mut Value, before: Option<&Value>) -> Result<(), FieldError> {
        if spec["clusterIP"] == "None" {
            spec["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let families: Vec<String> =
            spec["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut chosen: Vec<IpAddr> = Vec::new();
        for (index, family_name) in families.iter().enumerate() {
            let wanted = if index == 0 { spec["clusterIP"].as_str() } else { None };
            let wanted = wanted.filter(|w| !w.is_empty()).or_else(|| spec["clusterIPs"][index].as_str());
            let kept = before.and_then(|before| before["clusterIPs"][index].as_str());
            let address = match wanted.or(kept).filter(|text| *text != "None") {
                Some(text) => {
                    let field = format!("spec.clusterIPs[{index}]");
                    let address: IpAddr = text
                        .parse()
                        .map_err(|_| FieldError::invalid(&field, &json!(text), "must be a valid IP address"))?;
                    if !self.cidrs.iter().any(|cidr| cidr.contains(&address)) {
                        let ranges: Vec<_> = self.cidrs.iter().map(ToString::to_string).collect();
                        let why = format!(
                            "failed to allocate IP {address}: the provided IP is not in the valid range ({})",
                            ranges.join(", ")
                        );
                        return Err(FieldError::invalid(&field, &json!(text), &why));
                    }
                    if kept != Some(text) && !taken.addresses.insert(address) {
                        let why = format!("failed to allocate IP {address}: provided IP is already allocated");
                        return Err(FieldError::invalid(&field, &json!(text), &why));
                    }
                    address
                }
                None => self.free_address(taken, family_name).ok_or_else(|| {
                    FieldError::invalid("spec.clusterIPs", &json!([]), "failed to allocate a serviceIP: range is full")
                })?,
            };
            chosen.push(address);
        }
        if let Some(first) = chosen.first() {
            spec["clusterIP"] = first.to_string().into();
        }
        spec["clusterIPs"] = chosen.iter().map(ToString::to_string).collect();
        Ok(())
    }

    fn free_address(&self, taken: &mut Taken, wanted: &str) -> Option<IpAddr> {
        let cidr = *self.cidrs.iter().find(|cidr| family(cidr) == wanted)?;
        let size = size(cidr);
        // A small range has no room for a band of its own.
        let low = if size > 2 * STATIC_BAND { STATIC_BAND } else { 2 };
        let span = size.checked_sub(low + 1).filter(|&span| span > 0)?;
        for _ in 0..span.min(1 << 16) {
            let offset = low + taken.next % span;
            taken.next += 1;
            let address = nth(cidr, offset)?;
            if taken.addresses.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// Takes back what a removed Service had.
    pub(crate) fn release(&self, service: &Value) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = &service["spec"];
        for text in spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Ok(address) = text.parse() {
                taken.addresses.remove(&address);
            }
        }
        for port in spec["ports"].as_array().into_iter().flatten() {
            if let Some(port) = port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()) {
                taken.ports.remove(&port);
            }
        }
    }
}

fn node_ports(taken: &mut Taken, spec: &mut Value, before: Option<&Value>) -> Result<(), FieldError> {
    let wants = matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    let Some(ports) = spec["ports"].as_array_mut().filter(|_| wants) else { return Ok(()) };
    for (index, port) in ports.iter_mut().enumerate() {
        let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        let kept = before.and_then(|before| before["ports"].as_array()).and_then(|ports| ports.iter().find(same));
        let kept = kept.map(|kept| kept["nodePort"].clone()).filter(|kept| kept.as_u64().is_some_and(|n| n > 0));
        let given = port["nodePort"].as_u64().filter(|&n| n > 0);
        let number = match (given, kept) {
            (Some(given), Some(kept)) if kept == given => continue,
            (None, Some(kept)) => {
                port["nodePort"] = kept;
                continue;
            }
            (Some(given), _) => {
                let field = format!("spec.ports[{index}].nodePort");
                let number = u16::try_from(given).ok().filter(|n| NODE_PORTS.contains(n)).ok_or_else(|| {
                    FieldError::invalid(
                        &field,
                        &json!(given),
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    )
                })?;
                if !taken.ports.insert(number) {
                    return Err(FieldError::invalid(&field, &json!(given), "provided port is already allocated"));
                }
                number
            }
            (None, None) => NODE_PORTS.into_iter().find(|n| taken.ports.insert(*n)).ok_or_else(|| {
                FieldError::invalid("spec.ports", &json!([]), "failed to allocate a nodePort: range is full")
            })?,
        };
        port["nodePort"] = number.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual() -> Allocator {
        let cidrs = ["10.96.0.0/16", "fd00:10:96::/112"].map(|cidr| cidr.parse().expect("a range"));
        Allocator::new(cidrs.to_vec())
    }

    #[test]
    fn addresses_are_given_kept_and_taken_back() {
        let allocator = dual();
        let mut service = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "NodePort"}});
        allocator.assign(&mut service, None).expect("room");
        assert_eq!(service["spec"]["clusterIP"], "10.96.1.0");
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
        assert_eq!(service["spec"]["ports"][0]["nodePort"], 30000);
        let mut update = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "NodePort"}});
        allocator.assign(&mut update, Some(&service)).expect("kept");
        assert_eq!(update["spec"]["clusterIP"], "10.96.1.0");
        assert_eq!(update["spec"]["ports"][0]["nodePort"], 30000);
        let mut same = json!({"spec": {"clusterIP": "10.96.1.0"}});
        let error = allocator.assign(&mut same, None).expect_err("taken");
        assert!(error.message.contains("already allocated"), "{}", error.message);
        allocator.release(&service);
        allocator.assign(&mut same, None).expect("free again");
    }

    #[test]
    fn dual_stack_and_headless() {
        let allocator = dual();
        let mut service = json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}});
        allocator.assign(&mut service, None).expect("room");
        assert_eq!(service["spec"]["clusterIPs"].as_array().map(Vec::len), Some(2));
        let mut headless = json!({"spec": {"clusterIP": "None"}});
        allocator.assign(&mut headless, None).expect("nothing to give");
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let mut six = json!({"spec": {"ipFamilies": ["IPv6"]}});
        allocator.assign(&mut six, None).expect("room");
        assert!(six["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("fd00:10:96::")));
    }
}
