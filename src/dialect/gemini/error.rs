//! Google's error body: `{"error": {"code", "message", "status", "details"}}`, after `google.rpc.Status`
//! (<https://cloud.google.com/apis/design/errors>).

use crate::chat::{ChatError, ErrorKind, MODEL_QUOTA};
use crate::dialect::google_details::{TYPE, detail, retry_after};
use crate::dialect::named_status::named_status;
use serde_json::{Map, Value, json};

/// How much of a body that is no error is quoted, in characters.
const QUOTED: usize = 300;

/// Marks what the gateway itself says in an `ErrorInfo`.
const DOMAIN: &str = "bifrost";

/// True when `value` is an error, or a list that holds one (as streams without SSE send it).
pub(super) fn is_error(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.get("error").is_some_and(|error| error.is_object() || error.is_string()),
        Value::Array(list) => list.len() == 1 && list.iter().all(is_error),
        _ => false,
    }
}

/// True for the text of an error as Google's clients read it.
pub(super) fn is_own_form(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| {
        let error = &value["error"];
        error["code"].is_u64() && error["message"].is_string() && error["status"].is_string()
    })
}

/// Reads the body of an error answer.
pub(super) fn read(status: u16, body: &[u8]) -> ChatError {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let first = match &value {
        Value::Array(list) => list.first().unwrap_or(&Value::Null),
        other => other,
    };
    let Some(error) = first.get("error") else { return unreadable(status, body) };
    let message = error.get("message").and_then(Value::as_str).or(error.as_str()).unwrap_or_default();
    let word = error.get("status").and_then(Value::as_str).unwrap_or_default();
    let details = error.get("details").filter(|details| details.as_array().is_some_and(|list| !list.is_empty()));
    let in_body = ["code", "status"].into_iter().find_map(|name| named_status(error.get(name)?));
    let status = if status >= 400 { Some(status) } else { in_body };
    let reason = detail(details, "ErrorInfo").and_then(|info| info.get("reason")).and_then(Value::as_str);
    let message = without_keys(message);
    let kind = kind(status, word, reason, &message, details);
    let of_model = kind == ErrorKind::QuotaExceeded && reason.is_none() && is_of_model(&message, details);
    let code = if of_model { Some(MODEL_QUOTA) } else { reason.or(Some(word).filter(|word| !word.is_empty())) };
    ChatError {
        kind,
        code: code.map(str::to_owned),
        param: field_violation(details),
        status,
        retry_after: retry_after(details, &message),
        details: details.map(clean),
        message: if message.is_empty() { format!("the provider answered with an error: {word}") } else { message },
        request_id: None,
    }
}

fn unreadable(status: u16, body: &[u8]) -> ChatError {
    let text = without_keys(&String::from_utf8_lossy(body));
    let quoted: String = text.trim().chars().take(QUOTED).collect();
    let kind = if status < 400 { ErrorKind::Upstream } else { ErrorKind::from_status(status) };
    let message = if quoted.is_empty() {
        format!("the provider answered with status {status} and no body")
    } else {
        format!("the provider answered with status {status}: {quoted}")
    };
    ChatError { status: (status >= 400).then_some(status), ..ChatError::new(kind, message) }
}

fn kind(status: Option<u16>, word: &str, reason: Option<&str>, message: &str, details: Option<&Value>) -> ErrorKind {
    if let Some(own) = detail(details, "ErrorInfo").filter(|info| info.get("domain") == Some(&json!(DOMAIN)))
        && let Some(kind) = own.pointer("/metadata/kind").and_then(Value::as_str).and_then(kind_called)
    {
        return kind;
    }
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match reason {
        Some("API_KEY_INVALID" | "API_KEY_EXPIRED" | "CREDENTIALS_MISSING" | "ACCESS_TOKEN_EXPIRED") => {
            return ErrorKind::Authentication;
        }
        Some("RATE_LIMIT_EXCEEDED") => return ErrorKind::RateLimited,
        _ => {}
    }
    if says(&["api key not valid", "api key expired", "api key was reported as leaked", "api key not found"]) {
        return ErrorKind::Authentication;
    }
    match word {
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" | "FAILED_PRECONDITION" | ""
            if says(&["input token count"]) && says(&["exceeds", "only supports up to"]) =>
        {
            ErrorKind::ContextTooLong
        }
        "INVALID_ARGUMENT" if says(&["payload size exceeds"]) => ErrorKind::TooLarge,
        "INVALID_ARGUMENT" if says(&["prompt was blocked", "blocked by safety", "violates"]) => {
            ErrorKind::ContentFilter
        }
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" | "ALREADY_EXISTS" => ErrorKind::InvalidRequest,
        // The account or the place may not use the service: no change of the request helps.
        "FAILED_PRECONDITION" | "PERMISSION_DENIED" => ErrorKind::Permission,
        "UNAUTHENTICATED" => ErrorKind::Authentication,
        "NOT_FOUND" | "UNIMPLEMENTED" => ErrorKind::NotFound,
        "RESOURCE_EXHAUSTED" => {
            let used_up = says(&["limit: 0"]) || is_unpaid(message) || is_daily_quota(details);
            if used_up { ErrorKind::QuotaExceeded } else { ErrorKind::RateLimited }
        }
        "UNAVAILABLE" => ErrorKind::Overloaded,
        "DEADLINE_EXCEEDED" => ErrorKind::Timeout,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" | "ABORTED" | "CANCELLED" => ErrorKind::Upstream,
        _ => status.map_or(ErrorKind::Upstream, ErrorKind::from_status),
    }
}

