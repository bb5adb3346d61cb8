//! Answers that are none, or that come in another form than was asked for.

use crate::support::fault_client::{DIALECTS, Told, ask, provider, question, told, with_one, with_two};
use crate::support::fault_replies::{whole, whole_body};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{Anthropic, Gemini, OpenAiChat};
use serde_json::{Value, json};

/// The last word of a stream, where its dialect has one.
fn check_marker(told: &Told, marker: Value) {
    let events = told.events();
    let last = events.last().unwrap();
    assert!(*last == marker || last["type"] == marker, "{told:?}");
}

#[tokio::test]
async fn a_whole_answer_that_does_not_say_so_becomes_the_stream_that_was_asked_for() {
    for dialect in DIALECTS {
        let body = whole_body(dialect, "m", "here");
        let pretty = serde_json::to_string_pretty(&body).unwrap();
        let undeclared = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{pretty}", pretty.len());
        let replies = [
            Reply::whole(200, "text/plain", body.to_string()),
            Reply::whole(200, "text/event-stream", body.to_string()),
            Reply::whole(200, "text/event-stream", pretty.replacen('\n', "\n\n", 2)),
            Reply::nothing_but([Step::Raw(undeclared.into())]),
        ];
        let answers = replies.len();
        let first = FaultServer::in_turn(replies.into_iter().flat_map(|reply| vec![reply; DIALECTS.len()])).await;
        let gateway = with_one(dialect, &first, "");
        for _ in 0..answers {
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "first/m", true).await;
                told.answered_by("first/m");
                assert_eq!((told.content().as_str(), told.attempts().len()), ("here", 1), "{told:?}");
                match ingress {
                    OpenAiChat => check_marker(&told, json!("[DONE]")),
                    Anthropic => check_marker(&told, json!("message_stop")),
                    Gemini => {}
                }
            }
        }
    }
}

#[tokio::test]
async fn a_whole_answer_that_does_not_say_so_becomes_the_json_array_that_was_asked_for() {
    let body = whole_body(Gemini, "m", "here").to_string();
    let first = FaultServer::always(Reply::whole(200, "text/event-stream", body)).await;
    let (path, body) = question(Gemini, "first/m", true);
    let gateway = with_one(Gemini, &first, "");
    let elements = told(Gemini, gateway.post(&path.replace("?alt=sse", ""), &body)).await.json();
    assert_eq!(elements[0]["candidates"][0]["content"]["parts"][0]["text"], "here", "{elements}");
}

#[tokio::test]
async fn an_answer_without_a_choice_or_message_is_the_next_targets_turn() {
    let none = [
        json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": []}),
        json!({"id": "c1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}),
        json!({"id": "c1", "model": "m", "choices": [{"index": 0, "message": null, "finish_reason": "stop"}]}),
    ];
    for none in none {
        let first = FaultServer::always(Reply::json(200, &none)).await;
        let second = FaultServer::always(whole(OpenAiChat, "n", "there")).await;
        let gateway = with_two(OpenAiChat, &first, &second, "");
        for ingress in DIALECTS {
            let told = ask(&gateway, ingress, "pair", false).await;
            told.answered_by("second/n");
            assert_eq!(told.attempts()[0], "first/m upstream_fault", "{none}");
        }
    }
    // Azure's filter leaves nothing over, and says so.
    let filtered = [
        json!({"id": "c1", "model": "m", "choices": [{"index": 0, "finish_reason": "content_filter"}]}),
        json!({"id": "c1", "model": "m", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
    ];
    for filtered in filtered {
        let first = FaultServer::always(Reply::json(200, &filtered)).await;
        let told = ask(&with_one(OpenAiChat, &first, ""), OpenAiChat, "first/m", false).await;
        assert_eq!((told.status, told.json()), (200, filtered), "{told:?}");
    }
}

#[tokio::test]
async fn a_count_of_tokens_that_is_none_is_the_next_targets_turn() {
    let none = [Reply::whole(200, "text/html", "<html>"), Reply::json(200, &json!({"tokens": "many"}))];
    for (dialect, path, count) in [
        (Anthropic, "/v1/messages/count_tokens", r#"{ "input_tokens":7,"new":[1.0] }"#),
        (Gemini, "/v1beta/models/pair:countTokens", r#"{ "totalTokens":7,"new":[1.0] }"#),
    ] {
        for none in &none {
            let first = FaultServer::always(none.clone()).await;
            let second = FaultServer::always(Reply::whole(200, "application/json", count)).await;
            let (_, mut body) = question(dialect, "pair", false);
            if let Some(body) = body.as_object_mut() {
                body.retain(|name, _| name != "stream" && name != "max_tokens");
            }
            let told = told(dialect, with_two(dialect, &first, &second, "").post(path, &body)).await;
            assert_eq!((told.status, told.text().as_str()), (200, count), "{told:?}");
            assert_eq!(told.attempts()[..3], ["first/m upstream_fault"; 3], "{told:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_says_whose_it_is() {
    let texts = json!({"model": "first/m", "input": "Hello"});
    let once = "[retry]\nattempts = 0\n";
    for dialect in DIALECTS {
        let first = FaultServer::always(Reply::json(200, &json!({"odd": true}))).await;
        let gateway = Gateway::start(&format!("{once}{}", provider("first", dialect, &first)));
        let mut requests: Vec<_> = DIALECTS.map(|ingress| question(ingress, "first/m", false)).into();
        let (_, mut counted) = question(Anthropic, "first/m", false);
        counted.as_object_mut().unwrap().retain(|name, _| name != "stream" && name != "max_tokens");
        if dialect == Anthropic {
            requests.push(("/v1/messages/count_tokens".into(), counted));
        } else {
            requests.push(("/v1/embeddings".into(), texts.clone()));
        }
        for (path, body) in requests {
            let told = told(OpenAiChat, gateway.post(&path, &body)).await;
            assert_eq!((told.status, told.attempts()), (502, vec!["first/m upstream_fault".to_owned()]), "{path}");
            let said = told.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(said.contains("first"), "{path} of {dialect:?}: {said}");
        }
    }
}
