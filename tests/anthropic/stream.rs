//! Streams.

use super::response::{foreign_answer, handed_back};
use super::*;
use bifrost::chat::{
    BlockKind, ChatError, Delta, ErrorKind, ReasoningPart, Signature, SignatureOrigin, StopReason, Usage,
};
use proptest::prelude::*;

const ADVISOR: &[u8] = include_bytes!("../fixtures/anthropic/advisor.sse");

fn start(index: usize, kind: BlockKind) -> Event {
    Event::BlockStart { index, candidate: 0, kind }
}

fn text(index: usize, text: &str) -> Event {
    Event::Delta { index, delta: Delta::Text(text.into()) }
}

fn arguments(index: usize, json: &str) -> Event {
    Event::Delta { index, delta: Delta::Arguments(json.into()) }
}

fn tool(id: &str) -> BlockKind {
    BlockKind::ToolCall { id: id.into(), name: "f".into() }
}

fn stop(reason: StopReason) -> Event {
    Event::Stop { candidate: 0, reason, sequence: None }
}

fn error(events: &[Event]) -> &ChatError {
    match events.last() {
        Some(Event::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn overlapping_blocks_are_written_one_after_the_other() {
    let gemini = Signature::new(SignatureOrigin::Gemini, "CiQB");
    let (stream, losses) = encode(&[
        Event::Start { id: Some("chatcmpl-1".into()), model: Some("m".into()), created: Some(1) },
        start(0, BlockKind::Reasoning { id: None, summary: false }),
        text(0, "hm"),
        start(1, BlockKind::Text),
        text(1, "let "),
        start(2, tool("a")),
        arguments(2, "{\"x\":"),
        start(3, tool("b")),
        arguments(3, "{}"),
        Event::BlockStop { index: 0 },
        text(1, "me"),
        Event::Delta { index: 3, delta: Delta::Signature(gemini) },
        arguments(2, "1}"),
        Event::BlockStop { index: 3 },
        Event::BlockStop { index: 1 },
        stop(StopReason::ToolUse),
        Event::Usage(Usage { input: 7, output: 3, ..Usage::default() }),
    ]);
    assert_eq!(losses, "");
    insta::assert_snapshot!(stream);
}

#[test]
fn the_prompts_tokens_stand_in_the_first_frame_where_they_are_known() {
    let (stream, _) = encode(&[
        Event::Start { id: None, model: None, created: None },
        Event::Usage(Usage { input: 9, output: 1, cache_read: Some(4), ..Usage::default() }),
        start(0, BlockKind::Text),
        text(0, "hi"),
        stop(StopReason::EndTurn),
        Event::Usage(Usage { input: 0, output: 6, ..Usage::default() }),
    ]);
    let first = stream.lines().nth(1).unwrap();
    assert!(first.contains(r#""id":"msg_x-1""#) && first.contains(r#""model":"some/model""#), "{first}");
    assert!(first.contains(
        r#""input_tokens":5,"cache_creation_input_tokens":null,"cache_read_input_tokens":4,"output_tokens":1"#
    ));
    assert!(stream.contains(
        r#""usage":{"input_tokens":5,"cache_creation_input_tokens":null,"cache_read_input_tokens":4,"output_tokens":6}"#
    ));
}

#[test]
fn a_stream_of_another_vendor_can_be_handed_back() {
    let (stream, losses) = encode(&foreign_answer().into_events());
    assert_eq!(losses, "reasoning.signature=dropped");
    assert_eq!(collect(&decode(stream.as_bytes(), 5)), handed_back());
}

#[test]
fn an_error_ends_the_stream() {
    let mut failure = ChatError::new(ErrorKind::Overloaded, "the provider is overloaded; ask again later");
    failure.request_id = Some("x-1".into());
    let (stream, _) = encode(&[start(0, BlockKind::Text), text(0, "a"), Event::Error(failure), text(0, "b")]);
    let last = stream.split_once("event: error\n").unwrap().1;
    insta::assert_snapshot!(last, @r#"data: {"type":"error","error":{"type":"overloaded_error","message":"the provider is overloaded; ask again later"},"request_id":"x-1"}"#);
    assert_eq!(error(&decode(stream.as_bytes(), 9)).kind, ErrorKind::Overloaded);
}

#[test]
fn signs_of_life_are_pings_before_and_after_the_start() {
    let mut encoder = Anthropic.encoder(&StreamOptions::default());
    let (mut out, mut losses) = (Vec::new(), Losses::new());
    encoder.keep_alive(&mut out);
    assert_eq!(out, b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
    encoder.finish(&mut out, &mut losses);
    let ended = out.len();
    encoder.keep_alive(&mut out);
    assert_eq!(out.len(), ended);
}

#[test]
fn a_stream_that_is_none_or_cut_is_an_error() {
    let failed = |body: &str| {
        let events = decode(body.as_bytes(), 3);
        let error = error(&events);
        (error.kind, error.message.clone())
    };
    assert_eq!(failed(""), (ErrorKind::Upstream, "the provider sent an empty stream".into()));
    assert_eq!(failed(": comment\n\n\n").0, ErrorKind::Upstream);
    assert_eq!(failed(r#"{"detail": "no such model"}"#), (ErrorKind::Upstream, "no such model".into()));
    let limited =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n";
    assert_eq!(failed(limited), (ErrorKind::RateLimited, "slow".into()));
}

#[test]
fn a_whole_answer_in_place_of_a_stream_is_read() {
    let body = include_bytes!("../fixtures/anthropic/thinking_and_call.json");
    let response = collect(&decode(body, 100));
    assert_eq!(response, Anthropic.parse_response(body).unwrap());
}

#[test]
fn what_cannot_be_read_is_skipped_and_the_rest_goes_on() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":0}}}\n\n",
        "data: {\"type\":\"content_bl\n\n",
        "data: {\"type\":\"brand_new_event\"}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"he\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":7,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"x\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"llo\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}",
    );
    let events = decode(stream.as_bytes(), 4);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Skipped { .. })).count(), 2);
    let response = collect(&events);
    assert_eq!(response.candidates[0].parts, [Part::text("hello")]);
    assert_eq!(response.usage, Some(Usage { input: 1, output: 2, ..Usage::default() }));
}

#[test]
fn an_event_whose_data_is_no_object_is_skipped() {
    for name in ["message_start", "content_block_start", "content_block_delta", "message_delta", "error"] {
        for data in ["5", "[1]", "\"x\"", "true"] {
            let events = decode(format!("event: {name}\ndata: {data}\n\n").as_bytes(), 99);
            assert!(matches!(events[0], Event::Skipped { .. }), "{name} {data}: {events:?}");
        }
    }
}

#[test]
fn a_block_whose_beginning_cannot_be_read_begins_with_its_text() {
    let stream = concat!(
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_bl\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":null}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"on\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"e\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    );
    let events = decode(stream.as_bytes(), 8);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Skipped { .. })).count(), 3);
    let thought = Part::Reasoning(ReasoningPart { text: "hm".into(), ..ReasoningPart::default() });
    assert_eq!(collect(&events).candidates[0].parts, [thought, Part::text("one")]);
}

#[test]
fn arguments_that_come_whole_at_the_start_are_read() {
    let stream = concat!(
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{\"x\":1}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\n",
    );
    assert_eq!(
        collect(&decode(stream.as_bytes(), 8)).candidates[0].parts,
        [Part::ToolCall(call("a", "f", "{\"x\":1}"))]
    );
}

proptest! {
    #[test]
    fn where_the_network_cuts_does_not_matter(sizes in proptest::collection::vec(1usize..90, 1..20)) {
        let mut decoder = Anthropic.decoder();
        let (mut events, mut rest) = (Vec::new(), ADVISOR);
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            decoder.push(now, &mut events);
            rest = later;
        }
        decoder.finish(&mut events);
        prop_assert_eq!(events, decode(ADVISOR, ADVISOR.len()));
    }

    #[test]
    fn a_stream_that_breaks_off_fails_or_is_complete(at in 0usize..ADVISOR.len()) {
        let events = decode(&ADVISOR[..at], 50);
        let has_stop = events.iter().any(|event| matches!(event, Event::Stop { .. }));
        let has_failed = matches!(events.last(), Some(Event::Error(_)));
        prop_assert!(has_stop != has_failed);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let events = decode(&bytes, 7);
        prop_assert!(!events.is_empty());
    }

    #[test]
    fn frames_in_any_order_and_shape_are_read_without_panic(
        frames in proptest::collection::vec((
            prop_oneof![Just("message_start"), Just("content_block_start"), Just("content_block_delta"),
                        Just("content_block_stop"), Just("message_delta"), Just("message_stop"), Just("error")],
            prop_oneof![Just("text"), Just("thinking"), Just("tool_use"), Just("redacted_thinking"), Just("other")],
            prop_oneof![Just("text_delta"), Just("input_json_delta"), Just("signature_delta"), Just("citations_delta"), Just("odd")],
            prop_oneof![Just(serde_json::json!("x")), Just(serde_json::json!(1)), Just(Value::Null), Just(serde_json::json!({"a": []}))],
            0u8..3,
        ), 0..12),
    ) {
        let mut stream = String::new();
        for (kind, block, delta, odd, index) in frames {
            let frame = serde_json::json!({"type": kind, "index": index, "message": odd, "usage": odd,
                "content_block": {"type": block, "text": odd, "thinking": odd, "data": odd, "id": "i", "name": odd, "input": odd},
                "delta": {"type": delta, "text": odd, "partial_json": odd, "signature": odd, "citation": odd, "stop_reason": odd}});
            stream.push_str(&format!("data: {frame}\n\n"));
        }
        let events = decode(stream.as_bytes(), 64);
        // Whatever came, it can be told to a client.
        let (told, _) = encode(&events);
        prop_assert!(told.contains("event: "));
    }

    #[test]
    fn blocks_in_any_order_become_a_strict_stream(steps in proptest::collection::vec((0usize..4, 0u8..5), 0..40)) {
        let mut events = Vec::new();
        let mut begun = [false; 4];
        for (index, step) in steps {
            if !begun[index] {
                begun[index] = true;
                events.push(start(index, match index {
                    0 => BlockKind::Text,
                    1 => BlockKind::Reasoning { id: None, summary: false },
                    _ => tool(&format!("t{index}")),
                }));
            }
            events.push(match (step, index) {
                (0, _) => Event::BlockStop { index },
                (1, _) => Event::Delta { index, delta: Delta::Signature(Signature::new(SignatureOrigin::Gemini, "CiQB")) },
                (_, 0 | 1) => text(index, "x"),
                _ => arguments(index, "1"),
            });
        }
        events.push(stop(StopReason::EndTurn));
        let (stream, _) = encode(&events);
        let mut open = None;
        let mut next = 0;
        for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let frame: Value = serde_json::from_str(line).unwrap();
            let index = frame["index"].as_u64();
            match frame["type"].as_str().unwrap() {
                "content_block_start" => {
                    prop_assert_eq!((open, index), (None, Some(next)));
                    open = index;
                    next += 1;
                }
                "content_block_delta" => prop_assert_eq!(open, index),
                "content_block_stop" => {
                    prop_assert_eq!(open, index);
                    open = None;
                }
                _ => prop_assert_eq!(open, None),
            }
        }
    }
}
