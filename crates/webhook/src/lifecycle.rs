//! The sidecar's life cycle as one Pod wants it.

use crate::keys;
use crate::reader::Reader;
use crate::settings::{Lifecycle, NativeSidecar};

/// Each setting from its annotation, else the cluster's.
pub(crate) fn of_pod(reader: &mut Reader<'_>, defaults: &Lifecycle) -> Lifecycle {
    let path =
        |reader: &Reader<'_>, key, default: &String| reader.filled(key).map_or_else(|| default.clone(), str::to_owned);
    Lifecycle {
        enabled: reader.filled_boolean(keys::LIFECYCLE).unwrap_or(defaults.enabled),
        drain_listeners: reader.filled_boolean(keys::LIFECYCLE_DRAIN).unwrap_or(defaults.drain_listeners),
        shutdown_grace_seconds: reader
            .number(keys::LIFECYCLE_SHUTDOWN_GRACE)
            .unwrap_or(defaults.shutdown_grace_seconds),
        startup_grace_seconds: reader.number(keys::LIFECYCLE_STARTUP_GRACE).unwrap_or(defaults.startup_grace_seconds),
        graceful_port: reader.port(keys::LIFECYCLE_PORT, 1024).unwrap_or(defaults.graceful_port),
        shutdown_path: path(reader, keys::LIFECYCLE_SHUTDOWN_PATH, &defaults.shutdown_path),
        startup_path: path(reader, keys::LIFECYCLE_STARTUP_PATH, &defaults.startup_path),
    }
}

/// The sidecar as a restartable init container, where one Pod wants it.
pub(crate) fn native(reader: &mut Reader<'_>, defaults: &NativeSidecar) -> Option<NativeSidecar> {
    let native = NativeSidecar {
        enabled: reader.filled_boolean(keys::NATIVE_SIDECAR).unwrap_or(defaults.enabled),
        initial_delay_seconds: reader.number(keys::NATIVE_INITIAL_DELAY).unwrap_or(defaults.initial_delay_seconds),
        period_seconds: reader.number(keys::NATIVE_PERIOD).unwrap_or(defaults.period_seconds),
        failure_threshold: reader.number(keys::NATIVE_FAILURE_THRESHOLD).unwrap_or(defaults.failure_threshold),
        timeout_seconds: reader.number(keys::NATIVE_TIMEOUT).unwrap_or(defaults.timeout_seconds),
    };
    native.enabled.then_some(native)
}
