//! Recorded traffic of every provider that speaks OpenAI's dialect, read and written in that dialect.

use crate::recordings::{self, Recording};
use crate::stream;
use bifrost::chat::{Collector, DialectId, ErrorKind, Event, Losses, Part, Request, Response, StopReason};
use bifrost::dialect::{self, Dialect, Profile, StreamOptions, UrlHints};
use serde_json::{Value, json};

/// Requests that the real server took though they are wrong; this dialect refuses them with 400, as OpenAI does.
const WRONG_REQUESTS: [(&str, &str); 4] = [
    ("fb962bb4306a", "the role 'robot', which vllm-mlx takes"),
    ("07866ddfdb1f", "the role 'robot', which vllm-mlx takes"),
    ("d1fea6b8de64", "the role 'robot', which vllm-mlx takes"),
    ("ec47317b55c3", "the role 'robot', which vllm-mlx takes"),
];

fn recordings() -> impl Iterator<Item = &'static Recording> {
    recordings::of("openai.chat")
}

fn dialect() -> &'static dyn Dialect {
    dialect::get(DialectId::OpenAiChat)
}

fn whole(body: &[u8]) -> Vec<Event> {
    stream::decode(DialectId::OpenAiChat, body)
}

/// A small generator, so that every run cuts at the same places.
fn cuts(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 41).unwrap() + 1
    }
}

fn collect(events: &[Event]) -> Result<Response, bifrost::chat::ChatError> {
    let mut collector = Collector::default();
    for event in events {
        collector.push(event);
    }
    collector.finish()
}

/// What a round trip must keep, as one JSON value.
fn essence(response: &Response) -> Value {
    let mut extras = response.extras.fields.clone();
    // A stream keeps here what a whole answer keeps in its alternatives.
    let streamed = extras.shift_remove("choices").unwrap_or_default();
    let candidates: Vec<Value> = response
        .candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| {
            let mut more = candidate.extras.fields.clone();
            let own = streamed.as_array().into_iter().flatten().filter(|entry| entry["index"] == index);
            more.extend(own.flat_map(|entry| entry.as_object().unwrap().clone()).filter(|(key, _)| key != "index"));
            let mut text = String::new();
            let mut refusal = String::new();
            let mut thoughts = String::new();
            let (mut calls, mut proofs, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for part in &candidate.parts {
                match part {
                    Part::Text { text: more, signature, .. } => {
                        text.push_str(more);
                        proofs.extend(signature.iter().map(|proof| json!(["text", format!("{proof:?}")])));
                    }
                    Part::Refusal(more) => refusal.push_str(more),
                    Part::Reasoning(part) => {
                        thoughts.push_str(&part.text);
                        for proof in part.signature.iter().chain(&part.encrypted) {
                            proofs.push(json!(["reasoning", format!("{proof:?}"), part.text, part.summary, part.id]));
                        }
                    }
                    Part::ToolCall(call) => {
                        let arguments = call.parsed_arguments().unwrap_or_else(|| json!(call.arguments));
                        calls.push(json!([call.id, call.name, arguments, format!("{:?}", call.signature)]));
                    }
                    other => others.push(json!(format!("{other:?}"))),
                }
            }
            json!({"text": text, "refusal": refusal, "thoughts": thoughts, "calls": calls, "proofs": proofs,
                "others": others, "extras": more, "stop": format!("{:?}", candidate.stop)})
        })
        .collect();
    json!({"id": response.id, "model": response.model, "candidates": candidates, "usage": format!("{:?}", response.usage),
        "extras": extras})
}

