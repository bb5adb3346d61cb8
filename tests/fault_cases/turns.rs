//! Whose turn it is when targets rest or are busy, and what is told when none of them answers.

use crate::support::fault_client::{LONG, PAIR, Told, ask, deadlines, provider, request, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, whole};
use crate::support::fault_server::{FaultServer, Gate, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use serde_json::json;
use std::time::Duration;

fn throttled(millis: u64) -> Reply {
    Refusal::Throttled.reply(OpenAiChat).header("retry-after-ms", millis.to_string())
}

fn hello(model: &str) -> Reply {
    whole(OpenAiChat, model, "hello")
}

async fn ask_pair(gateway: &Gateway) -> Told {
    ask(gateway, OpenAiChat, "pair", false).await
}

/// Has the target refuse a request that waits for nothing.
async fn make_rest(gateway: &Gateway, model: &str) {
    let asking = request(gateway, OpenAiChat, model, false).header("x-bifrost-timeout-ms", "300");
    assert_eq!(told(OpenAiChat, asking).await.status, 429);
}

#[tokio::test]
async fn of_targets_that_rest_the_one_that_is_back_first_is_waited_for() {
    let first = FaultServer::in_turn([throttled(1_500), hello("m")]).await;
    let second = FaultServer::in_turn([throttled(60_000), hello("n")]).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    make_rest(&gateway, "first/m").await;
    make_rest(&gateway, "second/n").await;
    let told = ask_pair(&gateway).await;
    told.answered_by("first/m");
    assert_eq!(told.attempts(), ["first/m resting", "second/n resting", "first/m ok"]);
    assert!(told.took < LONG, "{told:?}");
    assert_eq!((first.count(), second.count()), (2, 1));
}

#[tokio::test]
async fn a_busy_target_that_rests_keeps_nobody_from_the_next_one() {
    // Whoever asks it alone waits for its rest, and keeps the only place.
    let first = FaultServer::in_turn([throttled(3_000), hello("m")]).await;
    let second = FaultServer::always(hello("n")).await;
    let gateway = with_two(OpenAiChat, &first, &second, "[providers.first.limits]\nin_flight = 1\n");
    let alone = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "first/m", false)));
    first.nth(0).await;
    // The refusal is heard a moment after it was sent.
    let rests = async || {
        let targets = gateway.admin("/admin/status").await["targets"].take();
        targets.to_string().contains("\"open\"").then_some(())
    };
    gateway.eventually("it rests", rests).await;
    ask_pair(&gateway).await.answered_by("second/n");
    assert!(!alone.is_finished(), "it was waited for");
    alone.await.unwrap().answered_by("first/m");
}

