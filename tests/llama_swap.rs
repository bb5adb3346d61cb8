//! llama-swap as the local server: its peers, profiles and aliases, the models in its memory, what it says while it loads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // what other tests need of the shared servers

mod support {
    pub mod gateway;
    pub mod local_server;
    pub mod upstream;
}

use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::gateway::Gateway;
use support::local_server::{MODEL, becomes, chat, gateway, granted, health, llama_swap, switch, token};
use support::upstream::{Reply, Seen, Stream, Upstream};

/// The model list of a real llama-swap: models, their aliases, a peer's, selectors, the pin of a profile.
fn llama_swap_list() -> Reply {
    Reply::bytes(200, "application/json", include_str!("fixtures/models/llama-swap.json"))
}

/// What llama-swap says that has this list.
fn real_llama_swap(seen: &Seen, running: &Value) -> Reply {
    if seen.path == "/v1/models" { llama_swap_list() } else { llama_swap(seen, running) }
}

/// Waits until a request waits for `model`.
async fn waits(gateway: &Gateway, model: &str) {
    let waiting = format!("bifrost_queue_depth{{provider=\"mlx-local\",model=\"{model}\",priority=\"interactive\"}} 1");
    let waits_now = async || gateway.text("/metrics").await.contains(&waiting).then_some(());
    gateway.eventually("somebody waits", waits_now).await;
}

/// What llama-swap says of its profiles; the one called `p` sends `org/plain` to its peer.
fn profiles(active: Option<&str>) -> Reply {
    let pins = json!({"org/plain": "remote-big"});
    Reply::json(200, &json!({"active": active, "profiles": [{"id": "p", "description": "", "pins": pins}]}))
}

/// A gateway with one place for each model; what is in memory has been proven.
async fn one_at_a_time(local: &mut Upstream) -> Gateway {
    let url = local.url();
    let gateway = Gateway::start(&format!(
        "[providers.mlx-local]\nbase_url = \"{url}\"\n[providers.mlx-local.limits]\nin_flight = 1"
    ));
    becomes(&gateway, "ready").await;
    local.next("POST").await;
    gateway
}

/// What the local server was asked for a token of, proofs included.
fn asked(local: &Upstream) -> Vec<Value> {
    local.seen().iter().filter(|seen| seen.method == "POST").map(|seen| seen.json()["model"].clone()).collect()
}

#[tokio::test]
async fn a_peer_of_llama_swap_hears_nothing_of_what_must_stay_on_this_machine() {
    let local = Upstream::start(|seen| real_llama_swap(seen, &json!([]))).await;
    let gateway = Gateway::start(&format!(
        "[providers.mlx-local]\nbase_url = \"{}\"\n[classes.private]\ncloud = false\nselect = [{{ provider = \"mlx-local\", model = \"far/*\" }}]",
        local.url()
    ));
    becomes(&gateway, "idle").await;
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let only =
        |model: &str| gateway.post("/v1/chat/completions", &body(model)).header("x-bifrost-local", "true").send();
    for model in ["mlx-local/far/remote-big", "mlx-local/remote-big", "mlx-local/spills", "mlx-local/pinned"] {
        let answer = only(model).await.unwrap();
        assert_eq!(answer.status(), 403, "{model}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("is not known to be on this machine"), "{text}");
    }
    assert_eq!(chat(&gateway, "class/private").await.0, 503);
    let mut fallback = body("class/private");
    fallback["fallbacks"] = json!(["mlx-local/far/remote-big"]);
    assert_eq!(gateway.post("/v1/chat/completions", &fallback).send().await.unwrap().status(), 400);
    let listed: Value =
        serde_json::from_slice(&gateway.get("/v1/models").send().await.unwrap().bytes().await.unwrap()).unwrap();
    let listed = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap());
    assert!(!listed.clone().any(|id| id.contains("remote-big")), "it is no local model");
    assert!(listed.clone().any(|id| id == "mlx-local/warm-one"), "what leads to its own models is");
    assert_eq!(asked(&local), [] as [Value; 0]);
    assert_eq!(chat(&gateway, "mlx-local/far/remote-big").await.0, 200, "who may leave the machine may say so");
    granted(&gateway).await;
    assert_eq!(chat(&gateway, "mlx-local/far/remote-big").await.0, 403);
    assert_eq!(chat(&gateway, "mlx-local/org/plain").await.0, 200);
    let asked = asked(&local);
    assert_eq!(asked.iter().filter(|model| *model == "far/remote-big").count(), 1, "{asked:?}");
}

