//! E11: the rules in a Pod's network, held against what the Pod's own settings demand.
//!
//! What is demanded is computed here from the annotations and probes that the *step* gave the workload, the documented
//! defaults and the mesh's settings. What the webhook wrote is not looked at: a webhook that writes the wrong list and
//! an init container that follows it would agree with each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use redirect::{Config, Policy, Safeguard, contract, parse};

use crate::bed::{Bed, RuleDump};
use crate::pods::PodRef;
use crate::settings::Settings;
use crate::vocabulary::parameters::Rules;
use crate::workload::{Probe, ProbeAction, ProbeKind, Workload};
use crate::world::World;

/// Holds the rules of every Pod of a workload (or of the one that the step names) against an expectation. Those of a workload
/// that was merely submitted may still come.
pub(crate) async fn judge(world: &mut World, name: &str, expected: Rules) -> Result<()> {
    world.instance(name)?;
    let bed = world.bed().await?;
    let workload = world.spec(name)?;
    let mut patience = Duration::ZERO;
    if !world.is_submitted(&workload.key()) {
        world.await_workload(&workload.key()).await?;
    } else if matches!(expected, Rules::InPlace | Rules::FreeOfDuplicates) {
        patience = bed.timing().ready;
    }
    let deadline = Instant::now() + patience;
    let proven = loop {
        match look(world, &bed, name, &workload, expected).await {
            Ok(proven) => break proven,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => bed.pods().changed(Duration::from_millis(200)).await,
        }
    };
    for what in proven {
        world.proven += 1;
        world.timeline.note(what);
    }
    Ok(())
}

/// What is proven by the rules as they are now.
async fn look(
    world: &mut World,
    bed: &Arc<dyn Bed>,
    name: &str,
    workload: &Workload,
    expected: Rules,
) -> Result<Vec<String>> {
    let pods = world.pods(name).await?;
    if pods.is_empty() {
        // a Pod that admission refused has no network and no rules
        return match expected {
            Rules::Absent | Rules::CompleteOrAbsent => Ok(vec![format!("{workload} has no Pod, so no rules")]),
            _ => bail!("look at the rules of {workload}: there is no Pod"),
        };
    }
    let mut proven = Vec::new();
    for pod in pods {
        let demanded = demand(workload, &world.settings, node_addresses(bed, &pod, world.settings.is_cni()?))?;
        let dump = bed.rules(&pod).await?;
        if let Some(dump) = &dump {
            write(world, &pod, dump);
        }
        compare(world, &pod, &dump.unwrap_or_default(), &demanded, expected)?;
        proven.push(format!("proven: the redirect rules of {} are {expected}", pod.host()));
    }
    Ok(proven)
}

fn write(world: &World, pod: &PodRef, dump: &RuleDump) {
    world.folder.write(&format!("rules/{}_{}", pod.namespace, pod.name), &dump.join("\n"));
}

fn compare(world: &World, pod: &PodRef, found: &RuleDump, demanded: &Policy, expected: Rules) -> Result<()> {
    let backend = world.settings.backend()?;
    let wanted: RuleDump = redirect::kernel::demanded(backend, demanded).iter().map(ToString::to_string).collect();
    let absent = found.is_empty();
    let differences = difference(&wanted, found);
    let host = pod.host();
    match expected {
        Rules::Absent if absent => Ok(()),
        Rules::Absent => bail!("expected no redirect rules in {host}; there are:\n  {}", found.join("\n  ")),
        Rules::InPlace if differences.is_empty() => Ok(()),
        Rules::InPlace => {
            bail!("expected the redirect rules of {host} to be in place:\n  {}", differences.join("\n  "))
        }
        Rules::CompleteOrAbsent if absent || differences.is_empty() => Ok(()),
        Rules::CompleteOrAbsent => {
            bail!("expected the redirect rules of {host} to be complete or absent:\n  {}", differences.join("\n  "))
        }
        Rules::FreeOfDuplicates => {
            let mut seen = std::collections::BTreeSet::new();
            if let Some(twice) = found.iter().find(|line| !seen.insert(*line)) {
                bail!("expected no rule of {host} twice; there is: {twice}");
            }
            if absent { bail!("look for duplicates among the rules of {host}: there are none at all") } else { Ok(()) }
        }
        Rules::Unchanged => {
            let before = world.rules.get(&host).with_context(|| format!("find earlier rules of {host}"))?;
            let changed = difference(before, found);
            if changed.is_empty() {
                Ok(())
            } else {
                bail!("expected the redirect rules of {host} to be unchanged:\n  {}", changed.join("\n  "))
            }
        }
    }
}

