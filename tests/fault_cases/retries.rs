//! What fails for a moment is asked again, twice at most, and then the next target is.

use crate::support::fault_client::{
    DIALECTS, LONG, PAIR, QUICK, Told, ask, provider, provider_at, question, told, with_two,
};
use crate::support::fault_replies::{Refusal, answer, whole};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, OpenAiChat};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use std::time::Duration;

/// One call and the two retries that are the default.
const ALL: usize = 3;

/// Faults that may be over in a moment.
fn passing(dialect: DialectId) -> Vec<(&'static str, Reply)> {
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":";
    vec![
        ("500", Refusal::Internal.reply(dialect)),
        ("503", Refusal::Overloaded.reply(dialect)),
        ("502 of a proxy", Reply::whole(502, "text/html", "<html>Bad Gateway</html>")),
        ("reset", Reply::reset()),
        ("hang up", Reply::nothing_but([Step::Close])),
        ("half a head", Reply::nothing_but([Step::Raw(Bytes::from_static(b"HTTP/1.1 200 OK\r\ncont")), Step::Close])),
        ("half a body", Reply::nothing_but([Step::Raw(half.into()), Step::Close])),
        ("no HTTP", Reply::nothing_but([Step::Raw(Bytes::from_static(b"SSH-2.0-OpenSSH_9.9\r\n")), Step::Close])),
        ("no JSON", Reply::whole(200, "application/json", "{\"id\":\"c1\",\"choi")),
        ("an empty body", Reply::whole(200, "application/json", "")),
    ]
}

/// A gateway in front of many, each with `second` behind it: the class `pair-0` is `first-0/m`, then `second/n-0`.
fn with_each(dialect: DialectId, firsts: &[FaultServer], second: &FaultServer) -> Gateway {
    let mut config = QUICK.to_owned() + &provider("second", dialect, second);
    for (number, first) in firsts.iter().enumerate() {
        config += &provider(&format!("first-{number}"), dialect, first);
        config += &format!(
            "[classes.pair-{number}]\ncloud = true\nselect = [{{ provider = \"first-{number}\", model = \"m\" }}, \
             {{ provider = \"second\", model = \"n-{number}\" }}]\n"
        );
    }
    Gateway::start(&config)
}

/// Asks each class once, all at the same time.
async fn ask_each(gateway: &Gateway, ingress: DialectId, model: &str, many: usize, stream: bool) -> Vec<Told> {
    let models: Vec<String> = (0..many).map(|number| model.replace('#', &number.to_string())).collect();
    join_all(models.iter().map(|model| ask(gateway, ingress, model, stream))).await
}

#[tokio::test]
async fn what_fails_once_is_asked_again_and_answers() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let mut firsts = Vec::new();
            for (_, reply) in passing(dialect) {
                firsts.push(FaultServer::in_turn([reply, answer(dialect, "m", stream, "here")]).await);
            }
            let gateway = with_each(dialect, &firsts, &second);
            let all = ask_each(&gateway, dialect, "pair-#", firsts.len(), stream).await;
            for (number, (told, (fault, _))) in all.iter().zip(passing(dialect)).enumerate() {
                told.answered_by(&format!("first-{number}/m"));
                assert_eq!((told.content().as_str(), firsts[number].count()), ("here", 2), "{fault}");
                assert!(firsts[number].gaps()[0] > Duration::ZERO && told.took < LONG, "{fault}");
                let attempts = told.attempts();
                assert!(!attempts[0].ends_with(" ok") && attempts[1].ends_with(" ok"), "{fault}: {told:?}");
                assert_eq!(told.header("x-bifrost-fallback"), "", "no other target answered: {fault}");
            }
            assert_eq!(second.count(), 0);
        }
    }
}

#[tokio::test]
async fn what_fails_for_ever_is_asked_three_times_and_then_the_next_target() {
    for stream in [false, true] {
        let second = FaultServer::always(answer(OpenAiChat, "n", stream, "there")).await;
        let mut firsts = Vec::new();
        for (_, reply) in passing(OpenAiChat) {
            firsts.push(FaultServer::always(reply).await);
        }
        let gateway = with_each(OpenAiChat, &firsts, &second);
        let all = ask_each(&gateway, OpenAiChat, "pair-#", firsts.len(), stream).await;
        for (number, (told, (fault, _))) in all.iter().zip(passing(OpenAiChat)).enumerate() {
            let first = &firsts[number];
            told.answered_by(&format!("second/n-{number}"));
            assert_eq!(first.count(), ALL, "{fault}");
            assert!(first.gaps().iter().all(|gap| *gap > Duration::ZERO), "{fault}");
            let fallback = format!("first-{number}/m");
            assert_eq!((told.attempts().len(), told.header("x-bifrost-fallback")), (ALL + 1, &*fallback), "{fault}");
            let model = format!("n-{number}");
            let asked: Vec<_> = second.asked().into_iter().filter(|asked| asked.json()["model"] == *model).collect();
            assert!(asked.len() == 1 && asked[0].at > first.nth(ALL - 1).await.at, "{fault}");
        }
    }
}

