//! Several keys of one provider: what happens to one is not the others' fault.

use crate::support::fault_client::{DIALECTS, LONG, PAIR, QUICK, ask, deadlines, provider, question, request, told};
use crate::support::fault_replies::{Refusal, answer};
use crate::support::fault_server::{Asked, FaultServer, Gate, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, Gemini, OpenAiChat};
use serde_json::json;
use std::time::Duration;

const KEYS: [(&str, &str); 2] = [("KEY_A", "key-aaa-1"), ("KEY_B", "key-bbb-2")];

/// A provider whose answer depends on the key and the model.
async fn server(dialect: DialectId, script: impl Fn(&str, &str) -> Option<Reply> + Send + 'static) -> FaultServer {
    FaultServer::start(move |asked| {
        let model = model(asked);
        script(key(asked), &model).unwrap_or_else(|| answer(dialect, &model, false, "here"))
    })
    .await
}

/// `a`, `b`, or nothing.
fn key(asked: &Asked) -> &'static str {
    let shown = ["authorization", "x-api-key", "x-goog-api-key"].map(|name| asked.header(name)).concat();
    KEYS.iter()
        .find(|(_, secret)| shown.contains(secret))
        .map_or("", |(name, _)| if *name == "KEY_A" { "a" } else { "b" })
}

/// The model in the body, or in Gemini's path.
fn model(asked: &Asked) -> String {
    let in_path = || asked.path.split("models/").nth(1)?.split(':').next().map(str::to_owned);
    asked.json()["model"].as_str().map(str::to_owned).or_else(in_path).unwrap_or_default()
}

fn used(server: &FaultServer, of: &str) -> String {
    server.asked().iter().filter(|asked| model(asked) == of).map(key).collect()
}

fn start(dialect: DialectId, server: &FaultServer, keys: &str, more: &str) -> Gateway {
    let config = format!("{QUICK}{}keys = [{keys}]\n{more}", provider("first", dialect, server));
    Gateway::start_with(&config, &KEYS, &[])
}

const BOTH: &str = "\"env:KEY_A\", \"env:KEY_B\"";
/// `a` first, nearly always.
const MOSTLY_A: &str = "{ key = \"env:KEY_A\", weight = 1000 }, \"env:KEY_B\"";

#[tokio::test]
async fn a_refused_key_is_dropped_and_the_next_one_used_until_the_config_is_read_again() {
    for dialect in DIALECTS {
        // Gemini says 400 to it.
        let first = server(dialect, move |key, _| (key == "a").then(|| Refusal::BadKey.reply(dialect))).await;
        let gateway = start(dialect, &first, MOSTLY_A, "");
        let told = ask(&gateway, dialect, "first/m", false).await;
        told.answered_by("first/m");
        assert_eq!(told.attempts(), ["first/m auth", "first/m ok"]);
        for model in ["m", "other", "m"] {
            ask(&gateway, dialect, &format!("first/{model}"), false).await.answered_by(&format!("first/{model}"));
        }
        assert_eq!((used(&first, "m").as_str(), used(&first, "other").as_str()), ("abbb", "b"));
        assert_eq!(gateway.reload().await, 200);
        ask(&gateway, dialect, "first/again", false).await.answered_by("first/again");
        assert_eq!(used(&first, "again"), "ab");
    }
}

#[tokio::test]
async fn a_throttled_key_rests_as_long_as_the_provider_said_whoever_reads_the_config_again() {
    let throttled = || Refusal::Throttled.reply(OpenAiChat).header("retry-after", "60");
    let first = server(OpenAiChat, move |key, _| (key == "a").then(throttled)).await;
    let gateway = start(OpenAiChat, &first, MOSTLY_A, "");
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    assert_eq!(gateway.reload().await, 200);
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    assert_eq!(used(&first, "m"), "abb");
}