/// The account can pay for nothing more, whatever the model.
fn is_unpaid(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    ["credits are depleted", "spending cap", "billing account"].iter().any(|word| lower.contains(word))
}

/// A quota of the day (or longer) will not come back while a client waits; one of the minute will.
fn is_daily_quota(details: Option<&Value>) -> bool {
    quota_ids(details).any(|id| id.contains("PerDay") || id.contains("PerMonth"))
}

/// Every quota that was hit counts for each model by itself: others may still be asked with the same key.
fn is_of_model(message: &str, details: Option<&Value>) -> bool {
    let mut ids = quota_ids(details).peekable();
    !is_unpaid(message) && ids.peek().is_some() && ids.all(|id| id.contains("PerModel"))
}

fn quota_ids(details: Option<&Value>) -> impl Iterator<Item = &str> {
    let violations = detail(details, "QuotaFailure").and_then(|failure| failure.get("violations"));
    let violations = violations.and_then(Value::as_array).into_iter().flatten();
    violations.map(|violation| violation.get("quotaId").and_then(Value::as_str).unwrap_or_default())
}

fn field_violation(details: Option<&Value>) -> Option<String> {
    let violation = detail(details, "BadRequest")?.get("fieldViolations")?.get(0)?;
    Some(violation.get("field")?.as_str()?.to_owned())
}

/// Google quotes the API key in some messages (`Consumer 'api_key:AIza...' has been suspended`).
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) =
        [rest.find("AIza"), rest.find("api_key:").map(|at| at + 8), rest.find("AQ.")].into_iter().flatten().min()
    {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '_' | '.'));
        let end = end.map_or(rest.len(), |length| at + length);
        if end > at {
            out.push_str("***");
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn clean(value: &Value) -> Value {
    match value {
        Value::String(text) => without_keys(text).into(),
        Value::Array(list) => list.iter().map(clean).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), clean(value))).collect(),
        other => other.clone(),
    }
}

const KINDS: [(ErrorKind, &str, &str); 15] = [
    (ErrorKind::InvalidRequest, "invalid_request", "INVALID_ARGUMENT"),
    (ErrorKind::Authentication, "authentication", "UNAUTHENTICATED"),
    (ErrorKind::Permission, "permission", "PERMISSION_DENIED"),
    (ErrorKind::NotFound, "not_found", "NOT_FOUND"),
    (ErrorKind::TooLarge, "too_large", "INVALID_ARGUMENT"),
    (ErrorKind::RateLimited, "rate_limited", "RESOURCE_EXHAUSTED"),
    (ErrorKind::QuotaExceeded, "quota_exceeded", "RESOURCE_EXHAUSTED"),
    (ErrorKind::ContextTooLong, "context_too_long", "INVALID_ARGUMENT"),
    (ErrorKind::ContentFilter, "content_filter", "INVALID_ARGUMENT"),
    (ErrorKind::Overloaded, "overloaded", "UNAVAILABLE"),
    (ErrorKind::Upstream, "upstream", "INTERNAL"),
    (ErrorKind::Unavailable, "unavailable", "UNAVAILABLE"),
    (ErrorKind::Timeout, "timeout", "DEADLINE_EXCEEDED"),
    (ErrorKind::Cancelled, "cancelled", "CANCELLED"),
    (ErrorKind::Internal, "internal", "INTERNAL"),
];

fn kind_called(name: &str) -> Option<ErrorKind> {
    KINDS.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
}

/// Writes an error to a client: the status and the body. The gateway's own id goes into a `RequestInfo`, its code and kind
/// into an `ErrorInfo` of the domain `bifrost`.
pub(super) fn write(error: &ChatError) -> (u16, Vec<u8>) {
    let (name, word) =
        KINDS.iter().find(|(kind, ..)| *kind == error.kind).map_or(("", "UNKNOWN"), |(_, name, word)| (name, word));
    let status = error.kind.status();
    let mut info = Map::new();
    info.insert("@type".into(), format!("{TYPE}ErrorInfo").into());
    info.insert("reason".into(), error.code.clone().unwrap_or_else(|| name.to_ascii_uppercase()).into());
    info.insert("domain".into(), DOMAIN.into());
    info.insert("metadata".into(), json!({ "kind": name }));
    let mut details = vec![Value::Object(info)];
    if let Some(field) = &error.param {
        let violation = json!({ "field": field, "description": error.message });
        details.push(json!({ "@type": format!("{TYPE}BadRequest"), "fieldViolations": [violation] }));
    }
    if let Some(wait) = error.retry_after {
        details.push(json!({ "@type": format!("{TYPE}RetryInfo"), "retryDelay": format!("{}s", wait.as_secs_f64()) }));
    }
    if let Some(id) = &error.request_id {
        details.push(json!({ "@type": format!("{TYPE}RequestInfo"), "requestId": id }));
    }
    if let Some(Value::Array(own)) = &error.details {
        // Google's own details, of kinds that are not written above.
        details.extend(own.iter().filter(|detail| is_google_detail(detail)).cloned());
    }
    let body = json!({ "error": { "code": status, "message": error.message, "status": word, "details": details } });
    (status, body.to_string().into_bytes())
}

fn is_google_detail(detail: &Value) -> bool {
    let kind = detail.get("@type").and_then(Value::as_str).and_then(|name| name.strip_prefix(TYPE));
    kind.is_some_and(|kind| !matches!(kind, "ErrorInfo" | "BadRequest" | "RetryInfo" | "RequestInfo"))
}
