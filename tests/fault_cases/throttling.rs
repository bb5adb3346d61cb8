//! 429: when the provider says when to come back, when it does not, and when coming back does not help.

use crate::support::fault_client::{DIALECTS, LONG, ask, deadlines, request, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, answer, gemini_retry_info};
use crate::support::fault_server::{FaultServer, Reply};
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use serde_json::json;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

fn throttled(dialect: DialectId) -> Reply {
    Refusal::Throttled.reply(dialect)
}

fn in_seconds(seconds: u64) -> OffsetDateTime {
    let then = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(seconds));
    then.replace_nanosecond(0).unwrap()
}

/// A form in which a provider says when to come back.
struct Form {
    name: &'static str,
    dialect: DialectId,
    /// The least wait that it asks for.
    least: Duration,
    /// Made when it is needed: some forms name a point in time.
    reply: fn() -> Reply,
}

const fn form(name: &'static str, dialect: DialectId, least_millis: u64, reply: fn() -> Reply) -> Form {
    Form { name, dialect, least: Duration::from_millis(least_millis), reply }
}

/// A 429 with a limit of requests or tokens that has none left, and when it has some again.
fn reset(what: &str, value: &str) -> Reply {
    let (remaining, reset) = match what {
        "requests" => ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        _ => ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    };
    throttled(OpenAiChat).header(remaining, "0").header(reset, value)
}

