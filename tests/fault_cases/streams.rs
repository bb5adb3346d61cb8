//! Streams that break, lie or leave something out.

use crate::support::fault_client::{DIALECTS, LONG, Told, ask, deadlines, question, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, Stream, answer, streamed};
use crate::support::fault_server::{FaultServer, Reply, Step};
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use bytes::Bytes;
use futures_util::future::join_all;
use std::time::Duration;

/// A chunk whose length is no number.
fn broken_chunk() -> Step {
    Step::Raw(Bytes::from_static(b"zz\r\nwhat\r\n"))
}

/// Not every system hands out what came right before an RST.
const ARRIVED: Step = Step::Pause(Duration::from_millis(50));

/// Ways to end a stream early.
fn breaks() -> [(&'static str, Vec<Step>); 3] {
    let reset = vec![ARRIVED, Step::Reset];
    [("cut", vec![Step::Close]), ("reset", reset), ("malformed chunk", vec![broken_chunk(), Step::Close])]
}

fn broken(stream: Stream, steps: &[Step]) -> Reply {
    steps.iter().fold(stream, |stream, step| stream.step(step.clone())).reply()
}

/// One piece of content and an error, and nothing of another model's.
fn check_broken(told: &Told, said: &str) {
    assert_eq!((told.status, told.content().as_str()), (200, said), "{told:?}");
    assert!(told.whole && told.stream_error().is_some(), "{told:?}");
    let text = told.text();
    for ending in ["[DONE]", "message_stop", "\"finish_reason\":\"stop\"", "\"finishReason\":\"STOP\"", "end_turn"] {
        assert!(!text.contains(ending), "it looks complete: {text}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_content_is_never_continued_by_another_model() {
    for dialect in DIALECTS {
        for (fault, steps) in breaks() {
            let first = FaultServer::always(broken(Stream::of(dialect, "m").opening().text("one"), &steps)).await;
            let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
            let gateway = with_two(dialect, &first, &second, "");
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "pair", true).await;
                check_broken(&told, "one");
                assert_eq!(told.header("x-bifrost-provider"), "first", "{fault}");
            }
            assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0), "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_before_content_is_asked_for_again() {
    let cases = DIALECTS.map(|dialect| async move {
        for (fault, steps) in breaks() {
            let early = broken(Stream::of(dialect, "m").opening(), &steps);
            let first = FaultServer::in_turn([early.clone(), streamed(dialect, "m", &["here"])]).await;
            let second = FaultServer::always(streamed(dialect, "n", &["there"])).await;
            let gateway = with_two(dialect, &first, &second, "");
            let told = ask(&gateway, dialect, "pair", true).await;
            told.answered_by("first/m");
            assert_eq!((told.content().as_str(), first.count()), ("here", 2), "{fault}");
            let first = FaultServer::always(early).await;
            let gateway = with_two(dialect, &first, &second, "");
            ask(&gateway, dialect, "pair", true).await.answered_by("second/n");
            assert_eq!(first.count(), 3, "{fault}");
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn an_error_event_after_content_ends_the_stream_in_the_clients_dialect() {
    for dialect in DIALECTS {
        let fails = Stream::of(dialect, "m").opening().text("one").error(Refusal::Overloaded).reply();
        let first = FaultServer::always(fails).await;
        let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
        let gateway = with_two(dialect, &first, &second, "");
        for ingress in DIALECTS {
            let told = ask(&gateway, ingress, "pair", true).await;
            check_broken(&told, "one");
            let (_, body) = Refusal::Overloaded.form(dialect);
            let said = body["error"]["message"].as_str().unwrap();
            assert!(told.stream_error().unwrap()["message"].as_str().unwrap().contains(said), "{told:?}");
        }
        assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_its_marker_but_with_a_finish_reason_is_complete() {
    let cases = DIALECTS.map(|dialect| async move {
        let unmarked = || Stream::of(dialect, "m").opening().text("one").stop();
        // In good order; by closing without a last chunk, as some servers do; by breaking; by saying nothing more.
        for last in [vec![], vec![Step::Close], vec![ARRIVED, Step::Reset], vec![Step::Silence]] {
            let reply = last.into_iter().fold(unmarked(), Stream::step).reply();
            let first = FaultServer::always(reply).await;
            let gateway = with_one(dialect, &first, &deadlines("first", "idle = \"300ms\""));
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "first/m", true).await;
                told.answered_by("first/m");
                assert_eq!(told.content(), "one", "{told:?}");
            }
            assert_eq!(first.count(), DIALECTS.len());
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn an_end_without_marker_and_finish_reason_is_an_error() {
    for dialect in DIALECTS {
        let first = FaultServer::always(Stream::of(dialect, "m").opening().text("one").reply()).await;
        let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
        let gateway = with_two(dialect, &first, &second, "");
        for ingress in DIALECTS {
            check_broken(&ask(&gateway, ingress, "pair", true).await, "one");
        }
        assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0));
    }
}

#[tokio::test]
async fn alternatives_of_which_one_broke_off_are_not_complete() {
    let chunk = |index: u32, content: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"c1\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let half = || {
        let begun = Stream::of(OpenAiChat, "m").raw(&chunk(0, "one", "null")).raw(&chunk(1, "two", "null"));
        begun.raw(&chunk(0, "", "\"stop\""))
    };
    let first = FaultServer::in_turn([half().reply(), half().raw(&chunk(1, "", "\"stop\"")).reply()]).await;
    let gateway = with_one(OpenAiChat, &first, "");
    let broken = ask(&gateway, OpenAiChat, "first/m", true).await;
    assert!(broken.stream_error().is_some(), "{broken:?}");
    let whole = ask(&gateway, OpenAiChat, "first/m", true).await;
    assert!(whole.is_complete(), "{whole:?}");
}

#[tokio::test]
async fn a_stream_without_any_event_is_asked_for_again() {
    for dialect in DIALECTS {
        for empty in [Reply::events(), Reply::whole(200, "text/event-stream", "")] {
            let first = FaultServer::in_turn([empty, answer(dialect, "m", true, "here")]).await;
            let gateway = with_one(dialect, &first, "");
            let told = ask(&gateway, dialect, "first/m", true).await;
            told.answered_by("first/m");
            assert_eq!((told.content().as_str(), first.count()), ("here", 2));
        }
    }
}

#[tokio::test]
async fn a_malformed_event_is_skipped_counted_and_not_fatal() {
    for dialect in DIALECTS {
        let lies = Stream::of(dialect, "m").opening().text("one").malformed().text("two").malformed().stop().marker();
        let first = FaultServer::always(lies.reply()).await;
        let gateway = with_one(dialect, &first, "");
        for ingress in DIALECTS {
            // Told::events() reads every event that the client gets, and fails where one is no JSON.
            let told = ask(&gateway, ingress, "first/m", true).await;
            told.answered_by("first/m");
            assert_eq!(told.content(), "onetwo");
        }
        assert_eq!(first.count(), DIALECTS.len());
        let skipped = 2 * DIALECTS.len();
        assert_eq!(count(&gateway, "bifrost_stream_events_skipped_total").await, skipped as f64);
    }
}

#[tokio::test]
async fn an_event_that_is_no_object_is_skipped_counted_and_not_fatal() {
    // The last two look like content at a glance.
    const ODD: [&str; 9] =
        ["123", "\"x\"", "[]", "null", "true", "", " ", "[{\"choices\":[]}]", "[\"content_block_delta\"]"];
    for dialect in DIALECTS {
        let with_odd = |stream| ODD.iter().fold(stream, |stream: Stream, odd| stream.raw(&format!("data: {odd}\n\n")));
        let opened = with_odd(Stream::of(dialect, "m").opening());
        let lies = with_odd(opened.text("one")).text("two").stop().marker();
        let first = FaultServer::always(lies.reply()).await;
        let gateway = with_one(dialect, &first, "");
        for ingress in DIALECTS {
            // Told::events() fails where one is no object.
            let told = ask(&gateway, ingress, "first/m", true).await;
            told.answered_by("first/m");
            assert_eq!(told.content(), "onetwo");
        }
        let skipped = 2 * ODD.len() * DIALECTS.len();
        assert_eq!(count(&gateway, "bifrost_stream_events_skipped_total").await, skipped as f64, "{dialect:?}");
    }
}

/// The sum of a counter over its labels.
async fn count(gateway: &crate::support::gateway::Gateway, name: &str) -> f64 {
    let text = gateway.text("/metrics").await;
    let samples = text.lines().filter(|line| line.starts_with(name));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn the_model_that_answered_is_named_in_the_answer() {
    let name = |dialect: DialectId, told: &Told| {
        let values = if told.text().starts_with('{') { vec![told.json()] } else { told.events() };
        let fields = ["/model", "/message/model", "/modelVersion"];
        let names: Vec<String> = values
            .iter()
            .flat_map(|value| fields.iter().filter_map(|field| value.pointer(field)?.as_str().map(str::to_owned)))
            .collect();
        assert!(!names.is_empty(), "{dialect:?}: {told:?}");
        names
    };
    for dialect in DIALECTS {
        for stream in [false, true] {
            let first = FaultServer::always(Refusal::UsedUp.reply(dialect)).await;
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let gateway = with_two(dialect, &first, &second, "");
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "pair", stream).await;
                told.answered_by("second/n");
                assert!(name(ingress, &told).iter().all(|name| name == "n"), "{told:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_close_after_its_last_word_keeps_nobody_waiting() {
    let ways = [(OpenAiChat, OpenAiChat), (OpenAiChat, Anthropic), (Anthropic, Anthropic)];
    let cases = ways.map(|(dialect, ingress)| async move {
        let endless = Stream::of(dialect, "m").opening().text("one").stop().marker().step(Step::Silence);
        let first = FaultServer::always(endless.reply()).await;
        let gateway = with_one(dialect, &first, "");
        let told = ask(&gateway, ingress, "first/m", true).await;
        told.answered_by("first/m");
        assert!(told.content() == "one" && told.took < LONG, "{told:?}");
        first.nth(0).await.left().await;
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_failed_is_closed_and_its_place_is_free() {
    let cases = DIALECTS.map(|dialect| async move {
        let opened = || Stream::of(dialect, "m").opening().text("one");
        // Who fell silent needs a moment to notice; after a word of its own the place is free at once.
        let silent = (opened().step(Step::Silence), 1);
        for (fails, queue) in [silent, (opened().error(Refusal::Internal).step(Step::Silence), 0)] {
            let first = FaultServer::always(fails.reply()).await;
            // Whoever finds the place taken, and the queue full, gets a 429.
            let limits = format!("[providers.first.limits]\nin_flight = 1\nqueue = {queue}\n");
            let gateway = with_one(dialect, &first, &(limits + &deadlines("first", "idle = \"300ms\"")));
            let mut left = Vec::new();
            for (number, ingress) in DIALECTS.into_iter().enumerate() {
                let told = ask(&gateway, ingress, "first/m", true).await;
                check_broken(&told, "one");
                // The connection closes before the place is free; the next one asks at once.
                left.push(first.nth(number).await);
            }
            for asked in left {
                asked.left().await;
            }
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_json_array_that_breaks_is_still_one_and_ends_with_the_error() {
    let (path, body) = question(Gemini, "first/m", true);
    let path = path.replace("?alt=sse", "");
    for dialect in [Gemini, OpenAiChat] {
        for (fault, steps) in breaks() {
            let first = FaultServer::always(broken(Stream::of(dialect, "m").opening().text("one"), &steps)).await;
            let gateway = with_one(dialect, &first, "");
            let told = told(Gemini, gateway.post(&path, &body)).await;
            let elements = told.json();
            let last = elements.as_array().and_then(|elements| elements.last()).unwrap();
            assert!(last["error"]["code"].is_u64() && last["error"]["message"].is_string(), "{fault}: {told:?}");
            assert!(told.whole && told.text().contains("one"), "{fault}: {told:?}");
        }
    }
}