/// Lines that are missing, that are too many, or that are in the wrong place.
fn difference(wanted: &[String], found: &[String]) -> Vec<String> {
    let mut differences: Vec<String> =
        wanted.iter().filter(|line| !found.contains(line)).map(|line| format!("missing: {line}")).collect();
    differences.extend(found.iter().filter(|line| !wanted.contains(line)).map(|line| format!("beyond that: {line}")));
    if differences.is_empty() && wanted != found {
        let at = wanted.iter().zip(found).find(|(a, b)| a != b);
        differences.push(match at {
            Some((a, b)) => format!("{b} stands where {a} should"),
            None => format!("{} lines instead of {}", found.len(), wanted.len()),
        });
    }
    differences
}

fn truth(workload: &Workload, key: &str, default: bool) -> Result<bool> {
    match workload.annotation(key) {
        None => Ok(default),
        Some(text) => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => bail!("read the annotation {key} of {workload}: {text:?} is no truth value"),
        },
    }
}

fn list<T: ToString>(
    workload: &Workload,
    key: &str,
    read: fn(&str) -> Result<Vec<T>, Vec<parse::Mistake>>,
) -> Vec<String> {
    // a list that cannot be read demands nothing: such a Pod is refused, and has no rules that could be complete
    let values = workload.annotation(key).and_then(|text| read(text).ok()).unwrap_or_default();
    values.iter().map(ToString::to_string).collect()
}

/// Where a Pod's probes come from, by its status: the first address of its node. The gateway of the Pod's network is a link-local
/// address that nobody has. The CNI plugin finds the node's address of each family that the Pod has.
fn node_addresses(bed: &Arc<dyn Bed>, pod: &PodRef, is_cni: bool) -> Vec<String> {
    let status =
        bed.at(pod.at()).pods().get(&pod.namespace, &pod.name).and_then(|pod| pod.status.clone()).unwrap_or_default();
    match is_cni {
        true => status.host_ips.into_iter().flatten().map(|address| address.ip).collect(),
        false => status.host_ip.into_iter().collect(),
    }
}

/// Whether a list of ports has this one.
fn has(ports: &[String], port: u16) -> bool {
    ports.iter().any(|entry| parse::ports(entry).is_ok_and(|ranges| ranges.iter().any(|range| range.contains(port))))
}

/// Ports that probes must reach by themselves, as the first container has them, and then an init container that goes on: all but
/// those of HTTP that are overwritten. `open` are reached by everybody.
fn probe_ports(workload: &Workload, open: &[String], overwritten: bool) -> Vec<String> {
    let ports = |probes: &[Probe], overwritten: bool| -> Vec<u16> {
        let of = |kind| probes.iter().filter(move |probe| probe.kind == kind);
        let order = [ProbeKind::Liveness, ProbeKind::Readiness, ProbeKind::Startup];
        let direct = order.into_iter().flat_map(of).filter_map(|probe| match &probe.action {
            ProbeAction::Http(..) if overwritten => None,
            ProbeAction::Exec(_) => None,
            ProbeAction::Http(port, _) | ProbeAction::Https(port, _) => Some(*port),
            ProbeAction::Tcp(port) | ProbeAction::Grpc(port) => Some(*port),
        });
        direct.collect()
    };
    let mut all = ports(&workload.probes, overwritten);
    all.extend(workload.init_sidecar.iter().flat_map(|sidecar| ports(&sidecar.probes, false)));
    all.into_iter().filter(|port| !has(open, *port)).map(|port| port.to_string()).collect()
}

