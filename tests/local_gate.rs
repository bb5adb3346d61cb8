//! Local-only mode may be switched on by hand only when the local server has given a token; while it is on and the server
//! fails, requests get 503 with the reason, and the cloud hears nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // what other tests need of the shared servers

mod support {
    pub mod gateway;
    pub mod local_server;
    pub mod upstream;
}

use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::gateway::Gateway;
use support::local_server::{MODEL, becomes, chat, gateway, granted, health, llama_swap, switch, token};
use support::upstream::{Reply, Seen, Upstream};

/// What plain vllm-mlx says when asked how it is.
fn vllm_mlx(seen: &Seen, loaded: bool) -> Reply {
    let residency = if loaded { "loaded" } else { "unloaded" };
    match seen.path.as_str() {
        "/v1/models" => Reply::models(&[MODEL]),
        "/health" => {
            Reply::json(200, &json!({"status": "healthy", "model_loaded": loaded, "residency_state": residency}))
        }
        "/v1/chat/completions" => token(1),
        _ => Reply::json(404, &json!({"detail": "Not Found"})),
    }
}

/// The switch is refused for this reason, with a remedy, and stays off.
async fn refused(gateway: &Gateway, reason: &str) {
    let (status, body) = switch(gateway, true).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("local_server_not_proven")), "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Local-only mode stays off: ") && message.contains(reason), "{message}");
    assert!(body["error"]["remedy"].as_str().is_some_and(|remedy| remedy.len() > 20), "{body}");
    assert_eq!(health(gateway).await["local_only"], false);
}

/// An address where nobody listens.
async fn closed() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let gateway = gateway(&closed().await, None);
    refused(&gateway, "nothing answers there").await;
    assert_eq!(becomes(&gateway, "absent").await["status"], "ok");
}

#[tokio::test]
async fn garbage_with_200_is_refused() {
    let local = Upstream::start(|_| Reply::bytes(200, "text/html", "<html>It works!</html>")).await;
    let gateway = gateway(&local.url(), None);
    refused(&gateway, "no model server").await;
    becomes(&gateway, "degraded").await;
}

#[tokio::test]
async fn a_server_that_hangs_up_is_refused() {
    let local = Upstream::start(|_| Reply::HangUp).await;
    refused(&gateway(&local.url(), None), "closes the connection").await;
}

#[tokio::test]
async fn a_server_without_models_is_refused() {
    let local = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/models" => Reply::models(&[]),
        _ => vllm_mlx(seen, true),
    });
    refused(&gateway(&local.await.url(), None), "lists no model").await;
}

#[tokio::test]
async fn a_200_without_a_token_is_refused() {
    let local = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/chat/completions" => token(0),
        _ => vllm_mlx(seen, true),
    });
    refused(&gateway(&local.await.url(), None), "without a token").await;
}

#[tokio::test]
async fn a_wedged_server_is_refused() {
    let held = std::sync::Mutex::new(Vec::new());
    let local = Upstream::start(move |_| {
        let (answer, reply) = Reply::held();
        held.lock().unwrap().push(answer);
        reply
    });
    refused(&gateway(&local.await.url(), None), "takes connections and does not answer").await;
}

#[tokio::test]
async fn a_server_that_loads_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let local = Upstream::start(move |seen| match seen.path.as_str() {
        "/v1/models" if asked.fetch_add(1, Ordering::SeqCst) < 3 => Reply::json(503, &json!({"detail": "loading"})),
        _ => vllm_mlx(seen, true),
    });
    let local = local.await;
    let gateway = gateway(&local.url(), None);
    granted(&gateway).await;
    assert_eq!(becomes(&gateway, "ready").await["local_only"], true);
    let metrics = gateway.text("/metrics").await;
    assert!(metrics.contains("bifrost_local_state{state=\"ready\"} 1"), "{metrics}");
    assert!(metrics.contains("bifrost_local_state_changes_total{"), "{metrics}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let local = Upstream::start(move |seen| match seen.path.as_str() {
        "/v1/chat/completions" if asked.fetch_add(1, Ordering::SeqCst) < 2 => {
            Reply::json(429, &json!({"error": "busy"}))
        }
        _ => vllm_mlx(seen, true),
    });
    granted(&gateway(&local.await.url(), None)).await;
}

#[tokio::test]
async fn plain_vllm_mlx_is_asked_for_the_model_in_memory() {
    let mut local = Upstream::start(|seen| vllm_mlx(seen, true)).await;
    let gateway = gateway(&local.url(), None);
    granted(&gateway).await;
    assert_eq!(local.next("POST").await.json()["model"], MODEL);
    let (status, body) = switch(&gateway, false).await;
    assert_eq!((status, &body["only"]), (200, &json!(false)));
}

#[tokio::test]
async fn llama_swap_with_nothing_running_is_idle_and_only_the_switch_loads_a_model() {
    let local = Upstream::start(|seen| llama_swap(seen, &json!([]))).await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "idle").await;
    let asked = |local: &Upstream| local.seen().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(asked(&local), 0, "a probe loads nothing");
    granted(&gateway).await;
    assert_eq!(asked(&local), 1);
}

#[tokio::test]
async fn llama_swap_is_asked_for_the_model_that_runs() {
    let running = json!([{"model": "org/other", "state": "ready"}]);
    let mut local = Upstream::start(move |seen| llama_swap(seen, &running)).await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "ready").await;
    assert_eq!(local.next("POST").await.json()["model"], "org/other");
}

