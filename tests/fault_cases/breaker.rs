//! A target that fails again and again is left alone for a while, then tried by one request.

use crate::support::fault_client::{DIALECTS, PAIR, Told, ask, deadlines, provider, request, told};
use crate::support::fault_replies::{Refusal, answer, whole};
use crate::support::fault_server::{FaultServer, Gate, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// No retries, so that each request is one attempt.
const ONCE: &str = "[retry]\nattempts = 0\n";

fn breaker(failures: u32, open: &str) -> String {
    format!("[breaker]\nfailures = {failures}\nopen = \"{open}\"\n")
}

fn start(first: &FaultServer, second: Option<&FaultServer>, more: &str) -> Gateway {
    let second = second.map(|second| format!("{PAIR}{}", provider("second", OpenAiChat, second))).unwrap_or_default();
    Gateway::start(&format!("{ONCE}{second}{}{more}", provider("first", OpenAiChat, first)))
}

async fn ask_first(gateway: &Gateway) -> Told {
    ask(gateway, OpenAiChat, "first/m", false).await
}

/// A target that fails until it is mended.
async fn flapping() -> (FaultServer, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let server = FaultServer::start(move |_| {
        if is_mended.load(Ordering::SeqCst) {
            whole(OpenAiChat, "m", "back")
        } else {
            Refusal::Internal.reply(OpenAiChat)
        }
    })
    .await;
    (server, mended)
}

#[tokio::test]
async fn a_target_that_flaps_is_left_alone_then_probed_once_then_used_again() {
    let (gate, wait) = Gate::closed();
    let mut number = 0;
    let first = FaultServer::start(move |_| {
        number += 1;
        match number {
            1..=3 => Refusal::Internal.reply(OpenAiChat),
            // The probe, which takes its time.
            4 => whole(OpenAiChat, "m", "back").after(wait.clone()),
            _ => whole(OpenAiChat, "m", "back"),
        }
    })
    .await;
    let open = Duration::from_millis(1_500);
    let gateway = start(&first, None, &breaker(3, "1500ms"));
    for _ in 0..3 {
        assert_eq!(ask_first(&gateway).await.status, 500);
    }
    let opened = first.nth(2).await.at;
    for told in join_all((0..5).map(|_| ask_first(&gateway))).await {
        assert_eq!(told.status, 503, "{told:?}");
        assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1, "{told:?}");
        assert!(told.error()["message"].as_str().unwrap().contains("first"), "{told:?}");
    }
    assert_eq!(first.count(), 3, "it is not left alone");
    tokio::time::sleep_until((opened + open + Duration::from_millis(200)).into()).await;
    let probing = async {
        let probe = first.nth(3).await;
        assert!(probe.at - opened >= open, "{:?}", probe.at - opened);
        for told in join_all((0..5).map(|_| ask_first(&gateway))).await {
            assert_eq!(told.status, 503, "there is a second probe: {told:?}");
        }
        assert_eq!(first.count(), 4);
        gate.open();
    };
    let (probe, ()) = tokio::join!(ask_first(&gateway), probing);
    probe.answered_by("first/m");
    for told in join_all((0..5).map(|_| ask_first(&gateway))).await {
        told.answered_by("first/m");
    }
    assert_eq!(first.count(), 9);
}

#[tokio::test]
async fn while_it_is_open_the_next_target_answers_at_once() {
    let (first, mended) = flapping().await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let gateway = start(&first, Some(&second), &breaker(3, "1s"));
    for _ in 0..6 {
        let told = ask(&gateway, OpenAiChat, "pair", false).await;
        told.answered_by("second/n");
        assert_eq!(told.header("x-bifrost-fallback"), "first/m", "{told:?}");
    }
    assert_eq!((first.count(), second.count()), (3, 6));
    let opened = first.nth(2).await.at;
    mended.store(true, Ordering::SeqCst);
    tokio::time::sleep_until((opened + Duration::from_millis(1_200)).into()).await;
    ask(&gateway, OpenAiChat, "pair", false).await.answered_by("first/m");
    ask(&gateway, OpenAiChat, "pair", false).await.answered_by("first/m");
}

#[tokio::test]
async fn a_probe_that_fails_keeps_it_closed_to_all_for_longer() {
    let (first, _) = flapping().await;
    let gateway = start(&first, None, &breaker(2, "400ms"));
    // Who asks all the time finds out when it is let through.
    let asks = async || {
        ask_first(&gateway).await;
        (first.count() >= 5).then_some(())
    };
    gateway.eventually("somebody is let through again", asks).await;
    let asked_at: Vec<Instant> = first.asked().iter().map(|asked| asked.at).collect();
    let stays: Vec<Duration> = asked_at.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!(stays[0] >= Duration::from_millis(400), "{stays:?}");
    assert!(stays[1] >= Duration::from_millis(800), "{stays:?}");
    assert!(stays[2] >= Duration::from_millis(1_600), "{stays:?}");
}