#[test]
fn every_answer_is_read_and_written_without_loss() {
    let mut failures = Vec::new();
    let mut seen = 0;
    for recording in recordings().filter(|recording| recording.succeeded() && !recording.is_stream()) {
        seen += 1;
        let first = match dialect().parse_response(&recording.response_bytes()) {
            // An answer without an id gets one when it is written.
            Ok(first) => Response { id: first.id.or_else(|| Some("chatcmpl-unknown".into())), ..first },
            Err(error) => {
                failures.push(format!("{} {}: {error}", recording.provider, recording.id));
                continue;
            }
        };
        let mut losses = Losses::new();
        let written = dialect().write_response(&first, &mut losses);
        match dialect().parse_response(&written) {
            Ok(second) if essence(&first) == essence(&second) && losses.is_empty() => {}
            Ok(second) => {
                let found = compare(&first, &second);
                failures.push(format!("{} {}: losses {losses}{found}", recording.provider, recording.id));
            }
            Err(error) => failures.push(format!("{} {}: read again: {error}", recording.provider, recording.id)),
        }
        for candidate in &first.candidates {
            assert!(!matches!(candidate.stop, Some(StopReason::Other(_))), "{}: {:?}", recording.id, candidate.stop);
        }
    }
    println!("{seen} whole answers");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_stream_is_read_however_it_is_cut_and_written_without_loss() {
    let mut failures = Vec::new();
    let mut seen = 0;
    for (number, recording) in
        recordings().filter(|recording| recording.succeeded() && recording.is_stream()).enumerate()
    {
        seen += 1;
        let name = format!("{} {}", recording.provider, recording.id);
        let body = recording.response_bytes();
        let events = whole(&body);
        assert_eq!(
            events,
            stream::decode_pieces(DialectId::OpenAiChat, &body, cuts(number as u64 + 7)),
            "{name}: cut elsewhere, read otherwise"
        );
        check_order(&events, &name);
        let skipped = events.iter().filter(|event| matches!(event, Event::Skipped { .. })).count();
        if skipped > 0 {
            failures.push(format!("{name}: {skipped} events skipped"));
        }
        let first = match collect(&events) {
            Ok(first) => first,
            Err(error) => {
                // The one stream of the recordings that the provider ended with an error event.
                let expected = recording.id == "a4f44e67481d" && error.kind == ErrorKind::InvalidRequest;
                if !expected {
                    failures.push(format!("{name}: {error}"));
                }
                continue;
            }
        };
        let mut losses = Losses::new();
        let again = encode(&events, &mut losses);
        match collect(&whole(&again)) {
            Ok(second) if essence(&first) == essence(&second) && losses.is_empty() => {}
            Ok(second) => failures.push(format!("{name}: losses {losses}{}", compare(&first, &second))),
            Err(error) => failures.push(format!("{name}: read again: {error}")),
        }
        let collected = dialect().write_response(&first, &mut losses);
        let third = dialect().parse_response(&collected).unwrap();
        if essence(&first) != essence(&third) {
            failures.push(format!("{name}: as a whole answer{}", compare(&first, &third)));
        }
    }
    println!("{seen} streams");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Where two essences differ, as paths with both values.
fn differences(one: &Value, other: &Value, path: &str, found: &mut String) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                let null = Value::Null;
                let path = format!("{path}.{key}");
                differences(one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null), &path, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(one, other, &format!("{path}[{index}]"), found);
            }
        }
        _ if one == other => {}
        _ => found.push_str(&format!("\n  {path}\n    {one:.300}\n    {other:.300}")),
    }
}

fn compare(first: &Response, second: &Response) -> String {
    let mut found = String::new();
    differences(&essence(first), &essence(second), "", &mut found);
    found
}

fn encode(events: &[Event], losses: &mut Losses) -> Vec<u8> {
    let mut encoder = dialect().encoder(&StreamOptions { include_usage: true, ..StreamOptions::default() });
    let mut out = Vec::new();
    for event in events {
        encoder.encode(event, &mut out, losses);
    }
    encoder.finish(&mut out, losses);
    out
}

/// The order that [`Event`] promises: blocks are opened once, grown only while open, and all closed at the end.
fn check_order(events: &[Event], name: &str) {
    let mut open = std::collections::BTreeSet::new();
    let mut next = 0;
    for event in events {
        match event {
            Event::BlockStart { index, .. } => {
                assert_eq!(*index, next, "{name}");
                next += 1;
                open.insert(*index);
            }
            Event::Delta { index, .. } => assert!(open.contains(index), "{name}: delta of closed block {index}"),
            Event::BlockStop { index } => assert!(open.remove(index), "{name}: block {index} closed twice"),
            Event::Error(_) => return,
            _ => {}
        }
    }
    assert!(open.is_empty(), "{name}: blocks left open");
}

