//! What each manager applied last, to know what it no longer wants.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Applied configurations by object uid and manager.
#[derive(Default)]
pub(crate) struct Applied(Mutex<HashMap<(String, String), Value>>);

impl Applied {
    pub(super) fn last(&self, object: &Value, manager: &str) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(object, manager)).cloned()
    }

    pub(super) fn remember(&self, object: &Value, manager: &str, configuration: Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key(object, manager), configuration);
    }
}

fn key(object: &Value, manager: &str) -> (String, String) {
    (object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), manager.to_owned())
}