/// A llama-swap with an embedding model in memory, and what else `running` names.
fn with_embedding_model(seen: &Seen, running: &Value) -> Reply {
    match seen.path.as_str() {
        "/v1/chat/completions" if seen.json()["model"] == "org/embed" => {
            Reply::json(400, &json!({"detail": "this model does not support chat"}))
        }
        "/v1/models" => Reply::models(&["org/embed", MODEL]),
        _ => llama_swap(seen, running),
    }
}

#[tokio::test]
async fn an_embedding_model_in_memory_condemns_nobody_and_no_class_goes_to_it() {
    let local = Upstream::start(|seen| with_embedding_model(seen, &json!([{"model": "org/embed", "state": "ready"}])));
    let local = local.await;
    let gateway = gateway(&local.url(), None);
    let detail = "org/embed in its memory is no model for chat";
    let said = async || {
        let health = health(&gateway).await;
        health["local_server"]["detail"].as_str().unwrap().contains(detail).then_some(())
    };
    gateway.eventually(detail, said).await;
    assert_eq!(health(&gateway).await["local_server"]["supervisor"], "idle");
    let (status, _, body) = chat(&gateway, "coding").await;
    assert_eq!(status, 200, "{body}");
    granted(&gateway).await;
    assert_eq!(chat(&gateway, "default").await.0, 200);
    let asked = asked(&local);
    assert_eq!(asked.iter().filter(|model| *model == "org/embed").count(), 1, "{asked:?}");
}

#[tokio::test]
async fn the_next_model_in_memory_proves_where_the_first_does_not_chat() {
    let running = json!([{"model": "org/embed", "state": "ready"}, {"model": MODEL, "state": "ready"}]);
    let local = Upstream::start(move |seen| with_embedding_model(seen, &running)).await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "ready").await;
    assert_eq!(asked(&local), ["org/embed", MODEL]);
}

#[tokio::test]
async fn models_of_which_the_list_says_that_they_do_not_chat_are_never_asked_to() {
    let running = json!([{"model": "org/embed", "state": "ready"}, {"model": "org/rank", "state": "ready"}]);
    let local = Upstream::start(move |seen| real_llama_swap(seen, &running)).await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "idle").await;
    assert_eq!(chat(&gateway, "coding").await.0, 200);
    let asked = asked(&local);
    assert!(asked.len() == 1 && !["org/embed", "org/rank"].iter().any(|model| asked[0] == *model), "{asked:?}");
}

#[tokio::test]
async fn no_proof_is_asked_for_while_anything_is_in_flight() {
    let (answer, held) = Reply::held();
    let (mut held, mut answer) = (Some(held), Some(answer));
    let loaded = Arc::new(AtomicUsize::new(0));
    let is_loaded = Arc::clone(&loaded);
    let mut local = Upstream::start(move |seen| match seen.path.as_str() {
        "/v1/embeddings" => {
            is_loaded.store(1, Ordering::SeqCst);
            held.take().unwrap()
        }
        _ if is_loaded.load(Ordering::SeqCst) == 0 => llama_swap(seen, &json!([])),
        _ => llama_swap(seen, &json!([{"model": MODEL, "state": "ready"}])),
    })
    .await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "idle").await;
    let body = json!({"model": format!("mlx-local/{MODEL}"), "input": "hi"});
    let asking = tokio::spawn(gateway.post("/v1/embeddings", &body).send());
    local.next("POST").await;
    becomes(&gateway, "starting").await;
    for _ in 0..3 {
        local.next("GET").await;
    }
    assert_eq!(asked(&local), [MODEL], "only the embedding");
    let vector = json!({"object": "list", "model": MODEL, "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}});
    answer.take().unwrap().send(Reply::json(200, &vector)).ok().unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status(), 200);
    becomes(&gateway, "ready").await;
}

