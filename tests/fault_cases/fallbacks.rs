//! Who may answer in another's place: what the client names, what the config forbids.

use crate::support::fault_client::{DIALECTS, PAIR, QUICK, Told, ask, provider, question, request, told, with_two};
use crate::support::fault_replies::{Refusal, answer};
use crate::support::fault_server::{FaultServer, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use serde_json::{Value, json};

/// A first target that has used up its quota, and a second that answers.
async fn servers(dialect: DialectId, stream: bool) -> (FaultServer, FaultServer) {
    let first = FaultServer::always(Refusal::UsedUp.reply(dialect)).await;
    (first, FaultServer::always(answer(dialect, "n", stream, "there")).await)
}

async fn ask_with(gateway: &Gateway, ingress: DialectId, stream: bool, fallbacks: Value) -> Told {
    let (path, mut body) = question(ingress, "first/m", stream);
    body["fallbacks"] = fallbacks;
    told(ingress, gateway.post(&path, &body)).await
}

#[tokio::test]
async fn what_the_body_names_is_asked_next_and_taken_out_before_sending() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let (first, second) = servers(dialect, stream).await;
            let gateway = with_two(dialect, &first, &second, "");
            for ingress in DIALECTS {
                let told = ask_with(&gateway, ingress, stream, json!(["second/n"])).await;
                told.answered_by("second/n");
                assert_eq!(told.header("x-bifrost-fallback"), "first/m");
                assert!(!told.header("x-bifrost-loss").contains("fallbacks"), "it was honoured: {told:?}");
            }
            for asked in first.asked().iter().chain(&second.asked()) {
                assert!(asked.json().is_object() && asked.json().get("fallbacks").is_none(), "{:?}", asked.body);
            }
        }
    }
}

