//! Errors in the middle of a stream: whatever form they have, the client gets one of its own dialect.

use crate::support::fault_client::{DIALECTS, Told, ask, question, request, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, Stream, streamed};
use crate::support::fault_server::FaultServer;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use serde_json::json;

/// Errors as compatible servers send them, in a form that the vendor's own clients do not take for one.
fn foreign_forms(dialect: DialectId) -> Vec<String> {
    let data = |value: serde_json::Value| format!("data: {value}\n\n");
    let named = |name: &str, value: &str| format!("event: {name}\ndata: {value}\n\n");
    match dialect {
        OpenAiChat => vec![
            data(json!({"object": "error", "message": "boom", "type": "InternalServerError", "code": 500})),
            data(json!({"error": "boom"})),
            data(json!({"detail": "boom"})),
            data(json!([{"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}])),
            data(json!({"id": "c1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]})),
            named("error", &json!({"message": "boom"}).to_string()),
            named("error", "boom"),
        ],
        Anthropic => vec![
            data(json!({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}})),
            data(json!({"error": {"message": "boom"}})),
            named("message", &json!({"type": "error", "error": {"type": "api_error", "message": "boom"}}).to_string()),
            named("error", &json!({"type": "error", "error": {"message": "boom"}}).to_string()),
            named("error", &json!({"message": "boom"}).to_string()),
            named("error", "boom"),
        ],
        Gemini => vec![
            data(json!([{"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}])),
            data(json!({"error": {"message": "boom"}})),
            data(json!({"error": "boom"})),
        ],
    }
}

fn check_boom(told: &Told, form: &str) {
    assert_eq!((told.status, told.content().as_str()), (200, "one"), "{form}: {told:?}");
    let error = told.stream_error().unwrap_or_else(|| panic!("no error for {form}: {told:?}"));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("boom") || form.contains("finish_reason"), "{form}: {told:?}");
}

#[tokio::test]
async fn an_error_in_mid_stream_in_a_foreign_form_reaches_the_client_in_its_own() {
    for dialect in DIALECTS {
        let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
        for form in foreign_forms(dialect) {
            let fails = Stream::of(dialect, "m").opening().text("one").raw(&form).text("more").reply();
            let first = FaultServer::always(fails).await;
            let gateway = with_two(dialect, &first, &second, "");
            for ingress in DIALECTS {
                let id = format!("boom-{}", ingress.name());
                let asked = request(&gateway, ingress, "pair", true).header("x-request-id", &id);
                check_boom(&told(ingress, asked).await, &form);
                let record = gateway.recorded(&id).await;
                assert!(record["error"]["kind"].is_string(), "{form}: {record}");
            }
        }
        assert_eq!(second.count(), 0, "a stream was continued by another model");
    }
}

#[tokio::test]
async fn an_error_in_the_clients_own_form_stays_byte_for_byte() {
    for dialect in DIALECTS {
        let (status, mut body) = Refusal::Overloaded.form(dialect);
        body["extra"] = json!({"of": "the vendor's"});
        if dialect == OpenAiChat {
            body["error"]["code"] = json!(status);
        }
        let name = if dialect == Anthropic { "event: error\n" } else { "" };
        let event = format!("{name}data:  {body}\n\n");
        let fails = Stream::of(dialect, "m").opening().text("one").raw(&event).reply();
        let first = FaultServer::always(fails).await;
        let told = ask(&with_one(dialect, &first, ""), dialect, "first/m", true).await;
        assert!(told.stream_error().is_some() && told.text().ends_with(&event), "{told:?}");
    }
}

#[tokio::test]
async fn a_json_array_that_ends_with_an_error_is_closed_once() {
    let (path, body) = question(Gemini, "first/m", true);
    let path = path.replace("?alt=sse", "");
    let own = json!({"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}});
    let mut forms = foreign_forms(Gemini);
    // The last one lacks the blank line that ends an event.
    forms.extend([format!("data: {own}\n\n"), format!("data: {own}")]);
    for form in forms {
        let first = FaultServer::always(Stream::of(Gemini, "m").opening().text("one").raw(&form).reply()).await;
        let told = told(Gemini, with_one(Gemini, &first, "").post(&path, &body)).await;
        let elements = told.json();
        let last = elements.as_array().and_then(|elements| elements.last()).unwrap();
        assert!(last["error"]["code"].is_u64() && last["error"]["message"] == "boom", "{form}: {told:?}");
    }
}