/// What llama-swap answers itself (`internal/swaputil/httperror.go`).
fn of_llama_swap(message: &str) -> Value {
    json!({"src": "llama-swap", "error": {"message": message, "type": "server_error", "param": null, "code": "internal_error"}})
}

#[tokio::test]
async fn a_model_that_llama_swap_cannot_load_is_not_loaded_again_by_the_same_request() {
    for (message, times) in [
        ("unspecific error: upstream command exited prematurely", 1),
        ("unspecific error: health check timed out after 15s", 1),
        ("unspecific error: group: model unloaded", 3),
    ] {
        let local = Upstream::start(move |seen| match seen.path.as_str() {
            "/v1/chat/completions" | "/v1/messages" => Reply::json(500, &of_llama_swap(message)),
            _ => llama_swap(seen, &json!([])),
        })
        .await;
        let gateway =
            Gateway::start(&format!("[providers.mlx-local]\nbase_url = \"{}\"\n[retry]\nbase = \"1ms\"", local.url()));
        becomes(&gateway, "idle").await;
        let (status, _, body) = chat(&gateway, &format!("mlx-local/{MODEL}")).await;
        assert_eq!((status, asked(&local).len()), (500, times), "{message}: {body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(message), "{body}");
    }
}

/// A stream that llama-swap begins with what it says while it loads, cut where no event ends, and goes on with `then`.
async fn loading_text(stream: &Stream, then: &str) {
    let say = |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"reasoning_content": text}}]}));
    let all =
        [say("━━━━━"), say("llama-swap loading model: org/tiny"), say("."), say("Done! (0.10s)"), then.to_owned()];
    let all = all.concat();
    let (head, tail) = all.as_bytes().split_at(60);
    for piece in [head, tail] {
        stream.send(piece.to_vec()).await;
    }
}

#[tokio::test]
async fn the_loading_text_of_llama_swap_is_no_content() {
    let chunk = |content: Value, finish: Value| {
        let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": finish}]);
        format!(
            "data: {}\n\n",
            json!({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices})
        )
    };
    let answer = chunk(json!("its own"), Value::Null) + &chunk(json!(""), json!("stop")) + "data: [DONE]\n\n";
    let failed = of_llama_swap("unspecific error: upstream command exited prematurely").to_string();
    for (path, then, status, words) in [
        ("/v1/chat/completions", &answer, 200, "its own"),
        ("/v1/messages", &answer, 200, "its own"),
        ("/v1/chat/completions", &failed, 502, "upstream command exited prematurely"),
        ("/v1/messages", &failed, 502, "upstream command exited prematurely"),
    ] {
        let (streams, mut opened) = tokio::sync::mpsc::unbounded_channel();
        let local = Upstream::start(move |seen| {
            if seen.method == "GET" {
                return llama_swap(seen, &json!([]));
            }
            let (stream, reply) = Reply::events();
            streams.send(stream).unwrap();
            reply
        })
        .await;
        let gateway = gateway(&local.url(), None);
        becomes(&gateway, "idle").await;
        let body = json!({"model": format!("mlx-local/{MODEL}"), "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        let asking = gateway.post(path, &body).send();
        let feed = async { loading_text(&opened.recv().await.unwrap(), then).await };
        let (told, ()) = tokio::join!(asking, feed);
        let told = told.unwrap();
        assert_eq!(told.status(), status, "{path}");
        let text = told.text().await.unwrap();
        assert!(text.contains(words) && !text.contains("loading model") && !text.contains("Done!"), "{path}: {text}");
        assert_eq!(asked(&local).len(), 1, "{path}: a load that failed is not tried again");
    }
}

#[tokio::test]
async fn who_waits_for_a_peer_while_local_only_mode_is_switched_on_does_not_reach_it() {
    let (answer, held) = Reply::held();
    let mut held = Some(held);
    let mut local = Upstream::start(move |seen| match seen.path.as_str() {
        "/v1/chat/completions" if seen.json()["model"] == "far/remote-big" => held.take().unwrap_or_else(|| token(1)),
        _ => real_llama_swap(seen, &json!([{"model": "org/plain", "state": "ready"}])),
    })
    .await;
    let gateway = one_at_a_time(&mut local).await;
    let (first, second) = (chat(&gateway, "mlx-local/far/remote-big"), async {
        local.next("POST").await;
        let asks = chat(&gateway, "mlx-local/far/remote-big");
        let switched = async {
            waits(&gateway, "other").await;
            granted(&gateway).await;
            answer.send(token(1)).ok().unwrap();
        };
        tokio::join!(asks, switched).0
    });
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.0, second.0), (200, 403), "{}", second.2);
    // It was not called: that says nothing of the server or of a key.
    assert_eq!(second.2["bifrost"]["attempts"][0]["outcome"], "not_offered", "{}", second.2);
    let far = asked(&local).iter().filter(|model| *model == "far/remote-big").count();
    assert_eq!(far, 1, "what had left before had left");
}

