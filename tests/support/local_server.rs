//! The local server in its programs' words, and a gateway before it.

use super::gateway::Gateway;
use super::upstream::{Reply, Seen, Upstream};
use serde_json::{Value, json};

/// The model that is there.
pub const MODEL: &str = "org/tiny";

/// What llama-swap says with these models running.
pub fn llama_swap(seen: &Seen, running: &Value) -> Reply {
    match seen.path.as_str() {
        "/v1/models" => Reply::models(&[MODEL, "org/other"]),
        "/health" => Reply::bytes(200, "text/plain", "OK"),
        "/running" => Reply::json(200, &json!({ "running": running })),
        "/v1/chat/completions" => token(1),
        _ => Reply::json(404, &json!({})),
    }
}

/// A completion of so many tokens.
pub fn token(tokens: u64) -> Reply {
    let message = json!({"role": "assistant", "content": "x"});
    Reply::json(
        200,
        &json!({"id": "1", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}}),
    )
}

/// A gateway whose local server is at `local` and whose cloud is `cloud`.
pub fn gateway(local: &str, cloud: Option<&Upstream>) -> Gateway {
    let mut config = format!("[providers.mlx-local]\nbase_url = \"{local}\"\n");
    if let Some(cloud) = cloud {
        config += &format!("[providers.cloud]\nbase_url = \"{}\"\nkind = \"vendor\"\n", cloud.url());
    }
    Gateway::start(&config)
}

/// Asks for the switch; status and body.
pub async fn switch(gateway: &Gateway, only: bool) -> (u16, Value) {
    let url = format!("{}/admin/local", gateway.url());
    let request = reqwest::Client::builder().no_proxy().build().unwrap().put(url);
    let request = request.bearer_auth(gateway.admin_token()).header("content-type", "application/json");
    let answer = request.body(json!({ "only": only }).to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

/// Asks for the switch, which is granted.
pub async fn granted(gateway: &Gateway) {
    let (status, body) = switch(gateway, true).await;
    assert_eq!((status, &body["only"]), (200, &json!(true)), "{body}");
}

/// What `/health` says.
pub async fn health(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.text("/health").await).unwrap()
}

/// Waits until the supervisor is in this state; what `/health` says then.
pub async fn becomes(gateway: &Gateway, state: &str) -> Value {
    let reached = async || {
        let health = health(gateway).await;
        (health["local_server"]["supervisor"] == state).then_some(health)
    };
    gateway.eventually(state, reached).await
}

/// Asks a model; status, `Retry-After` and body.
pub async fn chat(gateway: &Gateway, model: &str) -> (u16, Option<String>, Value) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/chat/completions", &body).send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
    (answer.status().as_u16(), wait, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}