#[tokio::test]
async fn the_only_key_is_refused_and_the_next_target_is_asked() {
    for dialect in DIALECTS {
        let first = server(dialect, move |_, _| Some(Refusal::BadKey.reply(dialect))).await;
        let second = FaultServer::always(answer(dialect, "n", false, "there")).await;
        let more = format!("{}{}", crate::support::fault_client::PAIR, provider("second", dialect, &second));
        let gateway = start(dialect, &first, "\"env:KEY_A\"", &more);
        let told = ask(&gateway, dialect, "pair", false).await;
        told.answered_by("second/n");
        assert_eq!((told.attempts(), first.count()), (vec!["first/m auth".to_owned(), "second/n ok".into()], 1));
        // A key that is dead is not shown again while somebody else answers.
        let told = ask(&gateway, dialect, "pair", false).await;
        told.answered_by("second/n");
        assert_eq!((told.header("x-bifrost-fallback"), first.count()), ("first/m", 1));
        // Where nobody else does it is tried all the same, for keys are mended elsewhere; the client hears of the key.
        let told = ask(&gateway, dialect, "first/m", false).await;
        assert!([400, 401].contains(&told.status), "{told:?}");
        let said = told.error()["message"].as_str().unwrap().to_ascii_lowercase();
        assert!(said.contains("key") && !told.text().contains("key-aaa-1"), "{told:?}");
        assert_eq!(first.count(), 2);
    }
}

#[tokio::test]
async fn all_keys_are_refused_and_nobody_is_left() {
    let first = server(OpenAiChat, |_, _| Some(Refusal::BadKey.reply(OpenAiChat))).await;
    let gateway = start(OpenAiChat, &first, BOTH, "");
    for ingress in DIALECTS {
        let told = ask(&gateway, ingress, "first/m", false).await;
        assert_eq!(told.status, 401, "{told:?}");
        assert!(told.error()["message"].as_str().unwrap().contains("key"), "{told:?}");
    }
    let keys: String = first.asked().iter().map(key).collect();
    assert!(keys.starts_with("ab") || keys.starts_with("ba"), "each is tried first: {keys}");
    assert_eq!(keys.len(), 2 + DIALECTS.len() - 1, "then one of them for each request, and not all: {keys}");
}

#[tokio::test]
async fn a_key_that_may_not_use_a_model_rests_for_that_model_only() {
    for dialect in DIALECTS {
        let forbidden =
            move |key: &str, model: &str| (key == "a" && model == "m").then(|| Refusal::Forbidden.reply(dialect));
        let first = server(dialect, forbidden).await;
        let gateway = start(dialect, &first, MOSTLY_A, "");
        for model in ["m", "m", "other", "m", "other"] {
            ask(&gateway, dialect, &format!("first/{model}"), false).await.answered_by(&format!("first/{model}"));
        }
        assert_eq!((used(&first, "m").as_str(), used(&first, "other").as_str()), ("abbb", "aa"));
    }
}

#[tokio::test]
async fn a_throttled_key_rests_and_the_next_one_answers_at_once() {
    for dialect in DIALECTS {
        let throttled = move |key: &str, model: &str| {
            (key == "a" && model == "m").then(|| Refusal::Throttled.reply(dialect).header("retry-after", "3600"))
        };
        let first = server(dialect, throttled).await;
        let gateway = start(dialect, &first, MOSTLY_A, "");
        for model in ["m", "m", "other", "m"] {
            let told = ask(&gateway, dialect, &format!("first/{model}"), false).await;
            told.answered_by(&format!("first/{model}"));
            assert!(told.took < LONG, "{told:?}");
        }
        assert_eq!((used(&first, "m").as_str(), used(&first, "other").as_str()), ("abbb", "a"));
    }
}

#[tokio::test]
async fn a_throttled_key_is_used_again_when_its_rest_is_over() {
    let mut refused = false;
    let first = FaultServer::start(move |asked| {
        let refuses = key(asked) == "a" && !std::mem::replace(&mut refused, true);
        if refuses {
            return Refusal::Throttled.reply(OpenAiChat).header("retry-after", "1");
        }
        answer(OpenAiChat, "m", false, "here")
    })
    .await;
    let gateway = start(OpenAiChat, &first, MOSTLY_A, &deadlines("first", "budget = \"500ms\""));
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    assert_eq!(used(&first, "m"), "ab");
    let refused_at = first.nth(0).await.at;
    tokio::time::sleep_until((refused_at + Duration::from_millis(1_500)).into()).await;
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    assert_eq!(used(&first, "m"), "aba");
}