/// What the documentation says the rules of a workload's Pods must be, on a node with these addresses.
pub(crate) fn demand(workload: &Workload, settings: &Settings, node: Vec<String>) -> Result<Policy> {
    let mut inbound: Vec<String> = Vec::new();
    if truth(workload, contract::ENABLE_METRICS, settings.flag("global.metrics.enabled", false)?)? {
        inbound.push(contract::PROMETHEUS_SCRAPE_PORT.to_string());
    }
    if truth(workload, contract::USE_PROXY_HEALTH_CHECK, false)? {
        inbound.push(contract::PROXY_HEALTH_PORT.to_string());
    }
    let open = list(workload, contract::EXCLUDE_INBOUND_PORTS, parse::ports);
    let mut probed = Vec::new();
    if truth(workload, contract::OVERWRITE_PROBES, settings.overwrite_probes()?)? {
        // one HTTP probe that stays as it is keeps those beside it
        let overwritten = !workload.probes.iter().any(|probe| match &probe.action {
            ProbeAction::Https(..) => true,
            ProbeAction::Http(port, _) => has(&open, *port),
            _ => false,
        });
        probed = probe_ports(workload, &open, overwritten);
        // probes belong to the first container, whose index is 0
        let order = [
            (ProbeKind::Liveness, contract::LIVENESS_PORT_BASE),
            (ProbeKind::Readiness, contract::READINESS_PORT_BASE),
            (ProbeKind::Startup, contract::STARTUP_PORT_BASE),
        ];
        for (kind, port) in order {
            let is_http = |p: &Probe| p.kind == kind && matches!(p.action, ProbeAction::Http(..));
            if overwritten && workload.probes.iter().any(is_http) {
                inbound.push(port.to_string());
            }
        }
    }
    inbound.extend(open);
    let mut uids = vec![contract::INIT_UID.to_string()];
    uids.extend(list(workload, contract::EXCLUDE_UIDS, parse::ids));
    let dual = settings.redirects_ipv6()?;
    let dns = truth(workload, contract::CONSUL_DNS, settings.consul_dns()?)?;
    let config = Config {
        consul_dns_ip: match (dns, dual) {
            (false, _) => String::new(),
            (true, false) => "127.0.0.1".to_owned(),
            (true, true) => "::1".to_owned(),
        },
        consul_dns_port: if dns { i64::from(contract::CONSUL_DNS_PORT) } else { 0 },
        proxy_user_id: contract::PROXY_UID.to_string(),
        proxy_inbound_port: i64::from(contract::INBOUND_PORT),
        proxy_outbound_port: i64::from(contract::OUTBOUND_PORT),
        exclude_inbound_ports: inbound,
        exclude_outbound_ports: list(workload, contract::EXCLUDE_OUTBOUND_PORTS, parse::ports),
        exclude_outbound_cidrs: list(workload, contract::EXCLUDE_OUTBOUND_CIDRS, parse::cidrs),
        exclude_uids: uids,
        exclude_gids: list(workload, contract::EXCLUDE_GIDS, parse::ids),
        safeguards: list(workload, contract::SAFEGUARDS, Safeguard::list),
        probe_sources: if probed.is_empty() { Vec::new() } else { node },
        probe_ports: probed,
        proof: settings.is_cni()?,
        // the plugin knows the proxy's group, and counts what others send as its user
        proxy_group_id: if settings.is_cni()? { contract::PROXY_UID.to_string() } else { String::new() },
        net_ns: String::new(),
    };
    Policy::from_config(&config, dual).with_context(|| format!("say what the rules of {workload} must be"))
}

#[cfg(test)]
mod tests {
    use redirect::{IdRange, PortRange};

    use super::*;
    use crate::workload::fixture;

    fn with(rows: &[(&str, &str)]) -> Workload {
        let mut workload = fixture("static-server");
        let rows: Vec<_> = rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        workload.apply(&rows).expect("good rows");
        workload
    }

    #[test]
    fn lists_and_overwritten_probes_are_exclusions() {
        let workload = with(&[
            ("annotation transparent-proxy-exclude-inbound-ports", "8200, 8201"),
            ("annotation transparent-proxy-exclude-uids", "4444"),
            ("probe readiness", "http 8080 /healthz"),
        ]);
        let policy = demand(&workload, &Settings::default(), Vec::new()).expect("a policy");
        assert_eq!(policy.exclude_inbound_ports(), [20400, 8200, 8201].map(PortRange::from));
        assert_eq!(policy.exclude_uids(), [5996, 4444].map(IdRange::from));
    }

    #[test]
    fn probes_that_are_not_overwritten_are_no_exclusions() {
        let workload = with(&[
            ("annotation transparent-proxy-overwrite-probes", "false"),
            ("probe readiness", "http 8080 /healthz"),
        ]);
        assert!(
            demand(&workload, &Settings::default(), Vec::new()).expect("a policy").exclude_inbound_ports().is_empty()
        );
    }

    #[test]
    fn probes_that_the_proxy_cannot_stand_in_for_are_the_nodes() {
        let workload = with(&[
            ("annotation transparent-proxy-exclude-inbound-ports", "9000:9001"),
            ("probe liveness", "https 8443 /healthz"),
            ("probe readiness", "http 8080 /healthz"),
            ("probe startup", "grpc 9001"),
            ("init sidecar probe startup", "http 8081 /healthz"),
        ]);
        let policy = demand(&workload, &Settings::default(), vec!["10.0.0.1".to_owned()]).expect("a policy");
        assert_eq!(policy.probe_ports(), [8443, 8080, 8081].map(PortRange::from));
        assert_eq!(policy.probe_sources(), ["10.0.0.1/32".parse().expect("a block")]);
        assert_eq!(policy.exclude_inbound_ports(), [PortRange::new(9000, 9001).expect("a range")]);
    }

    #[test]
    fn differences_name_the_rule() {
        let lines = |text: &[&str]| text.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let found = difference(&lines(&["a", "b"]), &lines(&["a", "c"]));
        assert_eq!(found, ["missing: b", "beyond that: c"]);
        assert_eq!(difference(&lines(&["a", "b"]), &lines(&["b", "a"])).len(), 1);
    }
}
