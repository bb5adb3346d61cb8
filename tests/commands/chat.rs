//! `bifrost chat`.

use super::fake_gateway::{FakeGateway, Reply};
use super::{NO_URL, bifrost, home, run, shown};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::{Command, Stdio};

pub fn said(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
}

pub fn thought(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": { "reasoning_content": text }, "finish_reason": null }] })
}

pub fn finish(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 34 } })
}

pub fn answer() -> Reply {
    Reply::stream(&[thought("let me see"), said("Hello,"), said(" world"), finish("stop")])
        .header("x-bifrost-provider", "mlx-local")
        .header("x-bifrost-model", "org/tiny")
        .header("x-bifrost-class", "coding; asked for")
}

#[test]
fn the_answer_alone_is_on_standard_output() {
    let gateway = FakeGateway::start([("POST /v1/chat/completions", answer())]);
    insta::assert_snapshot!(run(&gateway, &["chat", "-m", "coding", "--local", "-s", "Be kind.", "Say", "hello"]));
    insta::assert_snapshot!("chat_request", gateway.asked().join("\n"));
}

#[test]
fn reasoning_is_shown_when_asked_for() {
    let gateway = FakeGateway::start([("POST /v1/chat/completions", answer())]);
    insta::assert_snapshot!(run(&gateway, &["chat", "--reasoning", "hello"]));
}

#[test]
fn what_was_put_in_anothers_place_is_always_said() {
    let reply = Reply::stream(&[said("half an ans"), finish("length")])
        .header("x-bifrost-provider", "mlx-local")
        .header("x-bifrost-model", "org/tiny")
        .header("x-bifrost-substituted", "openai/gpt-x")
        .header("x-bifrost-fallback", "groq/llama")
        .header("x-bifrost-loss", "seed=dropped");
    let gateway = FakeGateway::start([("POST /v1/chat/completions", reply)]);
    insta::assert_snapshot!(run(&gateway, &["chat", "hello"]));
}

#[test]
fn what_the_headers_could_not_say_yet_is_asked_for_afterwards() {
    let reply = Reply::stream(&[said("Hello\n"), finish("stop")])
        .header("x-bifrost-provider", "pending")
        .header("x-request-id", "0193-late");
    let record = json!({ "id": "0193-late", "provider": "mlx-local", "model": "org/tiny", "class": "coding",
        "substituted": "openai/gpt-x", "losses": [{ "field": "seed", "kind": "dropped" }], "attempts": [
            { "provider": "groq", "model": "llama", "outcome": "overloaded" },
            { "provider": "mlx-local", "model": "org/tiny", "outcome": "ok" } ] });
    let gateway = FakeGateway::start([
        ("POST /v1/chat/completions", reply),
        ("GET /admin/exchanges/0193-late", Reply::json(200, record)),
    ]);
    insta::assert_snapshot!(run(&gateway, &["chat", "hello"]));
}

#[test]
fn the_question_comes_from_standard_input_too() {
    let gateway = FakeGateway::start([("POST /v1/chat/completions", answer())]);
    let home = home();
    let ask = |arguments: &[&str], stdin: &str| {
        bifrost(home.path(), arguments).env("BIFROST_URL", &gateway.url).write_stdin(stdin).output().unwrap()
    };
    assert!(ask(&["chat"], "all of it\n").status.success());
    assert!(ask(&["chat", "Review this:", "-"], "a diff").status.success());
    let asked = gateway.asked();
    assert!(asked[0].contains(r#""content":"all of it\n""#), "{}", asked[0]);
    assert!(asked[1].contains(r#""content":"Review this: a diff""#), "{}", asked[1]);
    insta::assert_snapshot!(shown(&ask(&["chat"], " \n"), &gateway.url));
    assert_eq!(gateway.asked().len(), 2);
}

#[test]
fn an_error_is_told_in_the_gateways_words() {
    let error =
        json!({ "error": { "message": "There is no model `codng`. Nearest: coding.", "code": "model_not_found" } });
    let gateway = FakeGateway::start([("POST /v1/chat/completions", Reply::json(404, error))]);
    insta::assert_snapshot!(run(&gateway, &["chat", "-m", "codng", "hello"]));
}

#[test]
fn an_error_inside_the_stream_is_no_success() {
    let error = json!({ "error": { "message": "mlx-local stopped answering for 120 s.", "code": "timeout_idle" } });
    let reply = Reply::stream(&[said("Hello"), error]);
    let gateway = FakeGateway::start([("POST /v1/chat/completions", reply)]);
    insta::assert_snapshot!(run(&gateway, &["chat", "hello"]));
}

#[test]
fn a_stream_without_its_end_is_no_success() {
    let gateway = FakeGateway::start([("POST /v1/chat/completions", answer().ending_after(3))]);
    insta::assert_snapshot!(run(&gateway, &["chat", "hello"]));
}

#[test]
fn ctrl_c_ends_the_command_and_the_request() {
    let gateway = FakeGateway::start([("POST /v1/chat/completions", answer().hanging_after(2))]);
    let home = home();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("bifrost"))
        .args(["chat", "hello", "--url", &gateway.url])
        .env_clear()
        .env("HOME", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"Hello,");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(shown(&output, NO_URL), "exit 130\n--- stdout\n\n--- stderr\n");
    assert!(gateway.client_left());
}
