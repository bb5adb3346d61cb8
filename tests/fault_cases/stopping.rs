//! When the gateway stops, who is not done within the grace is told so.

use crate::support::fault_client::{DIALECTS, Told, heard, request, told, with_two};
use crate::support::fault_replies::Stream;
use crate::support::fault_server::{FaultServer, Reply, Step};
use bifrost::chat::DialectId::OpenAiChat;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use std::time::Instant;

fn tells_it_stops(told: &Told, error: &Value) {
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("stopping") && message.contains("Ask again"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_grace_cuts_off_is_told_so() {
    let endless = |dialect| Stream::of(dialect, "m").opening().text("one").step(Step::Silence).reply();
    let runs = DIALECTS.map(|dialect| async move {
        let first = FaultServer::always(endless(dialect)).await;
        let second = FaultServer::always(Reply::silence()).await;
        let mut gateway = with_two(dialect, &first, &second, "[server]\nshutdown_grace = \"10ms\"\n");
        let (mut begun, mut waiting) = (Vec::new(), Vec::new());
        for ingress in DIALECTS {
            let id = format!("begun-{}", ingress.name());
            let asking = request(&gateway, ingress, "first/m", true).header("x-request-id", id);
            // Its head comes with its first content.
            begun.push((ingress, asking.send().await.unwrap()));
            for stream in [false, true] {
                let id = format!("waiting-{}", ingress.name());
                let asking = request(&gateway, ingress, "second/n", stream).header("x-request-id", id);
                waiting.push(tokio::spawn(told(ingress, asking)));
            }
        }
        second.nth(waiting.len() - 1).await;
        gateway.signal("TERM");
        for (ingress, answer) in begun {
            let told = heard(ingress, answer, Instant::now()).await;
            assert_eq!((told.status, &*told.content()), (200, "one"), "{told:?}");
            tells_it_stops(&told, &told.stream_error().expect("a last word"));
        }
        for told in join_all(waiting).await {
            let told = told.unwrap();
            assert_eq!(told.status, 503, "{told:?}");
            assert_ne!(told.header("retry-after"), "", "{told:?}");
            assert_eq!(told.attempts(), ["second/n cancelled"]);
            tells_it_stops(&told, &told.error());
        }
        for asked in first.asked().into_iter().chain(second.asked()) {
            asked.left().await;
        }
        let (code, log) = tokio::task::spawn_blocking(move || (gateway.wait(), gateway.log())).await.unwrap();
        assert_eq!(code, Some(0));
        let ends: Vec<&str> =
            log.lines().filter(|line| line.contains("id=begun-") || line.contains("id=waiting-")).collect();
        assert_eq!(ends.len(), 9, "{log}");
        for end in ends {
            assert!(end.contains("/gateway_stopped") && !end.contains(" cancelled"), "{end}");
        }
    });
    join_all(runs).await;
}

#[tokio::test]
async fn an_answer_that_has_said_why_it_ended_is_whole_when_the_gateway_stops() {
    let unclosed = Stream::of(OpenAiChat, "m").opening().text("one").stop().step(Step::Silence).reply();
    let first = FaultServer::always(unclosed).await;
    let mut gateway = with_two(OpenAiChat, &first, &first, "[server]\nshutdown_grace = \"10ms\"\n");
    let asking = request(&gateway, OpenAiChat, "first/m", true);
    let answer = asking.send().await.unwrap();
    gateway.signal("TERM");
    heard(OpenAiChat, answer, Instant::now()).await.answered_by("first/m");
    assert_eq!(tokio::task::spawn_blocking(move || gateway.wait()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn who_reads_too_slowly_for_the_last_word_is_not_one_who_left() {
    let more = Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\"}}]}\n\n");
    let flood = Stream::of(OpenAiChat, "m").opening().text("one").step(Step::Flood(more)).reply();
    let first = FaultServer::always(flood).await;
    let mut gateway = with_two(OpenAiChat, &first, &first, "[server]\nshutdown_grace = \"100ms\"\n");
    let unread = request(&gateway, OpenAiChat, "first/m", true).header("x-request-id", "unread").send().await.unwrap();
    gateway.signal("TERM");
    let (code, log) = tokio::task::spawn_blocking(move || (gateway.wait(), gateway.log())).await.unwrap();
    drop(unread);
    assert_eq!(code, Some(0));
    let end = log.lines().find(|line| line.contains("id=unread")).unwrap_or_else(|| panic!("{log}"));
    assert!(end.contains("/gateway_stopped") && !end.contains(" cancelled"), "{end}");
}
