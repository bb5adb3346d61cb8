//! The load of whole answers. One thread asks and reads on all connections, as one that has a processor for itself.

use crate::http::{Connection, post};
use crate::machine::wake_precisely;
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of an open loop; where all are busy, requests wait, and their waiting counts.
const OPEN_LOOP_CONNECTIONS: u32 = 64;

/// The first part of an open loop is not counted: connections are opened, caches are cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// An answer that is not whole so long after its request was due counts as none.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A question for a whole answer, about 1 kB.
pub fn whole() -> Bytes {
    chat("mock/whole", r#""stream":false"#)
}

/// The same, for a model behind Anthropic's dialect.
pub fn translated() -> Bytes {
    chat("mock-anthropic/whole", r#""stream":false"#)
}

/// What was seen of many requests.
#[derive(Default)]
pub struct Seen {
    /// Latencies, ascending, without those of the warm-up.
    pub latencies: Vec<Duration>,
    /// Requests sent, the warm-up's included.
    pub requests: u64,
    /// Requests that got no answer or another one than 200.
    pub failed: u64,
}

impl Seen {
    /// The latency that `share` (0 to 1) of all requests did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// All of `parts` together.
    pub fn of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.latencies.extend(part.latencies);
            all.requests += part.requests;
            all.failed += part.failed;
        }
        all.latencies.sort_unstable();
        all
    }
}

/// `rate` requests a second for `length`, whatever becomes of them. A latency counts from when the request was due, not
/// from when it could be sent: whoever stalls is charged for everyone who had to wait (no coordinated omission).
pub fn open_loop(address: SocketAddr, request: &Bytes, rate: u32, length: Duration) -> Seen {
    let (due, turns) = mpsc::unbounded_channel();
    let turns = Arc::new(Mutex::new(turns));
    let begun = Instant::now();
    // Of its own, because timers of the runtime are a millisecond coarse.
    let pacer = thread::spawn(move || {
        wake_precisely();
        let count = (length.as_secs_f64() * f64::from(rate)) as u32;
        for turn in (0..count).map(|number| begun + Duration::from_secs(1) * number / rate) {
            thread::sleep(turn.saturating_duration_since(Instant::now()));
            if due.send(turn).is_err() {
                return;
            }
        }
    });
    let seen = in_tasks(OPEN_LOOP_CONNECTIONS, |_| {
        let (mut client, turns) = (Client::new(address, request), Arc::clone(&turns));
        async move {
            while let Some(turn) = next(&turns).await {
                client.ask(turn, turn.duration_since(begun) >= WARM_UP).await;
            }
            client.seen
        }
    });
    pacer.join().expect("a thread that does not panic");
    Seen::of(seen)
}

/// The next turn, for whichever client is free first.
async fn next(turns: &Mutex<mpsc::UnboundedReceiver<Instant>>) -> Option<Instant> {
    turns.lock().await.recv().await
}

/// So many connections for `length`, each of which asks again when it has its answer.
pub fn closed_loop(address: SocketAddr, request: &Bytes, connections: u32, length: Duration) -> Seen {
    let end = Instant::now() + length;
    Seen::of(in_tasks(connections, |_| {
        let mut client = Client::new(address, request);
        async move {
            while Instant::now() < end {
                client.ask(Instant::now(), true).await;
            }
            client.seen
        }
    }))
}

/// Whether a first request gets its answer now.
pub fn is_answered(address: SocketAddr, request: &Bytes) -> bool {
    let seen = in_tasks(1, |_| {
        let mut client = Client::new(address, request);
        async move {
            client.ask(Instant::now(), true).await;
            client.seen
        }
    });
    Seen::of(seen).failed == 0
}

/// What `count` tasks bring, each made with its number, all on the calling thread.
pub fn in_tasks<T, F>(count: u32, task: impl Fn(u32) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { (0..count).map(task).collect::<JoinSet<T>>().join_all().await })
}

/// One connection, opened again when it breaks.
struct Client {
    address: SocketAddr,
    request: Bytes,
    connection: Option<Connection>,
    seen: Seen,
}

impl Client {
    fn new(address: SocketAddr, request: &Bytes) -> Self {
        Self { address, request: request.clone(), connection: None, seen: Seen::default() }
    }

    async fn ask(&mut self, due: Instant, counts: bool) {
        let status = timeout(PATIENCE.saturating_sub(due.elapsed()), self.exchange()).await;
        self.seen.requests += 1;
        if !matches!(status, Ok(Ok(200))) {
            self.seen.failed += 1;
            self.connection = None;
        } else if counts {
            self.seen.latencies.push(due.elapsed());
        }
    }

    async fn exchange(&mut self) -> io::Result<u16> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(self.address).await?),
        };
        connection.exchange(&self.request).await
    }
}

/// A request for `model` of about 1 kB; `options` are further members.
pub fn chat(model: &str, options: &str) -> Bytes {
    let system = "You answer questions about the weather, in plain and short sentences. ".repeat(11);
    post(
        "/v1/chat/completions",
        &format!(
            r#"{{"model":"{model}",{options},"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"What is the weather in Paris?"}}]}}"#
        ),
    )
}
