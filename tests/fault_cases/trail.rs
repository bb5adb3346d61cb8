//! When nobody answers, the client is told of every attempt, and with the most useful status.

use crate::support::fault_client::{DIALECTS, ask, deadlines, request, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, streamed, whole_body};
use crate::support::fault_server::{FaultServer, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use futures_util::future::join_all;
use serde_json::{Value, json};

/// `provider/model outcome` of each attempt in an error's body.
fn in_body(body: &Value) -> Vec<String> {
    let attempts = body["bifrost"]["attempts"].as_array().unwrap_or_else(|| panic!("no attempts: {body}"));
    let one = |attempt: &Value| {
        assert!(attempt["ms"].is_u64() || attempt["ms"].is_f64(), "{attempt}");
        let text = |field: &str| attempt[field].as_str().unwrap_or_else(|| panic!("no {field}: {attempt}")).to_owned();
        format!("{}/{} {}", text("provider"), text("model"), text("outcome"))
    };
    attempts.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_fail_the_answer_carries_every_attempt() {
    let expected = ["first/m overloaded", "first/m overloaded", "first/m overloaded", "second/n timeout_"];
    let cases = DIALECTS.map(|dialect| async move {
        for stream in [false, true] {
            let first = FaultServer::always(Refusal::Overloaded.reply(dialect)).await;
            let second = FaultServer::always(Reply::silence()).await;
            let limits = deadlines("second", "first_token = \"200ms\"\nwhole_answer = \"200ms\"");
            let gateway = with_two(dialect, &first, &second, &limits);
            for ingress in DIALECTS {
                let id = format!("all-{}-{stream}", ingress.name());
                let told = told(ingress, request(&gateway, ingress, "pair", stream).header("x-request-id", &id)).await;
                told.error();
                for attempts in [told.attempts(), in_body(&told.json())] {
                    assert_eq!(attempts.len(), expected.len(), "{told:?}");
                    let fits = attempts.iter().zip(expected).all(|(attempt, start)| attempt.starts_with(start));
                    assert!(fits, "{attempts:?}");
                }
                let record = gateway.recorded(&id).await;
                assert_eq!(record["attempts"].as_array().map(Vec::len), Some(expected.len()), "{record}");
                assert!(record["attempts"][3]["ms"].as_f64().unwrap() >= 200.0, "{record}");
            }
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn one_target_that_fails_tells_its_retries_too() {
    for ingress in DIALECTS {
        let first = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
        let gateway = with_one(OpenAiChat, &first, "");
        let told = ask(&gateway, ingress, "first/m", false).await;
        assert_eq!(in_body(&told.json()), ["first/m upstream_fault"; 3]);
        assert_eq!(told.attempts(), ["first/m upstream_fault"; 3]);
    }
}

/// The status of a request whose targets answer so.
async fn status(first: Reply, second: Reply) -> u16 {
    let (first, second) = (FaultServer::always(first).await, FaultServer::always(second).await);
    let limits = "whole_answer = \"200ms\"\nbudget = \"10s\"";
    let more = deadlines("first", limits) + &deadlines("second", limits);
    let told = ask(&with_two(OpenAiChat, &first, &second, &more), OpenAiChat, "pair", false).await;
    assert!(first.count() > 0 && second.count() > 0, "{told:?}");
    assert!(told.attempts().iter().any(|attempt| attempt.starts_with("second/n")), "{told:?}");
    told.status
}

#[tokio::test]
async fn the_status_is_that_of_the_most_useful_error() {
    let of = |refusal: Refusal| refusal.reply(OpenAiChat);
    let busy = || of(Refusal::Throttled).header("retry-after", "60");
    // Who must wait is told how long, whoever failed after that.
    assert_eq!(status(busy(), Reply::reset()).await, 429);
    assert_eq!(status(busy(), Reply::silence()).await, 429);
    assert_eq!(status(Reply::reset(), busy()).await, 429);
    assert_eq!(status(busy(), of(Refusal::Internal)).await, 429);
    // A wrong request is the client's to mend.
    assert_eq!(status(of(Refusal::Internal), of(Refusal::BadRequest)).await, 400);
    // A bad key is mended by somebody; a server that is down mends itself.
    assert_eq!(status(of(Refusal::Overloaded), of(Refusal::BadKey)).await, 401);
}

/// Whoever is asked is given up when so much time is over, and a rest does not fit into it.
const LITTLE_TIME: &str = "budget = \"500ms\"";

fn two_with_little_time(first: &FaultServer, second: &FaultServer) -> Gateway {
    let more = deadlines("first", LITTLE_TIME) + &deadlines("second", LITTLE_TIME);
    with_two(OpenAiChat, first, second, &more)
}

fn throttled(seconds: &str) -> Reply {
    Refusal::Throttled.reply(OpenAiChat).header("retry-after", seconds)
}

#[tokio::test]
async fn a_target_that_rests_because_it_asked_for_it_still_says_when_to_come_back() {
    for others in [Refusal::Internal, Refusal::BadKey] {
        let first = FaultServer::always(throttled("60")).await;
        let second = FaultServer::always(others.reply(OpenAiChat)).await;
        let gateway = two_with_little_time(&first, &second);
        for number in 0..3 {
            let told = ask(&gateway, OpenAiChat, "pair", false).await;
            assert_eq!((told.status, first.count()), (429, 1), "{number}: {told:?}");
            let wait: u64 = told.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&wait), "{told:?}");
        }
    }
}

#[tokio::test]
async fn the_end_of_the_budget_tells_less_than_what_was_said_before() {
    for (refusal, status) in [(throttled("60"), 429), (Refusal::BadKey.reply(OpenAiChat), 401)] {
        let first = FaultServer::always(refusal).await;
        let second = FaultServer::always(Reply::silence()).await;
        let told = ask(&two_with_little_time(&first, &second), OpenAiChat, "pair", false).await;
        assert_eq!(told.status, status, "{told:?}");
        assert_eq!(told.attempts().last().unwrap(), "second/n timeout_budget", "{told:?}");
    }
    // Nor does it when the same target said it.
    let first = FaultServer::in_turn([Refusal::Internal.reply(OpenAiChat), Reply::silence()]).await;
    let gateway = with_one(OpenAiChat, &first, &deadlines("first", LITTLE_TIME));
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    assert_eq!((told.status, first.count()), (500, 2), "{told:?}");
}

#[tokio::test]
async fn of_two_that_say_when_to_come_back_the_sooner_is_told() {
    let overloaded = |seconds: &str| Refusal::Overloaded.reply(OpenAiChat).header("retry-after", seconds);
    for (first, second, status, wait) in [
        (throttled("60"), throttled("20"), 429, "20"),
        (throttled("20"), throttled("60"), 429, "20"),
        (throttled("60"), overloaded("20"), 503, "20"),
        (overloaded("60"), throttled("20"), 429, "20"),
    ] {
        let (first, second) = (FaultServer::always(first).await, FaultServer::always(second).await);
        let told = ask(&two_with_little_time(&first, &second), OpenAiChat, "pair", false).await;
        assert_eq!((told.status, told.header("retry-after")), (status, wait), "{told:?}");
        assert_eq!((first.count(), second.count()), (1, 1));
    }
}

#[tokio::test]
async fn a_stream_that_is_answered_tells_the_attempts_before_it() {
    let first = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
    let second = FaultServer::always(streamed(OpenAiChat, "n", &["there"])).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let asked = request(&gateway, OpenAiChat, "pair", true).header("x-request-id", "answered");
    let told = told(OpenAiChat, asked).await;
    told.answered_by("second/n");
    assert_eq!(told.attempts().len(), 4);
    let record = gateway.recorded("answered").await;
    assert_eq!((&record["provider"], record["attempts"].as_array().map(Vec::len)), (&"second".into(), Some(4)));
}

#[tokio::test]
async fn an_attempt_that_answered_tells_the_status_of_its_answer() {
    for stream in [false, true] {
        let good = if stream {
            streamed(OpenAiChat, "m", &["here"])
        } else {
            Reply::json(201, &whole_body(OpenAiChat, "m", "here"))
        };
        let first = FaultServer::in_turn([Refusal::Overloaded.reply(OpenAiChat), good]).await;
        let gateway = with_one(OpenAiChat, &first, "");
        let told = ask(&gateway, OpenAiChat, "first/m", stream).await;
        told.answered_by("first/m");
        let attempts = gateway.recorded(told.header("x-request-id")).await["attempts"].take();
        let expected = [json!(503), if stream { json!(200) } else { json!(201) }];
        assert_eq!([&attempts[0]["status"], &attempts[1]["status"]], [&expected[0], &expected[1]], "{attempts}");
    }
}