/// The second begins up to a second before it is over, so that a date two seconds on asks for one at least.
const FORMS: [Form; 11] = [
    form("seconds", OpenAiChat, 1_000, || throttled(OpenAiChat).header("retry-after", "1")),
    form("a date", OpenAiChat, 900, || {
        let date = in_seconds(2).format(&Rfc2822).unwrap().replace("+0000", "GMT");
        throttled(OpenAiChat).header("retry-after", date)
    }),
    form("milliseconds", OpenAiChat, 400, || throttled(OpenAiChat).header("retry-after-ms", "400")),
    form("OpenAI's requests", OpenAiChat, 400, || reset("requests", "400ms")),
    form("OpenAI's minutes", OpenAiChat, 1_000, || reset("requests", "0m1s")),
    form("Groq's tokens", OpenAiChat, 452, || reset("tokens", "0.4521s")),
    form("Azure's bare seconds", OpenAiChat, 1_000, || reset("requests", "1")),
    form("Anthropic's seconds", Anthropic, 1_000, || throttled(Anthropic).header("retry-after", "1")),
    form("Anthropic's reset", Anthropic, 900, || {
        throttled(Anthropic)
            .header("anthropic-ratelimit-requests-remaining", "0")
            .header("anthropic-ratelimit-requests-reset", in_seconds(2).format(&Rfc3339).unwrap())
    }),
    form("Gemini's RetryInfo", Gemini, 400, || gemini_retry_info(Gemini, "0.4s")),
    form("RetryInfo of Gemini's compatible API", OpenAiChat, 400, || gemini_retry_info(OpenAiChat, "0.4s")),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_asks_for_is_waited_for() {
    let cases = FORMS.iter().flat_map(|form| [false, true].map(|stream| (form, stream)));
    let cases = cases.map(|(Form { name, dialect, least, reply }, stream)| async move {
        let mut refused = false;
        let first = FaultServer::start(move |_| {
            if std::mem::replace(&mut refused, true) { answer(*dialect, "m", stream, "here") } else { reply() }
        })
        .await;
        let gateway = with_one(*dialect, &first, "");
        let told = ask(&gateway, *dialect, "first/m", stream).await;
        told.answered_by("first/m");
        assert_eq!(told.attempts(), ["first/m rate_limited", "first/m ok"], "{name}");
        let gap = first.gaps()[0];
        assert!(gap >= *least && gap < *least + Duration::from_secs(10), "{name}: {gap:?}");
    });
    futures_util::future::join_all(cases).await;
}

#[tokio::test]
async fn a_wait_that_fits_is_taken_before_another_target() {
    let reply = throttled(OpenAiChat).header("retry-after-ms", "400");
    let first = FaultServer::in_turn([reply, answer(OpenAiChat, "m", false, "here")]).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    told.answered_by("first/m");
    assert_eq!((first.count(), second.count()), (2, 0));
    assert!(first.gaps()[0] >= Duration::from_millis(400) && told.took < LONG, "{told:?}");
}

#[tokio::test]
async fn a_wait_that_does_not_fit_is_the_next_targets_turn_at_once() {
    for stream in [false, true] {
        let first = FaultServer::always(throttled(OpenAiChat).header("retry-after", "20")).await;
        let second = FaultServer::always(answer(OpenAiChat, "n", stream, "there")).await;
        let more = deadlines("first", "budget = \"10s\"") + &deadlines("second", "budget = \"10s\"");
        let gateway = with_two(OpenAiChat, &first, &second, &more);
        let told = ask(&gateway, OpenAiChat, "pair", stream).await;
        told.answered_by("second/n");
        assert_eq!((first.count(), second.count()), (1, 1));
        assert!(told.took < Duration::from_secs(10), "{told:?}");
        // Until then nobody asks the first.
        let again = ask(&gateway, OpenAiChat, "pair", stream).await;
        again.answered_by("second/n");
        assert_eq!((first.count(), second.count()), (1, 2), "{again:?}");
    }
}

#[tokio::test]
async fn a_wait_that_does_not_fit_and_nobody_else_is_told_with_its_end() {
    for dialect in DIALECTS {
        let first = FaultServer::always(throttled(dialect).header("retry-after", "20")).await;
        let gateway = with_one(dialect, &first, &deadlines("first", "budget = \"5s\""));
        for ingress in DIALECTS {
            let told = ask(&gateway, ingress, "first/m", false).await;
            assert_eq!(told.status, 429, "{told:?}");
            let wait: u64 = told.header("retry-after").parse().unwrap();
            assert!((1..=20).contains(&wait), "{wait}");
            assert!(!told.error()["message"].as_str().unwrap().is_empty());
            assert!(told.took < Duration::from_secs(5), "{told:?}");
        }
        assert_eq!(first.count(), 1, "it asked to be left alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_server_that_says_when_to_come_back_is_left_alone_until_then() {
    let failing = |status| Reply::whole(status, "text/html", "<html>not now</html>");
    let cases = [408, 500, 502, 503, 504, 529].map(|status| async move {
        let soon = failing(status).header("retry-after-ms", "400");
        let first = FaultServer::in_turn([soon, answer(OpenAiChat, "m", false, "here")]).await;
        let gateway = with_one(OpenAiChat, &first, "");
        ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
        assert!(first.gaps()[0] >= Duration::from_millis(400), "{status}: {:?}", first.gaps());
        // What does not fit is the next target's turn, for other requests too.
        let first = FaultServer::always(failing(status).header("retry-after", "60")).await;
        let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
        let gateway = with_two(OpenAiChat, &first, &second, "");
        for _ in 0..3 {
            ask(&gateway, OpenAiChat, "pair", false).await.answered_by("second/n");
        }
        assert_eq!((first.count(), second.count()), (1, 3), "{status}");
    });
    futures_util::future::join_all(cases).await;
}

#[tokio::test]
async fn a_word_that_cannot_be_read_is_not_handed_on() {
    for word in ["soon", "-5", "", "0.2, 5"] {
        let reply = throttled(OpenAiChat).header("retry-after", word).header("retry-after-ms", word);
        let first = FaultServer::always(reply).await;
        let gateway = with_one(OpenAiChat, &first, &deadlines("first", "budget = \"500ms\""));
        let told = ask(&gateway, OpenAiChat, "first/m", false).await;
        assert_eq!(told.status, 429, "{told:?}");
        assert!(["retry-after", "retry-after-ms"].iter().all(|name| !told.headers.contains_key(*name)), "{told:?}");
    }
}

#[tokio::test]
async fn without_a_word_on_how_long_the_next_target_is_asked() {
    let first = FaultServer::always(throttled(OpenAiChat)).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    told.answered_by("second/n");
    assert!((1..=3).contains(&first.count()) && told.took < Duration::from_secs(10), "{told:?}");
    let gateway = with_one(OpenAiChat, &first, "");
    let before = first.count();
    let told = ask(&gateway, OpenAiChat, "first/m", true).await;
    assert_eq!(told.status, 429, "{told:?}");
    assert!((1..=3).contains(&(first.count() - before)), "{told:?}");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_not_waited_for() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            // Vendors say when to come back even then.
            let first = FaultServer::always(Refusal::UsedUp.reply(dialect).header("retry-after", "3")).await;
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let gateway = with_two(dialect, &first, &second, "");
            let told = ask(&gateway, dialect, "pair", stream).await;
            told.answered_by("second/n");
            // Google's counts for each model.
            let quota = if dialect == Gemini { "first/m model_quota" } else { "first/m quota" };
            assert_eq!(told.attempts(), [quota, "second/n ok"]);
            assert_eq!(first.count(), 1);
            assert!(told.took < Duration::from_secs(3), "it was waited for: {told:?}");
        }
        let first = FaultServer::always(Refusal::UsedUp.reply(dialect)).await;
        let gateway = with_one(dialect, &first, "");
        let told = ask(&gateway, OpenAiChat, "first/m", false).await;
        assert!([400, 402, 429].contains(&told.status), "{told:?}");
        assert_eq!(told.error()["code"], "insufficient_quota", "clients act on this code");
        assert_eq!(first.count(), 1);
    }
}

#[tokio::test]
async fn a_402_is_a_quota_that_is_used_up() {
    // As DeepSeek and OpenRouter say it.
    let broke = Reply::json(
        402,
        &json!({"error": {"message": "Insufficient Balance", "type": "unknown_error", "param": null, "code": "invalid_request_error"}}),
    );
    let first = FaultServer::always(broke).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let asked = ask(&gateway, OpenAiChat, "pair", false).await;
    asked.answered_by("second/n");
    assert_eq!((asked.attempts()[0].as_str(), first.count()), ("first/m quota", 1));
    let alone = told(OpenAiChat, request(&gateway, OpenAiChat, "first/m", false)).await;
    assert!([402, 429].contains(&alone.status), "{alone:?}");
}
