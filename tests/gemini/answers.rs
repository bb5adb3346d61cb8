use super::*;
use bifrost::chat::{
    Candidate, DialectId, Extras, Part, ReasoningPart, Signature, SignatureOrigin, StopReason, ToolCall, Usage,
};
use serde_json::json;

fn answer(parts: Vec<Part>, stop: StopReason) -> Response {
    let candidate = Candidate { parts, stop: Some(stop), ..Candidate::default() };
    Response { id: Some("id".into()), model: Some("m".into()), candidates: vec![candidate], ..Response::default() }
}

fn to_client(response: &Response) -> (Value, String) {
    let mut losses = Losses::new();
    let body = Gemini.write_response(response, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.to_string())
}

/// An answer of another vendor's, with every kind of proof.
fn foreign_answer() -> Response {
    let proof = |origin, value: &str| Some(Signature::new(origin, value));
    let mut response = answer(
        vec![
            Part::Reasoning(ReasoningPart {
                text: "hm".into(),
                signature: proof(SignatureOrigin::Anthropic, "EqQB"),
                ..ReasoningPart::default()
            }),
            Part::Reasoning(ReasoningPart {
                encrypted: proof(SignatureOrigin::Anthropic, "EmwK"),
                ..ReasoningPart::default()
            }),
            Part::Reasoning(ReasoningPart {
                text: "in short".into(),
                summary: true,
                encrypted: proof(SignatureOrigin::OpenAi, "gAAA"),
                id: Some("rs_1".into()),
                ..ReasoningPart::default()
            }),
            Part::Reasoning(ReasoningPart {
                text: "a summary without a proof".into(),
                summary: true,
                id: Some("rs_2".into()),
                ..ReasoningPart::default()
            }),
            Part::Text {
                text: "so".into(),
                cache: None,
                signature: proof(SignatureOrigin::Unknown, "x"),
                extras: Extras::default(),
            },
            Part::ToolCall(ToolCall {
                id: "toolu_1".into(),
                name: "f".into(),
                arguments: "{\"a\":1}".into(),
                signature: proof(SignatureOrigin::OpenAi, "y"),
                cache: None,
                extras: Extras::default(),
            }),
        ],
        StopReason::ToolUse,
    );
    response.usage = Some(Usage { input: 10, output: 7, cache_read: Some(4), reasoning: Some(5), ..Usage::default() });
    response
}

#[test]
fn proofs_of_other_vendors_survive_a_gemini_client() {
    let (body, losses) = to_client(&foreign_answer());
    assert_eq!(losses, "");
    assert_eq!(Gemini.parse_response(body.to_string().as_bytes()).unwrap(), foreign_answer());
    // The client gives the turn back as it got it.
    let content = body["candidates"][0]["content"].clone();
    let back = request("m", &json!({ "contents": [{ "parts": [{ "text": "?" }] }, content] }));
    assert_eq!(back.messages[1].parts, foreign_answer().candidates[0].parts);
}

#[test]
fn proofs_of_other_vendors_survive_a_stream() {
    use bifrost::chat::{BlockKind, Delta};
    let mut stream = vec![Event::Start { id: Some("id".into()), model: Some("m".into()), created: None }];
    for (index, part) in foreign_answer().candidates[0].parts.iter().enumerate() {
        let (kind, deltas) = match part.clone() {
            Part::Reasoning(part) => {
                let text = (!part.text.is_empty()).then_some(Delta::Text(part.text));
                let signature = part.signature.map(Delta::Signature);
                let kind = BlockKind::Reasoning { id: part.id, summary: part.summary };
                (kind, vec![text, signature, part.encrypted.map(Delta::Encrypted)])
            }
            Part::Text { text, signature, .. } => {
                (BlockKind::Text, vec![Some(Delta::Text(text)), signature.map(Delta::Signature)])
            }
            Part::ToolCall(call) => {
                let kind = BlockKind::ToolCall { id: call.id, name: call.name };
                (kind, vec![Some(Delta::Arguments(call.arguments)), call.signature.map(Delta::Signature)])
            }
            other => panic!("{other:?}"),
        };
        stream.push(Event::BlockStart { index, candidate: 0, kind });
        stream.extend(deltas.into_iter().flatten().map(|delta| Event::Delta { index, delta }));
        stream.push(Event::BlockStop { index });
    }
    stream.push(Event::Stop { candidate: 0, reason: StopReason::ToolUse, sequence: None });
    stream.extend(foreign_answer().usage.map(Event::Usage));
    let (text, losses) = encoded(&stream, false);
    assert_eq!(losses, "");
    assert_eq!(collected(&events(&text)), foreign_answer());
    let (array, _) = encoded(&stream, true);
    assert_eq!(Gemini.parse_response(array.as_bytes()).unwrap(), foreign_answer());
}

