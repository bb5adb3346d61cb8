use super::*;
use bifrost::chat::{BlockKind, Delta, ErrorKind, Part, ReasoningPart, Signature, SignatureOrigin, StopReason, Usage};

fn calls(events: &[Event]) -> Vec<(String, String, String)> {
    let response = collected(events);
    let parts = response.candidates[0].parts.iter();
    parts
        .filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.clone(), call.name.clone(), call.arguments.clone())),
            _ => None,
        })
        .collect()
}

fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
    (id.to_owned(), name.to_owned(), arguments.to_owned())
}

fn delta(call: Value) -> Value {
    json!({"tool_calls": [call]})
}

fn error(stream: &str) -> ChatError {
    match events(stream).pop() {
        Some(Event::Error(error)) => error,
        other => panic!("no error but {other:?}"),
    }
}

#[test]
fn calls_are_told_apart_however_servers_number_them() {
    let name = |id: &str, name: &str| json!({"index": 0, "id": id, "function": {"name": name, "arguments": ""}});
    let more = |text: &str| json!({"index": 0, "function": {"arguments": text}});
    let cases = [
        (
            "index 0 with new ids",
            vec![delta(name("a", "f")), delta(more("{}")), delta(name("b", "g")), delta(more("{}"))],
            vec![call("a", "f", "{}"), call("b", "g", "{}")],
        ),
        (
            "the id in every delta",
            vec![
                delta(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
                delta(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ":1}"}})),
            ],
            vec![call("a", "f", "{\"x\":1}")],
        ),
        (
            "whole calls without any id",
            vec![
                delta(json!({"index": 0, "function": {"name": "f", "arguments": "{}"}})),
                delta(json!({"index": 0, "function": {"name": "f", "arguments": "{}"}})),
            ],
            vec![call("call_c1_0", "f", "{}"), call("call_c1_1", "f", "{}")],
        ),
        (
            "neither index nor id after the first",
            vec![delta(json!({"id": "a", "function": {"name": "f"}})), delta(json!({"function": {"arguments": "{}"}}))],
            vec![call("a", "f", "{}")],
        ),
        (
            "the name after the id",
            vec![
                delta(json!({"index": 0, "id": "a"})),
                delta(json!({"index": 0, "function": {"name": "f", "arguments": "{}"}})),
            ],
            vec![call("a", "f", "{}")],
        ),
        (
            "interleaved",
            vec![
                delta(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}})),
                delta(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}})),
                delta(json!({"index": 0, "function": {"arguments": "}"}})),
                delta(json!({"index": 1, "function": {"arguments": "}"}})),
            ],
            vec![call("a", "f", "{}"), call("b", "g", "{}")],
        ),
        (
            "empty lists, nulls, an object for arguments",
            vec![
                json!({"content": "", "tool_calls": []}),
                json!({"tool_calls": null}),
                delta(json!({"index": 0, "id": "a", "type": null, "function": {"name": "f", "arguments": {"x": 1}}})),
                json!({"content": null, "tool_calls": []}),
            ],
            vec![call("a", "f", "{\"x\":1}")],
        ),
        (
            "legacy",
            vec![
                json!({"function_call": {"name": "f", "arguments": ""}}),
                json!({"function_call": {"arguments": "{}"}}),
            ],
            vec![call("call_c1_0", "f", "{}")],
        ),
    ];
    for (what, deltas, expected) in cases {
        let events = events(&stream(&deltas, "stop"));
        assert_eq!(calls(&events), expected, "{what}");
        assert_eq!(collected(&events).candidates[0].stop, Some(StopReason::ToolUse), "{what}");
    }
}

