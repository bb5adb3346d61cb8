//! Prompts that do not fit, and prompts that nobody is to answer.

use crate::support::fault_client::{DIALECTS, LONG, QUICK, ask, question, told, with_one, with_two};
use crate::support::fault_replies::{Refusal, Stream, answer};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{Anthropic, Gemini, OpenAiChat};
use serde_json::json;

fn windows(first: u32, second: u32) -> String {
    format!("[facts.\"first/m\"]\ncontext = {first}\n[facts.\"second/n\"]\ncontext = {second}\n")
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_window() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let first = FaultServer::always(Refusal::TooLong.reply(dialect)).await;
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let gateway = with_two(dialect, &first, &second, &windows(8_192, 200_000));
            let told = ask(&gateway, dialect, "pair", stream).await;
            told.answered_by("second/n");
            assert_eq!(told.attempts(), ["first/m context_too_long", "second/n ok"]);
            assert_eq!((first.count(), second.count()), (1, 1));
        }
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_does_not_go_to_a_window_that_is_no_larger() {
    for (ingress, window) in [(OpenAiChat, 8_192), (Anthropic, 4_096), (Gemini, 8_192)] {
        let first = FaultServer::always(Refusal::TooLong.reply(OpenAiChat)).await;
        let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
        let gateway = with_two(OpenAiChat, &first, &second, &windows(8_192, window));
        let told = ask(&gateway, ingress, "pair", false).await;
        assert_eq!(told.status, 400, "{told:?}");
        let error = told.error();
        // What clients look for to shorten the conversation by themselves.
        match ingress {
            OpenAiChat => assert_eq!(error["code"], "context_length_exceeded"),
            Anthropic => assert!(error["message"].as_str().unwrap().starts_with("prompt is too long"), "{error}"),
            Gemini => assert_eq!(error["status"], "INVALID_ARGUMENT"),
        }
        assert_eq!((first.count(), second.count()), (1, 0));
    }
}

#[tokio::test]
async fn a_smaller_window_is_passed_over_on_the_way_to_a_larger_one() {
    let first = FaultServer::always(Refusal::TooLong.reply(OpenAiChat)).await;
    let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
    let facts = windows(8_192, 4_096) + "[facts.\"second/large\"]\ncontext = 100000\n";
    let gateway = with_two(OpenAiChat, &first, &second, &facts);
    let (path, mut body) = question(OpenAiChat, "first/m", false);
    body["fallbacks"] = json!(["second/n", "second/large"]);
    let told = told(OpenAiChat, gateway.post(&path, &body)).await;
    told.answered_by("second/large");
    assert_eq!(told.attempts(), ["first/m context_too_long", "second/large ok"]);
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn a_prompt_that_is_too_long_for_all_is_told_as_such() {
    let first = FaultServer::always(Refusal::TooLong.reply(OpenAiChat)).await;
    let second = FaultServer::always(Refusal::TooLong.reply(OpenAiChat)).await;
    let gateway = with_two(OpenAiChat, &first, &second, &windows(8_192, 16_384));
    let told = ask(&gateway, OpenAiChat, "pair", true).await;
    assert_eq!((told.status, told.error()["code"].as_str()), (400, Some("context_length_exceeded")));
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn what_the_filter_refuses_is_nobody_elses_business() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            // Gemini refuses within an answer, and a stream's refusal is an event.
            let refusal = if dialect == Gemini && stream {
                let (_, body) = Refusal::Filtered.form(Gemini);
                crate::support::fault_server::Reply::whole(200, "text/event-stream", format!("data: {body}\n\n"))
            } else {
                Refusal::Filtered.reply(dialect)
            };
            let first = FaultServer::always(refusal).await;
            let second = FaultServer::always(answer(dialect, "n", stream, "there")).await;
            let gateway = with_two(dialect, &first, &second, "");
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "pair", stream).await;
                // A refusal within an answer stays one: it is a stop reason in every dialect.
                assert!(told.status == 400 || told.status == 200 && dialect == Gemini, "{told:?}");
                assert!(!told.text().contains("there"), "{told:?}");
                assert_eq!(told.attempts().len(), 1);
            }
            assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0));
        }
    }
}

