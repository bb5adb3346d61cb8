//! Errors: `{"type": "error", "error": {"type", "message"}, "request_id"}`, with the types and statuses of Anthropic's page on
//! errors (read August 2026).

use crate::chat::{ChatError, ErrorKind};
use crate::dialect::named_status::named_status;
use serde_json::{Value, json};

/// How much of a body that is no error object is quoted, in characters.
const QUOTED: usize = 300;

/// What the API says of an account that can pay for nothing more, or may not; it has no type of its own.
const USED_UP: [&str; 3] =
    ["credit balance is too low", "reached your specified api usage limits", "organization has been disabled"];
/// What the API says where an answer is cut for its content; it has no type of its own.
const CONTENT_FILTER: &str = "content filtering policy";
/// What the API says where the prompt is too long; Claude Code looks for the first of them to compact the conversation.
const TOO_LONG: [&str; 4] = ["prompt is too long", "exceed context limit", "context window", "maximum context length"];

/// Reads the body of an error answer.
pub(super) fn parse(status: u16, body: &[u8]) -> ChatError {
    let value = serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let mut error = read(Some(status), &value).unwrap_or_else(|| {
        let kind = ErrorKind::from_status(status);
        ChatError::new(kind, format!("the provider answered with status {status}: {}", quoted(body)))
    });
    error.status = Some(status);
    error
}

/// Reads an error that stands where an answer should be, under a status of success.
pub(super) fn parse_in_success(body: &[u8]) -> ChatError {
    let value = serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    read(None, &value).unwrap_or_else(|| {
        ChatError::new(
            ErrorKind::Upstream,
            format!("the provider answered with something else than a message: {}", quoted(body)),
        )
    })
}

/// True for the text of an error as Anthropic's clients read it.
pub(super) fn is_own_form(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| {
        value["type"] == "error" && value["error"]["type"].is_string() && value["error"]["message"].is_string()
    })
}

/// Reads an error object; `None` when `value` is none.
pub(super) fn read(status: Option<u16>, value: &Value) -> Option<ChatError> {
    let inner = value.get("error").unwrap_or(value);
    let message = [inner, &inner["message"], &inner["detail"]].into_iter().find_map(readable)?;
    let code = inner.get("type").and_then(Value::as_str).filter(|code| *code != "error");
    // Compatible servers name the status where the answer's own says success.
    let named = || ["code", "status_code", "status"].into_iter().find_map(|name| named_status(inner.get(name)?));
    let by_status = || status.or_else(named).map_or(ErrorKind::Upstream, ErrorKind::from_status);
    let kind = code.and_then(kind_of).unwrap_or_else(by_status);
    let mut error = ChatError::new(refined(kind, &message), message);
    error.code = code.map(str::to_owned);
    error.details = details(value, inner);
    Some(error)
}

/// A message as text: FastAPI servers (vllm-mlx) give a list of faults instead.
fn readable(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(faults) => {
            let faults: Vec<&str> = faults.iter().filter_map(|fault| fault["msg"].as_str()).collect();
            (!faults.is_empty()).then(|| faults.join("; "))
        }
        _ => None,
    }
}

fn kind_of(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "invalid_request_error" => ErrorKind::InvalidRequest,
        "authentication_error" => ErrorKind::Authentication,
        "billing_error" => ErrorKind::QuotaExceeded,
        "permission_error" => ErrorKind::Permission,
        "not_found_error" => ErrorKind::NotFound,
        "request_too_large" => ErrorKind::TooLarge,
        "rate_limit_error" => ErrorKind::RateLimited,
        "timeout_error" => ErrorKind::Timeout,
        "overloaded_error" => ErrorKind::Overloaded,
        // `api_error` says no more than the status does.
        _ => return None,
    })
}

fn refined(kind: ErrorKind, message: &str) -> ErrorKind {
    let message = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match kind {
        ErrorKind::InvalidRequest if says(&USED_UP) => ErrorKind::QuotaExceeded,
        ErrorKind::InvalidRequest if says(&TOO_LONG) => ErrorKind::ContextTooLong,
        ErrorKind::InvalidRequest if says(&[CONTENT_FILTER]) => ErrorKind::ContentFilter,
        // Z.AI has Anthropic's type for it.
        ErrorKind::RateLimited if says(&["insufficient balance"]) => ErrorKind::QuotaExceeded,
        kind => kind,
    }
}

/// The vendor's own words without the message: type, details, its request id.
fn details(value: &Value, inner: &Value) -> Option<Value> {
    let mut details = inner.as_object().cloned().unwrap_or_default();
    details.shift_remove("message");
    details.retain(|_, value| !value.is_null());
    if let Some(id) = value.get("request_id").filter(|id| id.is_string()) {
        details.insert("request_id".to_owned(), id.clone());
    }
    (!details.is_empty()).then_some(Value::Object(details))
}

fn quoted(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return "(an empty body)".to_owned();
    }
    let short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() { format!("{short}...") } else { short }
}

/// Writes an error to a client: status and body.
pub(super) fn write(error: &ChatError) -> (u16, Vec<u8>) {
    (status(error.kind), body(error).to_string().into_bytes())
}

