//! The log: a bounded queue and a thread of its own that writes. Whoever logs never waits, not even for a full disk or
//! a terminal that was stopped; a line that finds the queue full is counted and gone.

use super::{ExchangeRecord, access};
use crate::config::LogSettings;
use prometheus_client::metrics::counter::Counter;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

/// So many lines may wait for the thread.
const CAPACITY: usize = 8_192;

/// After a batch the thread lets lines gather for so long: one wake-up for many lines, not one for each.
const GATHER: Duration = Duration::from_millis(20);

/// The last lines get so long at shutdown; a reader that has stopped reading does not hold the gateway.
const FLUSH: Duration = Duration::from_millis(250);

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error(
        "the log filter `{filter}` cannot be read ({reason}); write a level such as `info`, or `bifrost=debug,info`"
    )]
    Filter {
        /// As it stands in the configuration.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The thread could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// Somebody in this process has set up tracing before.
    #[error("tracing is set up already in this process")]
    AlreadyInstalled,
}

/// The log of this process; when it goes, what waits is written first.
#[derive(Debug)]
pub struct Log {
    queue: Arc<Queue>,
}

impl Log {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(settings: &LogSettings, sink: impl Write + Send + 'static) -> Result<Self, LogError> {
        Self::with_capacity(settings, sink, CAPACITY)
    }

    pub(super) fn with_capacity(
        settings: &LogSettings,
        sink: impl Write + Send + 'static,
        capacity: usize,
    ) -> Result<Self, LogError> {
        let queue = Arc::new(Queue {
            capacity,
            json: settings.json,
            access: AtomicBool::new(settings.access),
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped: Counter::default(),
            filter: OnceLock::new(),
        });
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all_to(sink))?;
        Ok(Self { queue })
    }

    /// Sends all of tracing's events of this process here. `colour` is for a terminal.
    ///
    /// # Errors
    /// The filter cannot be read, or somebody was first.
    pub fn install(&self, settings: &LogSettings, colour: bool) -> Result<(), LogError> {
        let (filter, handle) = reload::Layer::new(parse_filter(&settings.filter)?);
        let writer = Lines(Arc::clone(&self.queue));
        let base = Registry::default().with(filter);
        let installed = if settings.json {
            let layer = tracing_subscriber::fmt::layer().json().with_writer(writer);
            tracing::subscriber::set_global_default(base.with(layer))
        } else {
            let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_target(false).with_writer(writer);
            tracing::subscriber::set_global_default(base.with(layer))
        };
        installed.map_err(|_| LogError::AlreadyInstalled)?;
        // Only the first can get here.
        let _ = self.queue.filter.set(handle);
        Ok(())
    }

    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.close(FLUSH);
    }
}

fn parse_filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(text).map_err(|error| LogError::Filter { filter: text.to_owned(), reason: error.to_string() })
}

/// A line that waits.
#[derive(Debug)]
enum Entry {
    /// Ready to write.
    Text(Vec<u8>),
    /// Made into a line by the thread that writes.
    Exchange(Arc<ExchangeRecord>),
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// The thread sleeps until somebody wakes it.
    asleep: bool,
    closed: bool,
    /// The thread has written everything and is gone.
    done: bool,
}

/// What waits for the thread.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    json: bool,
    access: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    dropped: Counter,
    filter: OnceLock<reload::Handle<EnvFilter, Registry>>,
}

impl Queue {
    /// Counts the lines that found the queue full.
    pub(super) fn dropped_counter(&self) -> Counter {
        self.dropped.clone()
    }

    /// Logs a finished exchange, unless the configuration wants no access log.
    pub(super) fn exchange(&self, record: &Arc<ExchangeRecord>) {
        if self.access.load(Ordering::Relaxed) {
            self.push(Entry::Exchange(Arc::clone(record)));
        }
    }

    /// Takes over what may change while it runs: the filter, and whether exchanges are logged.
    pub(super) fn adjust(&self, settings: &LogSettings) {
        self.access.store(settings.access, Ordering::Relaxed);
        let Some(handle) = self.filter.get() else { return };
        let adjusted = parse_filter(&settings.filter)
            .and_then(|filter| handle.reload(filter).map_err(|_| LogError::AlreadyInstalled));
        if let Err(error) = adjusted {
            tracing::warn!("the log filter stays as it was: {error}");
        }
    }

    fn push(&self, entry: Entry) {
        let mut state = self.lock();
        if state.closed || state.waiting.len() >= self.capacity {
            drop(state);
            self.dropped.inc();
            return;
        }
        state.waiting.push_back(entry);
        let wake = state.asleep || state.waiting.len() == self.capacity / 2;
        state.asleep = false;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        // Whether it is done or the time is over, the process may go.
        let _ = self.changed.wait_timeout_while(state, limit, |state| !state.done);
    }

    fn write_all_to(&self, mut sink: impl Write) {
        let mut batch = VecDeque::new();
        let mut text = Vec::new();
        let mut lines = access::Lines::default();
        while self.take(&mut batch) {
            for entry in batch.drain(..) {
                match entry {
                    Entry::Text(line) => text.extend_from_slice(&line),
                    Entry::Exchange(record) => {
                        // Writing to memory cannot fail.
                        let _ = lines.write(&mut text, &record, self.json);
                    }
                }
            }
            // A log that cannot be written has nobody to tell.
            let _ = sink.write_all(&text).and_then(|()| sink.flush());
            text.clear();
            text.shrink_to(64 * 1024);
        }
        self.lock().done = true;
        self.changed.notify_all();
    }

    /// Waits for lines and takes all of them; false when the log is closed and nothing waits.
    fn take(&self, batch: &mut VecDeque<Entry>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            state.asleep = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathering = |state: &mut State| !state.closed && state.waiting.len() < self.capacity / 2;
        let mut state =
            self.changed.wait_timeout_while(state, GATHER, gathering).unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.waiting, batch);
        !batch.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes tracing's events, each a line (or several) ready to write.
#[derive(Debug, Clone)]
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.0, text: Vec::new() }
    }
}

/// One event on its way.
struct Line<'a> {
    queue: &'a Queue,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.queue.push(Entry::Text(std::mem::take(&mut self.text)));
        }
    }
}
