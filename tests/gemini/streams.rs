use super::*;
use bifrost::chat::{BlockKind, ChatError, Delta, ErrorKind, Part, StopReason, Usage};
use serde_json::json;

fn chunk(parts: Value, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
    if let Some(word) = finish {
        candidate["finishReason"] = word.into();
    }
    json!({ "candidates": [candidate], "modelVersion": "m", "responseId": "r" })
}

fn error_of(events: &[Event]) -> &ChatError {
    match events.last() {
        Some(Event::Error(error)) => error,
        other => panic!("no error at the end: {other:?}"),
    }
}

#[test]
fn text_of_many_chunks_is_one_block_as_long_as_its_kind_stays() {
    let stream = sse(&[
        chunk(json!([{ "text": "h", "thought": true }]), None),
        chunk(json!([{ "text": "m", "thought": true }, { "text": "a" }]), None),
        chunk(json!([{ "text": "b" }]), None),
        chunk(json!([{ "text": "", "thoughtSignature": "c2ln" }]), None),
        chunk(json!([{ "text": "c" }, { "functionCall": { "name": "f", "args": { "x": 1 } } }]), Some("STOP")),
    ]);
    let response = collected(&events(&stream));
    let candidate = &response.candidates[0];
    assert_eq!(candidate.stop, Some(StopReason::ToolUse));
    let said = candidate.parts.iter().map(|part| match part {
        Part::Reasoning(part) => format!("thought {}", part.text),
        Part::Text { text, signature, .. } => format!("text {text} signed {}", signature.is_some()),
        Part::ToolCall(call) => format!("call {} {}", call.name, call.arguments),
        other => panic!("{other:?}"),
    });
    let said: Vec<String> = said.collect();
    assert_eq!(said, ["thought hm", "text ab signed true", "text c signed false", "call f {\"x\":1}"]);
}

#[test]
fn a_stream_that_fails_says_so() {
    let started = chunk(json!([{ "text": "a" }]), None);
    for (stream, kind) in [
        (String::new(), ErrorKind::Upstream),
        (": only a comment\n\n".to_owned(), ErrorKind::Upstream),
        (sse(std::slice::from_ref(&started)), ErrorKind::Upstream),
        (sse(&[json!({ "usageMetadata": { "promptTokenCount": 1 } })]), ErrorKind::Upstream),
        (
            sse(&[started.clone(), json!({ "error": { "code": 503, "status": "UNAVAILABLE", "message": "busy" } })]),
            ErrorKind::Overloaded,
        ),
        (
            sse(&[started, json!([{ "error": { "code": 500, "status": "INTERNAL", "message": "oh" } }])]),
            ErrorKind::Upstream,
        ),
        (
            "[{\n \"error\": {\"code\": 429, \"status\": \"RESOURCE_EXHAUSTED\", \"message\": \"slow\"}}\n]\n"
                .to_owned(),
            ErrorKind::RateLimited,
        ),
    ] {
        let events = events(&stream);
        assert_eq!(error_of(&events).kind, kind, "{stream}");
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Error(_))).count(), 1, "{stream}");
    }
}

#[test]
fn one_unreadable_event_is_left_out_and_counted() {
    let mut stream = String::from("data: {\"candidates\": [\n\ndata: 7\n\n");
    stream.push_str(&sse(&[chunk(json!([{ "text": "a" }]), Some("STOP"))]));
    stream.push_str("data: [DONE]\n\n");
    let events = events(&stream);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Skipped { .. })).count(), 2);
    assert_eq!(collected(&events).candidates[0].parts, [Part::text("a")]);
}

#[test]
fn a_blocked_prompt_is_an_answer_without_parts() {
    let block = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "modelVersion": "m", "responseId": "r" });
    let streamed = events(&sse(std::slice::from_ref(&block)));
    let response = collected(&streamed);
    assert_eq!(response, Gemini.parse_response(block.to_string().as_bytes()).unwrap());
    assert_eq!(response.candidates[0].stop, Some(StopReason::ContentFilter));
}

#[test]
fn candidates_side_by_side_stay_apart() {
    let chunk = |index: u32, text: &str, finish: Value| json!({ "candidates": [{ "index": index, "content": { "parts": [{ "text": text }] }, "finishReason": finish }] });
    let stream = sse(&[
        chunk(0, "a", Value::Null),
        chunk(1, "x", Value::Null),
        chunk(0, "b", json!("STOP")),
        chunk(1, "y", json!("MAX_TOKENS")),
    ]);
    let response = collected(&events(&stream));
    let said: Vec<_> = response.candidates.iter().map(|it| (it.parts.clone(), it.stop.clone())).collect();
    assert_eq!(
        said,
        [(vec![Part::text("ab")], Some(StopReason::EndTurn)), (vec![Part::text("xy")], Some(StopReason::MaxTokens))]
    );
    // One of them is missing its end.
    let cut = sse(&[chunk(0, "a", json!("STOP")), chunk(1, "x", Value::Null)]);
    assert_eq!(error_of(&events(&cut)).kind, ErrorKind::Upstream);
}

fn answer() -> Vec<Event> {
    let text = |index, text: &str| Event::Delta { index, delta: Delta::Text(text.into()) };
    vec![
        Event::Start { id: Some("msg_1".into()), model: Some("claude".into()), created: Some(1_755_616_723) },
        Event::BlockStart { index: 0, candidate: 0, kind: BlockKind::Text },
        text(0, "on"),
        Event::BlockStart { index: 1, candidate: 0, kind: BlockKind::ToolCall { id: "c1".into(), name: "f".into() } },
        Event::Delta { index: 1, delta: Delta::Arguments("{\"a\":".into()) },
        text(0, "e"),
        Event::Delta { index: 1, delta: Delta::Arguments("1}".into()) },
        Event::BlockStop { index: 0 },
        Event::BlockStop { index: 1 },
        Event::Stop { candidate: 0, reason: StopReason::ToolUse, sequence: None },
        Event::Usage(Usage { input: 3, output: 2, ..Usage::default() }),
    ]
}

#[test]
fn a_client_gets_chunks_and_the_end_in_the_last() {
    let (text, losses) = encoded(&answer(), false);
    insta::assert_snapshot!(text);
    assert_eq!(losses, "");
}

#[test]
fn a_client_without_sse_gets_one_json_array() {
    let (text, _) = encoded(&answer(), true);
    let chunks: Vec<Value> = serde_json::from_str(&text).unwrap();
    let (events, _) = encoded(&answer(), false);
    let expected: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(chunks, expected);
    assert_eq!(encoded(&[], true).0, "[]");
}

#[test]
fn nothing_follows_an_error() {
    let mut stream = answer();
    stream.insert(3, Event::Error(ChatError::new(ErrorKind::Overloaded, "busy")));
    let (text, _) = encoded(&stream, false);
    assert!(text.trim_end().lines().last().unwrap().contains("\"status\":\"UNAVAILABLE\""), "{text}");
    let (array, _) = encoded(&stream, true);
    let chunks: Vec<Value> = serde_json::from_str(&array).unwrap();
    assert_eq!((chunks.len(), &chunks[1]["error"]["code"]), (2, &json!(503)));
}
