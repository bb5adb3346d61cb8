//! Errors in the words of one vendor: what follows from them is what the vendor meant.

use crate::support::fault_client::{ask, with_one, with_two};
use crate::support::fault_replies::{Stream, answer};
use crate::support::fault_server::{FaultServer, Reply};
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use serde_json::{Value, json};
use std::time::Duration;

/// Asks `first/m` with `second/n` behind it; gives the attempts, one a line.
async fn attempts(dialect: DialectId, first: Reply, stream: bool) -> String {
    let first = FaultServer::always(first).await;
    let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
    let told = ask(&with_two(dialect, &first, &second, ""), dialect, "pair", stream).await;
    told.attempts().join("\n")
}

/// What became of the first target, once; the second answers.
fn once(outcome: &str) -> String {
    format!("first/m {outcome}\nsecond/n ok")
}

/// The same for what is asked again twice.
fn thrice(outcome: &str) -> String {
    format!("first/m {outcome}\nfirst/m {outcome}\n{}", once(outcome))
}

#[tokio::test]
async fn a_limit_of_a_provider_behind_the_provider_is_no_used_up_quota() {
    let raw = r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED"}}"#;
    let error = json!({"message": "Provider returned error", "code": 429, "metadata": {"raw": raw}});
    let reply = Reply::json(429, &json!({"error": error}));
    assert_eq!(attempts(OpenAiChat, reply, false).await, once("rate_limited"));
}

#[tokio::test]
async fn a_server_that_says_it_is_unavailable_is_asked_again_when_it_said() {
    for kind in ["service_unavailable_error", "unavailable_error"] {
        let body = json!({"error": {"code": 503, "message": "Loading model", "type": kind}});
        let refusal = Reply::json(503, &body).header("retry-after-ms", "400");
        let first = FaultServer::in_turn([refusal, answer(OpenAiChat, "m", false, "here")]).await;
        let told = ask(&with_one(OpenAiChat, &first, ""), OpenAiChat, "first/m", false).await;
        assert_eq!(told.attempts(), ["first/m overloaded", "first/m ok"], "{kind}");
        assert!(first.gaps()[0] >= Duration::from_millis(400), "{kind}");
    }
}

#[tokio::test]
async fn an_account_that_has_nothing_left_is_the_next_targets_turn() {
    let limits = json!({"type": "invalid_request_error", "message": "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."});
    let reply = Reply::json(400, &json!({"type": "error", "error": limits, "request_id": "req_1"}));
    assert_eq!(attempts(Anthropic, reply, false).await, once("quota"));
    let spent = "Your team t has either used all available credits or reached its monthly spending limit.";
    let reply = Reply::json(429, &json!({"code": "Some resource has been exhausted", "error": spent}));
    assert_eq!(attempts(OpenAiChat, reply, false).await, once("quota"));
}

#[tokio::test]
async fn what_xais_filter_refuses_goes_to_nobody_else() {
    let body = json!({
        "code": "The caller does not have permission to execute the specified operation",
        "error": "Content violates usage guidelines. Team: t, Model: m, Failed check: SAFETY_CHECK_TYPE_BIO",
    });
    assert_eq!(attempts(OpenAiChat, Reply::json(403, &body), false).await, "first/m content_filter");
}

#[tokio::test]
async fn coheres_word_for_a_prompt_that_does_not_fit_is_understood() {
    let message = "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs.";
    let body = json!({"error_type": "TOO_MANY_TOKENS", "id": "c1", "message": message});
    assert_eq!(attempts(OpenAiChat, Reply::json(400, &body), false).await, "first/m context_too_long");
}

#[tokio::test]
async fn an_error_of_a_choice_counts_like_the_status_that_it_names() {
    let error = json!({"code": 429, "message": "the very reason"});
    let mut choice = json!({"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": error});
    let reply = Stream::of(OpenAiChat, "m").raw(&format!("data: {}\n\n", json!({"id": "c1", "choices": [choice]})));
    assert_eq!(attempts(OpenAiChat, reply.reply(), true).await, once("rate_limited"));
    choice["delta"].take();
    choice["message"] = json!({"role": "assistant", "content": "half"});
    for reason in ["error", "stop"] {
        choice["finish_reason"] = json!(reason);
        let reply = Reply::json(200, &json!({"id": "c1", "object": "chat.completion", "choices": [choice]}));
        assert_eq!(attempts(OpenAiChat, reply, false).await, once("rate_limited"), "{reason}");
    }
}

