//! The load of streams: how soon the first chunk is there, and whether all of them come.

use crate::http::Connection;
use crate::load::{Seen, chat, in_threads};
use crate::upstream::{PACE, word};
use bifrost::wire::sse::SseParser;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

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
    let request = stream("mock/burst", chunks);
    let mut reader = StreamReader::default();
    for _ in 0..count {
        reader.read(address, &request);
    }
    Streams { first_chunks: Seen::of([reader.seen]), chunks: reader.chunks }
}

/// Streams beside each other, with a chunk every [`PACE`] in each.
pub fn at_once(address: SocketAddr, count: u32, chunks: u32) -> Streams {
    let request = stream("mock/paced", chunks);
    let readers = in_threads(count, |number| {
        // Spread over one pace, as streams that know nothing of each other.
        thread::sleep(PACE * number / count);
        let mut reader = StreamReader::default();
        reader.read(address, &request);
        reader
    });
    let chunks = readers.iter().map(|reader| reader.chunks).sum();
    Streams { first_chunks: Seen::of(readers.into_iter().map(|reader| reader.seen)), chunks }
}

#[derive(Default)]
struct StreamReader {
    connection: Option<Connection>,
    seen: Seen,
    chunks: u64,
}

impl StreamReader {
    fn read(&mut self, address: SocketAddr, request: &[u8]) {
        self.seen.requests += 1;
        if self.read_to_the_end(address, request).is_err() {
            self.seen.failed += 1;
            self.connection = None;
        }
    }

    fn read_to_the_end(&mut self, address: SocketAddr, request: &[u8]) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(address)?),
        };
        let begun = Instant::now();
        connection.send(request)?;
        let head = connection.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut events = SseParser::new();
        let (mut number, mut done) = (0, false);
        connection.body(&head, |piece| {
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
                }
            }
        })?;
        self.chunks += u64::from(number);
        if done { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn stream(model: &str, chunks: u32) -> Vec<u8> {
    chat(model, &format!(r#""stream":true,"max_tokens":{chunks}"#))
}
