//! Rows by namespace and name. Readers get a whole namespace without copying it.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

type Rows<V> = HashMap<String, Arc<HashMap<String, V>>>;

/// A table that one task writes and many read.
pub(super) struct Table<V> {
    rows: RwLock<Rows<V>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { rows: RwLock::default() }
    }
}

impl<V: Clone> Table<V> {
    /// All rows of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Arc<HashMap<String, V>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned().unwrap_or_default()
    }

    /// One row.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<V> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(namespace)?.get(name).cloned()
    }

    /// Sets a row, or takes it away.
    pub(super) fn set(&self, namespace: &str, name: &str, value: Option<V>) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        put(&mut rows, namespace, name, value);
    }

    /// Replaces all rows.
    pub(super) fn replace(&self, all: Vec<(String, String, V)>) {
        let mut rows = Rows::default();
        for (namespace, name, value) in all {
            put(&mut rows, &namespace, &name, Some(value));
        }
        let old = mem::replace(&mut *self.rows.write().unwrap_or_else(PoisonError::into_inner), rows);
        // not while others wait for the lock
        drop(old);
    }
}

fn put<V: Clone>(rows: &mut Rows<V>, namespace: &str, name: &str, value: Option<V>) {
    match value {
        Some(value) => {
            Arc::make_mut(rows.entry(namespace.to_owned()).or_default()).insert(name.to_owned(), value);
        }
        None => {
            let Some(of_namespace) = rows.get_mut(namespace) else { return };
            Arc::make_mut(of_namespace).remove(name);
            if of_namespace.is_empty() {
                rows.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_and_go() {
        let table = Table::default();
        table.set("a", "one", Some(1));
        table.set("a", "two", Some(2));
        let seen = table.of("a");
        table.set("a", "one", None);
        assert_eq!((table.get("a", "one"), table.get("a", "two"), seen.len()), (None, Some(2), 2));
        table.replace(vec![("b".to_owned(), "three".to_owned(), 3)]);
        assert_eq!((table.of("a").len(), table.get("b", "three")), (0, Some(3)));
    }
}
