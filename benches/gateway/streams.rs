//! The load of streams: how soon the first chunk is there, and whether all of them come.

use crate::http::Connection;
use crate::load::{PATIENCE, Seen, chat, in_tasks};
use crate::upstream::{PACE, word};
use bifrost::wire::sse::SseParser;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::time::{sleep, timeout};

/// What was seen of many streams.
#[derive(Default)]
pub struct Streams {
    /// From the request to the first chunk; a latency of [`Seen`], whose failures are streams that broke.
    pub first_chunks: Seen,
    /// Chunks that came, each in its order.
    pub chunks: u64,
}

/// Streams one after the other, without a pause in them.
pub fn in_turn(address: SocketAddr, count: u32, chunks: u32) -> Streams {
    Streams::of(in_tasks(1, |_| {
        let request = stream("mock/burst", chunks);
        async move {
            let mut reader = StreamReader::default();
            for _ in 0..count {
                reader.read(address, &request).await;
            }
            reader
        }
    }))
}

/// Streams beside each other, with a chunk every [`PACE`] in each.
pub fn at_once(address: SocketAddr, count: u32, chunks: u32) -> Streams {
    let request = stream("mock/paced", chunks);
    Streams::of(in_tasks(count, |number| {
        let request = request.clone();
        async move {
            // Spread over one pace, as streams that know nothing of each other.
            sleep(PACE * number / count).await;
            let mut reader = StreamReader::default();
            reader.read(address, &request).await;
            reader
        }
    }))
}

impl Streams {
    fn of(readers: Vec<StreamReader>) -> Self {
        let chunks = readers.iter().map(|reader| reader.chunks).sum();
        Self { first_chunks: Seen::of(readers.into_iter().map(|reader| reader.seen)), chunks }
    }
}

#[derive(Default)]
struct StreamReader {
    connection: Option<Connection>,
    seen: Seen,
    chunks: u64,
}

impl StreamReader {
    async fn read(&mut self, address: SocketAddr, request: &[u8]) {
        self.seen.requests += 1;
        if !matches!(timeout(PATIENCE, self.read_to_the_end(address, request)).await, Ok(Ok(()))) {
            self.seen.failed += 1;
            self.connection = None;
        }
    }

    async fn read_to_the_end(&mut self, address: SocketAddr, request: &[u8]) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(address).await?),
        };
        let begun = Instant::now();
        connection.send(request).await?;
        let head = connection.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut events = SseParser::new();
        let (mut number, mut done) = (0, false);
        connection
            .body(&head, |piece| {
                // A stream that cannot be read lacks chunks, and these are counted.
                let _ = events.push(piece);
                while let Some(event) = events.next_event() {
                    let data = event.data.unwrap_or_default();
                    done |= data == "[DONE]";
                    if data.contains(&word(number)) {
                        if number == 0 {
                            self.seen.latencies.push(begun.elapsed());
                        }
                        number += 1;
                        self.chunks += 1;
                    }
                }
            })
            .await?;
        if done { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn stream(model: &str, chunks: u32) -> Bytes {
    chat(model, &format!(r#""stream":true,"max_tokens":{chunks}"#))
}