#[tokio::test]
async fn a_busy_target_is_waited_for_when_the_one_that_the_class_spills_to_fails() {
    let (gate, wait) = Gate::closed();
    let first = FaultServer::in_turn([hello("m").after(wait), hello("m")]).await;
    let second = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
    let class = "[classes.spills]\ncloud = true\nspill = true\nselect = [{ provider = \"first\", model = \"m\" }, \
                 { provider = \"second\", model = \"n\" }]\n[providers.first.limits]\nin_flight = 1\n";
    let gateway = with_two(OpenAiChat, &first, &second, class);
    let before = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "first/m", false)));
    first.nth(0).await;
    let spills = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "spills", false)));
    second.nth(2).await;
    gate.open();
    before.await.unwrap().answered_by("first/m");
    let told = spills.await.unwrap();
    told.answered_by("first/m");
    assert_eq!(told.attempts().first().map(String::as_str), Some("first/m busy"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_rest_is_not_waited_for_beside_others() {
    let down = Refusal::Overloaded.reply(OpenAiChat).header("retry-after", "25");
    let (first, second) = (FaultServer::always(down).await, FaultServer::always(hello("n")).await);
    let told = ask_pair(&with_two(OpenAiChat, &first, &second, "")).await;
    told.answered_by("second/n");
    assert!(told.took < Duration::from_secs(20), "{told:?}");
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn what_a_target_said_before_is_told_if_it_helps_more() {
    let cases = [
        [throttled(0), Refusal::Internal.reply(OpenAiChat), Refusal::Internal.reply(OpenAiChat)],
        [throttled(0), Reply::reset(), Reply::reset()],
        [throttled(0), Reply::nothing_but([Step::Close]), Refusal::Internal.reply(OpenAiChat)],
    ];
    for replies in cases {
        let first = FaultServer::in_turn(replies).await;
        let told = ask(&with_one(OpenAiChat, &first, ""), OpenAiChat, "first/m", false).await;
        assert_eq!(told.status, 429, "{told:?}");
        assert!(!told.header("retry-after").is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn a_throttled_key_is_told_of_rather_than_a_refused_one() {
    let first = FaultServer::start(|asked| match asked.header("authorization") {
        key if key.ends_with("aaa") => throttled(60_000),
        _ => Refusal::BadKey.reply(OpenAiChat),
    })
    .await;
    let keys = "keys = [{ key = \"env:KEY_A\", weight = 1000 }, \"env:KEY_B\"]\n";
    let config = format!("{}{keys}{}", provider("first", OpenAiChat, &first), deadlines("first", "budget = \"5s\""));
    let gateway = Gateway::start_with(&config, &[("KEY_A", "key-aaa"), ("KEY_B", "key-bbb")], &[]);
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    assert_eq!(told.attempts(), ["first/m rate_limited", "first/m auth"]);
    assert_eq!((told.status, told.header("retry-after")), (429, "60"), "{told:?}");
}

#[tokio::test]
async fn where_all_keys_were_refused_each_target_is_asked_in_turn_all_the_same() {
    let refused = || Refusal::BadKey.reply(OpenAiChat);
    let first = FaultServer::always(refused()).await;
    let second = FaultServer::in_turn([refused(), hello("n")]).await;
    let keyed = |name: &str, server| provider(name, OpenAiChat, server) + "key = \"sk-of-them\"\n";
    let config = format!("{PAIR}{}{}", keyed("first", &first), keyed("second", &second));
    let gateway = Gateway::start(&config);
    assert_eq!(ask_pair(&gateway).await.status, 401);
    ask_pair(&gateway).await.answered_by("second/n");
    assert_eq!((first.count(), second.count()), (2, 2));
}

#[tokio::test]
async fn a_second_turn_is_a_retry_and_remembers_what_was_said_in_the_first() {
    let first = FaultServer::in_turn([throttled(1_000), Refusal::Internal.reply(OpenAiChat)]).await;
    let second = FaultServer::in_turn([throttled(1_500), Refusal::BadKey.reply(OpenAiChat)]).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    make_rest(&gateway, "first/m").await;
    let told = ask_pair(&gateway).await;
    let failed = "first/m upstream_fault";
    let trail = ["first/m resting", "second/n rate_limited", failed, failed, failed, "second/n auth"];
    assert_eq!((told.status, told.attempts()), (429, trail.map(str::to_owned).to_vec()), "{told:?}");
    let record = gateway.recorded(told.header("x-request-id")).await;
    let retries: Vec<bool> =
        record["attempts"].as_array().unwrap().iter().map(|attempt| attempt["retry"] == true).collect();
    assert_eq!(retries, [false, false, false, true, true, true], "{record}");
}

#[tokio::test]
async fn of_busy_targets_of_a_class_that_spills_the_last_is_waited_for() {
    let (gate, wait) = Gate::closed();
    let first = FaultServer::always(hello("m").after(Step::Silence)).await;
    let second = FaultServer::in_turn([hello("n").after(wait), hello("n")]).await;
    let class = "[classes.spills]\ncloud = true\nspill = true\nselect = [{ provider = \"first\", model = \"m\" }, \
                 { provider = \"second\", model = \"n\" }]\n[providers.first.limits]\nin_flight = 1\n\
                 [providers.second.limits]\nin_flight = 1\n";
    let gateway = with_two(OpenAiChat, &first, &second, class);
    let stuck = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "first/m", false)));
    let before = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "second/n", false)));
    first.nth(0).await;
    second.nth(0).await;
    let spills = tokio::spawn(told(OpenAiChat, request(&gateway, OpenAiChat, "spills", false)));
    queued(&gateway, 1).await;
    gate.open();
    before.await.unwrap().answered_by("second/n");
    spills.await.unwrap().answered_by("second/n");
    stuck.abort();
}

/// Waits until so many requests stand in queues.
async fn queued(gateway: &Gateway, number: u64) {
    let waiting = async || {
        let status = gateway.admin("/admin/status").await;
        let queues = status["queues"].as_array().into_iter().flatten();
        let waiting: u64 = queues.map(|queue| queue["waiting"]["interactive"].as_u64().unwrap()).sum();
        (waiting == number).then_some(())
    };
    gateway.eventually("so many wait", waiting).await;
}

#[tokio::test]
async fn a_target_that_is_back_sooner_is_not_kept_waiting_by_one_that_rests_again() {
    let first = FaultServer::in_turn([throttled(500), throttled(20_000), hello("m")]).await;
    let second = FaultServer::in_turn([throttled(1_500), hello("n")]).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    make_rest(&gateway, "first/m").await;
    make_rest(&gateway, "second/n").await;
    let told = ask_pair(&gateway).await;
    told.answered_by("second/n");
    assert_eq!((first.count(), second.count()), (2, 2), "{told:?}");
}

#[tokio::test]
async fn a_target_that_failed_is_tried_again_before_a_longer_rest_is_waited_for() {
    let down = || Refusal::Internal.reply(OpenAiChat);
    let first = FaultServer::in_turn([down(), down(), down(), hello("m")]).await;
    let second = FaultServer::in_turn([throttled(15_000), hello("n")]).await;
    let gateway = with_two(OpenAiChat, &first, &second, "[breaker]\nfailures = 3\nopen = \"1s\"\n");
    assert_eq!(ask(&gateway, OpenAiChat, "first/m", false).await.status, 500);
    make_rest(&gateway, "second/n").await;
    ask_pair(&gateway).await.answered_by("first/m");
    assert_eq!((first.count(), second.count()), (4, 1));
}

#[tokio::test]
async fn a_name_that_is_no_models_is_kept_nowhere() {
    let first = FaultServer::always(hello("m")).await;
    let gateway = with_one(OpenAiChat, &first, "");
    let long = format!("first/{}", "m".repeat(1_000));
    let named = ask(&gateway, OpenAiChat, &long, false).await;
    assert_eq!((named.status, &named.error()["code"]), (400, &json!("model_too_long")), "{named:?}");
    assert!(named.text().len() < 500, "it is not quoted: {named:?}");
    let asking = request(&gateway, OpenAiChat, "first/m", false).header("x-bifrost-fallbacks", &long);
    assert_eq!(told(OpenAiChat, asking).await.status, 400);
    assert_eq!(first.count(), 0);
}
