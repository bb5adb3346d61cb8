//! Requests that no honest client sends, and answers that no honest provider gives.

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod gateway;
    pub mod upstream;
}

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use support::gateway::Gateway;
use support::upstream::{PATIENCE, Reply, Upstream};

const SECRET: &str = "sk-plant-77aa31";

/// A provider in the cloud's place, with a key, that lists the model `m` and answers each question with `reply`.
async fn there(reply: impl Fn() -> Reply + Send + 'static) -> (Upstream, String) {
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => reply(),
    })
    .await;
    let config =
        format!("[providers.there]\nbase_url = \"{}\"\nkind = \"vendor\"\nkey = \"env:PLANTED\"\n", upstream.url());
    (upstream, config)
}

fn start(config: &str) -> Gateway {
    Gateway::start_with(config, &[("PLANTED", SECRET)], &[])
}

fn hello() -> Value {
    json!({"model": "there/m", "messages": [{"role": "user", "content": "Hello"}]})
}

fn hi() -> Reply {
    let message = json!({"role": "assistant", "content": "Hi"});
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    Reply::json(200, &json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}))
}

/// Sends these very bytes and reads to the end of the connection.
fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.url().strip_prefix("http://").unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    // Refused on purpose or closed already: both are an end.
    let _ = socket.shutdown(Shutdown::Both);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_the_gateway_keeps_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let gateway = Gateway::start("");
    for (name, mode) in [("state/bifrost", 0o700), ("state/bifrost/admin-token", 0o600)] {
        assert_eq!(gateway.file(name).metadata().unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[tokio::test]
async fn a_second_host_hides_no_foreign_name() {
    let gateway = Gateway::start("");
    for head in [
        "GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n",
        "GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\n",
        "GET /health HTTP/1.1\r\n",
    ] {
        let answer = raw(&gateway, format!("{head}connection: close\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 403 "), "{head}: {answer}");
    }
    let answer = raw(&gateway, b"GET /health HTTP/1.1\r\nhost: [::1]:1\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn what_http_itself_refuses_has_its_own_status_in_every_dialect() {
    let gateway = Gateway::start("");
    let anthropic = |answer: &Value| answer["error"]["type"] == "invalid_request_error" && answer["type"] == "error";
    let openai = |answer: &Value| answer["error"]["code"].is_string();
    let gemini = |answer: &Value| answer["error"]["status"] == "INVALID_ARGUMENT";
    let long = "a".repeat(66_000);
    for (path, is_error) in [
        ("/v1/messages", &anthropic as &dyn Fn(&Value) -> bool),
        ("/v1/chat/completions", &openai),
        ("/v1beta/models/m:generateContent", &gemini),
    ] {
        let form = gateway.post(path, &hello()).header("content-type", "text/plain");
        let head = gateway.post(path, &hello()).header("x-long", &long);
        for (request, status) in [(form, 415), (head, 431)] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let body = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert!(is_error(&body), "{path}: {body}");
        }
    }
    assert_eq!(gateway.get("/v1/chat/completions").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn every_refusal_carries_a_request_id_and_json() {
    let gateway = Gateway::start("");
    for path in ["/admin/status", "/v1/models/%ff%fe", "/v1beta/models/%ff:generateContent", "/nowhere"] {
        let answer = gateway.get(path).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}");
        assert!(!answer.headers()["x-request-id"].is_empty(), "{path}");
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).expect(path);
        assert!(body["error"]["message"].is_string(), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_not_waited_for() {
    let gateway = Gateway::start("[server]\nmax_body_bytes = 2000\n");
    let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2001\r\n\r\n{";
    let answer = raw(&gateway, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_too_large"), "{answer}");
}

#[tokio::test]
async fn a_head_and_a_body_that_trickle_are_cut_off() {
    let gateway = Gateway::start("[server]\nheader_timeout = \"50ms\"\nbody_timeout = \"50ms\"\n");
    assert_eq!(raw(&gateway, b"GET /health HTTP/1.1\r\nhost: loc"), "");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let answer = raw(&gateway, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_what_to_mend() {
    let elsewhere = Upstream::start(|_| hi()).await;
    let target = elsewhere.url();
    let (_there, config) = there(move || {
        let head = http::Response::builder().status(307).header("location", &target);
        Reply::Whole(head.body("go".into()).unwrap())
    })
    .await;
    let gateway = start(&config);
    let answer = gateway.post("/v1/chat/completions", &hello()).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let body = answer.text().await.unwrap();
    assert!(body.contains("redirect") && body.contains("base_url"), "{body}");
    assert!(elsewhere.seen().is_empty(), "the key went elsewhere");
}

#[tokio::test]
async fn a_refusal_hands_on_the_providers_limits_and_its_id() {
    let (_there, config) = there(|| {
        let head = http::Response::builder().status(429).header("content-type", "application/json");
        let head = head.header("retry-after", "7").header("x-request-id", "up-1");
        let head = head.header("x-ratelimit-remaining-requests", "0");
        Reply::Whole(head.body(r#"{"error":{"message":"slow down","type":"rate_limit"}}"#.into()).unwrap())
    })
    .await;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        // The key rests after the first answer.
        let gateway = start(&config);
        let mut body = hello();
        body["max_tokens"] = json!(9);
        let request = gateway.post(path, &body).header("x-request-id", "limits");
        // No time to wait for what the provider asks for.
        let answer = request.header("x-bifrost-timeout-ms", "5000").send().await.unwrap();
        assert_eq!(answer.status(), 429, "{path}");
        assert_eq!(answer.headers().get_all("retry-after").iter().collect::<Vec<_>>(), ["7"], "{path}");
        assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "0", "{path}");
        assert_eq!(answer.headers()["x-bifrost-upstream-request-id"], "up-1", "{path}");
        assert_eq!(gateway.admin("/admin/exchanges/limits").await["upstream_request_id"], "up-1");
    }
}

#[tokio::test]
async fn a_key_that_the_provider_quotes_is_not_handed_on() {
    let (_there, config) = there(|| {
        let message = format!("Incorrect API key provided: {SECRET}");
        Reply::json(401, &json!({"error": {"message": message, "type": "invalid_request_error", "hint": SECRET}}))
    })
    .await;
    let gateway = start(&config);
    for path in ["/v1/chat/completions", "/v1/messages", "/v1beta/models/there%2Fm:generateContent"] {
        let mut body = hello();
        body["max_tokens"] = json!(9);
        body["contents"] = json!([{"parts": [{"text": "Hello"}]}]);
        let answer = gateway.post(path, &body).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let body = answer.text().await.unwrap();
        assert!(!body.contains(SECRET) && body.contains("Incorrect API key"), "{path}: {body}");
    }
    let exchanges = gateway.admin("/admin/exchanges").await.to_string();
    assert!(!exchanges.contains(SECRET) && exchanges.contains("Incorrect API key"), "{exchanges}");
}

#[tokio::test]
async fn a_clients_own_key_that_the_provider_quotes_is_not_handed_on_however_its_scheme_is_written() {
    let (_there, config) = there(|| {
        let message = format!("Incorrect API key provided: {SECRET}-of-the-client");
        Reply::json(
            401,
            &json!({"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}}),
        )
    })
    .await;
    // The vendor itself, with no key of the gateway's.
    let config = config.replace("there", "openai").replace("key = \"env:PLANTED\"\n", "");
    let gateway = start(&config);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let asked = gateway.post("/v1/chat/completions", &json!({"model": "openai/m", "messages": []}));
        let answer = asked.header("authorization", format!("{scheme} {SECRET}-of-the-client")).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{scheme}");
        let body = answer.text().await.unwrap();
        assert!(!body.contains(SECRET) && body.contains("Incorrect API key"), "{scheme}: {body}");
        let token = gateway.admin_token();
        let asked = gateway.get("/admin/exchanges").header("authorization", format!("{scheme} {token}"));
        let exchanges = asked.send().await.unwrap().text().await.unwrap();
        assert!(!exchanges.contains(SECRET) && exchanges.contains("Incorrect API key"), "{scheme}: {exchanges}");
    }
}

#[tokio::test]
async fn a_header_of_our_own_that_makes_no_sense_is_not_ignored() {
    let (upstream, config) = there(hi).await;
    let gateway = start(&config);
    let local: &[u8] = b"t";
    for (name, value, status) in [
        ("x-bifrost-timeout-ms", b"soon" as &[u8], 400),
        ("x-bifrost-timeout-ms", b"0", 400),
        ("x-bifrost-class", b"\xff", 400),
        // A word that is not known means yes, and there is no local server.
        ("x-bifrost-local", local, 503),
    ] {
        let answer = gateway.post("/v1/chat/completions", &hello()).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.method == "GET"), "the provider was asked all the same");
    let fine = gateway.post("/v1/chat/completions", &hello()).header("x-bifrost-local", "off");
    assert_eq!(fine.header("x-bifrost-timeout-ms", "20000").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_whose_client_left_is_told_as_cancelled() {
    let (release, reply) = Reply::held();
    let reply = std::sync::Mutex::new(Some(reply));
    let (mut upstream, config) = there(move || reply.lock().unwrap().take().unwrap_or(Reply::HangUp)).await;
    let gateway = start(&config);
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &hello()).header("x-request-id", "left").send());
    upstream.next("POST").await;
    asked.abort();
    let record = gateway.recorded("left").await;
    drop(release);
    assert_eq!(record["cancelled"], true);
    let attempt = &record["attempts"][0];
    assert_eq!((&attempt["provider"], &attempt["outcome"]), (&json!("there"), &json!("cancelled")), "{record}");
}

#[tokio::test]
async fn what_the_grace_cuts_off_is_in_the_log() {
    let (release, reply) = Reply::held();
    let reply = std::sync::Mutex::new(Some(reply));
    let (mut upstream, config) = there(move || reply.lock().unwrap().take().unwrap_or(Reply::HangUp)).await;
    let mut gateway = start(&format!("[server]\nshutdown_grace = \"10ms\"\n{config}"));
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &hello()).header("x-request-id", "cut-off").send());
    upstream.next("POST").await;
    gateway.signal("TERM");
    let (code, log) = tokio::task::spawn_blocking(move || (gateway.wait(), gateway.log())).await.unwrap();
    drop(release);
    assert_eq!(code, Some(0));
    assert_eq!(asked.await.unwrap().unwrap().status(), 503);
    assert!(log.contains("id=cut-off"), "{log}");
}

#[tokio::test]
async fn many_idle_connections_leave_room_for_a_client() {
    let gateway = Gateway::start("[server]\nmax_connections = 8\nheader_timeout = \"100ms\"\n");
    let address = gateway.url().strip_prefix("http://").unwrap().to_owned();
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let health = gateway.get("/health").timeout(PATIENCE.max(Duration::from_secs(1))).send().await.unwrap();
    assert_eq!(health.status(), 200);
    drop(idle);
}

#[tokio::test]
async fn one_place_serves_every_address_in_turn() {
    // macOS has one loopback address of IPv4, and some machines have no IPv6.
    let second = if std::net::TcpListener::bind("127.0.0.2:0").is_ok() { "127.0.0.2" } else { "::1" };
    let gateway = Gateway::start(&format!("[server]\nhost = [\"127.0.0.1\", \"{second}\"]\nmax_connections = 1\n"));
    let port: u16 = gateway.url().rsplit(':').next().unwrap().parse().unwrap();
    let connect = |host: &str| {
        let mut socket = TcpStream::connect((host, port)).unwrap();
        socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        socket
    };
    let read = |mut socket: TcpStream| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).map(|_| answer)
    };
    for host in ["127.0.0.1", second, second, "127.0.0.1"] {
        let answer = read(connect(host)).expect(host);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    // Once it is answered it has the place.
    let mut holding = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut ask_again = || {
        holding.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            holding.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        holding.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    };
    ask_again();
    let waiting = connect(second);
    // All that came after it is answered before it.
    for _ in 0..100 {
        ask_again();
    }
    waiting.set_nonblocking(true).unwrap();
    let early = waiting.peek(&mut [0]);
    assert!(early.is_err(), "there was a second place: {early:?}");
    waiting.set_nonblocking(false).unwrap();
    drop(holding);
    assert!(read(waiting).unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_error_in_bare_words_says_who_said_it() {
    let (_there, config) = there(|| Reply::bytes(404, "text/plain", "could not find real modelID for m")).await;
    let gateway = start(&config);
    let answer = gateway.post("/v1/chat/completions", &hello()).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let body = answer.text().await.unwrap();
    assert!(body.contains("there: could not find"), "{body}");
}

/// Writes the config file and has it read; the status of the reload.
async fn reload(gateway: &Gateway, config: &str) -> u16 {
    std::fs::write(gateway.file("bifrost.toml"), config).unwrap();
    gateway.reload().await
}

#[tokio::test]
async fn of_a_broken_file_the_wish_for_local_only_is_heard() {
    let (upstream, config) = there(hi).await;
    let gateway = start(&config);
    assert_eq!(gateway.post("/v1/chat/completions", &hello()).send().await.unwrap().status(), 200);
    assert_eq!(reload(&gateway, &format!("localOnlyMode = true\nnonsense = 1\n{config}")).await, 409);
    // Lists may still be on their way.
    let asked = || upstream.seen().iter().filter(|seen| seen.method == "POST").count();
    let before = asked();
    let answer = gateway.post("/v1/chat/completions", &hello()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(asked(), before, "the provider was asked all the same");
    assert_eq!(gateway.get("/health").send().await.unwrap().status(), 503);
    assert_eq!(reload(&gateway, &config).await, 200);
    assert_eq!(gateway.post("/v1/chat/completions", &hello()).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_only_is_refused_while_its_provider_is_switched_off() {
    let local = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/models" => Reply::models(&["m"]),
        "/health" => Reply::json(200, &json!({"status": "healthy", "model_loaded": true})),
        "/v1/chat/completions" => Reply::json(
            200,
            &json!({"id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
        ),
        _ => Reply::json(404, &json!({"detail": "Not Found"})),
    })
    .await;
    let config = format!("[providers.mlx-local]\nbase_url = \"{}\"\n", local.url());
    let gateway = Gateway::start(&config);
    let (code, said, _) = gateway.run(&["local", "on"]);
    assert!(code == Some(0) && said.contains("local-only mode: on"), "{said}");
    assert_eq!(gateway.run(&["local", "off"]).0, Some(0));
    assert_eq!(reload(&gateway, &format!("{config}enabled = false\n")).await, 200);
    let (code, _, said) = gateway.run(&["local", "on"]);
    assert!(code == Some(5) && said.contains("[providers.mlx-local] is switched off"), "{code:?} {said}");
}

#[tokio::test]
async fn a_program_that_hangs_keeps_no_other_list_waiting() {
    let (mut upstream, config) = there(hi).await;
    let hanging = "[providers.hanging]\nbase_url = \"http://127.0.0.1:9\"\nkey = \"cmd:/bin/sleep 60\"\n";
    let gateway = start(&format!("{hanging}{config}"));
    upstream.next("GET").await;
    let log = gateway.log();
    assert!(!log.contains("its key could not be had"), "the program was waited for: {log}");
}

#[tokio::test]
async fn a_provider_that_a_reload_adds_is_asked_for_its_models_at_once() {
    let (mut upstream, config) = there(hi).await;
    let gateway = start("");
    let began = Instant::now();
    assert_eq!(reload(&gateway, &config).await, 200);
    upstream.next("GET").await;
    // Lists are looked through unasked every 15 s.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_ctrl_c_waits_for_nobody() {
    let (release, reply) = Reply::held();
    let reply = std::sync::Mutex::new(Some(reply));
    let (mut upstream, config) = there(move || reply.lock().unwrap().take().unwrap_or(Reply::HangUp)).await;
    let mut gateway = start(&format!("[server]\nshutdown_grace = \"10m\"\n{config}"));
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &hello()).send());
    upstream.next("POST").await;
    gateway.signal("INT");
    gateway.eventually("it is heard", async || gateway.log().contains("interrupted: ").then_some(())).await;
    gateway.signal("INT");
    let code = tokio::task::spawn_blocking(move || gateway.wait()).await.unwrap();
    drop(release);
    assert_eq!(code, Some(130));
    assert!(asked.await.unwrap().is_err());
}
