//! The probe of a body, the edit that puts the model's name in its place, and the cutting of a stream into events.

use super::agent_request;
use bifrost::wire::json::{Object, quoted};
use bifrost::wire::sse::SseParser;
use divan::Bencher;
use divan::counter::BytesCount;
use std::fmt;

/// As a TLS record or a read of a socket brings them.
const PIECE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy)]
enum Body {
    Small,
    Agent,
}

impl Body {
    const ALL: [Self; 2] = [Self::Small, Self::Agent];

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Small => agent_request::small(),
            Self::Agent => agent_request::anthropic(),
        }
    }
}

#[divan::bench(args = Body::ALL)]
fn probe(bencher: Bencher, body: Body) {
    let bytes = body.bytes();
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| {
        let object = Object::scan(divan::black_box(&bytes)).unwrap();
        (object.string("model"), object.boolean("stream"))
    });
}

#[divan::bench(args = Body::ALL)]
fn splice_model(bencher: Bencher, body: Body) {
    let bytes = body.bytes();
    let object = Object::scan(&bytes).unwrap();
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| {
        let mut edits = divan::black_box(&object).edit();
        edits.set("model", &quoted("claude-sonnet-4-5"));
        edits.remove("fallbacks");
        edits.apply()
    });
}

#[derive(Clone, Copy)]
struct Events {
    count: usize,
    /// Of the data of each, in bytes.
    size: usize,
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.count, self.size)
    }
}

#[divan::bench(args = [Events { count: 1_000, size: 200 }, Events { count: 1, size: 200_000 }])]
fn sse_events(bencher: Bencher, events: Events) {
    let stream = format!("data: {}\n\n", "x".repeat(events.size)).repeat(events.count);
    bencher.counter(BytesCount::of_str(&stream)).bench(|| {
        let mut parser = SseParser::new();
        let mut count = 0;
        for piece in divan::black_box(stream.as_bytes()).chunks(PIECE) {
            parser.push(piece).unwrap();
            while let Some(event) = parser.next_event() {
                divan::black_box(event);
                count += 1;
            }
        }
        assert_eq!(count, events.count);
    });
}
