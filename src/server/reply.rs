//! What goes back to a client: errors in its own dialect, and the headers that tell the truth.

use crate::chat::{ChatError, DialectId, ErrorKind, Losses};
use crate::dialect;
use crate::observe::AttemptRecord;
use crate::upstream::{Failure, is_readable};
use crate::wire::json::Object;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::json;

/// The gateway's id of the exchange.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who answered; `pending` when the headers had to go first.
pub const PROVIDER: HeaderName = HeaderName::from_static("x-bifrost-provider");
/// The model that answered, in the provider's naming.
pub const MODEL: HeaderName = HeaderName::from_static("x-bifrost-model");
/// The task class and why it was chosen.
pub const CLASS: HeaderName = HeaderName::from_static("x-bifrost-class");
/// Every attempt: `provider/model outcome milliseconds`.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-bifrost-attempts");
/// The target that should have answered, when another one did.
pub const FALLBACK: HeaderName = HeaderName::from_static("x-bifrost-fallback");
/// The model that was asked for, when local-only mode put another in its place.
pub const SUBSTITUTED: HeaderName = HeaderName::from_static("x-bifrost-substituted");
/// What the translation could not carry.
pub const LOSS: HeaderName = HeaderName::from_static("x-bifrost-loss");
/// The place in the queue of a busy target when the request came; not there when it did not wait.
pub const QUEUE_POSITION: HeaderName = HeaderName::from_static("x-bifrost-queue-position");
/// How long the request waited for a place, in milliseconds; not there when it did not wait.
pub const QUEUE_MS: HeaderName = HeaderName::from_static("x-bifrost-queue-ms");
/// The gateway's own share of the time, in microseconds.
pub const OVERHEAD: HeaderName = HeaderName::from_static("x-bifrost-overhead-us");
/// The provider's own id of the request.
pub const UPSTREAM_ID: HeaderName = HeaderName::from_static("x-bifrost-upstream-request-id");

/// How providers call their ids of requests.
static UPSTREAM_IDS: [HeaderName; 3] =
    [REQUEST_ID, HeaderName::from_static("request-id"), HeaderName::from_static("x-goog-request-id")];

/// A header longer than this is cut; its whole text is in the exchange record. In bytes.
const MAX_HEADER: usize = 2_048;

/// An error in the client's dialect.
pub fn error(ingress: DialectId, error: &ChatError, request_id: &str) -> Response {
    let (status, body) = written(ingress, error, request_id);
    told(status, body.into(), error, request_id)
}

/// An error whose status and body are known.
fn told(status: StatusCode, body: Bytes, error: &ChatError, request_id: &str) -> Response {
    let mut response = json(status, body);
    if let Some(wait) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
    }
    put(response.headers_mut(), REQUEST_ID, request_id);
    response
}

/// What HTTP itself has to say of a request; the dialects know it only as an invalid one (400).
fn finer_status(error: &ChatError) -> Option<StatusCode> {
    const OF_HTTP: [StatusCode; 4] = [
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ];
    let wrong = error.kind == ErrorKind::InvalidRequest;
    OF_HTTP.into_iter().find(|status| wrong && error.status == Some(status.as_u16()))
}

/// A provider's failure: its own words where they are in the client's dialect, else rewritten; and every attempt, as
/// `bifrost.attempts`, where clients that do not know it pass over it.
pub fn failure(ingress: DialectId, failure: &Failure, request_id: &str, attempts: &[AttemptRecord]) -> Response {
    let (status, body) = match &failure.original {
        Some(original) => (known_status(original.status), original.body.clone()),
        None => {
            let (status, body) = written(ingress, &failure.error, request_id);
            (status, body.into())
        }
    };
    told(status, with_attempts(body, attempts), &failure.error, request_id)
}

/// A status that is none of HTTP's would be a provider's invention.
fn known_status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn with_attempts(body: Bytes, attempts: &[AttemptRecord]) -> Bytes {
    let Ok(object) = Object::scan(&body) else { return body };
    if attempts.is_empty() {
        return body;
    }
    let one = |attempt: &AttemptRecord| {
        json!({
            "provider": attempt.provider,
            "model": attempt.model,
            "outcome": attempt.outcome,
            "ms": attempt.millis,
        })
    };
    let told = json!({ "attempts": attempts.iter().map(one).collect::<Vec<_>>() });
    let mut changes = object.edit();
    changes.set("bifrost", told.to_string().as_bytes());
    Bytes::from(changes.apply())
}

/// Status and body of an error in the words of a dialect.
fn written(ingress: DialectId, error: &ChatError, request_id: &str) -> (StatusCode, Vec<u8>) {
    let error = ChatError { request_id: Some(request_id.to_owned()), ..error.clone() };
    let (status, body) = dialect::get(ingress).write_error(&error);
    (finer_status(&error).unwrap_or_else(|| known_status(status)), body)
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The head of a stream.
pub fn stream(body: Body, json_array: bool) -> Response {
    let mut response = Response::new(body);
    let kind = if json_array { "application/json" } else { "text/event-stream; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Sets a header, with whatever HTTP cannot say in one taken out.
pub fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.len() <= MAX_HEADER
        && is_clean(text)
        && let Ok(value) = HeaderValue::from_str(text)
    {
        headers.insert(name, value);
        return;
    }
    let mut clean: String =
        text.chars().map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' }).collect();
    if clean.len() > MAX_HEADER {
        clean.truncate(MAX_HEADER - 3);
        clean.push_str("...");
    }
    if let Ok(value) = HeaderValue::from_str(&clean) {
        headers.insert(name, value);
    }
}

/// Tells the losses, if there are any.
pub fn put_losses(headers: &mut HeaderMap, losses: &Losses) {
    if !losses.is_empty() {
        put(headers, LOSS, &losses.to_string());
    }
}

/// Hands on what a client can use of the provider's headers: when to come back, and its limits.
pub fn put_upstream(headers: &mut HeaderMap, upstream: &HeaderMap) {
    for (name, value) in upstream {
        let text = name.as_str();
        let is_wait = matches!(text, "retry-after" | "retry-after-ms") && is_readable(name, value);
        if is_wait || text.starts_with("x-ratelimit-") || text.starts_with("anthropic-ratelimit-") {
            // The provider's own words, in the place of what was made of them.
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The provider's own id of the request.
pub fn upstream_id(upstream: &HeaderMap) -> Option<&str> {
    UPSTREAM_IDS.iter().find_map(|name| upstream.get(name)?.to_str().ok())
}
