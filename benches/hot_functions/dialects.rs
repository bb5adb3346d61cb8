//! Each dialect's readers and writers: streams, whole answers, and requests from one dialect to another.

use super::agent_request;
use super::recorded::{self, DIALECTS};
use bifrost::chat::{DialectId, Event, Losses};
use bifrost::dialect::{self, Profile, StreamOptions, UrlHints};
use divan::Bencher;
use divan::counter::BytesCount;
use std::fmt;

#[divan::bench(args = DIALECTS)]
fn decode_stream(bencher: Bencher, dialect: DialectId) {
    let pieces = recorded::stream(dialect);
    let bytes: usize = pieces.iter().map(String::len).sum();
    bencher.counter(BytesCount::new(bytes)).bench(|| events(dialect, divan::black_box(&pieces)));
}

#[divan::bench(args = DIALECTS)]
fn encode_stream(bencher: Bencher, dialect: DialectId) {
    let events = events(dialect, &recorded::stream(dialect));
    let size = encode(dialect, &events).len();
    bencher.counter(BytesCount::new(size)).bench(|| encode(dialect, divan::black_box(&events)));
}

#[divan::bench(args = DIALECTS)]
fn parse_response(bencher: Bencher, dialect: DialectId) {
    let body = recorded::answer(dialect);
    let dialect = dialect::get(dialect);
    bencher.counter(BytesCount::of_slice(&body)).bench(|| dialect.parse_response(divan::black_box(&body)).unwrap());
}

#[divan::bench(args = DIALECTS)]
fn write_response(bencher: Bencher, dialect: DialectId) {
    let body = recorded::answer(dialect);
    let dialect = dialect::get(dialect);
    let response = dialect.parse_response(&body).unwrap();
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench(|| dialect.write_response(divan::black_box(&response), &mut Losses::new()));
}

#[derive(Clone, Copy)]
struct Way {
    client: DialectId,
    provider: DialectId,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.client, self.provider)
    }
}

fn ways() -> impl Iterator<Item = Way> {
    DIALECTS.into_iter().flat_map(|client| {
        DIALECTS.into_iter().filter(move |provider| *provider != client).map(move |provider| Way { client, provider })
    })
}

#[divan::bench(args = ways())]
fn translate_request(bencher: Bencher, way: Way) {
    let body = agent_request::of(way.client);
    let hints = UrlHints { model: Some(agent_request::MODEL.to_owned()), stream: Some(true) };
    let (client, provider) = (dialect::get(way.client), dialect::get(way.provider));
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let request = client.parse_request(divan::black_box(&body), &hints).unwrap();
        provider.write_request(&request, &Profile::VENDOR, &mut Losses::new())
    });
}

fn events(dialect: DialectId, pieces: &[String]) -> Vec<Event> {
    let mut decoder = dialect::get(dialect).decoder();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece.as_bytes(), &mut events);
    }
    decoder.finish(&mut events);
    events
}

fn encode(dialect: DialectId, events: &[Event]) -> Vec<u8> {
    let options = StreamOptions { include_usage: true, ..StreamOptions::default() };
    let (mut bytes, mut losses) = (Vec::new(), Losses::new());
    let mut encoder = dialect::get(dialect).encoder(&options);
    for event in events {
        encoder.encode(event, &mut bytes, &mut losses);
    }
    encoder.finish(&mut bytes, &mut losses);
    bytes
}
