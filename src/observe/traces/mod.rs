//! Traces: finished exchanges wait here, in a bounded queue, for whoever sends them to a collector.

mod context;
mod otlp;
mod spans;

pub use context::TraceContext;

use super::ExchangeRecord;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// So many exchanges may wait.
const CAPACITY: usize = 2_048;
/// So many go in one request.
const BATCH: usize = 512;
/// After the first of a batch others gather for so long.
const GATHER: Duration = Duration::from_secs(1);

/// The way in of the queue.
#[derive(Debug)]
pub(super) struct Traces {
    waiting: mpsc::Sender<Arc<ExchangeRecord>>,
    dropped: Arc<AtomicU64>,
    /// The sender takes it once.
    queue: Mutex<Option<TraceQueue>>,
}

/// The way out of the queue.
#[derive(Debug)]
pub struct TraceQueue {
    waiting: mpsc::Receiver<Arc<ExchangeRecord>>,
    /// Taken out, and not yet a batch.
    gathered: Vec<Arc<ExchangeRecord>>,
    dropped: Arc<AtomicU64>,
}

/// What goes to the collector at once.
#[derive(Debug)]
pub struct TraceBatch(Vec<Arc<ExchangeRecord>>);

impl Traces {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let (waiting, queue) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = TraceQueue { waiting: queue, gathered: Vec::new(), dropped: Arc::clone(&dropped) };
        Self { waiting, dropped, queue: Mutex::new(Some(queue)) }
    }

    /// Lets an exchange wait, if it is to be traced. Never waits itself.
    pub(super) fn push(&self, record: &Arc<ExchangeRecord>) {
        if record.trace.is_some_and(|trace| trace.sampled) && self.waiting.try_send(Arc::clone(record)).is_err() {
            self.dropped.fetch_add(spans::count(record), Ordering::Relaxed);
        }
    }

    /// The way out, for the first who asks.
    pub(super) fn take_queue(&self) -> Option<TraceQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl TraceQueue {
    /// Waits for exchanges, lets some gather, and takes them; `None` when none can come any more. May be dropped and called
    /// again.
    pub async fn next(&mut self) -> Option<TraceBatch> {
        if self.gathered.is_empty() {
            let first = self.waiting.recv().await?;
            self.gathered.push(first);
        }
        let gather =
            async { while self.gathered.len() < BATCH && self.waiting.recv_many(&mut self.gathered, 1).await > 0 {} };
        // Whether the batch is full or the time is over, it goes.
        let _ = timeout(GATHER, gather).await;
        Some(TraceBatch(std::mem::take(&mut self.gathered)))
    }

    /// What waits now; empty when nothing does.
    pub fn rest(&mut self) -> TraceBatch {
        let mut records = std::mem::take(&mut self.gathered);
        while let Ok(record) = self.waiting.try_recv() {
            records.push(record);
        }
        TraceBatch(records)
    }

    /// How many spans found the queue full since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl TraceBatch {
    /// How many spans it holds.
    pub fn spans(&self) -> u64 {
        self.0.iter().map(|record| spans::count(record)).sum()
    }

    /// The body of a request to `/v1/traces`, in binary Protobuf (`application/x-protobuf`).
    pub fn encode(&self) -> Vec<u8> {
        spans::encode(&self.0)
    }
}