#[tokio::test]
async fn a_name_that_a_profile_of_llama_swap_pins_to_a_peer_is_not_asked_for_here() {
    let local = Upstream::start(|seen| match seen.path.as_str() {
        "/api/profiles" => profiles(Some("p")),
        _ => real_llama_swap(seen, &json!([{"model": "org/plain", "state": "ready"}])),
    })
    .await;
    let gateway = gateway(&local.url(), None);
    becomes(&gateway, "idle").await;
    granted(&gateway).await;
    for (model, status) in [("mlx-local/org/plain", 403), ("mlx-local/org/alpha", 200), ("coding", 200)] {
        assert_eq!(chat(&gateway, model).await.0, status, "{model}");
    }
    assert!(asked(&local).iter().all(|model| *model == "org/alpha"), "{:?}", asked(&local));
}

#[tokio::test]
async fn a_pin_to_a_peer_is_not_forgotten_while_profiles_are_not_answered() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let local = Upstream::start(move |seen| match seen.path.as_str() {
        "/api/profiles" if !is_broken.load(Ordering::SeqCst) => profiles(Some("p")),
        "/api/profiles" => Reply::json(500, &json!({})),
        _ => real_llama_swap(seen, &json!([{"model": "org/alpha", "state": "ready"}])),
    })
    .await;
    let gateway = gateway(&local.url(), None);
    granted(&gateway).await;
    broken.store(true, Ordering::SeqCst);
    // The switch looks at the server anew.
    switch(&gateway, false).await;
    let (status, body) = switch(&gateway, true).await;
    let question = json!({"model": "mlx-local/org/plain", "messages": [{"role": "user", "content": "hi"}]});
    let question = gateway.post("/v1/chat/completions", &question).header("x-bifrost-local", "true");
    assert_eq!(question.send().await.unwrap().status(), 403);
    assert!(asked(&local).iter().all(|model| *model == "org/alpha"), "{:?}", asked(&local));
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 409 && message.contains("/api/profiles is answered with 500"), "{body}");
}

#[tokio::test]
async fn who_may_only_be_answered_here_does_not_wait_for_what_has_left() {
    let (answer, held) = Reply::held();
    let mut held = Some(held);
    let pinned = Arc::new(AtomicBool::new(false));
    let is_pinned = Arc::clone(&pinned);
    let mut local = Upstream::start(move |seen| match seen.path.as_str() {
        "/v1/chat/completions" if seen.json()["model"] == "org/plain" => held.take().unwrap_or_else(|| token(1)),
        "/api/profiles" => profiles(is_pinned.load(Ordering::SeqCst).then_some("p")),
        _ => real_llama_swap(seen, &json!([{"model": "org/alpha", "state": "ready"}])),
    })
    .await;
    let gateway = one_at_a_time(&mut local).await;
    let question = json!({"model": "mlx-local/org/plain", "messages": [{"role": "user", "content": "hi"}]});
    let ask = || gateway.post("/v1/chat/completions", &question).header("x-bifrost-local", "true").send();
    let (first, second) = tokio::join!(ask(), async {
        local.next("POST").await;
        let switched = async {
            waits(&gateway, "org/plain").await;
            pinned.store(true, Ordering::SeqCst);
            // The switch looks at the server anew; here it is the request itself that must not leave.
            granted(&gateway).await;
            switch(&gateway, false).await;
            answer.send(token(1)).ok().unwrap();
        };
        tokio::join!(ask(), switched).0
    });
    assert_eq!((first.unwrap().status(), second.unwrap().status()), (StatusCode::OK, StatusCode::FORBIDDEN));
}