#[tokio::test]
async fn what_is_declared_applies_at_once_and_fails_closed() {
    let cloud = Upstream::start(|_| Reply::models(&["cloud-model"])).await;
    let config = format!(
        "[local]\nonly = true\n[providers.mlx-local]\nbase_url = \"{}\"\n[providers.cloud]\nbase_url = \"{}\"\nkind = \"vendor\"\n",
        closed().await,
        cloud.url()
    );
    let gateway = Gateway::start(&config);
    let report = becomes(&gateway, "absent").await;
    assert_eq!((&report["local_only"], &report["status"]), (&json!(true), &json!("unavailable")));
    let (status, wait, body) = chat(&gateway, "coding").await;
    assert_eq!(status, 503, "{body}");
    assert!(wait.is_some());
    assert!(body["error"]["message"].as_str().unwrap().contains("nobody listens"), "{body}");
    assert_eq!(switch(&gateway, false).await.0, 409, "what is declared is not switched off");
}

#[tokio::test]
async fn a_server_that_falls_gives_503_and_never_the_cloud() {
    let cloud = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/models" => Reply::models(&["cloud-model"]),
        _ => token(1),
    })
    .await;
    let fallen = Arc::new(AtomicUsize::new(0));
    let is_fallen = Arc::clone(&fallen);
    let local = Upstream::start(move |seen| match is_fallen.load(Ordering::SeqCst) {
        0 => vllm_mlx(seen, true),
        _ => Reply::HangUp,
    })
    .await;
    let gateway = gateway(&local.url(), Some(&cloud));
    granted(&gateway).await;
    assert_eq!(chat(&gateway, "cloud/cloud-model").await.0, 200, "the local server stands in");
    let calls = cloud.seen().len();
    fallen.store(1, Ordering::SeqCst);
    for model in ["coding", "cloud/cloud-model", "mlx-local/org/tiny"] {
        let (status, wait, body) = chat(&gateway, model).await;
        assert_eq!(status, 503, "{model}: {body}");
        assert!(wait.is_some(), "{model}");
        assert!(body["error"]["message"].as_str().unwrap().contains("Local-only mode is on"), "{body}");
    }
    let report = becomes(&gateway, "degraded").await;
    assert_eq!(report["status"], "unavailable");
    assert_eq!(cloud.seen().len(), calls, "the cloud heard nothing");
}

#[tokio::test]
async fn a_server_that_loads_says_so_to_clients() {
    let ready = Arc::new(AtomicUsize::new(1));
    let seen_ready = Arc::clone(&ready);
    let local = Upstream::start(move |seen| match seen_ready.load(Ordering::SeqCst) {
        0 => Reply::json(503, &json!({"detail": "loading"})),
        _ => vllm_mlx(seen, true),
    });
    let local = local.await;
    let gateway =
        Gateway::start(&format!("localOnlyMode = true\n[providers.mlx-local]\nbase_url = \"{}\"\n", local.url()));
    becomes(&gateway, "ready").await;
    ready.store(0, Ordering::SeqCst);
    becomes(&gateway, "loading").await;
    let (status, _, body) = chat(&gateway, "coding").await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn death_in_mid_stream_is_an_error_event_and_a_doubt_until_the_next_answer() {
    let (stream, reply) = Reply::events();
    let mut reply = Some(reply);
    let mut local = Upstream::start(move |seen| {
        let streams = seen.json()["stream"] == true;
        if streams { reply.take().unwrap_or(Reply::HangUp) } else { vllm_mlx(seen, true) }
    })
    .await;
    let gateway =
        Gateway::start(&format!("localOnlyMode = true\n[providers.mlx-local]\nbase_url = \"{}\"\n", local.url()));
    becomes(&gateway, "ready").await;
    local.next("POST").await;
    let body = json!({"model": "coding", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway.post("/v1/chat/completions", &body).send();
    let feed = async {
        stream.send("data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"org/tiny\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}],\"usage\":null}\n\n").await;
        stream.break_off().await;
    };
    let (answer, ()) = tokio::join!(async { answer.await.unwrap().text().await.unwrap() }, feed);
    assert!(answer.contains("half") && answer.contains("\"error\""), "{answer}");
    becomes(&gateway, "degraded").await;
    assert_eq!(chat(&gateway, "coding").await.0, 200);
    becomes(&gateway, "ready").await;
}

#[tokio::test]
async fn a_request_that_asked_for_the_local_server_itself_is_told_so() {
    let cloud = Upstream::start(|_| Reply::models(&["cloud-model"])).await;
    let local = Upstream::start(|seen| vllm_mlx(seen, true)).await;
    let refuses = |local: &str| {
        let cloud = format!("[providers.cloud]\nbase_url = \"{}\"\nkind = \"vendor\"\n", cloud.url());
        let mlx = format!("[providers.mlx-local]\nbase_url = \"{local}\"\n");
        Gateway::start(&format!("[local]\non_cloud_model = \"refuse\"\n{mlx}{cloud}"))
    };
    let (down, up) = (refuses(&closed().await), refuses(&local.url()));
    becomes(&down, "absent").await;
    becomes(&up, "ready").await;
    for (gateway, model, status) in
        [(&down, "coding", 503), (&down, "mlx-local/org/tiny", 503), (&up, "cloud/cloud-model", 403)]
    {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let request = gateway.post("/v1/chat/completions", &body).header("x-bifrost-local", "true");
        let answer = request.send().await.unwrap();
        let (code, said) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(code, status, "{model}: {said}");
        assert!(said.contains("x-bifrost-local") && !said.contains("mode is on"), "{model}: {said}");
    }
}