#[tokio::test]
async fn without_the_field_the_body_is_the_clients_own() {
    let (first, second) = servers(OpenAiChat, false).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let body = r#"{ "model":"first/m" ,"fallbacks" : ["second/n"], "zebra":[1,  2.50e0],"messages":[{"role":"user","content":"H\u00e9llo"}] }"#;
    let told = told(OpenAiChat, gateway.post_bytes("/v1/chat/completions", body)).await;
    told.answered_by("second/n");
    for (server, model) in [(&first, "m"), (&second, "n")] {
        let sent = String::from_utf8(server.nth(0).await.body.to_vec()).unwrap();
        let expected =
            json!({"model": model, "zebra": [1, 2.5], "messages": [{"role": "user", "content": "H\u{e9}llo"}]});
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), expected, "{sent}");
        assert!(
            sent.contains(r#""zebra":[1,  2.50e0],"messages":[{"role":"user","content":"H\u00e9llo"}] }"#),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn what_the_header_names_is_asked_next() {
    for ingress in DIALECTS {
        let (first, second) = servers(OpenAiChat, false).await;
        let gateway = with_two(OpenAiChat, &first, &second, "");
        let asked = request(&gateway, ingress, "first/m", false).header("x-bifrost-fallbacks", "first/other, second/n");
        let told = told(ingress, asked).await;
        told.answered_by("second/n");
        assert_eq!(told.attempts().last().unwrap(), "second/n ok");
        assert_eq!((told.header("x-bifrost-fallback"), second.count()), ("first/m", 1));
        assert!(second.nth(0).await.header("x-bifrost-fallbacks").is_empty(), "it is the gateway's own");
    }
}

#[tokio::test]
async fn an_entry_that_is_unknown_is_the_clients_mistake() {
    let (first, second) = servers(OpenAiChat, false).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    for ingress in DIALECTS {
        let wrong =
            [json!(["second/n", "nonsense"]), json!("second/n"), json!([5]), json!({"model": "second/n"}), json!([""])];
        for fallbacks in wrong {
            let told = ask_with(&gateway, ingress, false, fallbacks.clone()).await;
            assert_eq!(told.status, 400, "{fallbacks}: {told:?}");
            assert!(told.error()["message"].as_str().unwrap().contains("fallbacks"), "{fallbacks}: {told:?}");
        }
        let asked = request(&gateway, ingress, "first/m", false).header("x-bifrost-fallbacks", "second/n, nonsense");
        let told = told(ingress, asked).await;
        assert_eq!(told.status, 400, "{told:?}");
        assert!(told.error()["message"].as_str().unwrap().contains("nonsense"), "{told:?}");
    }
    assert_eq!((first.count(), second.count()), (0, 0), "somebody was asked all the same");
}

#[tokio::test]
async fn more_entries_than_anybody_needs_are_refused() {
    let (first, second) = servers(OpenAiChat, false).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    for ingress in DIALECTS {
        let told = ask_with(&gateway, ingress, false, json!(vec!["second/n"; 33])).await;
        assert_eq!(told.status, 400, "{told:?}");
        assert!(told.error()["message"].as_str().unwrap().contains("at most 32"), "{told:?}");
        assert_eq!((first.count(), second.count()), (0, 0), "somebody was asked all the same");
    }
    ask_with(&gateway, OpenAiChat, false, json!(vec!["second/n"; 32])).await.answered_by("second/n");
}

#[tokio::test]
async fn every_line_of_the_header_counts() {
    let (first, second) = servers(OpenAiChat, false).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let name = "x-bifrost-fallbacks";
    for ingress in DIALECTS {
        let asked = || request(&gateway, ingress, "first/m", false).header(name, "first/other");
        let both = told(ingress, asked().header(name, "second/n")).await;
        both.answered_by("second/n");
        for wrong in ["nonsense".as_bytes(), "second/\u{f6}".as_bytes(), b"second/\xf6"] {
            let asked = asked().header(name, http::HeaderValue::from_bytes(wrong).unwrap());
            let refused = told(ingress, asked).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            assert!(refused.error()["message"].as_str().unwrap().contains("fallbacks"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_that_is_unknown_is_the_clients_mistake_in_local_only_mode_too() {
    let local = FaultServer::start(|asked| match asked.path.as_str() {
        "/v1/models" => Reply::json(200, &json!({"object": "list", "data": [{"id": "m", "object": "model"}]})),
        "/health" => Reply::json(200, &json!({"status": "healthy", "model_loaded": true})),
        _ => answer(OpenAiChat, "m", false, "here"),
    })
    .await;
    let (cloud, _) = servers(OpenAiChat, false).await;
    let tables =
        format!("[providers.mlx-local]\nbase_url = \"{}\"\n", local.url()) + &provider("first", OpenAiChat, &cloud);
    let gateway = Gateway::start(&tables);
    ask(&gateway, OpenAiChat, "mlx-local/m", false).await.answered_by("mlx-local/m");
    for ingress in DIALECTS {
        let ask_with = |fallback: &str| {
            let asked = request(&gateway, ingress, "mlx-local/m", false).header("x-bifrost-local", "true");
            told(ingress, asked.header("x-bifrost-fallbacks", fallback))
        };
        let refused = ask_with("nonsense").await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.error()["message"].as_str().unwrap().contains("nonsense"), "{refused:?}");
        // What is only out of reach now is no mistake, whether or not its list was ever fetched.
        for known in ["first/m", "coding", "gpt-4o"] {
            ask_with(known).await.answered_by("mlx-local/m");
        }
    }
    assert_eq!(cloud.count(), 0, "it left the machine");
}

#[tokio::test]
async fn an_empty_list_is_fine() {
    for ingress in DIALECTS {
        let (first, second) = servers(OpenAiChat, false).await;
        let gateway = with_two(OpenAiChat, &first, &second, "");
        for fallbacks in [json!([]), json!(null)] {
            let told = ask_with(&gateway, ingress, false, fallbacks).await;
            assert!(told.status == 429 || ingress == Anthropic && told.status < 500, "{told:?}");
        }
        let asked = request(&gateway, ingress, "second/n", false).header("x-bifrost-fallbacks", "");
        told(ingress, asked).await.answered_by("second/n");
        assert!(first.asked().iter().all(|asked| asked.json().get("fallbacks").is_none()));
        assert_eq!(second.count(), 1);
    }
}

#[tokio::test]
async fn a_fallback_that_is_not_needed_is_not_asked() {
    let first = FaultServer::always(answer(OpenAiChat, "m", false, "here")).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let gateway = with_two(OpenAiChat, &first, &second, "");
    let told = ask_with(&gateway, Gemini, false, json!(["second/n"])).await;
    told.answered_by("first/m");
    assert_eq!((told.header("x-bifrost-fallback"), second.count()), ("", 0));
}

#[tokio::test]
async fn a_fallback_may_speak_another_dialect() {
    let first = FaultServer::always(Refusal::Overloaded.reply(OpenAiChat)).await;
    let second = FaultServer::always(answer(Anthropic, "n", true, "there")).await;
    let third = FaultServer::always(answer(Gemini, "o", true, "yonder")).await;
    let config = [("first", OpenAiChat, &first), ("second", Anthropic, &second), ("third", Gemini, &third)];
    let tables: String = config.iter().map(|(name, dialect, server)| provider(name, *dialect, server)).collect();
    let gateway = Gateway::start(&format!("{QUICK}{tables}"));
    for ingress in DIALECTS {
        let told = ask_with(&gateway, ingress, true, json!(["second/n"])).await;
        told.answered_by("second/n");
        assert_eq!(told.content(), "there");
        let told = ask_with(&gateway, ingress, true, json!(["third/o"])).await;
        told.answered_by("third/o");
        assert_eq!(told.content(), "yonder");
    }
}

#[tokio::test]
async fn a_provider_that_is_never_a_fallback_answers_only_when_it_is_asked_for() {
    let (first, second) = servers(OpenAiChat, false).await;
    let tables = provider("first", OpenAiChat, &first) + &provider("second", OpenAiChat, &second);
    let gateway = Gateway::start(&format!("{QUICK}{PAIR}{tables}fallback = \"never\"\n"));
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    assert_eq!((told.status, told.attempts().len()), (429, 1), "{told:?}");
    // Not even where the client names it; whether that is told as a mistake or passed over, it is not asked.
    let told = ask_with(&gateway, OpenAiChat, false, json!(["second/n"])).await;
    assert!([400, 429].contains(&told.status), "{told:?}");
    assert_eq!(second.count(), 0);
    ask(&gateway, OpenAiChat, "second/n", false).await.answered_by("second/n");
    assert_eq!(second.count(), 1);
}

#[tokio::test]
async fn a_class_that_may_not_leave_the_machine_does_not_leave_it_when_all_fails() {
    let (first, second) = servers(OpenAiChat, false).await;
    let first_table = provider("first", OpenAiChat, &first).replace("vendor", "local");
    let private = "[classes.private]\ncloud = false\nselect = [{ provider = \"first\", model = \"m\" }, \
                   { provider = \"second\", model = \"n\" }]\n";
    // One that runs on this machine would answer.
    let no_mlx = "[providers.mlx-local]\nenabled = false\n";
    let second_table = provider("second", OpenAiChat, &second);
    let gateway = Gateway::start(&format!("{QUICK}{private}{no_mlx}{second_table}{first_table}"));
    for stream in [false, true] {
        let plain = ask(&gateway, OpenAiChat, "private", stream).await;
        assert_eq!((plain.status, plain.attempts().len()), (429, 1), "{plain:?}");
        // The class is the stricter word: whoever names it keeps within it.
        let (path, mut body) = question(OpenAiChat, "private", stream);
        body["fallbacks"] = json!(["second/n"]);
        let named = told(OpenAiChat, gateway.post(&path, &body)).await;
        assert!([400, 403, 429].contains(&named.status), "{named:?}");
    }
    let local = request(&gateway, OpenAiChat, "first/m", false).header("x-bifrost-local", "true");
    let local = told(OpenAiChat, local.header("x-bifrost-fallbacks", "second/n")).await;
    assert!(local.status >= 400, "{local:?}");
    assert_eq!(second.count(), 0, "it left the machine");
}

#[tokio::test]
async fn a_fallback_answers_where_nobody_is_there_for_what_was_asked() {
    let server = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let class = "[classes.nobody]\ncloud = true\nselect = [{ provider = \"mlx-local\", model = \"no-such-*\" }]\n";
    let gateway = Gateway::start(&format!("{}{class}", provider("first", OpenAiChat, &server)));
    let (path, mut body) = question(OpenAiChat, "nobody", false);
    body["fallbacks"] = json!(["first/n", "nobody"]);
    let answered = told(OpenAiChat, gateway.post(&path, &body)).await;
    answered.answered_by("first/n");
    assert_eq!(answered.header("x-bifrost-substituted"), "nobody");
}
