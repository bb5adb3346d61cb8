//! The load: a thread for each connection.

use crate::http::{Connection, post};
use crate::machine::wake_precisely;
use crate::upstream::STACK;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// Connections of an open loop: enough that none is asked again before it has answered.
const OPEN_LOOP_CONNECTIONS: u32 = 32;

/// The first part of an open loop is not counted: connections are opened, caches are cold.
const WARM_UP: Duration = Duration::from_millis(500);

/// A question for a whole answer, about 1 kB.
pub fn whole() -> Vec<u8> {
    chat("mock/whole", r#""stream":false"#)
}

/// The same, for a model behind Anthropic's dialect.
pub fn translated() -> Vec<u8> {
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
pub fn open_loop(address: SocketAddr, request: &[u8], rate: u32, length: Duration) -> Seen {
    let begun = Instant::now();
    let count = (length.as_secs_f64() * f64::from(rate)) as u32;
    Seen::of(in_threads(OPEN_LOOP_CONNECTIONS, |number| {
        wake_precisely();
        let mut client = Client::new(address, request);
        for turn in (number..count).step_by(OPEN_LOOP_CONNECTIONS as usize) {
            let after = Duration::from_secs(1) * turn / rate;
            let due = begun + after;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            client.ask(due, after >= WARM_UP);
        }
        client.seen
    }))
}

/// So many connections for `length`, each of which asks again when it has its answer.
pub fn closed_loop(address: SocketAddr, request: &[u8], connections: u32, length: Duration) -> Seen {
    let end = Instant::now() + length;
    Seen::of(in_threads(connections, |_| {
        let mut client = Client::new(address, request);
        while Instant::now() < end {
            client.ask(Instant::now(), true);
        }
        client.seen
    }))
}

/// What `count` threads bring, each told its number.
pub fn in_threads<T: Send>(count: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(number)).expect("a thread"))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that does not panic")).collect()
    })
}

/// One connection, opened again when it breaks.
struct Client<'a> {
    address: SocketAddr,
    request: &'a [u8],
    connection: Option<Connection>,
    seen: Seen,
}

impl<'a> Client<'a> {
    fn new(address: SocketAddr, request: &'a [u8]) -> Self {
        Self { address, request, connection: None, seen: Seen::default() }
    }

    fn ask(&mut self, due: Instant, counts: bool) {
        let status = self.exchange();
        self.seen.requests += 1;
        if status.ok() != Some(200) {
            self.seen.failed += 1;
            self.connection = None;
        } else if counts {
            self.seen.latencies.push(due.elapsed());
        }
    }

    fn exchange(&mut self) -> io::Result<u16> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(self.address)?),
        };
        connection.exchange(self.request)
    }
}

/// A request for `model` of about 1 kB; `options` are further members.
pub fn chat(model: &str, options: &str) -> Vec<u8> {
    let system = "You answer questions about the weather, in plain and short sentences. ".repeat(11);
    post(
        "/v1/chat/completions",
        &format!(
            r#"{{"model":"{model}",{options},"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"What is the weather in Paris?"}}]}}"#
        ),
    )
}
