//! From what the kubelet knows to `status`, and its way to the API server.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::state::{Role, Slot, State};

/// Whether each condition of the Pod holds.
fn holds(state: &State, pod: &Pod) -> [(&'static str, bool); 5] {
    let phase = state.phase();
    let serving = |slot: &&Slot| matches!(slot.role, Role::Main | Role::Sidecar);
    let containers =
        phase == "Running" && state.initialized && state.slots.iter().filter(serving).all(|slot| slot.ready);
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let met = |gate: &str| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == gate && condition.status == "True")
    };
    let gated = gates.into_iter().all(|gate| met(&gate.condition_type));
    [
        ("PodScheduled", true),
        ("PodReadyToStartContainers", !state.pod_ips.is_empty()),
        ("Initialized", state.initialized),
        ("ContainersReady", containers),
        ("Ready", containers && gated),
    ]
}

/// Notes when conditions change; before [`status`].
pub(super) fn note_conditions(state: &mut State, pod: &Pod) {
    for (kind, holds) in holds(state, pod) {
        let before = state.conditions.get(kind).map(|(held, _)| *held);
        if before != Some(holds) {
            state.conditions.insert(kind, (holds, Time(Timestamp::now())));
        }
    }
}

/// The status to publish.
pub(super) fn status(state: &State, pod: &Pod, host_ips: &[IpAddr]) -> PodStatus {
    let ip = |address: &IpAddr| address.to_string();
    let statuses = |roles: &[Role]| {
        let slots = state.slots.iter().filter(|slot| roles.contains(&slot.role));
        let list: Vec<_> = slots.map(container_status).collect();
        (!list.is_empty()).then_some(list)
    };
    PodStatus {
        phase: Some(state.phase().into()),
        reason: state.failed.as_ref().map(|(reason, _)| reason.clone()),
        message: state.failed.as_ref().map(|(_, message)| message.clone()),
        start_time: state.start_time.clone(),
        host_ip: host_ips.first().map(ip),
        host_ips: Some(host_ips.iter().map(|address| HostIP { ip: address.to_string() }).collect()),
        pod_ip: state.pod_ips.first().map(ip),
        pod_ips: (!state.pod_ips.is_empty())
            .then(|| state.pod_ips.iter().map(|address| PodIP { ip: address.to_string() }).collect()),
        conditions: Some(conditions(state, pod)),
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        container_statuses: statuses(&[Role::Main]),
        ephemeral_container_statuses: statuses(&[Role::Ephemeral]),
        qos_class: pod.status.as_ref().and_then(|status| status.qos_class.clone()).or(Some("BestEffort".into())),
        ..PodStatus::default()
    }
}

fn conditions(state: &State, pod: &Pod) -> Vec<PodCondition> {
    let theirs = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut all: Vec<PodCondition> =
        theirs.filter(|condition| !state.conditions.contains_key(condition.type_.as_str())).cloned().collect();
    for (kind, (holds, since)) in &state.conditions {
        let why = (!holds).then(|| why_not(state, kind));
        all.push(PodCondition {
            type_: (*kind).into(),
            status: if *holds { "True" } else { "False" }.into(),
            last_transition_time: Some(since.clone()),
            reason: why.as_ref().map(|(reason, _)| (*reason).into()),
            message: why.map(|(_, message)| message).filter(|message| !message.is_empty()),
            ..PodCondition::default()
        });
    }
    all
}

fn why_not(state: &State, kind: &str) -> (&'static str, String) {
    let names = |roles: &[Role], missing: fn(&Slot) -> bool| {
        let slots = state.slots.iter().filter(|slot| roles.contains(&slot.role) && missing(slot));
        slots.map(Slot::name).collect::<Vec<_>>().join(" ")
    };
    match (kind, state.phase()) {
        ("Ready" | "ContainersReady", "Succeeded") => ("PodCompleted", String::new()),
        ("Ready" | "ContainersReady", "Failed") => ("PodFailed", String::new()),
        ("Initialized", _) => {
            let list = names(&[Role::Init, Role::Sidecar], |slot| slot.exit_code() != Some(0) && !slot.started);
            ("ContainersNotInitialized", format!("containers with incomplete status: [{list}]"))
        }
        ("Ready" | "ContainersReady", _) => {
            let list = names(&[Role::Main, Role::Sidecar], |slot| !slot.ready);
            match list.as_str() {
                "" => ("ReadinessGatesNotReady", "the status of pod readiness gate is not \"True\"".into()),
                list => ("ContainersNotReady", format!("containers with unready status: [{list}]")),
            }
        }
        _ => ("NotYet", String::new()),
    }
}

fn container_status(slot: &Slot) -> ContainerStatus {
    let image = slot.spec.image.clone().unwrap_or_default();
    let done = slot.role == Role::Init && slot.exit_code() == Some(0);
    ContainerStatus {
        name: slot.spec.name.clone(),
        image_id: if slot.id.is_some() { format!("sim://{image}") } else { String::new() },
        image,
        container_id: slot.id.clone(),
        state: Some(slot.state.clone()),
        last_state: slot.last.clone(),
        restart_count: slot.restarts,
        started: Some(slot.started),
        ready: slot.ready || done,
        user: slot.user.clone(),
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {
                "initContainers": [{"name": "first"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "app"}],
            },
            "status": {"conditions": [{"type": "example.com/own", "status": "True"}]},
        }))
        .expect("a pod")
    }

    fn condition(state: &mut State, kind: &str) -> (String, Option<String>) {
        let pod = pod();
        note_conditions(state, &pod);
        let all = status(state, &pod, &[]).conditions.expect("conditions");
        let found = all.into_iter().find(|condition| condition.type_ == kind).expect("the condition");
        (found.status, found.message)
    }

    #[test]
    fn a_pod_goes_from_pending_over_running_to_succeeded() {
        let mut state = State::new(&pod());
        assert_eq!(state.phase(), "Pending");
        let message = Some("containers with incomplete status: [first proxy]".into());
        assert_eq!(condition(&mut state, "Initialized"), ("False".into(), message));
        state.slots[0].end(0, "Completed", None);
        state.slots[0].over = true;
        state.initialized = true;
        for slot in &mut state.slots[1..] {
            slot.state = serde_json::from_value(json!({"running": {}})).expect("a state");
            slot.ready = true;
        }
        assert_eq!(state.phase(), "Running");
        assert_eq!(condition(&mut state, "Ready").0, "True");
        state.slots[1].ready = false;
        let message = Some("containers with unready status: [proxy]".into());
        assert_eq!(condition(&mut state, "Ready"), ("False".into(), message));
        state.slots[2].end(0, "Completed", None);
        state.slots[2].over = true;
        assert_eq!(state.phase(), "Succeeded");
    }

    #[test]
    fn conditions_of_others_are_kept() {
        assert_eq!(condition(&mut State::new(&pod()), "example.com/own").0, "True");
    }

    #[test]
    fn an_init_container_that_fails_for_good_fails_the_pod() {
        let mut state = State::new(&pod());
        state.slots[0].end(1, "Error", None);
        assert_eq!(state.phase(), "Pending");
        state.slots[0].over = true;
        assert_eq!(state.phase(), "Failed");
    }
}