#[test]
fn a_stream_that_is_none_is_an_error() {
    assert!(error("").message.contains("empty stream"));
    assert!(error(": heartbeat\n\n").message.contains("empty stream"));
    assert!(error("data: [DONE]\n\n").message.contains("without an answer"));
    let cut = r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"he"},"finish_reason":null}]}"#;
    assert!(error(&format!("{cut}\n\n")).message.contains("broke off"));
    assert_eq!(error(&format!("{cut}\n\n")).kind, ErrorKind::Upstream);
    let failed = r#"data: {"error":{"message":"boom","type":"InternalServerError","param":null,"code":500}}"#;
    assert_eq!(error(&format!("{cut}\n\n{failed}\n\n")).kind, ErrorKind::Upstream);
    assert_eq!(error(r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#).kind, ErrorKind::RateLimited);
    let ended = r#"data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#;
    assert_eq!(error(&format!("{ended}\n\n")).kind, ErrorKind::Upstream);
}

#[test]
fn what_can_be_read_is_read() {
    let finished = stream(&[json!({"content": "hi"})], "stop");
    let without_marker = finished.replace("data: [DONE]\n\n", "");
    assert_eq!(collected(&events(&without_marker)).candidates[0].stop, Some(StopReason::EndTurn));
    let without_reason = r#"data: {"choices":[{"delta":{"content":"hi"}}]}"#.to_owned() + "\n\ndata: [DONE]";
    assert_eq!(collected(&events(&without_reason)).candidates[0].stop, Some(StopReason::EndTurn));
    let broken = format!("data: {{\"id\n\ndata: 7\n\n{finished}");
    let seen = events(&broken);
    assert_eq!(seen.iter().filter(|event| matches!(event, Event::Skipped { .. })).count(), 2);
    assert_eq!(collected(&seen).candidates[0].parts, [Part::text("hi")]);
    let whole = r#"{"id":"c1","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    assert_eq!(collected(&events(whole)).candidates[0].parts, [Part::text("hi")]);
}

#[test]
fn usage_is_read_from_every_place() {
    let counted = Some(Usage { input: 3, output: 2, ..Usage::default() });
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    let finish = r#""choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]"#;
    for text in [
        format!("data: {{{finish},{usage}}}\n\n"),
        format!("data: {{{finish},\"usage\":null}}\n\ndata: {{\"choices\":[],{usage}}}\n\n"),
        format!("data: {{{finish},\"x_groq\":{{\"id\":\"r\",{usage}}}}}\n\n"),
    ] {
        assert_eq!(collected(&events(&text)).usage, counted, "{text}");
    }
}

#[test]
fn details_and_plain_reasoning_of_the_same_words_are_one() {
    let detail =
        |text: &str| json!([{"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0}]);
    let proof = json!({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1", "index": 0}]});
    let deltas = [
        json!({"reasoning": "h", "reasoning_details": detail("h")}),
        json!({"reasoning": "m", "reasoning_details": detail("m")}),
        proof,
        json!({"content": "so"}),
    ];
    let thought = Part::Reasoning(ReasoningPart {
        text: "hm".into(),
        signature: Some(Signature::new(SignatureOrigin::Anthropic, "s")),
        ..ReasoningPart::default()
    });
    assert_eq!(collected(&events(&stream(&deltas, "stop"))).candidates[0].parts, [thought, Part::text("so")]);
}

/// The events of an answer with one block after another.
fn told(parts: Vec<Part>) -> Vec<Event> {
    let candidate = bifrost::chat::Candidate { parts, stop: Some(StopReason::EndTurn), ..Default::default() };
    Response { id: Some("c1".into()), model: Some("m".into()), candidates: vec![candidate], ..Default::default() }
        .into_events()
}

#[test]
fn neighbouring_blocks_of_reasoning_stay_apart() {
    let plain = |text: &str| ReasoningPart { text: text.into(), ..ReasoningPart::default() };
    let signed =
        |text: &str| ReasoningPart { signature: Some(Signature::new(SignatureOrigin::Anthropic, "s")), ..plain(text) };
    let summary = ReasoningPart {
        summary: true,
        id: Some("rs_1".into()),
        encrypted: Some(Signature::new(SignatureOrigin::OpenAi, "e")),
        ..plain("sum")
    };
    let hidden = ReasoningPart { encrypted: Some(Signature::new(SignatureOrigin::Anthropic, "r")), ..plain("") };
    for list in [
        vec![plain("a"), signed("b")],
        vec![signed("a"), signed("b")],
        vec![signed("a"), plain("b")],
        vec![summary.clone(), plain("c")],
        vec![hidden.clone(), signed("a"), hidden],
        vec![signed("")],
    ] {
        let mut parts: Vec<Part> = list.into_iter().map(Part::Reasoning).collect();
        parts.push(Part::text("so"));
        let (text, losses) = encoded(&told(parts.clone()), false);
        assert_eq!(collected(&events(&text)).candidates[0].parts, parts, "{text}");
        assert_eq!(losses, "");
    }
}

#[test]
fn a_proof_of_a_call_stands_with_the_call() {
    let start =
        Event::BlockStart { index: 0, candidate: 0, kind: BlockKind::ToolCall { id: "a".into(), name: "f".into() } };
    let proof = Event::Delta { index: 0, delta: Delta::Signature(Signature::new(SignatureOrigin::Gemini, "s")) };
    let arguments = Event::Delta { index: 0, delta: Delta::Arguments("{}".into()) };
    let stop = Event::BlockStop { index: 0 };
    let end = Event::Stop { candidate: 0, reason: StopReason::ToolUse, sequence: None };
    for order in [[&start, &proof, &arguments, &stop, &end], [&start, &arguments, &proof, &stop, &end]] {
        let order: Vec<Event> = order.into_iter().cloned().collect();
        let (text, _) = encoded(&order, false);
        assert!(text.contains(r#""extra_content":{"google":{"thought_signature":"s"}}"#), "{text}");
        assert!(
            text.contains(
                r#"{"type":"reasoning.encrypted","data":"s","id":"a","format":"google-gemini-v1","index":0}"#
            )
        );
        let response = collected(&events(&text));
        let [Part::ToolCall(call)] = &response.candidates[0].parts[..] else { panic!("{response:?}") };
        assert_eq!(call.signature, Some(Signature::new(SignatureOrigin::Gemini, "s")));
    }
}

#[test]
fn a_call_without_arguments_gets_an_empty_object() {
    let events = [
        Event::BlockStart { index: 0, candidate: 0, kind: BlockKind::ToolCall { id: "a".into(), name: "f".into() } },
        Event::BlockStop { index: 0 },
        Event::Stop { candidate: 0, reason: StopReason::ToolUse, sequence: None },
    ];
    assert_eq!(calls(&super::events(&encoded(&events, false).0)), [call("a", "f", "{}")]);
}

#[test]
fn strict_clients_get_the_frames_they_expect() {
    let mut events = told(vec![Part::text("hi")]);
    events.push(Event::Usage(Usage { input: 3, output: 2, ..Usage::default() }));
    let (text, _) = encoded(&events, true);
    assert!(text.ends_with("data: [DONE]\n\n"));
    let seen = chunks(&text);
    assert!(
        seen.iter()
            .all(|chunk| chunk["id"] == "c1" && chunk["object"] == "chat.completion.chunk" && chunk["model"] == "m")
    );
    assert_eq!(seen[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(seen[seen.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(seen[seen.len() - 1]["choices"], json!([]));
    assert_eq!(seen[seen.len() - 1]["usage"]["total_tokens"], 5);
    let (text, _) = encoded(&events, false);
    assert!(chunks(&text).iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"] != json!([])));
}

#[test]
fn nothing_follows_an_error() {
    let mut failed = ChatError::new(ErrorKind::Overloaded, "busy");
    failed.request_id = Some("req-1".into());
    let events = [Event::Error(failed), Event::Stop { candidate: 0, reason: StopReason::EndTurn, sequence: None }];
    let (text, _) = encoded(&events, true);
    let error = json!({"message": "busy (request id: req-1)", "type": "overloaded_error", "param": null, "code": null});
    assert_eq!(text, format!("data: {}\n\n", json!({"error": error})));
    assert_eq!(self::error(&text).kind, ErrorKind::Overloaded);
}

#[test]
fn alternatives_keep_their_numbers() {
    let text = "data: {\"id\":\"c1\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"},\"finish_reason\":null}]}\n\n\
        data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"id\":\"c1\",\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
    let first = collected(&events(text));
    assert_eq!(first.candidates.len(), 2);
    assert_eq!(first.candidates[1].parts, [Part::text("b")]);
    assert_eq!(first.candidates[1].stop, Some(StopReason::MaxTokens));
    assert_eq!(collected(&events(&encoded(&events(text), false).0)).candidates, first.candidates);
}

#[test]
fn a_sign_of_life_is_a_comment() {
    let mut out = Vec::new();
    OpenAiChat.encoder(&StreamOptions::default()).keep_alive(&mut out);
    assert_eq!(out, b": keep-alive\n\n");
}
