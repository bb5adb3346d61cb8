//! Who waits for long hears something every ten seconds, and is promised nothing by it.

use crate::support::fault_client::{DIALECTS, LONG, PAIR, QUICK, deadlines, provider, request};
use crate::support::fault_replies::streamed;
use crate::support::fault_server::{FaultServer, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use futures_util::future::join_all;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The time after which a waiting client hears the first sign of life.
const HOLD: Duration = Duration::from_secs(10);

/// What a client reads while it waits, and then to the end.
struct Waited {
    first_byte: Duration,
    sign: String,
    rest: String,
}

async fn wait(gateway: &Gateway, ingress: DialectId, model: &str, id: &str) -> Waited {
    let began = Instant::now();
    let mut answer = request(gateway, ingress, model, true).header("x-request-id", id).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-bifrost-provider"]), (200, &"pending".parse().unwrap()));
    assert_eq!(answer.headers()["x-request-id"], id);
    let sign = String::from_utf8(answer.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let first_byte = began.elapsed();
    Waited { first_byte, sign, rest: answer.text().await.unwrap() }
}

fn check_sign(ingress: DialectId, sign: &str) {
    match ingress {
        OpenAiChat => assert!(sign.starts_with(':') && sign.ends_with("\n\n") && !sign.contains("data:"), "{sign:?}"),
        Anthropic => {
            let data = sign.strip_prefix("event: ping\ndata: ").unwrap_or_else(|| panic!("{sign:?}"));
            assert_eq!(serde_json::from_str::<Value>(data).unwrap()["type"], "ping");
        }
        Gemini => assert!(!sign.is_empty() && sign.bytes().all(|byte| b"\r\n".contains(&byte)), "{sign:?}"),
    }
}

#[tokio::test]
async fn a_waiting_client_hears_something_may_still_be_answered_by_anybody_and_may_leave() {
    let first = FaultServer::always(Reply::silence()).await;
    let second = FaultServer::always(streamed(OpenAiChat, "n", &["there"])).await;
    let gateway = Gateway::start(&format!(
        "{QUICK}{PAIR}{}{}{}",
        provider("second", OpenAiChat, &second),
        provider("first", OpenAiChat, &first),
        deadlines("first", "first_token = \"12s\"")
    ));
    let answered = DIALECTS.map(|ingress| {
        let gateway = &gateway;
        async move {
            let id = format!("answered-{}", ingress.name());
            let waited = wait(gateway, ingress, "pair", &id).await;
            check_sign(ingress, &waited.sign);
            assert!(waited.first_byte >= HOLD && waited.first_byte < LONG, "{:?}", waited.first_byte);
            assert!(waited.rest.contains("there") && !waited.rest.contains("\"error\""), "{}", waited.rest);
            // The headers could not tell, so the record does.
            let record = gateway.recorded(&id).await;
            assert_eq!((&record["provider"], &record["model"]), (&"second".into(), &"n".into()), "{record}");
            assert_eq!(record["attempts"][0]["outcome"], "timeout_first_token", "{record}");
        }
    });
    let failed = DIALECTS.map(|ingress| {
        let gateway = &gateway;
        async move {
            let id = format!("failed-{}", ingress.name());
            let waited = wait(gateway, ingress, "first/m", &id).await;
            check_sign(ingress, &waited.sign);
            let data = waited.rest.lines().rev().find_map(|line| line.strip_prefix("data:")).unwrap_or_default();
            let event: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {}", waited.rest));
            let message = event["error"]["message"].as_str().unwrap();
            let (_, attempt) = message.split_once("first/m timeout_first_token ").unwrap_or_else(|| panic!("{event}"));
            assert!(attempt.contains("ms"), "{event}");
            assert!(!waited.rest.contains("[DONE]") && !waited.rest.contains("message_stop"), "{}", waited.rest);
            let record = gateway.recorded(&id).await;
            assert_eq!(record["error"]["kind"], "timeout", "{record}");
        }
    });
    let left = async {
        let asking = request(&gateway, Anthropic, "first/left", true).send().await;
        let mut answer = asking.unwrap();
        answer.chunk().await.unwrap().unwrap();
        let left = Instant::now();
        drop(answer);
        let asked = first.asked().into_iter().find(|asked| asked.json()["model"] == "left").unwrap();
        assert!(asked.left().await - left < Duration::from_secs(5));
    };
    tokio::join!(join_all(answered), join_all(failed), left);
    assert_eq!((first.count(), second.count()), (2 * DIALECTS.len() + 1, DIALECTS.len()));
}