#[tokio::test]
async fn a_key_whose_quota_is_used_up_makes_place_for_the_next() {
    for dialect in DIALECTS {
        let first = server(dialect, move |key, _| (key == "a").then(|| Refusal::UsedUp.reply(dialect))).await;
        let gateway = start(dialect, &first, MOSTLY_A, "");
        for _ in 0..2 {
            ask(&gateway, dialect, "first/m", false).await.answered_by("first/m");
        }
        assert_eq!(used(&first, "m"), "abb");
    }
}

#[tokio::test]
async fn a_quota_that_counts_for_one_model_leaves_the_key_to_the_others() {
    let used_up = |_: &str, model: &str| (model == "m").then(|| Refusal::UsedUp.reply(Gemini));
    let first = server(Gemini, used_up).await;
    let gateway = start(Gemini, &first, "\"env:KEY_A\"", "");
    let (path, mut body) = question(Gemini, "first/m", false);
    body["fallbacks"] = json!(["first/other"]);
    for _ in 0..2 {
        let told = told(Gemini, gateway.post(&path, &body)).await;
        told.answered_by("first/other");
        assert!(told.attempts()[0].starts_with("first/m "), "{told:?}");
    }
    assert_eq!((used(&first, "m").as_str(), used(&first, "other").as_str()), ("a", "aa"));
    let told = ask(&gateway, Gemini, "first/m", false).await;
    assert_eq!(told.status, 429, "{told:?}");
}

#[tokio::test]
async fn keys_are_used_by_their_weights() {
    let first = server(OpenAiChat, |_, _| None).await;
    let keys = "{ key = \"env:KEY_A\", weight = 3 }, { key = \"env:KEY_B\", weight = 1 }";
    let gateway = start(OpenAiChat, &first, keys, "");
    for _ in 0..40 {
        ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    }
    let shares = used(&first, "m").matches('a').count();
    assert!((20..40).contains(&shares), "{shares} of 40");
}

#[tokio::test]
async fn a_request_that_alone_is_refused_shows_each_key_once() {
    let ((good, held), (bad, last)) = (Gate::closed(), Gate::closed());
    let first = FaultServer::start(move |asked| match (model(asked).as_str(), key(asked)) {
        ("bad", "a") => Refusal::BadKey.reply(OpenAiChat),
        ("bad", _) => Refusal::BadKey.reply(OpenAiChat).after(last.clone()),
        _ => answer(OpenAiChat, "good", false, "here").after(held.clone()),
    })
    .await;
    let gateway = start(OpenAiChat, &first, BOTH, "");
    let begin = |model| tokio::spawn(request(&gateway, OpenAiChat, model, false).send());
    // Both keys are at work for others,
    let mut others = Vec::new();
    for number in 0..2 {
        others.push(begin("first/good"));
        first.nth(number).await;
    }
    let refused = begin("first/bad");
    first.nth(3).await;
    // whose answers say that the first is good, while the second is refused.
    good.open();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap().status(), 200);
    }
    bad.open();
    assert_eq!(refused.await.unwrap().unwrap().status(), 401);
    assert_eq!(used(&first, "bad"), "ab");
}

#[tokio::test]
async fn a_clients_own_organization_or_project_costs_the_gateway_no_key() {
    for (header, code) in [
        ("openai-organization", "mismatched_organization"),
        ("openai-organization", "invalid_organization"),
        ("openai-project", "mismatched_project"),
        ("openai-project", "invalid_project"),
    ] {
        let first = FaultServer::start(move |asked| match asked.header(header) {
            "" => answer(OpenAiChat, "m", false, "here"),
            _ => {
                let error = json!({"message": "It does not fit.", "type": "invalid_request_error", "code": code});
                Reply::json(401, &json!({ "error": error }))
            }
        })
        .await;
        let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
        let more = format!("{PAIR}{}", provider("second", OpenAiChat, &second));
        let gateway = start(OpenAiChat, &first, "\"env:KEY_A\"", &more);
        let strange = request(&gateway, OpenAiChat, "pair", false).header(header, "not-of-this-key");
        let told = told(OpenAiChat, strange).await;
        assert_eq!((told.status, told.error()["code"].as_str()), (401, Some(code)), "{told:?}");
        assert_eq!(told.attempts(), ["first/m client_fault"]);
        ask(&gateway, OpenAiChat, "pair", false).await.answered_by("first/m");
    }
}