/// The error object, as an answer's body and as the data of an `error` event.
pub(super) fn body(error: &ChatError) -> Value {
    let mut message = error.message.clone();
    if let Some(param) = error.param.as_deref().filter(|param| !message.contains(param)) {
        message = format!("{param}: {message}");
    }
    if error.kind == ErrorKind::ContextTooLong && !message.to_ascii_lowercase().contains(TOO_LONG[0]) {
        message = format!("{}: {message}", TOO_LONG[0]);
    }
    let mut body = json!({"type": "error", "error": {"type": kind_name(error.kind), "message": message}});
    if let Some(id) = &error.request_id {
        body["request_id"] = json!(id);
    }
    body
}

fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Overloaded => 529,
        // Not 429: the SDKs would ask again.
        ErrorKind::QuotaExceeded => 402,
        _ => kind.status(),
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong | ErrorKind::ContentFilter => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::QuotaExceeded => "billing_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Upstream | ErrorKind::Unavailable | ErrorKind::Cancelled | ErrorKind::Internal => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(status: u16, body: &Value) -> ErrorKind {
        parse(status, body.to_string().as_bytes()).kind
    }

    fn native(kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
    }

    #[test]
    fn the_type_and_the_words_tell_the_kind() {
        for (code, message, expected) in [
            ("invalid_request_error", "prompt is too long: 3333404 tokens > 200000 maximum", ErrorKind::ContextTooLong),
            (
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
                ErrorKind::ContextTooLong,
            ),
            ("invalid_request_error", "Output blocked by content filtering policy", ErrorKind::ContentFilter),
            (
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API.",
                ErrorKind::QuotaExceeded,
            ),
            ("invalid_request_error", "messages: Field required", ErrorKind::InvalidRequest),
            ("overloaded_error", "Overloaded", ErrorKind::Overloaded),
            ("request_too_large", "Request exceeds the maximum size", ErrorKind::TooLarge),
            ("billing_error", "x", ErrorKind::QuotaExceeded),
        ] {
            assert_eq!(kind(400, &native(code, message)), expected, "{message}");
        }
        assert_eq!(kind(404, &json!({"detail": "The model `x` does not exist."})), ErrorKind::NotFound);
        assert_eq!(
            kind(422, &json!({"detail": [{"loc": ["body"], "msg": "Field required"}]})),
            ErrorKind::InvalidRequest
        );
        assert_eq!(parse(502, b"<html>Bad gateway</html>").kind, ErrorKind::Upstream);
    }

    #[test]
    fn an_account_that_has_nothing_left_is_not_the_requests_fault() {
        let limits =
            "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.";
        for (status, code, message) in [
            (400, "invalid_request_error", limits),
            (400, "invalid_request_error", "This organization has been disabled."),
            (429, "rate_limit_error", "[1113][Insufficient balance or no resource package. Please recharge.][2026]"),
        ] {
            assert_eq!(kind(status, &native(code, message)), ErrorKind::QuotaExceeded, "{message}");
        }
        assert_eq!(kind(429, &native("rate_limit_error", "slow down")), ErrorKind::RateLimited);
    }

    #[test]
    fn an_error_under_a_status_of_success_names_its_own() {
        for (code, number, expected) in [
            (None, json!(429), ErrorKind::RateLimited),
            (Some("error"), json!("503"), ErrorKind::Overloaded),
            (Some("api_error"), json!(429), ErrorKind::RateLimited),
            (Some("api_error"), Value::Null, ErrorKind::Upstream),
            (Some("api_error"), json!(200), ErrorKind::Upstream),
            (Some("timeout_error"), Value::Null, ErrorKind::Timeout),
            (Some("overloaded_error"), json!(500), ErrorKind::Overloaded),
        ] {
            let value = json!({"type": "error", "error": {"type": code, "message": "m", "code": number}});
            assert_eq!(read(None, &value).map(|error| error.kind), Some(expected), "{value}");
        }
        // What the gateway itself says of a server that is down.
        assert_eq!(kind(503, &native("api_error", "m")), ErrorKind::Overloaded);
    }

    #[test]
    fn every_kind_is_written_so_that_it_can_be_read() {
        for kind in [
            ErrorKind::InvalidRequest,
            ErrorKind::Authentication,
            ErrorKind::Permission,
            ErrorKind::NotFound,
            ErrorKind::TooLarge,
            ErrorKind::RateLimited,
            ErrorKind::QuotaExceeded,
            ErrorKind::ContextTooLong,
            ErrorKind::Overloaded,
            ErrorKind::Upstream,
            ErrorKind::Timeout,
        ] {
            let mut error = ChatError::new(kind, "it failed");
            error.request_id = Some("x-1".into());
            let (status, body) = write(&error);
            let again = parse(status, &body);
            assert_eq!(again.kind, kind);
            assert_eq!(again.details.unwrap()["request_id"], "x-1");
        }
        let (status, body) = write(&ChatError::new(ErrorKind::ContextTooLong, "too many tokens"));
        assert_eq!(status, 400);
        insta::assert_snapshot!(String::from_utf8(body).unwrap(), @r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: too many tokens"}}"#);
    }

    proptest! {
        #[test]
        fn any_body_is_an_error(status in 100u16..600, body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let error = parse(status, &body);
            prop_assert_eq!(error.status, Some(status));
            prop_assert!(!error.message.is_empty());
        }
    }
}
