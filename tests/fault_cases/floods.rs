//! Providers that never fall silent and never say anything: no limit of time waits for a pause of theirs, and what is held
//! back for a client has an end.

use crate::support::fault_client::{
    self, DIALECTS, LONG, PAIR, Told, deadlines, provider, request, with_one, with_two,
};
use crate::support::fault_replies::{Stream, answer, streamed};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use bifrost::wire::sse::MAX_EVENT;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(100);
const SHORT: &str = "first_token = \"100ms\"\nwhole_answer = \"100ms\"";

/// Comments without end: passed on as they are, and translated into nothing.
fn comments(length: usize) -> Step {
    Step::Flood(Bytes::from(format!(": {}\n\n", "-".repeat(length))))
}

/// Frames without content and without end, as a dialect has them.
fn frames(dialect: DialectId) -> Step {
    let model = "m".repeat(8_000);
    let frame = match dialect {
        OpenAiChat => {
            let choices = json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]);
            json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices})
        }
        Anthropic => json!({"type": "message_start", "message": {"id": "m1", "model": model, "content": []}}),
        Gemini => json!({"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}, "modelVersion": model}),
    };
    Step::Flood(Bytes::from(format!("data: {frame}\n\n")))
}

/// Asks, and does not wait for ever.
async fn ask(gateway: &Gateway, dialect: DialectId, model: &str, stream: bool) -> Told {
    let asking = fault_client::ask(gateway, dialect, model, stream);
    tokio::time::timeout(LONG, asking).await.expect("the flood is waited for")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_the_first_content_is_held_back_up_to_a_limit_only() {
    let passed = DIALECTS.map(|dialect| (dialect, dialect, frames(dialect)));
    let cases = passed.into_iter().chain([(OpenAiChat, Anthropic, comments(1_000_000))]);
    let cases = cases.map(|(dialect, ingress, flood)| async move {
        let first = FaultServer::always(Stream::of(dialect, "m").opening().step(flood).reply()).await;
        let second = FaultServer::always(streamed(dialect, "n", &["there"])).await;
        let targets = format!("{}{}", provider("second", dialect, &second), provider("first", dialect, &first));
        let gateway = Gateway::start(&format!("[retry]\nattempts = 0\n{PAIR}{targets}"));
        let told = ask(&gateway, ingress, "pair", true).await;
        assert!(told.is_complete() && told.content() == "there", "{told:?}");
        assert!(told.body.len() < 10_000, "frames of a target that did not answer: {told:?}");
        let record = gateway.recorded(told.header("x-request-id")).await;
        let attempt = &record["attempts"][0];
        assert_eq!(attempt["outcome"], "upstream_fault", "{record}");
        assert!(attempt["error"].as_str().is_some_and(|error| error.contains("without any content")), "{record}");
        first.nth(0).await.left().await;
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_always_has_more_to_say_is_given_up_at_its_limit() {
    let cases = DIALECTS.map(|dialect| async move {
        for stream in [false, true] {
            let flood = if stream {
                Stream::of(dialect, "m").opening().step(comments(10)).reply()
            } else {
                Reply::events().then(comments(10))
            };
            let first = FaultServer::always(flood).await;
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let gateway = with_two(dialect, &first, &second, &deadlines("first", SHORT));
            // Passed on, comments are held back; they are translated into nothing.
            for ingress in DIALECTS.into_iter().filter(|ingress| *ingress != dialect || !stream) {
                let told = ask(&gateway, ingress, "pair", stream).await;
                told.answered_by("second/n");
                let limit = if stream { "first_token" } else { "whole_answer" };
                assert_eq!(told.attempts()[0], format!("first/m timeout_{limit}"));
                assert!(told.took >= LIMIT && told.took < LONG, "{told:?}");
            }
            for asked in first.asked() {
                asked.left().await;
            }
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn who_leaves_before_the_first_content_of_a_flood_ends_the_call() {
    for ingress in DIALECTS {
        let first = FaultServer::always(Stream::of(OpenAiChat, "m").opening().step(comments(10)).reply()).await;
        let gateway = with_one(OpenAiChat, &first, "");
        let asking = tokio::spawn(request(&gateway, ingress, "first/m", true).send());
        let asked = first.nth(0).await;
        let left = Instant::now();
        asking.abort();
        assert!(asked.left().await - left < Duration::from_secs(5), "{ingress:?}");
    }
}

#[tokio::test]
async fn what_comes_after_the_last_word_is_read_for_a_moment_only() {
    let endless = Stream::of(OpenAiChat, "m").opening().text("one").stop().marker().step(comments(10));
    let first = FaultServer::always(endless.reply()).await;
    let gateway = with_one(OpenAiChat, &first, "");
    for ingress in DIALECTS {
        ask(&gateway, ingress, "first/m", true).await.answered_by("first/m");
    }
    for asked in first.asked() {
        asked.left().await;
    }
}

#[tokio::test]
async fn an_error_without_end_is_cut_off_and_its_status_counts() {
    let flood = Step::Flood(Bytes::from(format!("10000\r\n{}\r\n", "x".repeat(0x1_0000))));
    let head = Step::Raw(Bytes::from_static(
        b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{\"error\":{\"code\":\r\n",
    ));
    for dialect in DIALECTS {
        let first = FaultServer::always(Reply::nothing_but([head.clone(), flood.clone()])).await;
        let gateway = with_one(dialect, &first, "");
        let told = ask(&gateway, dialect, "first/m", false).await;
        assert_eq!((told.status, told.attempts()), (403, vec!["first/m forbidden".to_owned()]), "{told:?}");
        assert!(told.error()["message"].is_string() && told.body.len() < 10_000, "{told:?}");
        first.nth(0).await.left().await;
    }
}

#[tokio::test]
async fn the_place_of_a_flood_that_was_cut_off_is_free_when_the_provider_has_noticed() {
    let flood = Step::Body(Bytes::from(vec![b' '; MAX_EVENT + 100]));
    let flood = Stream::of(OpenAiChat, "m").opening().text("one").step(flood).step(Step::Silence);
    let first = FaultServer::always(flood.reply()).await;
    let gateway = with_one(OpenAiChat, &first, "[providers.first.limits]\nin_flight = 1\n");
    let asking = || ask(&gateway, OpenAiChat, "first/m", true);
    let (cut, next) = tokio::join!(asking(), asking());
    assert!(cut.stream_error().is_some() && next.stream_error().is_some(), "{cut:?} {next:?}");
    // It was cut off after it had begun.
    assert!(first.nth(1).await.at - first.nth(0).await.at >= Duration::from_millis(150));
}