#[tokio::test]
async fn an_error_event_before_any_content_counts_like_the_status_that_it_names() {
    for dialect in DIALECTS {
        let opened = || Stream::of(dialect, "m").opening();
        // What may be over in a moment is asked again.
        let passing = opened().error(Refusal::Overloaded).reply();
        let first = FaultServer::in_turn([passing.clone(), answer(dialect, "m", true, "here")]).await;
        let second = FaultServer::always(answer(dialect, "n", true, "there")).await;
        let gateway = with_two(dialect, &first, &second, "");
        let asked = ask(&gateway, dialect, "pair", true).await;
        asked.answered_by("first/m");
        assert_eq!(asked.attempts(), ["first/m overloaded", "first/m ok"]);
        // For ever, it is the next target's turn.
        let first = FaultServer::always(passing.clone()).await;
        let gateway = with_two(dialect, &first, &second, "");
        ask(&gateway, dialect, "pair", true).await.answered_by("second/n");
        assert_eq!(first.count(), 3);
        // With nobody behind it, the client gets a status and no stream.
        let gateway = with_one(dialect, &first, "");
        let asked = ask(&gateway, dialect, "first/m", true).await;
        assert!([503, 529].contains(&asked.status), "{asked:?}");
        asked.error();
        // The request's own fault is returned at once.
        let wrong = opened().error(Refusal::BadRequest).reply();
        let (first, count) = (FaultServer::always(wrong).await, second.count());
        let gateway = with_two(dialect, &first, &second, "");
        let asked = ask(&gateway, dialect, "pair", true).await;
        assert_eq!((asked.status, first.count(), second.count()), (400, 1, count), "{asked:?}");
        asked.error();
    }
}

#[tokio::test]
async fn an_error_in_the_place_of_an_answer_counts_like_the_status_that_it_names() {
    for dialect in DIALECTS {
        let (status, mut body) = Refusal::Overloaded.form(dialect);
        if dialect == OpenAiChat {
            body["error"]["code"] = json!(status);
        }
        let said_200 = crate::support::fault_server::Reply::json(200, &body);
        let first = FaultServer::in_turn([said_200, answer(dialect, "m", false, "here")]).await;
        let gateway = with_one(dialect, &first, "");
        let told = ask(&gateway, dialect, "first/m", false).await;
        told.answered_by("first/m");
        assert_eq!(told.attempts(), ["first/m overloaded", "first/m ok"]);
    }
}

/// The head of an error answer that never has its whole body.
fn cut_head(status: &str, headers: &str) -> Step {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: 500\r\n\r\n");
    Step::Raw(format!("{head}{{\"error\":{{\"mess").into())
}

#[tokio::test]
async fn the_status_of_an_error_answer_counts_though_its_body_is_cut_or_stalls() {
    for end in [Step::Close, Step::Reset, Step::Silence] {
        let throttled = Reply::nothing_but([cut_head("429 Too Many Requests", "retry-after: 60\r\n"), end.clone()]);
        let first = FaultServer::always(throttled).await;
        let second = FaultServer::always(answer(OpenAiChat, "n", false, "there")).await;
        let told = ask(&with_two(OpenAiChat, &first, &second, ""), OpenAiChat, "pair", false).await;
        told.answered_by("second/n");
        assert_eq!((told.attempts()[0].as_str(), first.count()), ("first/m rate_limited", 1), "{end:?}");
        assert!(told.took < LONG, "{told:?}");

        let wrong = FaultServer::always(Reply::nothing_but([cut_head("400 Bad Request", ""), end.clone()])).await;
        let told = ask(&with_one(OpenAiChat, &wrong, ""), OpenAiChat, "first/m", false).await;
        assert_eq!((told.status, wrong.count()), (400, 1), "{end:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_500_of_the_local_server_that_has_a_reason_is_its_own_failure() {
    let reason = "unable to swap model, timed out";
    let local = FaultServer::always(Reply::whole(500, "text/plain", reason)).await;
    let gateway = Gateway::start(&format!("{QUICK}[providers.mlx-local]\nbase_url = \"{}\"\n", local.url()));
    let told = ask(&gateway, OpenAiChat, "mlx-local/org/m", false).await;
    assert_eq!(told.attempts(), ["mlx-local/org/m upstream_fault"; 3], "{told:?}");
    assert!(told.error()["message"].as_str().unwrap().contains(reason), "{told:?}");
}
