//! The Gemini dialect through its public face.

mod answers;
mod errors;
mod fixtures;
mod hostile;
mod requests;
mod streams;

use bifrost::chat::{Collector, Event, Losses, Request, Response};
use bifrost::dialect::gemini::Gemini;
use bifrost::dialect::{Dialect, Profile, StreamOptions, UrlHints};
use serde_json::Value;

/// What a client sent to `model`.
fn request(model: &str, body: &Value) -> Request {
    let url = UrlHints { model: Some(model.to_owned()), stream: Some(false) };
    Gemini.parse_request(body.to_string().as_bytes(), &url).unwrap()
}

/// What goes to the provider, and the losses as the header says them.
fn written(request: &Request) -> (Value, String) {
    let mut losses = Losses::new();
    let body = Gemini.write_request(request, &Profile::VENDOR, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.to_string())
}

/// The events of a provider's stream.
fn events(stream: &str) -> Vec<Event> {
    let (mut decoder, mut events) = (Gemini.decoder(), Vec::new());
    decoder.push(stream.as_bytes(), &mut events);
    decoder.finish(&mut events);
    events
}

/// A stream of these chunks.
fn sse(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
}

/// The answer that events stand for.
fn collected(events: &[Event]) -> Response {
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    collector.finish().unwrap()
}

/// What a client gets for events, and the losses.
fn encoded(events: &[Event], json_array: bool) -> (String, String) {
    let options =
        StreamOptions { json_array, model: "asked".into(), id: "gateway-id".into(), ..StreamOptions::default() };
    let (mut encoder, mut out, mut losses) = (Gemini.encoder(&options), Vec::new(), Losses::new());
    for event in events {
        encoder.encode(event, &mut out, &mut losses);
    }
    encoder.finish(&mut out, &mut losses);
    (String::from_utf8(out).unwrap(), losses.to_string())
}
