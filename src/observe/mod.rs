//! What is known of finished exchanges: metrics, the log, traces and the ring, all from the same record, so that they
//! cannot disagree; and what happened beside them, told once for the log and the metrics. Nothing here holds content or a
//! secret.

mod access;
mod event;
mod log;
mod metrics;
mod names;
mod record;
mod ring;
mod traces;

pub use event::{BreakerState, Event, WaitEnd};
pub use log::{Log, LogError};
pub use metrics::{InFlight, OpenStream};
pub use record::{AttemptRecord, ErrorRecord, ExchangeRecord, Operation, QueueRecord, trail};
pub use traces::{TraceBatch, TraceContext, TraceQueue};

use crate::config::LogSettings;
use log::Queue;
use metrics::Metrics;
use ring::Ring;
use std::sync::Arc;
use traces::Traces;

/// How many finished exchanges `GET /admin/exchanges` remembers.
const REMEMBERED: usize = 1_000;

/// The requests that a target has now.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// The provider.
    pub provider: &'a str,
    /// The model, in the provider's naming; `None` for one that nobody knows, whose name may not become a label.
    pub model: Option<&'a str>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Interactive requests that wait for a place.
    pub interactive: usize,
    /// Batch requests that wait for a place.
    pub batch: usize,
}

/// Takes every finished exchange and tells of it: in `/metrics`, in the log, at `/admin/exchanges`,
/// and in traces where they are wanted.
#[derive(Debug)]
pub struct Observer {
    metrics: Metrics,
    ring: Ring,
    log: Arc<Queue>,
    traces: Traces,
}

impl Observer {
    /// An observer whose access lines go to `log`.
    pub fn new(log: &Log) -> Self {
        let queue = log.queue();
        let metrics = Metrics::new(queue.dropped_counter());
        Self { metrics, ring: Ring::new(REMEMBERED), log: queue, traces: Traces::new() }
    }

    /// The end of an exchange: the only way in. Never waits for anybody.
    pub fn finish(&self, record: impl Into<Arc<ExchangeRecord>>) {
        let mut record = record.into();
        Arc::make_mut(&mut record).shorten();
        self.metrics.finished(&record);
        self.log.exchange(&record);
        self.traces.push(&record);
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

    /// How many requests are in flight.
    pub fn requests_in_flight(&self) -> i64 {
        self.metrics.requests_in_flight()
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

    /// The exchanges that wait to be sent to a collector; for the first who asks, who then must take them out.
    pub fn trace_queue(&self) -> Option<TraceQueue> {
        self.traces.take_queue()
    }

    /// The requests that targets have now: asked for just before [`Observer::metrics_text`].
    pub fn set_load<'a>(&self, load: impl Iterator<Item = Load<'a>>) {
        self.metrics.set_load(load);
    }

    /// The states that the breakers of targets have now, asked for as [`Observer::set_load`]; `None` for a model that nobody
    /// knows.
    pub fn set_breakers<'a>(&self, states: impl Iterator<Item = (&'a str, Option<&'a str>, BreakerState)>) {
        self.metrics.set_breakers(states);
    }

    /// Whether anything may leave the machine now.
    pub fn set_local_only(&self, on: bool) {
        self.metrics.set_local_only(on);
    }

    /// The states that the local server can be in, and the one it is in at the start.
    pub fn local_state(&self, states: impl IntoIterator<Item = &'static str>, now: &'static str) {
        self.metrics.local_state(states, now);
    }

    /// Memory that the local server holds, in bytes; nothing where it is not known.
    pub fn set_local_resident(&self, bytes: Option<u64>) {
        self.metrics.set_local_resident(bytes);
    }

    /// What the log is to do from now on. Whether lines are JSON is decided at the start only.
    pub fn adjust_log(&self, settings: &LogSettings) {
        self.log.adjust(settings);
    }
}

#[cfg(test)]
mod tests;
