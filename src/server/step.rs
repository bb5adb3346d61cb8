//! Requests in step: where many are in flight, all that are ready take one step before any of them takes the next. The code
//! and data of a step then stay at hand, and who hears of several requests at once is woken once for them.
//! docs/PERFORMANCE.md has what it brings.

use super::Gateway;

/// With so many requests in flight nothing is gained by it.
const FEW: i64 = 4;

impl Gateway {
    /// Between two steps of a request.
    pub async fn in_step(&self) {
        if self.observer.requests_in_flight() > FEW {
            tokio::task::yield_now().await;
        }
    }
}
