//! Tells the control plane what Envoy refused.

use mesh::feed::Rejected;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::control::Control;

/// Passes on what Envoy's own statistics confirm, until the senders are gone.
pub(crate) async fn report(
    server: Control,
    admin: Control,
    proxy_id: String,
    mut incoming: UnboundedReceiver<Rejected>,
) {
    while let Some(rejected) = incoming.recv().await {
        if let Ok(false) = has_rejected(&admin).await {
            continue;
        }
        if let Err(error) = server.rejected(&proxy_id, &rejected).await {
            tracing::warn!("failed to tell the control plane what envoy refused: {error:#}");
        }
    }
}

async fn has_rejected(admin: &Control) -> anyhow::Result<bool> {
    let (_, statistics) = admin.send(http::Method::GET, "/stats?filter=update_rejected", bytes::Bytes::new()).await?;
    Ok(is_positive(&String::from_utf8_lossy(&statistics)))
}

/// Whether any of the counters, one a line, is above 0.
fn is_positive(statistics: &str) -> bool {
    let counts = statistics.lines().filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
    counts.max().unwrap_or(0) > 0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("", false)]
    #[case::all_taken("cluster_manager.cds.update_rejected: 0\nlistener_manager.lds.update_rejected: 0\n", false)]
    #[case::one_refused("cluster_manager.cds.update_rejected: 0\nlistener_manager.lds.update_rejected: 2\n", true)]
    fn statistics(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_positive(text), expected);
    }
}
