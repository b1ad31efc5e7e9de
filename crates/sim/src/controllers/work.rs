//! A controller's loop: one object at a time per key, many keys at once, again after a failure.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::view::Change;

/// The first wait after a failure; doubled each time, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);

pub(super) type Result<T = ()> = std::result::Result<T, kube::Error>;

/// Namespace and name.
pub(super) type Name = (String, String);

/// Brings objects to the state they ask for.
pub(super) trait Controller: Send + Sync + 'static {
    /// What identifies an object of this controller.
    type Key: Hash + Eq + Clone + Send + std::fmt::Debug + 'static;

    /// Says which objects a change concerns.
    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Self::Key));

    /// Does what an object needs now. Called again after every change that concerns the object and after an error.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result> + Send;
}

/// Whether the object has changed while it was worked on.
#[derive(Default)]
struct Busy {
    again: bool,
    failures: u32,
}

/// Runs a controller until it is dropped or its queue is closed.
pub(super) async fn run<C: Controller>(controller: Arc<C>, mut keys: UnboundedReceiver<C::Key>) {
    let mut busy = HashMap::<C::Key, Busy>::new();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            key = keys.recv() => {
                let Some(key) = key else { return };
                match busy.get_mut(&key) {
                    Some(busy) => busy.again = true,
                    None => {
                        busy.insert(key.clone(), Busy::default());
                        tasks.spawn(once(controller.clone(), key, Duration::ZERO));
                    }
                }
            }
            Some(Ok((key, result))) = tasks.join_next(), if !tasks.is_empty() => {
                let Some(state) = busy.get_mut(&key) else { continue };
                let delay = match result {
                    Ok(()) if state.again => Duration::ZERO,
                    Ok(()) => {
                        busy.remove(&key);
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(?key, %error, "controller will try again");
                        state.failures += 1;
                        (FIRST_RETRY * 2_u32.saturating_pow(state.failures - 1)).min(LAST_RETRY)
                    }
                };
                state.again = false;
                tasks.spawn(once(controller.clone(), key, delay));
            }
        }
    }
}

async fn once<C: Controller>(controller: Arc<C>, key: C::Key, delay: Duration) -> (C::Key, Result) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let result = controller.reconcile(&key).await;
    (key, result)
}

/// Takes "it is gone" and "it has changed meanwhile" for done: a change brings the object back here.
pub(super) fn settled<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}
