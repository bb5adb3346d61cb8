//! Anthropic's dialect through its public face: what is read, what is written, and what is named as lost.

mod fixtures;
mod request;
mod response;
mod stream;

use bifrost::chat::{Collector, Event, Losses, Message, Part, Request, Response, Role, ToolCall, ToolResult};
use bifrost::dialect::anthropic::Anthropic;
use bifrost::dialect::{Dialect, Profile, StreamOptions, UrlHints};
use serde_json::Value;

/// The events of a stream that comes in pieces of `size` bytes.
fn decode(body: &[u8], size: usize) -> Vec<Event> {
    let mut decoder = Anthropic.decoder();
    let mut events = Vec::new();
    body.chunks(size).for_each(|piece| decoder.push(piece, &mut events));
    decoder.finish(&mut events);
    events
}

fn collect(events: &[Event]) -> Response {
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    collector.finish().unwrap()
}

/// The stream for a client, and what was lost.
fn encode(events: &[Event]) -> (String, String) {
    let options = StreamOptions { id: "x-1".into(), model: "some/model".into(), ..StreamOptions::default() };
    let mut encoder = Anthropic.encoder(&options);
    let (mut out, mut losses) = (Vec::new(), Losses::new());
    events.iter().for_each(|event| encoder.encode(event, &mut out, &mut losses));
    encoder.finish(&mut out, &mut losses);
    (String::from_utf8(out).unwrap(), losses.to_string())
}

/// The body for the vendor, and what was lost.
fn written(request: &Request) -> (Value, String) {
    let mut losses = Losses::new();
    let body = Anthropic.write_request(request, &Profile::VENDOR, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.to_string())
}

fn parsed(body: &Value) -> Request {
    Anthropic.parse_request(body.to_string().as_bytes(), &UrlHints::default()).unwrap()
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message::new(role, parts)
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        signature: None,
        cache: None,
        extras: Default::default(),
    }
}

fn result(id: &str, content: Vec<Part>) -> Part {
    Part::ToolResult(ToolResult {
        call_id: id.into(),
        name: None,
        content,
        json: None,
        is_error: false,
        cache: None,
        extras: Default::default(),
    })
}
