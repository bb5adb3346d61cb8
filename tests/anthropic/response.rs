//! Whole answers.

use super::*;
use bifrost::chat::{
    Candidate, DialectId, ErrorKind, Extras, ReasoningPart, Signature, SignatureOrigin, StopReason, Usage,
};
use serde_json::json;

/// An answer with everything that only other vendors' models say.
pub(crate) fn foreign_answer() -> Response {
    let gemini = |value: &str| Some(Signature::new(SignatureOrigin::Gemini, value));
    let openai = |value: &str| Some(Signature::new(SignatureOrigin::OpenAi, value));
    let mut signed = call("call:1", "ns.look", "{\"at\":1}");
    signed.signature = gemini("CiQC");
    let text =
        |text: &str, signature| Part::Text { text: text.into(), cache: None, signature, extras: Extras::default() };
    Response {
        id: Some("chatcmpl-1".into()),
        model: Some("some-model".into()),
        created: Some(1),
        candidates: vec![Candidate {
            parts: vec![
                Part::Reasoning(ReasoningPart { text: "unsigned".into(), ..ReasoningPart::default() }),
                Part::Reasoning(ReasoningPart {
                    text: "a summary".into(),
                    summary: true,
                    id: Some("rs_1".into()),
                    ..ReasoningPart::default()
                }),
                Part::Reasoning(ReasoningPart {
                    encrypted: openai("gAAA"),
                    id: Some("rs_1".into()),
                    ..ReasoningPart::default()
                }),
                Part::Reasoning(ReasoningPart {
                    text: "both".into(),
                    encrypted: openai("gAAB"),
                    id: Some("rs_2".into()),
                    ..ReasoningPart::default()
                }),
                text("hello", gemini("CiQA")),
                text("", gemini("CiQB")),
                Part::ToolCall(signed),
            ],
            stop: Some(StopReason::ToolUse),
            ..Candidate::default()
        }],
        usage: Some(Usage { input: 10, output: 5, cache_read: Some(4), reasoning: Some(2), ..Usage::default() }),
        extras: Extras::default(),
    }
}

/// What of [`foreign_answer`] a client hands back: nobody asks for the proof of a text.
pub(crate) fn handed_back() -> Response {
    let mut response = Response { created: None, ..foreign_answer() };
    let parts = &mut response.candidates[0].parts;
    parts.retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
    for part in parts {
        if let Part::Text { signature, .. } = part {
            *signature = None;
        }
    }
    response
}

#[test]
fn an_answer_of_another_vendor_can_be_handed_back() {
    let mut losses = Losses::new();
    let body = Anthropic.write_response(&foreign_answer(), &mut losses);
    assert_eq!(losses.to_string(), "reasoning.signature=dropped");
    let value: Value = serde_json::from_slice(&body).unwrap();
    insta::assert_snapshot!(format!("{value:#}"));
    assert_eq!(Anthropic.parse_response(&body).unwrap(), handed_back());

    // And as the history of the next request.
    let history = json!({"model": "m", "messages": [{"role": "assistant", "content": value["content"]}]});
    assert_eq!(parsed(&history).messages[0].parts, handed_back().candidates[0].parts);
}

/// Claude Code takes the last block for the answer, and prints nothing where that is no text.
#[test]
fn an_answer_of_geminis_ends_with_its_text() {
    let text =
        |text: &str, signature| Part::Text { text: text.into(), cache: None, signature, extras: Extras::default() };
    let proof = Some(Signature::new(SignatureOrigin::Gemini, "CiQB"));
    let mut response = foreign_answer();
    response.candidates[0].parts = vec![text("Hello", None), text("", proof)];
    let mut losses = Losses::new();
    let body: Value = serde_json::from_slice(&Anthropic.write_response(&response, &mut losses)).unwrap();
    assert_eq!(body["content"], json!([{"type": "text", "text": "Hello"}]));
    assert_eq!(losses.to_string(), "reasoning.signature=dropped");
}

#[test]
fn what_an_answer_cannot_say_is_named() {
    let mut response = foreign_answer();
    response.usage = None;
    response.candidates[0].stop = Some(StopReason::ContentFilter);
    response.candidates[0].parts = vec![
        Part::Refusal("no".into()),
        Part::Foreign { dialect: DialectId::Gemini, value: json!({"executableCode": {}}) },
        Part::ToolCall(call("c", "f", "{\"cut")),
    ];
    let logprobs = json!({"logprobs": {"content": []}}).as_object().unwrap().clone();
    response.candidates[0].extras = Extras::from_fields(DialectId::OpenAiChat, logprobs);
    response.candidates.push(Candidate::default());
    let fingerprint = json!({"system_fingerprint": "fp", "empty": null}).as_object().unwrap().clone();
    response.extras = Extras::from_fields(DialectId::OpenAiChat, fingerprint);
    let mut losses = Losses::new();
    let body: Value = serde_json::from_slice(&Anthropic.write_response(&response, &mut losses)).unwrap();
    insta::assert_snapshot!(format!("{body:#}\n{}", losses.to_string().replace(", ", "\n")));
}

#[test]
fn something_else_than_an_answer_is_an_error() {
    let kind = |body: &str| Anthropic.parse_response(body.as_bytes()).unwrap_err().kind;
    assert_eq!(kind(""), ErrorKind::Upstream);
    assert_eq!(kind("<html>"), ErrorKind::Upstream);
    assert_eq!(kind("{}"), ErrorKind::Upstream);
    assert_eq!(kind(r#"{"content": [{"type": "text"}]}"#), ErrorKind::Upstream);
    assert_eq!(
        kind(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
        ErrorKind::Overloaded
    );
}
