use super::*;
use bifrost::chat::{
    Candidate, DialectId, ErrorKind, Extras, Part, ReasoningPart, Signature, SignatureOrigin, StopReason, ToolCall,
    Usage,
};

fn parts(response: &Response) -> &[Part] {
    &response.candidates[0].parts
}

fn of(parts: Vec<Part>, stop: StopReason) -> Response {
    let candidate = Candidate { parts, stop: Some(stop), ..Candidate::default() };
    Response { id: Some("c1".into()), candidates: vec![candidate], ..Response::default() }
}

#[test]
fn reasoning_is_found_wherever_vendors_write_it() {
    for message in [
        json!({"content": "so", "reasoning_content": "hm"}),
        json!({"content": "so", "reasoning": "hm"}),
        json!({"content": "so", "reasoning": "hm", "reasoning_content": "hm"}),
        json!({"content": "so", "reasoning_content": "hm", "reasoning_details": []}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "so"}]}),
    ] {
        let response = answer(&message, &json!("stop"));
        let thought = Part::Reasoning(ReasoningPart { text: "hm".into(), ..ReasoningPart::default() });
        assert_eq!(parts(&response), [thought, Part::text("so")], "{message}");
    }
}

#[test]
fn calls_without_id_or_with_an_object_for_arguments_can_be_used() {
    let call = json!({"function": {"name": "look", "arguments": {"x": 1}}, "id": ""});
    let response = answer(&json!({"content": null, "tool_calls": [call.clone(), call]}), &json!("stop"));
    let calls: Vec<_> = parts(&response)
        .iter()
        .map(|part| match part {
            Part::ToolCall(call) => (call.id.as_str(), call.arguments.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(calls, [("call_c1_0", r#"{"x":1}"#), ("call_c1_1", r#"{"x":1}"#)]);
    // A forced call ends with `stop`, but the client must run it.
    assert_eq!(response.candidates[0].stop, Some(StopReason::ToolUse));
}

#[test]
fn alternatives_log_probabilities_and_sound_are_kept() {
    let body = json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 1, "message": {"role": "assistant", "content": "b", "refusal": null}, "logprobs": null, "finish_reason": "length"},
        {"index": 0, "message": {"role": "assistant", "content": "a", "refusal": null,
            "audio": {"id": "audio_1", "data": "AAAA", "transcript": "a", "expires_at": 9}},
         "logprobs": {"content": [{"token": "a", "logprob": -0.1}]}, "finish_reason": "stop"},
    ]});
    let response = OpenAiChat.parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(response.candidates.len(), 2);
    let (written, losses) = answered(&response);
    assert_eq!(written["choices"][0], body["choices"][1]);
    assert_eq!(written["choices"][1], body["choices"][0]);
    assert_eq!(losses, "");
}

#[test]
fn proofs_of_texts_and_calls_come_back_to_their_parts() {
    let proof = |value: &str| Some(Signature::new(SignatureOrigin::Gemini, value));
    let text = Part::Text { text: "so".into(), cache: None, signature: proof("t"), extras: Extras::default() };
    let call = Part::ToolCall(ToolCall {
        id: "a".into(),
        name: "look".into(),
        arguments: "{}".into(),
        signature: proof("c"),
        cache: None,
        extras: Extras::default(),
    });
    let thought = Part::Reasoning(ReasoningPart {
        encrypted: Some(Signature::new(SignatureOrigin::Anthropic, "r")),
        ..ReasoningPart::default()
    });
    let response = of(vec![thought, text, call], StopReason::ToolUse);
    let (written, losses) = answered(&response);
    assert_eq!(losses, "");
    let again = OpenAiChat.parse_response(written.to_string().as_bytes()).unwrap();
    assert_eq!(parts(&again), parts(&response));
}

#[test]
fn what_a_client_cannot_be_told_is_a_loss() {
    let citations = json!({"citations": [1]}).as_object().unwrap().clone();
    let text = Part::Text {
        text: "so".into(),
        cache: None,
        signature: None,
        extras: Extras::from_fields(DialectId::Anthropic, citations),
    };
    let mut response = of(vec![text], StopReason::PauseTurn);
    response.candidates[0].stop_sequence = Some("end".into());
    let (written, losses) = answered(&response);
    assert_eq!(written["choices"][0]["finish_reason"], "stop");
    assert_eq!(losses, "content.citations=dropped, stop_reason=approximated, stop_sequence=dropped");
}

#[test]
fn the_texts_of_an_answer_are_one_string() {
    let response = of(vec![Part::text("a"), Part::text("b")], StopReason::EndTurn);
    assert_eq!(answered(&response).0["choices"][0]["message"]["content"], "ab");
}

#[test]
fn usage_is_written_with_its_details() {
    let usage = Usage {
        input: 10,
        output: 5,
        cache_read: Some(4),
        cache_write: Some(2),
        reasoning: Some(3),
        ..Usage::default()
    };
    let response = Response { usage: Some(usage), ..of(vec![Part::text("a")], StopReason::EndTurn) };
    let expected = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3}});
    assert_eq!(answered(&response).0["usage"], expected);
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    let kind = |body: &str| OpenAiChat.parse_response(body.as_bytes()).unwrap_err().kind;
    assert_eq!(kind("<html>"), ErrorKind::Upstream);
    assert_eq!(kind("{}"), ErrorKind::Upstream);
    assert_eq!(kind(r#"{"error":{"message":"slow","code":429}}"#), ErrorKind::RateLimited);
    // vllm-mlx 0.3.0 ended answers so, without a word.
    let broken = r#"{"choices":[{"message":{"content":null},"finish_reason":"error"}]}"#;
    assert_eq!(kind(broken), ErrorKind::Upstream);
}

#[test]
fn the_sequence_that_vllm_names_is_the_one_that_was_hit() {
    let body = json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}]});
    let response = OpenAiChat.parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(response.candidates[0].stop, Some(StopReason::StopSequence));
    assert_eq!(response.candidates[0].stop_sequence.as_deref(), Some("END"));
}