#[test]
fn stop_reasons() {
    for (word, neutral) in [
        ("STOP", StopReason::EndTurn),
        ("MAX_TOKENS", StopReason::MaxTokens),
        ("SAFETY", StopReason::ContentFilter),
        ("RECITATION", StopReason::ContentFilter),
        ("PROHIBITED_CONTENT", StopReason::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", StopReason::MalformedToolCall),
        ("UNEXPECTED_TOOL_CALL", StopReason::Other("UNEXPECTED_TOOL_CALL".into())),
        ("LANGUAGE", StopReason::Other("LANGUAGE".into())),
        ("NEWER_WORD", StopReason::Other("NEWER_WORD".into())),
    ] {
        let body = json!({ "candidates": [{ "content": { "parts": [{ "text": "x" }] }, "finishReason": word }] });
        let response = Gemini.parse_response(body.to_string().as_bytes()).unwrap();
        assert_eq!(response.candidates[0].stop, Some(neutral));
        assert_eq!(to_client(&response).0["candidates"][0]["finishReason"], word, "the word comes back");
    }
    for (neutral, word, losses) in [
        (StopReason::ToolUse, "STOP", ""),
        (StopReason::StopSequence, "STOP", "stop_reason=approximated"),
        (StopReason::PauseTurn, "STOP", "stop_reason=approximated"),
        (StopReason::ContextWindow, "MAX_TOKENS", "stop_reason=approximated"),
        (StopReason::Refusal, "SAFETY", "stop_reason=approximated"),
        (StopReason::Other("insufficient_system_resource".into()), "OTHER", "stop_reason=approximated"),
    ] {
        let (body, lost) = to_client(&answer(vec![Part::text("x")], neutral));
        assert_eq!((body["candidates"][0]["finishReason"].as_str(), lost.as_str()), (Some(word), losses));
    }
}

#[test]
fn usage_is_inclusive_inside_and_split_outside() {
    let body = json!({
        "candidates": [{ "content": { "parts": [{ "text": "x" }] }, "finishReason": "STOP" }],
        "usageMetadata": {
            "promptTokenCount": 100, "cachedContentTokenCount": 80, "toolUsePromptTokenCount": 7,
            "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "totalTokenCount": 157,
        },
    });
    let response = Gemini.parse_response(body.to_string().as_bytes()).unwrap();
    let usage = Usage { input: 107, output: 50, cache_read: Some(80), reasoning: Some(30), ..Usage::default() };
    assert_eq!(response.usage, Some(usage));
    assert_eq!(to_client(&response).0["usageMetadata"], body["usageMetadata"]);
}

#[test]
fn ids_of_calls_differ_between_answers() {
    let id = |response_id: &str| {
        let call = json!({ "functionCall": { "name": "get weather", "args": {} } });
        let body = json!({ "responseId": response_id, "candidates": [{ "content": { "parts": [call] } }] });
        match &Gemini.parse_response(body.to_string().as_bytes()).unwrap().candidates[0].parts[0] {
            Part::ToolCall(call) => call.id.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(id("A-b"), "call_A-b_0_get_weather");
    assert_ne!(id("A-b"), id("A-c"));
}

#[test]
fn an_answer_that_is_none_is_the_providers_failure() {
    use bifrost::chat::ErrorKind;
    for body in ["", "null", "{}", "[]", "<html>", "{\"choices\": []}", "[1]"] {
        assert_eq!(Gemini.parse_response(body.as_bytes()).unwrap_err().kind, ErrorKind::Upstream, "{body}");
    }
    let error = Gemini.parse_response(br#"{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}"#);
    assert_eq!(error.unwrap_err().kind, ErrorKind::Overloaded);
}

#[test]
fn arguments_that_are_no_object_are_carried_and_noted() {
    let call = |arguments: &str| {
        Part::ToolCall(ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: arguments.into(),
            signature: None,
            cache: None,
            extras: Extras::default(),
        })
    };
    let (body, losses) = to_client(&answer(vec![call("{\"a\": "), call("")], StopReason::ToolUse));
    let parts = &body["candidates"][0]["content"]["parts"];
    assert_eq!(parts[0]["functionCall"]["args"], json!({ "INVALID_JSON": "{\"a\": " }));
    assert_eq!(parts[1]["functionCall"]["args"], json!({}));
    assert_eq!(losses, "tool_call.arguments=approximated");
}

#[test]
fn fields_of_another_dialect_are_losses_and_own_ones_come_back() {
    let extras =
        |dialect| Extras::from_fields(dialect, serde_json::from_value(json!({ "labels": { "a": 1 } })).unwrap());
    let mut response = answer(vec![Part::text("x")], StopReason::EndTurn);
    response.extras = extras(DialectId::Gemini);
    assert_eq!(to_client(&response).0["labels"], json!({ "a": 1 }));
    response.extras = extras(DialectId::OpenAiChat);
    let (body, losses) = to_client(&response);
    assert_eq!((body.get("labels"), losses.as_str()), (None, "labels=dropped"));
}
