//! The OpenAI Chat Completions dialect through its public face.

mod answers;
mod fixtures;
mod hostile;
mod requests;
mod streams;

use bifrost::chat::{ChatError, Collector, Event, Losses, Request, Response};
use bifrost::dialect::openai_chat::OpenAiChat;
use bifrost::dialect::{Dialect, Profile, StreamOptions, UrlHints};
use serde_json::{Value, json};

/// What a client sent.
fn request(body: &Value) -> Request {
    refused(body).unwrap()
}

/// What a client sent, where it may be refused.
fn refused(body: &Value) -> Result<Request, ChatError> {
    OpenAiChat.parse_request(body.to_string().as_bytes(), &UrlHints::default())
}

/// A request with these messages.
fn messages(messages: &Value) -> Request {
    request(&json!({"model": "m", "messages": messages}))
}

/// What goes to the provider, and the losses as the header says them.
fn written(request: &Request, profile: &Profile) -> (Value, String) {
    let mut losses = Losses::new();
    let body = OpenAiChat.write_request(request, profile, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.to_string())
}

/// The events of a provider's stream.
fn events(stream: &str) -> Vec<Event> {
    let (mut decoder, mut events) = (OpenAiChat.decoder(), Vec::new());
    decoder.push(stream.as_bytes(), &mut events);
    decoder.finish(&mut events);
    events
}

/// A stream of one choice with these deltas, a finish reason and the terminal marker.
fn stream(deltas: &[Value], reason: &str) -> String {
    let chunk = |delta: &Value, reason: Value| {
        format!("data: {}\n\n", json!({"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
    };
    let mut text: String = deltas.iter().map(|delta| chunk(delta, Value::Null)).collect();
    text.push_str(&chunk(&json!({}), json!(reason)));
    text + "data: [DONE]\n\n"
}

/// The answer that events stand for.
fn collected(events: &[Event]) -> Response {
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    collector.finish().unwrap()
}

/// What a client gets for events, and the losses.
fn encoded(events: &[Event], include_usage: bool) -> (String, String) {
    let options = StreamOptions {
        include_usage,
        model: "asked".into(),
        id: "gateway-id".into(),
        created: 7,
        ..StreamOptions::default()
    };
    let (mut encoder, mut out, mut losses) = (OpenAiChat.encoder(&options), Vec::new(), Losses::new());
    for event in events {
        encoder.encode(event, &mut out, &mut losses);
    }
    encoder.finish(&mut out, &mut losses);
    (String::from_utf8(out).unwrap(), losses.to_string())
}

/// The chunks of a stream, without the terminal marker.
fn chunks(stream: &str) -> Vec<Value> {
    let data = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A provider's whole answer with this message.
fn answer(message: &Value, reason: &Value) -> Response {
    let body = json!({"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": reason}]});
    OpenAiChat.parse_response(body.to_string().as_bytes()).unwrap()
}

/// What a client gets for an answer, and the losses.
fn answered(response: &Response) -> (Value, String) {
    let mut losses = Losses::new();
    let body = OpenAiChat.write_response(response, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.to_string())
}
