//! The gateway's own share of the time is what it worked itself, not what it waited for.

use crate::support::fault_client::{QUICK, Told, ask, provider, question};
use crate::support::fault_replies::whole;
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long each case waits for something: with it the gateway's own time would be longer.
const WAIT: Duration = Duration::from_millis(600);

#[track_caller]
fn check_micros(told: &str) {
    let micros = Duration::from_micros(told.parse().unwrap_or_else(|_| panic!("no overhead: {told}")));
    assert!(micros < WAIT, "{micros:?}");
}

#[track_caller]
fn check(told: &Told) {
    told.answered_by("first/m");
    check_micros(told.header("x-bifrost-overhead-us"));
}

#[tokio::test]
async fn a_clients_slow_upload_is_not_the_gateways_own_work() {
    let first = FaultServer::always(whole(OpenAiChat, "m", "here")).await;
    let gateway = Gateway::start(&format!("{QUICK}{}", provider("first", OpenAiChat, &first)));
    let (path, body) = question(OpenAiChat, "first/m", false);
    let body = body.to_string();
    let host = gateway.url().trim_start_matches("http://");
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (sooner, later) = body.split_at(9);
    socket.write_all(format!("{head}{sooner}").as_bytes()).await.unwrap();
    tokio::time::sleep(WAIT).await;
    socket.write_all(later.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("x-bifrost-overhead-us: "));
    check_micros(line.unwrap_or(&answer));
}

#[tokio::test]
async fn a_program_that_looks_a_key_up_is_not_the_gateways_own_work() {
    let first = FaultServer::always(whole(OpenAiChat, "m", "here")).await;
    let key = format!("cmd:/bin/sh -c 'sleep {}; echo key-ccc-3'", WAIT.as_secs_f64());
    let keys = format!("keys = [\"{key}\", \"env:KEY_A\"]\n");
    let config = format!("{QUICK}{}{keys}", provider("first", OpenAiChat, &first));
    let gateway = Gateway::start_with(&config, &[("KEY_A", "key-aaa-1")], &[]);
    check(&ask(&gateway, OpenAiChat, "first/m", false).await);
    assert_eq!(first.nth(0).await.header("authorization"), "Bearer key-ccc-3");
}

#[tokio::test]
async fn the_first_model_lists_are_not_the_gateways_own_work() {
    let first = FaultServer::start(|asked| match asked.path.as_str() {
        "/v1/models" => Reply::json(
            200,
            &json!({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "test"}]}),
        )
        .after(Step::Pause(WAIT)),
        _ => whole(OpenAiChat, "m", "here"),
    })
    .await;
    let listed = provider("first", OpenAiChat, &first).replace("models = \"none\"\n", "");
    let gateway = Gateway::start(&format!("{QUICK}{listed}"));
    check(&ask(&gateway, OpenAiChat, "m", false).await);
}