/// An event that comes before any content.
fn event(dialect: DialectId, name: &str, data: &Value) -> Reply {
    let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    Stream::of(dialect, "m").opening().raw(&format!("{name}data: {data}\n\n")).reply()
}

#[tokio::test]
async fn an_error_in_a_stream_counts_like_the_status_that_it_names_wherever_it_names_it() {
    let fault = thrice("upstream_fault");
    let (busy, slow) = (thrice("overloaded"), once("rate_limited"));
    for (dialect, name, data, expected) in [
        (OpenAiChat, "", json!({"error": {"message": "boom", "code": 504}}), &fault),
        (OpenAiChat, "", json!({"error": {"message": "boom", "code": 408}}), &fault),
        (OpenAiChat, "", json!({"error": {"message": "boom", "type": "timeout_error"}}), &fault),
        (OpenAiChat, "", json!({"error": {"message": "boom", "status": 503}}), &busy),
        (OpenAiChat, "error", json!({"message": "boom", "code": 429}), &slow),
        (Anthropic, "error", json!({"type": "error", "error": {"type": "timeout_error", "message": "boom"}}), &fault),
        (Anthropic, "error", json!({"type": "error", "error": {"code": 429, "message": "boom"}}), &slow),
        (Gemini, "", json!({"error": {"message": "boom", "status": "DEADLINE_EXCEEDED"}}), &fault),
        (Gemini, "", json!({"error": {"message": "boom", "code": "503"}}), &busy),
    ] {
        assert_eq!(attempts(dialect, event(dialect, name, &data), true).await, *expected, "{data}");
    }
}

#[tokio::test]
async fn a_word_in_a_stream_counts_like_the_status_that_it_stands_for() {
    for (kind, expected) in [
        ("not_found_error", "first/m model_not_found".to_owned()),
        ("permission_denied_error", once("forbidden")),
        ("billing_error", once("quota")),
    ] {
        let data = json!({"error": {"message": "boom", "type": kind}});
        assert_eq!(attempts(OpenAiChat, event(OpenAiChat, "", &data), true).await, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_gemini_answer_of_nothing_but_token_counts_is_none() {
    let body = json!({"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}, "modelVersion": "m"});
    let empty = json!({"candidates": [], "usageMetadata": {"promptTokenCount": 3}});
    for body in [body, empty] {
        assert_eq!(attempts(Gemini, Reply::json(200, &body), false).await, thrice("upstream_fault"), "{body}");
    }
}

#[tokio::test]
async fn a_block_whose_beginning_cannot_be_read_is_not_lost() {
    let delta = |kind: &str, field: &str, text: &str| {
        let data = json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: text}});
        format!("event: content_block_delta\ndata: {data}\n\n")
    };
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#;
    let reply = Stream::of(Anthropic, "m")
        .raw(&format!("event: message_start\ndata: {start}\n\n"))
        .raw("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"ind\n\n")
        .raw(&delta("text_delta", "text", "one"))
        .text(" two")
        .stop()
        .marker()
        .reply();
    let first = FaultServer::always(reply).await;
    let told = ask(&with_one(Anthropic, &first, ""), OpenAiChat, "first/m", true).await;
    assert_eq!((told.content().as_str(), told.is_complete()), ("one two", true), "{told:?}");
}

#[tokio::test]
async fn a_provider_that_cancels_has_failed_and_nobody_left() {
    let google = json!({"error": {"code": 499, "message": "The operation was cancelled.", "status": "CANCELLED"}});
    for (dialect, body) in
        [(Gemini, &google), (OpenAiChat, &json!({"error": {"message": "boom"}})), (Anthropic, &json!({}))]
    {
        assert_eq!(attempts(dialect, Reply::json(499, body), false).await, thrice("upstream_fault"), "{body}");
    }
}
