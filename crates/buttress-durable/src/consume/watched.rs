//! A consumer as a health check.

use buttress::health::{Finding, Watch};

use super::handle::ConsumerHandle;

/// The check is DOWN once the consumer has ended. It is DEGRADED while an operation of the transport or of the dead
/// letters fails, and while the consumer is paused. It calls no transport, so it costs the transport nothing.
impl Watch for ConsumerHandle {
    async fn look(&self) -> Finding {
        if self.has_ended() {
            return Finding::down("the consumer has ended");
        }
        let troubles = self.troubles().into_iter().map(|(doing, why)| format!("{doing}: {why}"));
        let paused = self.is_paused().then(|| "the consumer is paused".to_owned());
        let reasons: Vec<String> = paused.into_iter().chain(troubles).collect();
        if reasons.is_empty() { Finding::up() } else { Finding::degraded(reasons.join("; ")) }
    }
}
