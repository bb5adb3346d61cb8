//! What is known of finished exchanges: metrics, the log and the ring, all from the same record, so that they cannot
//! disagree. Nothing here holds content or a secret.

mod access;
mod event;
mod log;
mod metrics;
mod names;
mod record;
mod ring;

pub use event::{BreakerState, Event};
pub use log::{Log, LogError};
pub use metrics::{InFlight, OpenStream};
pub use record::{AttemptRecord, ErrorRecord, ExchangeRecord, Operation};

use crate::config::LogSettings;
use log::Queue;
use metrics::Metrics;
use ring::Ring;
use std::sync::Arc;

/// How many finished exchanges `GET /admin/exchanges` remembers.
const REMEMBERED: usize = 1_000;

/// Takes every finished exchange and tells of it: in `/metrics`, in the log, at `/admin/exchanges`.
#[derive(Debug)]
pub struct Observer {
    metrics: Metrics,
    ring: Ring,
    log: Arc<Queue>,
}

impl Observer {
    /// An observer whose access lines go to `log`.
    pub fn new(log: &Log) -> Self {
        let queue = log.queue();
        Self { metrics: Metrics::new(queue.dropped_counter()), ring: Ring::new(REMEMBERED), log: queue }
    }

    /// The end of an exchange: the only way in. Never waits for anybody.
    pub fn finish(&self, mut record: ExchangeRecord) {
        record.shorten();
        self.metrics.finished(&record);
        let record = Arc::new(record);
        self.log.exchange(&record);
        self.ring.push(record);
    }

    /// Something happened that is no exchange of its own: the only way in. Never waits for anybody.
    pub fn tell(&self, event: Event<'_>) {
        self.metrics.happened(&event);
        event.log();
    }

    /// Counts a request as in flight for as long as the guard lives.
    pub fn in_flight(&self) -> InFlight {
        self.metrics.in_flight()
    }

    /// Counts a stream to a client as open for as long as the guard lives.
    pub fn open_stream(&self) -> OpenStream {
        self.metrics.open_stream()
    }

    /// The finished exchanges that are remembered, the newest first.
    pub fn recent(&self) -> Vec<Arc<ExchangeRecord>> {
        self.ring.newest_first()
    }

    /// The newest finished exchange with this id, if it is still remembered.
    pub fn by_id(&self, id: &str) -> Option<Arc<ExchangeRecord>> {
        self.ring.by_id(id)
    }

    /// Everything counted, in the text format of OpenMetrics 1.0 (`application/openmetrics-text`).
    pub fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    /// Whether anything may leave the machine now.
    pub fn set_local_only(&self, on: bool) {
        self.metrics.set_local_only(on);
    }

    /// The states that the local server can be in, and the one it is in at the start.
    pub fn local_state(&self, states: impl IntoIterator<Item = &'static str>, now: &'static str) {
        self.metrics.local_state(states, now);
    }

    /// The local server is in another state.
    pub fn local_state_changed(&self, from: &'static str, to: &'static str) {
        self.metrics.local_state_changed(from, to);
    }

    /// Memory that the local server holds, in bytes; nothing where it is not known.
    pub fn set_local_resident(&self, bytes: Option<u64>) {
        self.metrics.set_local_resident(bytes);
    }

    /// The configuration was read again: `Some` is what the log is to do from now on, `None` an invalid file, with the
    /// last good one still in force. Whether lines are JSON is decided at the start only.
    pub fn config_reloaded(&self, settings: Option<&LogSettings>) {
        self.metrics.config_reloaded(settings.is_some());
        if let Some(settings) = settings {
            self.log.adjust(settings);
        }
    }
}

#[cfg(test)]
mod tests;
