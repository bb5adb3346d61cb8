//! No limit is passed, and nothing is cut off before its limit.

use crate::support::fault_client::{
    DIALECTS, LONG, Told, ask, deadlines, provider_at, question, request, told, with_one, with_two,
};
use crate::support::fault_client::{PAIR, QUICK, provider};
use crate::support::fault_replies::{Stream, answer, streamed, whole};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const LIMIT: Duration = Duration::from_millis(300);
const SHORT: &str = "first_token = \"300ms\"\nwhole_answer = \"300ms\"";

/// Takes the request and never answers, or sends the head of an answer and never a byte more.
fn silences(stream: bool) -> [Reply; 2] {
    let head =
        if stream { Reply::events() } else { Reply::whole(200, "application/json", "").header("x-more", "none") };
    [Reply::silence(), if stream { head.then(Step::Silence) } else { endless_head() }]
}

/// The head of a whole answer whose body never comes.
fn endless_head() -> Reply {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n";
    Reply::nothing_but([Step::Raw(head.into()), Step::Silence])
}

fn check_timeout(told: &Told, limit: Duration) {
    assert_eq!(told.status, 504, "{told:?}");
    assert!(told.error()["message"].as_str().unwrap().contains("first"), "it does not say who: {told:?}");
    assert!(told.took >= limit && told.took < LONG, "{told:?}");
    let attempts = told.attempts();
    assert!(attempts.len() == 1 && attempts[0].starts_with("first/m timeout_"), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_provider_is_given_up_at_its_limit_and_not_asked_again() {
    let cases = DIALECTS.map(|dialect| async move {
        for stream in [false, true] {
            for silence in silences(stream) {
                let first = FaultServer::always(silence).await;
                let gateway = with_one(dialect, &first, &deadlines("first", SHORT));
                let asking = DIALECTS.map(|ingress| ask(&gateway, ingress, "first/m", stream));
                for told in join_all(asking).await {
                    check_timeout(&told, LIMIT);
                }
                assert_eq!(first.count(), DIALECTS.len());
                for asked in first.asked() {
                    asked.left().await;
                }
            }
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn another_target_answers_for_a_silent_one() {
    for stream in [false, true] {
        for silence in silences(stream) {
            let first = FaultServer::always(silence).await;
            let second = FaultServer::always(answer(OpenAiChat, "n", stream, "here")).await;
            let gateway = with_two(OpenAiChat, &first, &second, &deadlines("first", SHORT));
            let told = ask(&gateway, OpenAiChat, "pair", stream).await;
            told.answered_by("second/n");
            assert_eq!((told.content().as_str(), told.header("x-bifrost-fallback")), ("here", "first/m"));
            assert!(told.took >= LIMIT && told.took < LONG, "{told:?}");
            assert_eq!((first.count(), second.count()), (1, 1));
            // A request arrives a little after its time has begun.
            assert!(second.nth(0).await.at - first.nth(0).await.at >= LIMIT / 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_content_are_no_first_token() {
    let cases = DIALECTS.map(|dialect| async move {
        let mut stream = Stream::of(dialect, "m").opening();
        for _ in 0..600 {
            stream = stream.sign_of_life().step(Step::Pause(Duration::from_millis(50)));
        }
        let first = FaultServer::always(stream.text("late").stop().marker().reply()).await;
        let second = FaultServer::always(streamed(dialect, "n", &["here"])).await;
        let gateway = with_two(dialect, &first, &second, &deadlines("first", SHORT));
        let told = ask(&gateway, dialect, "pair", true).await;
        told.answered_by("second/n");
        assert_eq!(told.content(), "here");
        assert!(!told.text().contains("heartbeat"), "frames of a target that did not answer: {told:?}");
        assert!(told.took >= LIMIT && told.took < LONG, "{told:?}");
        assert_eq!(first.count(), 1);
        first.nth(0).await.left().await;
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_token_within_its_limit_is_waited_for() {
    let late = Duration::from_millis(600);
    let cases = DIALECTS.map(|dialect| async move {
        let stream = Stream::of(dialect, "m").step(Step::Pause(late)).opening().text("late").stop().marker();
        let first = FaultServer::always(stream.reply()).await;
        let gateway = with_one(dialect, &first, &deadlines("first", "first_token = \"20s\"\nidle = \"300ms\""));
        let told = ask(&gateway, dialect, "first/m", true).await;
        told.answered_by("first/m");
        assert!(told.content() == "late" && told.took >= late, "{told:?}");
        assert_eq!(first.count(), 1);
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_asks_for_reasoning_is_waited_for_longer() {
    let asks = [
        (OpenAiChat, "reasoning_effort", json!("high"), json!("none")),
        (Anthropic, "thinking", json!({"type": "enabled", "budget_tokens": 1024}), json!({"type": "disabled"})),
        (
            Gemini,
            "generationConfig",
            json!({"thinkingConfig": {"thinkingBudget": 1024}}),
            json!({"thinkingConfig": {"thinkingBudget": 0}}),
        ),
        (
            Gemini,
            "generation_config",
            json!({"thinking_config": {"thinking_budget": 1024}}),
            json!({"thinking_config": {"thinking_budget": 0}}),
        ),
        (OpenAiChat, "enable_thinking", json!(true), json!(false)),
        (OpenAiChat, "chat_template_kwargs", json!({"enable_thinking": true}), json!({"enable_thinking": false})),
    ];
    let cases = asks.map(|(dialect, field, on, off)| async move {
        // One of the client's own dialect, and one that it is translated for.
        for upstream in [dialect, if dialect == OpenAiChat { Anthropic } else { OpenAiChat }] {
            let late = answer(upstream, "m", true, "thought").after(Step::Pause(LIMIT * 3));
            let first = FaultServer::always(late).await;
            let limits = "first_token = \"300ms\"\nfirst_token_reasoning = \"20s\"";
            let gateway = with_one(upstream, &first, &deadlines("first", limits));
            let (path, mut body) = question(dialect, "first/m", true);
            if dialect == Anthropic {
                body["max_tokens"] = json!(2048);
            }
            let plain = gateway.post(&path, &body);
            body[field] = off.clone();
            let without = gateway.post(&path, &body);
            body[field] = on.clone();
            let with = gateway.post(&path, &body);
            let (plain, without, with) =
                tokio::join!(told(dialect, plain), told(dialect, without), told(dialect, with));
            check_timeout(&plain, LIMIT);
            check_timeout(&without, LIMIT);
            with.answered_by("first/m");
            assert_eq!(with.content(), "thought");
        }
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stalls_ends_with_an_error_event_at_the_idle_limit() {
    let cases = DIALECTS.map(|dialect| async move {
        let stalls = Stream::of(dialect, "m").opening().text("one").step(Step::Silence).reply();
        let first = FaultServer::always(stalls).await;
        let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
        let gateway = with_two(dialect, &first, &second, &deadlines("first", "idle = \"300ms\""));
        for told in join_all(DIALECTS.map(|ingress| ask(&gateway, ingress, "pair", true))).await {
            assert_eq!((told.status, told.content().as_str()), (200, "one"), "{told:?}");
            assert_eq!(told.header("x-bifrost-provider"), "first");
            assert!(told.stream_error().is_some() && !told.is_complete(), "{told:?}");
            assert!(told.took >= LIMIT && told.took < LONG, "{told:?}");
            let record = gateway.recorded(told.header("x-request-id")).await;
            let attempt = &record["attempts"][0];
            assert_eq!(attempt["outcome"], "timeout_idle", "{record}");
            assert!(attempt["ms"].as_u64() >= Some(LIMIT.as_millis() as u64), "it lasted until it failed: {record}");
        }
        assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0), "another model went on with it");
        for asked in first.asked() {
            asked.left().await;
        }
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_comes_byte_by_byte_is_whole_and_not_idle() {
    let cases = DIALECTS.map(|dialect| async move {
        let pieces = ["sl\u{f6}w", "ly"];
        let slow = streamed(dialect, "m", &pieces).trickled(Duration::from_millis(1));
        let first = FaultServer::always(slow).await;
        let limits = "first_token = \"20s\"\nidle = \"500ms\"";
        let gateway = with_one(dialect, &first, &deadlines("first", limits));
        let told = ask(&gateway, dialect, "first/m", true).await;
        told.answered_by("first/m");
        let quick = FaultServer::always(streamed(dialect, "m", &pieces)).await;
        let quick = ask(&with_one(dialect, &quick, ""), dialect, "first/m", true).await;
        assert_eq!((told.content(), told.body), (pieces.concat(), quick.body));
        assert!(told.took > Duration::from_millis(500), "it came too quickly to prove anything: {:?}", told.took);
        assert_eq!(first.count(), 1);
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_whole_answer_that_comes_byte_by_byte_has_one_limit_for_all_of_it() {
    let slow = whole(OpenAiChat, "m", "slow").trickled(Duration::from_millis(3));
    let first = FaultServer::always(slow).await;
    // Neither the first byte nor a pause between two is ever late.
    let limits = "first_token = \"300ms\"\nidle = \"300ms\"\nwhole_answer = \"20s\"";
    let gateway = with_one(OpenAiChat, &first, &deadlines("first", limits));
    for told in join_all(DIALECTS.map(|ingress| ask(&gateway, ingress, "first/m", false))).await {
        told.answered_by("first/m");
        assert!(told.took > LIMIT, "it came too quickly to prove anything: {told:?}");
    }
    let gateway = with_one(OpenAiChat, &first, &deadlines("first", SHORT));
    for told in join_all(DIALECTS.map(|ingress| ask(&gateway, ingress, "first/m", false))).await {
        check_timeout(&told, LIMIT);
    }
    assert_eq!(first.count(), 2 * DIALECTS.len());
}

#[tokio::test]
async fn a_client_may_shorten_the_limits_and_not_lengthen_them() {
    for stream in [false, true] {
        let first = FaultServer::always(Reply::silence()).await;
        let second = FaultServer::always(Reply::silence()).await;
        let gateway = with_two(OpenAiChat, &first, &second, &deadlines("first", SHORT));
        let longer = request(&gateway, OpenAiChat, "first/m", stream).header("x-bifrost-timeout-ms", "20000");
        let told_longer = told(OpenAiChat, longer).await;
        check_timeout(&told_longer, LIMIT);
        assert!(told_longer.took < Duration::from_secs(10), "{told_longer:?}");
        // The second has its own limit of minutes; the header is for each attempt.
        let shorter = request(&gateway, OpenAiChat, "pair", stream).header("x-bifrost-timeout-ms", "200");
        let told = told(OpenAiChat, shorter).await;
        assert!(told.status == 504 && told.attempts().len() == 2, "{told:?}");
        assert!(told.took >= Duration::from_millis(400) && told.took < LONG, "{told:?}");
        assert_eq!((first.count(), second.count()), (2, 1));
        // A request arrives a little after its time has begun.
        assert!(second.nth(0).await.at - first.nth(1).await.at >= Duration::from_millis(150));
    }
}

#[tokio::test]
async fn a_class_has_limits_of_its_own_before_those_of_its_providers() {
    let first = FaultServer::always(Reply::silence()).await;
    let quick = "[classes.quick]\ncloud = true\nselect = [{ provider = \"first\", model = \"m\" }]\n\
                 [classes.quick.deadlines]\nfirst_token = \"300ms\"\nwhole_answer = \"300ms\"\n";
    let limits = deadlines("first", "first_token = \"25s\"\nwhole_answer = \"25s\"");
    let gateway = with_one(OpenAiChat, &first, &format!("{limits}{quick}"));
    for stream in [false, true] {
        let told = ask(&gateway, OpenAiChat, "quick", stream).await;
        check_timeout(&told, LIMIT);
        assert!(told.took < Duration::from_secs(20), "{told:?}");
    }
    let slow = Stream::of(OpenAiChat, "m").opening().text("one").step(Step::Silence).reply();
    let first = FaultServer::always(slow).await;
    let impatient = quick.replace("first_token", "idle");
    let gateway = with_one(OpenAiChat, &first, &impatient);
    let told = ask(&gateway, OpenAiChat, "quick", true).await;
    assert!(told.stream_error().is_some() && told.took < LONG, "{told:?}");
}

/// A port where nobody takes the connection: the queue of those who wait to be taken is full.
async fn crowded() -> (TcpListener, Vec<TcpStream>, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Until one more is not let in.
    while let Ok(connected) = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    (listener, waiting, format!("http://{address}"))
}

#[tokio::test]
async fn a_provider_that_takes_no_connection_is_given_up_at_its_limit() {
    let (_listener, _waiting, url) = crowded().await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "here")).await;
    let config = |dialect: DialectId| {
        let limits = deadlines("first", "connect = \"300ms\"");
        format!("{QUICK}{PAIR}{}{}{limits}", provider("second", dialect, &second), provider_at("first", dialect, &url))
    };
    let gateway = Gateway::start(&config(OpenAiChat));
    let alone = ask(&gateway, OpenAiChat, "first/m", true).await;
    assert_eq!(alone.attempts(), ["first/m timeout_connect"]);
    check_timeout(&alone, LIMIT);
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    told.answered_by("second/n");
    assert_eq!(told.attempts(), ["first/m timeout_connect", "second/n ok"]);
    assert!(told.took >= LIMIT && told.took < LONG, "{told:?}");
}

#[tokio::test]
async fn a_clients_limit_holds_while_the_provider_takes_no_connection() {
    let (_listener, _waiting, url) = crowded().await;
    let config =
        format!("{QUICK}{}{}", provider_at("first", OpenAiChat, &url), deadlines("first", "connect = \"50s\""));
    let gateway = Gateway::start(&config);
    for stream in [false, true] {
        let asked = request(&gateway, OpenAiChat, "first/m", stream).header("x-bifrost-timeout-ms", "300");
        let told = told(OpenAiChat, asked).await;
        assert!(told.status == 504 && told.took < LONG, "{told:?}");
    }
}