#[tokio::test]
async fn an_organization_that_the_configuration_names_is_not_the_clients() {
    let error = json!({"message": "It does not fit.", "type": "x", "code": "mismatched_organization"});
    let first = FaultServer::always(Reply::json(401, &json!({ "error": error }))).await;
    let gateway =
        start(OpenAiChat, &first, "\"env:KEY_A\"", "[providers.first.headers]\n\"openai-organization\" = \"ours\"\n");
    let strange = request(&gateway, OpenAiChat, "first/m", false).header("openai-organization", "theirs");
    assert_eq!(told(OpenAiChat, strange).await.attempts(), ["first/m auth"]);
    assert_eq!(first.nth(0).await.header("openai-organization"), "ours");
}

#[tokio::test]
async fn where_all_keys_are_thought_bad_each_is_looked_up_until_one_is_there() {
    for missing in ["env:KEY_C", "cmd:/bin/false"] {
        let mut refused = false;
        let first = FaultServer::start(move |_| {
            if std::mem::replace(&mut refused, true) {
                return answer(OpenAiChat, "m", false, "here");
            }
            Refusal::BadKey.reply(OpenAiChat)
        })
        .await;
        let gateway = start(OpenAiChat, &first, &format!("\"{missing}\", \"env:KEY_B\""), "");
        assert_eq!(ask(&gateway, OpenAiChat, "first/m", false).await.status, 401, "{missing}");
        // It was mended elsewhere.
        ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
        assert_eq!(used(&first, "m"), "bb", "{missing}");
    }
}

#[tokio::test]
async fn what_is_returned_at_once_is_returned_where_all_keys_were_refused_too() {
    for refusal in [Refusal::Filtered, Refusal::BadRequest, Refusal::TooLong] {
        let [first, second] = [refusal.reply(OpenAiChat), answer(OpenAiChat, "n", false, "there")]
            .map(|then| FaultServer::in_turn([Refusal::BadKey.reply(OpenAiChat), then]));
        let (first, second) = (first.await, second.await);
        let second_table = provider("second", OpenAiChat, &second);
        let more = format!("{PAIR}{second_table}key = \"env:KEY_B\"\n");
        let gateway = start(OpenAiChat, &first, "\"env:KEY_A\"", &more);
        assert_eq!(ask(&gateway, OpenAiChat, "pair", false).await.status, 401);
        assert_eq!(ask(&gateway, OpenAiChat, "pair", false).await.status, 400, "{refusal:?}");
        assert_eq!((first.count(), second.count()), (2, 1), "{refusal:?}");
    }
}

#[tokio::test]
async fn the_first_call_with_a_key_that_was_refused_before_is_no_retry() {
    let first = server(OpenAiChat, |_, _| Some(Refusal::BadKey.reply(OpenAiChat))).await;
    let gateway = start(OpenAiChat, &first, "\"env:KEY_A\"", "");
    for number in 0..2 {
        let told = ask(&gateway, OpenAiChat, "first/m", false).await;
        let record = gateway.recorded(told.header("x-request-id")).await;
        assert_eq!((first.count(), &record["attempts"][0]["retry"]), (number + 1, &json!(false)), "{record}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_had_in_the_time_of_a_request_is_not_waited_for() {
    let first = FaultServer::always(answer(OpenAiChat, "m", false, "here")).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    for (model, limits) in [("first/m", ""), ("pair", ""), ("first/m", "budget = \"300ms\"")] {
        let more = format!("{PAIR}{}{}", provider("second", OpenAiChat, &second), deadlines("first", limits));
        let gateway = start(OpenAiChat, &first, "\"cmd:/bin/sleep 9\", \"env:KEY_B\"", &more);
        let asked = request(&gateway, OpenAiChat, model, false);
        let asked = if limits.is_empty() { asked.header("x-bifrost-timeout-ms", "300") } else { asked };
        let told = told(OpenAiChat, asked).await;
        assert!(told.took < Duration::from_secs(6), "{told:?}");
        if model == "pair" {
            told.answered_by("second/n");
            // Who should have answered is told.
            assert_eq!(told.header("x-bifrost-fallback"), "first/m", "{told:?}");
            assert_eq!(told.attempts(), ["first/m resting", "second/n ok"]);
        } else {
            let said = told.error()["message"].as_str().unwrap().to_owned();
            assert!(told.status >= 500 && said.contains("key of first"), "{told:?}");
        }
    }
    assert_eq!(first.count(), 0);
}
