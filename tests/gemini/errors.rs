use super::*;
use bifrost::chat::{ChatError, ErrorKind, MODEL_QUOTA};
use serde_json::json;
use std::time::Duration;

fn error(status: u16, word: &str, message: &str, details: Value) -> ChatError {
    let body = json!({ "error": { "code": status, "status": word, "message": message, "details": details } });
    Gemini.parse_error(status, body.to_string().as_bytes())
}

fn quota(id: &str) -> Value {
    json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": id }] }])
}

#[test]
fn googles_words_have_their_kind() {
    let too_long = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576).";
    let too_long_vertex =
        "Unable to submit request because the input token count is 9 but model only supports up to 8.";
    let none = json!([]);
    for (status, word, message, details, kind) in [
        (400, "INVALID_ARGUMENT", "bad", none.clone(), ErrorKind::InvalidRequest),
        (400, "INVALID_ARGUMENT", too_long, none.clone(), ErrorKind::ContextTooLong),
        (400, "INVALID_ARGUMENT", too_long_vertex, none.clone(), ErrorKind::ContextTooLong),
        (
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            none.clone(),
            ErrorKind::Authentication,
        ),
        (400, "FAILED_PRECONDITION", "User location is not supported", none.clone(), ErrorKind::Permission),
        (401, "UNAUTHENTICATED", "no", none.clone(), ErrorKind::Authentication),
        (403, "PERMISSION_DENIED", "no", none.clone(), ErrorKind::Permission),
        (404, "NOT_FOUND", "no", none.clone(), ErrorKind::NotFound),
        (429, "RESOURCE_EXHAUSTED", "slow", quota("RequestsPerMinutePerProject"), ErrorKind::RateLimited),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "slow",
            quota("RequestsPerDayPerProjectPerModel-FreeTier"),
            ErrorKind::QuotaExceeded,
        ),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded, limit: 0", none.clone(), ErrorKind::QuotaExceeded),
        (500, "INTERNAL", "oh", none.clone(), ErrorKind::Upstream),
        (499, "CANCELLED", "The operation was cancelled.", none.clone(), ErrorKind::Upstream),
        (503, "UNAVAILABLE", "The model is overloaded.", none.clone(), ErrorKind::Overloaded),
        (504, "DEADLINE_EXCEEDED", "late", none, ErrorKind::Timeout),
    ] {
        let read = error(status, word, message, details);
        assert_eq!((read.kind, read.status), (kind, Some(status)), "{word}: {message}");
    }
}

#[test]
fn a_quota_that_counts_for_each_model_is_told_from_one_of_the_key() {
    let many = |ids: &[&str]| {
        let violations: Vec<Value> = ids.iter().map(|id| json!({ "quotaId": id })).collect();
        json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations }])
    };
    let (day, minute) = ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "InputTokensPerModelPerMinute-FreeTier");
    let none = "Quota exceeded for metric: requests, limit: 0, model: gemini-3-pro";
    for (message, ids, kind, of_model) in [
        ("slow", vec![day], ErrorKind::QuotaExceeded, true),
        (none, vec![minute, day], ErrorKind::QuotaExceeded, true),
        (none, vec![minute], ErrorKind::QuotaExceeded, true),
        ("slow", vec![day, "RequestsPerDayPerProject"], ErrorKind::QuotaExceeded, false),
        ("Your prepayment credits are depleted.", vec![day], ErrorKind::QuotaExceeded, false),
        (none, vec![], ErrorKind::QuotaExceeded, false),
        ("slow", vec![minute], ErrorKind::RateLimited, false),
    ] {
        let read = error(429, "RESOURCE_EXHAUSTED", message, many(&ids));
        assert_eq!((read.kind, read.code.as_deref() == Some(MODEL_QUOTA)), (kind, of_model), "{message}: {ids:?}");
    }
}

#[test]
fn what_is_no_error_body_is_quoted_and_cut() {
    let read = Gemini.parse_error(502, format!("<html>{}", "x".repeat(5_000)).as_bytes());
    assert_eq!(read.kind, ErrorKind::Upstream);
    assert!(read.message.contains("502: <html>xxx") && read.message.len() < 400, "{}", read.message);
    assert_eq!(Gemini.parse_error(503, b"").kind, ErrorKind::Overloaded);
}

#[test]
fn a_key_in_googles_words_is_not_repeated() {
    let key = "AIzaSyA-1234_5678";
    let details = json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "metadata": { "consumer": format!("api_key:{key}") } }]);
    let read = error(403, "PERMISSION_DENIED", &format!("Consumer 'api_key:{key}' has been suspended."), details);
    assert_eq!(read.message, "Consumer 'api_key:***' has been suspended.");
    assert!(!format!("{read:?}").contains("AIza"));
    assert!(!Gemini.parse_error(500, key.as_bytes()).message.contains("AIza"));
}

#[test]
fn every_kind_of_error_comes_back() {
    for kind in [
        ErrorKind::InvalidRequest,
        ErrorKind::Authentication,
        ErrorKind::Permission,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
        ErrorKind::RateLimited,
        ErrorKind::QuotaExceeded,
        ErrorKind::ContextTooLong,
        ErrorKind::ContentFilter,
        ErrorKind::Overloaded,
        ErrorKind::Upstream,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Cancelled,
        ErrorKind::Internal,
    ] {
        let mut error = ChatError::new(kind, "what happened").with_code("some_code");
        error.param = Some("contents".into());
        error.retry_after = Some(Duration::from_millis(1_500));
        error.request_id = Some("req-1".into());
        let (status, body) = Gemini.write_error(&error);
        assert_eq!(status, kind.status());
        let read = Gemini.parse_error(status, &body);
        assert_eq!((read.kind, read.message, read.code), (kind, error.message, error.code));
        assert_eq!((read.param, read.retry_after), (error.param, error.retry_after));
        assert!(String::from_utf8(body).unwrap().contains("\"requestId\":\"req-1\""));
    }
}