#[tokio::test]
async fn half_of_many_attempts_open_it_too() {
    let mut number = 0;
    let first = FaultServer::start(move |_| {
        number += 1;
        if number % 2 == 0 { Refusal::Internal.reply(OpenAiChat) } else { whole(OpenAiChat, "m", "here") }
    })
    .await;
    let gateway = start(&first, None, "[breaker]\nfailures = 1000\nrate = 0.4\nopen = \"60s\"\nwindow = \"60s\"\n");
    for _ in 0..80 {
        ask_first(&gateway).await;
    }
    assert!((40..=41).contains(&first.count()), "{}", first.count());
}

#[tokio::test]
async fn silence_and_refused_connections_are_failures_too() {
    for fault in [Reply::silence(), Reply::reset(), Refusal::Overloaded.reply(OpenAiChat)] {
        let first = FaultServer::always(fault).await;
        let limits = deadlines("first", "whole_answer = \"200ms\"");
        let gateway = start(&first, None, &format!("{limits}{}", breaker(3, "60s")));
        for _ in 0..6 {
            let told = ask_first(&gateway).await;
            assert!([502, 503, 504].contains(&told.status), "{told:?}");
        }
        assert_eq!(first.count(), 3);
    }
}

#[tokio::test]
async fn a_clients_limit_that_shortens_nothing_excuses_nobody() {
    // The class's limit is the one that passes, far below the provider's and the client's.
    let class = "[classes.brief]\ncloud = true\nselect = [{ provider = \"first\", model = \"m\" }]\n\
                 [classes.brief.deadlines]\nwhole_answer = \"200ms\"\n";
    for (limit, asked) in [("5000", 3), ("100", 6)] {
        let first = FaultServer::always(Reply::silence()).await;
        let gateway = start(&first, None, &format!("{class}{}", breaker(3, "60s")));
        for _ in 0..6 {
            let request = request(&gateway, OpenAiChat, "brief", false).header("x-bifrost-timeout-ms", limit);
            let told = told(OpenAiChat, request).await;
            assert!([503, 504].contains(&told.status), "{told:?}");
        }
        assert_eq!(first.count(), asked, "{limit}");
    }
}

#[tokio::test]
async fn a_streams_bad_end_is_a_failure_too() {
    let cut = crate::support::fault_replies::Stream::of(OpenAiChat, "m").opening().text("one");
    let first = FaultServer::always(cut.step(crate::support::fault_server::Step::Close).reply()).await;
    let gateway = start(&first, None, &breaker(3, "60s"));
    for _ in 0..6 {
        ask(&gateway, OpenAiChat, "first/m", true).await;
    }
    assert_eq!(first.count(), 3);
}

#[tokio::test]
async fn what_clients_do_wrong_opens_nothing() {
    let faults = [Refusal::BadRequest, Refusal::TooLong, Refusal::Filtered, Refusal::Prefilled];
    for dialect in DIALECTS {
        let mut number = 0;
        let first = FaultServer::start(move |_| {
            number += 1;
            faults[number % faults.len()].reply(dialect)
        })
        .await;
        let config = format!("{ONCE}{}{}", provider("first", dialect, &first), breaker(2, "60s"));
        let gateway = Gateway::start(&config);
        for _ in 0..30 {
            ask(&gateway, dialect, "first/m", false).await;
        }
        assert_eq!(first.count(), 30);
    }
}

#[tokio::test]
async fn clients_that_leave_open_nothing() {
    let first = FaultServer::always(Reply::silence()).await;
    let gateway = start(&first, None, &breaker(2, "60s"));
    for number in 0..5 {
        let request = crate::support::fault_client::request(&gateway, OpenAiChat, "first/m", false);
        let asking = tokio::spawn(request.send());
        let asked = first.nth(number).await;
        asking.abort();
        asked.left().await;
    }
}

#[tokio::test]
async fn one_model_that_fails_is_not_its_neighbours_fault() {
    let first = FaultServer::start(|asked| {
        let model = asked.json()["model"].as_str().unwrap().to_owned();
        if model == "m" { Refusal::Internal.reply(OpenAiChat) } else { whole(OpenAiChat, &model, "here") }
    })
    .await;
    let gateway = start(&first, None, &breaker(2, "60s"));
    for _ in 0..4 {
        ask_first(&gateway).await;
    }
    assert_eq!(first.count(), 2);
    ask(&gateway, OpenAiChat, "first/other", false).await.answered_by("first/other");
}

#[tokio::test]
async fn a_retry_after_is_how_long_it_stays_open() {
    let first = FaultServer::in_turn([
        Refusal::Overloaded.reply(OpenAiChat).header("retry-after", "2"),
        whole(OpenAiChat, "m", "back"),
    ])
    .await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let limits = deadlines("first", "budget = \"500ms\"") + &deadlines("second", "budget = \"500ms\"");
    let gateway = start(&first, Some(&second), &limits);
    for _ in 0..3 {
        ask(&gateway, OpenAiChat, "pair", false).await.answered_by("second/n");
    }
    let asked = first.nth(0).await.at;
    assert_eq!(first.count(), 1, "it said when to come back");
    tokio::time::sleep_until((asked + Duration::from_millis(2_300)).into()).await;
    ask(&gateway, OpenAiChat, "pair", false).await.answered_by("first/m");
}