#[tokio::test]
async fn what_fails_for_ever_and_has_nobody_behind_it_is_told() {
    let second = FaultServer::always(Reply::silence()).await;
    for ingress in DIALECTS {
        for stream in [false, true] {
            let mut firsts = Vec::new();
            for (_, reply) in passing(OpenAiChat) {
                firsts.push(FaultServer::always(reply).await);
            }
            let gateway = with_each(OpenAiChat, &firsts, &second);
            let all = ask_each(&gateway, ingress, "first-#/m", firsts.len(), stream).await;
            for ((told, (fault, _)), first) in all.iter().zip(passing(OpenAiChat)).zip(&firsts) {
                let statuses: &[u16] = match fault {
                    // Anthropic says it with a status of its own.
                    "503" => &[503, 529],
                    "500" => &[500, 502],
                    "reset" | "hang up" | "half a head" | "no HTTP" => &[502, 503],
                    _ => &[502],
                };
                assert!(statuses.contains(&told.status), "{fault}: {told:?}");
                assert!(!told.error()["message"].as_str().unwrap().is_empty(), "{fault}");
                assert_eq!((first.count(), told.attempts().len()), (ALL, ALL), "{fault}: {told:?}");
                assert!(told.took < LONG, "{fault}: {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_tried_three_times() {
    let nobody = FaultServer::always(Reply::reset()).await.url();
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let first = provider_at("first", OpenAiChat, &nobody);
    let gateway = Gateway::start(&format!("{QUICK}{PAIR}{}{first}", provider("second", OpenAiChat, &second)));
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    told.answered_by("second/n");
    assert_eq!(told.attempts()[..ALL], ["first/m unreachable"; ALL]);
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    assert_eq!(told.status, 503);
    assert!(told.error()["message"].as_str().unwrap().contains("first"), "{told:?}");
}

#[tokio::test]
async fn how_often_is_declared() {
    for (attempts, calls) in [(0, 1), (1, 2), (4, 5)] {
        let first = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
        let config =
            format!("[retry]\nattempts = {attempts}\nbase = \"5ms\"\n{}", provider("first", OpenAiChat, &first));
        let gateway = Gateway::start(&config);
        let told = ask(&gateway, OpenAiChat, "first/m", false).await;
        assert_eq!((first.count(), told.attempts().len()), (calls, calls));
    }
}

#[tokio::test]
async fn the_waits_grow_and_are_chosen_at_random() {
    let first = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
    let retry = "[retry]\nattempts = 3\nbase = \"50ms\"\ncap = \"100ms\"\n[breaker]\nfailures = 1000\nrate = 1\n";
    let gateway = Gateway::start(&format!("{retry}{}", provider("first", OpenAiChat, &first)));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let told = ask(&gateway, OpenAiChat, "first/m", false).await;
        assert!(told.took < LONG, "{told:?}");
        let asked = first.count();
        waits.extend(first.gaps()[asked - 4..asked - 1].iter().map(Duration::as_millis));
    }
    // Full jitter: of twelve, two at least differ by more than the clock's noise.
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(most - least > 5, "{waits:?}");
}

#[tokio::test]
async fn a_wrong_request_is_returned_at_once_in_the_providers_own_words() {
    for dialect in DIALECTS {
        for refusal in [Refusal::BadRequest, Refusal::Prefilled] {
            for stream in [false, true] {
                let first = FaultServer::always(refusal.reply(dialect)).await;
                let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
                let gateway = with_two(dialect, &first, &second, "");
                let told = ask(&gateway, dialect, "pair", stream).await;
                let (status, body) = refusal.form(dialect);
                assert_eq!(told.status, status);
                assert_eq!(told.error()["message"], body["error"]["message"], "{refusal:?}");
                assert_eq!((first.count(), second.count(), told.attempts().len()), (1, 0, 1), "{refusal:?}");
                for ingress in DIALECTS {
                    let told = ask(&gateway, ingress, "pair", stream).await;
                    assert_eq!(told.status, 400, "{told:?}");
                    let said = body["error"]["message"].as_str().unwrap();
                    assert!(told.error()["message"].as_str().unwrap().contains(said), "{told:?}");
                }
                assert_eq!(second.count(), 0, "{refusal:?}");
            }
        }
    }
}

/// vllm-mlx answers a schema that it cannot follow with a 500 in bare words, as recorded from 0.6.0.
#[tokio::test]
async fn a_500_of_the_local_server_for_bad_input_trips_nothing() {
    let bad = Reply::whole(500, "text/plain; charset=utf-8", "Internal Server Error");
    let local = FaultServer::start(move |asked| match asked.path.as_str() {
        "/v1/models" => Reply::json(200, &json!({"object": "list", "data": [{"id": "m", "object": "model"}]})),
        "/health" => Reply::json(200, &json!({"status": "healthy", "model_loaded": true})),
        _ if asked.json()["response_format"].is_object() => bad.clone(),
        "/v1/chat/completions" => whole(OpenAiChat, "m", "fine"),
        _ => Reply::json(404, &json!({"detail": "Not Found"})),
    })
    .await;
    let breaker = "[breaker]\nfailures = 2\nopen = \"60s\"\n";
    let gateway = Gateway::start(&format!("{QUICK}{breaker}[providers.mlx-local]\nbase_url = \"{}\"\n", local.url()));
    let asked = || local.asked().iter().filter(|asked| asked.path == "/v1/chat/completions").count();
    let schema = json!({"name": "x", "strict": true, "schema": {"type": "object"}});
    for number in 1..=5 {
        let (path, mut body) = question(OpenAiChat, "mlx-local/m", false);
        body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        let told = told(OpenAiChat, gateway.post(&path, &body)).await;
        assert!((400..=502).contains(&told.status), "{told:?}");
        assert!(asked() >= number, "it is not asked any more: {told:?}");
    }
    ask(&gateway, OpenAiChat, "mlx-local/m", false).await.answered_by("mlx-local/m");
}