#[test]
fn every_error_is_understood() {
    let mut seen = 0;
    for recording in recordings().filter(|recording| recording.status >= 400) {
        seen += 1;
        let bytes = recording.response_bytes();
        let error = dialect().parse_error(recording.status, &bytes);
        assert!(!error.message.is_empty());
        assert_eq!(error.status, Some(recording.status));
        let body = String::from_utf8_lossy(&bytes).to_lowercase();
        let expected = match recording.status {
            400 if body.contains("context length") || body.contains("prompt_tokens") => ErrorKind::ContextTooLong,
            400 | 405 | 422 => ErrorKind::InvalidRequest,
            401 => ErrorKind::Authentication,
            404 => ErrorKind::NotFound,
            429 => ErrorKind::RateLimited,
            500 => ErrorKind::Upstream,
            other => panic!("{}: status {other} is new here", recording.id),
        };
        assert_eq!(error.kind, expected, "{} {}: {}", recording.provider, recording.id, error.message);
    }
    println!("{seen} errors");
}

#[test]
fn every_request_is_read_and_written_with_every_field() {
    let mut failures = Vec::new();
    let mut seen = 0;
    for recording in recordings().filter(|recording| !recording.request_body.is_null()) {
        let request = &recording.request_body;
        seen += 1;
        let name = format!("{} {}", recording.provider, recording.id);
        let bytes = match request {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let first = match dialect().parse_request(&bytes, &UrlHints::default()) {
            Ok(first) => first,
            Err(error) => {
                let known = WRONG_REQUESTS.iter().any(|(id, _)| *id == recording.id);
                // What the real server refused may be refused here.
                if recording.status < 400 && !known {
                    failures.push(format!("{name}: {} {error}", recording.status));
                }
                assert_eq!(error.kind, ErrorKind::InvalidRequest);
                continue;
            }
        };
        let mut losses = Losses::new();
        let written = dialect().write_request(&first, &Profile::FULL, &mut losses);
        let second = dialect().parse_request(&written, &UrlHints::default()).unwrap();
        if first != second {
            failures.push(format!("{name}: {}", difference(&first, &second)));
        }
        if !losses.is_empty() {
            failures.push(format!("{name}: losses {losses}"));
        }
        let written: Value = serde_json::from_slice(&written).unwrap();
        for (key, value) in request.as_object().into_iter().flatten() {
            if !value.is_null() && !says_the_same(key, value, &written) {
                failures.push(format!("{name}: '{key}' is gone"));
            }
        }
    }
    println!("{seen} requests");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// True when the member is still there, under its newer name, or was the default.
fn says_the_same(key: &str, value: &Value, written: &Value) -> bool {
    let newer = match key {
        "max_tokens" => "max_completion_tokens",
        "functions" => "tools",
        "function_call" => "tool_choice",
        "reasoning_effort" | "thinking" => "reasoning",
        "chat_template_kwargs" if value.as_object().is_some_and(|map| map.len() == 1) => "reasoning",
        other => other,
    };
    let is_default = matches!((key, value), ("stream", Value::Bool(false)) | ("service_tier", Value::String(_)))
        || (key == "tools" && value == &json!([]))
        || (key == "stop" && value == &json!([]));
    is_default || written.get(newer).is_some() || written.get(key).is_some()
}

fn difference(first: &Request, second: &Request) -> String {
    let (first, second) = (format!("{first:#?}"), format!("{second:#?}"));
    let lines = first.lines().zip(second.lines()).filter(|(one, other)| one != other).take(4);
    lines.map(|(one, other)| format!("\n  {:.200}\n  {:.200}", one.trim(), other.trim())).collect()
}
