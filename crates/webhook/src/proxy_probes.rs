//! How the kubelet asks the sidecar whether it is up.

use crate::intent::Intent;
use crate::services::Instance;
use crate::settings::NativeSidecar;
use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use redirect::contract::{INBOUND_PORT, PROXY_HEALTH_PORT};

/// The sidecar's own check of its Envoy, in its image.
const CHECK: [&str; 2] = ["/usr/local/bin/consul-dataplane", "-check-proxy-health"];

/// The probes of a sidecar.
pub(crate) struct Probes {
    pub(crate) readiness: Probe,
    pub(crate) startup: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
}

/// Startup and liveness are only there where a time is given; a native sidecar always has a startup probe, because the init
/// containers behind it wait for that.
pub(crate) fn of(intent: &Intent, service: &Instance) -> Probes {
    let handler = handler(intent, service);
    let failing_for = |seconds: u32| {
        (seconds > 0).then(|| Probe {
            period_seconds: Some(1),
            failure_threshold: Some(positive(seconds)),
            ..handler.clone()
        })
    };
    let (startup, liveness) = match &intent.native {
        Some(native) => (Some(check(native)), None),
        None => (failing_for(intent.startup_failure_seconds), failing_for(intent.liveness_failure_seconds)),
    };
    Probes { readiness: Probe { initial_delay_seconds: Some(1), ..handler }, startup, liveness }
}

fn handler(intent: &Intent, service: &Instance) -> Probe {
    let index = service.index;
    if intent.proxy_health {
        let get = HTTPGetAction {
            port: IntOrString::Int((PROXY_HEALTH_PORT + index).into()),
            path: Some("/ready".to_owned()),
            ..HTTPGetAction::default()
        };
        return Probe { http_get: Some(get), ..Probe::default() };
    }
    let port = IntOrString::Int((INBOUND_PORT + index).into());
    Probe { tcp_socket: Some(TCPSocketAction { port, ..TCPSocketAction::default() }), ..Probe::default() }
}

fn check(native: &NativeSidecar) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(CHECK.map(str::to_owned).to_vec()) }),
        initial_delay_seconds: Some(positive(native.initial_delay_seconds)),
        period_seconds: Some(positive(native.period_seconds)),
        failure_threshold: Some(positive(native.failure_threshold)),
        timeout_seconds: Some(positive(native.timeout_seconds)),
        ..Probe::default()
    }
}

fn positive(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
