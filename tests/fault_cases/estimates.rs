//! Where a provider cannot count tokens they are estimated: nobody is called, so nothing is learned of anybody.

use crate::support::fault_client::{PAIR, QUICK, Told, ask, provider, told};
use crate::support::fault_replies::{Refusal, whole};
use crate::support::fault_server::FaultServer;
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{Anthropic, OpenAiChat};
use serde_json::json;

async fn count(gateway: &Gateway, model: &str) -> Told {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "How many tokens are these?"}]});
    let told = told(Anthropic, gateway.post("/v1/messages/count_tokens", &body)).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.json()["input_tokens"].as_u64().unwrap() > 0, "{told:?}");
    assert_eq!((told.header("x-bifrost-provider"), told.header("x-bifrost-attempts")), ("first", ""), "{told:?}");
    assert!(told.header("x-bifrost-loss").contains("input_tokens"), "{told:?}");
    told
}

#[tokio::test]
async fn an_estimate_is_no_attempt_and_asks_no_breaker() {
    let first = FaultServer::always(Refusal::Internal.reply(OpenAiChat)).await;
    let once = "[retry]\nattempts = 0\n[breaker]\nfailures = 2\nopen = \"1m\"\n";
    let gateway = Gateway::start(&format!("{once}{}", provider("first", OpenAiChat, &first)));
    assert_eq!(ask(&gateway, OpenAiChat, "first/m", false).await.status, 500);
    // It is no success between two failures,
    count(&gateway, "first/m").await;
    assert_eq!(ask(&gateway, OpenAiChat, "first/m", false).await.status, 500);
    assert_eq!(ask(&gateway, OpenAiChat, "first/m", false).await.status, 503);
    // and it needs nobody who answers.
    count(&gateway, "first/m").await;
    assert_eq!(first.count(), 2);
    let metrics = gateway.text("/metrics").await;
    assert!(metrics.contains("bifrost_attempts_total{") && !metrics.contains("outcome=\"ok\""), "{metrics}");
}

#[tokio::test]
async fn an_estimate_needs_no_key_and_proves_none() {
    let first = FaultServer::always(Refusal::BadKey.reply(OpenAiChat)).await;
    let second = FaultServer::always(whole(OpenAiChat, "n", "there")).await;
    let (second_table, first_table) = (provider("second", OpenAiChat, &second), provider("first", OpenAiChat, &first));
    let config = format!("{QUICK}{PAIR}{second_table}{first_table}key = \"env:KEY_A\"\n");
    let gateway = Gateway::start_with(&config, &[("KEY_A", "key-aaa-1")], &[]);
    ask(&gateway, OpenAiChat, "pair", false).await.answered_by("second/n");
    count(&gateway, "first/m").await;
    ask(&gateway, OpenAiChat, "pair", false).await.answered_by("second/n");
    assert_eq!(first.count(), 1, "a key that was refused is not shown again");
}
