//! Follows the feed: what the control plane says becomes the snapshot that Envoy is served from.

use std::time::Duration;

use tokio::sync::watch;

use crate::control::Control;
use crate::state::Snapshot;

/// Pauses between attempts while the control plane is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Never ends; the last snapshot stays while the control plane is away.
pub(crate) async fn follow(control: Control, node: Option<String>, proxy_id: String, publish: watch::Sender<Snapshot>) {
    let (mut index, mut pause) = (0, FIRST_PAUSE);
    loop {
        match control.update(node.as_deref(), &proxy_id, index).await {
            Ok(update) => {
                if pause > FIRST_PAUSE {
                    tracing::info!("the control plane answers again");
                }
                pause = FIRST_PAUSE;
                let Some(update) = update else { continue };
                index = update.index;
                tracing::debug!(index, full = update.full, "new configuration");
                publish.send_modify(|snapshot| snapshot.apply(update));
            }
            Err(error) => {
                if pause == FIRST_PAUSE {
                    tracing::warn!("failed to get the configuration of {proxy_id}: {error:#}; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
