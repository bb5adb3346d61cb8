//! The one way in: guards before, the request's id and panics after.

use super::routes::{self, Routes};
use super::{Gateway, guard, reply};
use crate::chat::{ChatError, ErrorKind};
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::error;
use uuid::{Builder, Uuid};

/// An id of the client's longer than this is replaced; in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Lets a request through to its route, or refuses it in its own dialect.
pub async fn pass(routes: &Routes, mut request: Request<Incoming>) -> Response {
    let gateway = routes.gateway();
    let ingress = routes::dialect_of(request.uri().path(), request.headers());
    let id = take_or_make_id(request.headers_mut());
    let snapshot = gateway.snapshot();
    let rules = guard::Rules {
        allowed_hosts: &snapshot.server.allowed_hosts,
        allowed_origins: &snapshot.server.allowed_origins,
        bound: &gateway.bound,
    };
    let origin =
        request.headers().get(ORIGIN).filter(|origin| guard::is_allowed_origin(&rules, origin.as_bytes())).cloned();
    let mut response = match check(gateway, &rules, snapshot.server.max_header, &request) {
        Err(error) => reply::error(ingress, &error, text(&id)),
        Ok(()) if request.method() == Method::OPTIONS && origin.is_some() => preflight(),
        Ok(()) => match AssertUnwindSafe(routes.answer(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                error!(request_id = text(&id), "a request ended in a panic; this is a defect of Bifrost's");
                let message =
                    "Bifrost failed on this request; the defect is in its log. Other requests are not affected.";
                reply::error(
                    ingress,
                    &ChatError::new(ErrorKind::Internal, message).with_code("internal_error"),
                    text(&id),
                )
            }
        },
    };
    let headers = response.headers_mut();
    headers.entry(reply::REQUEST_ID).or_insert(id);
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// The id of the exchange; [`pass`] has put it into the headers.
pub fn request_id(headers: &HeaderMap) -> &str {
    headers.get(reply::REQUEST_ID).map_or("", text)
}

fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or("")
}

fn check(
    gateway: &Gateway,
    rules: &guard::Rules<'_>,
    max_header: usize,
    request: &Request<Incoming>,
) -> Result<(), ChatError> {
    guard::check_source(rules, request.uri(), request.headers())?;
    guard::check_head(max_header, request.uri(), request.headers())?;
    guard::check_content_type(request.method(), request.headers())?;
    let path = request.uri().path();
    // The admin routes ask for their own token, and the probes of launchd and friends carry no key.
    if path.starts_with("/admin/") || path == "/health" || path == "/ready" || request.method() == Method::OPTIONS {
        return Ok(());
    }
    guard::check_key(&gateway.client_keys(), request.uri(), request.headers())
}

fn preflight() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, authorization"));
    response
}

fn take_or_make_id(headers: &mut HeaderMap) -> HeaderValue {
    let is_fit = |id: &&HeaderValue| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.to_str().is_ok();
    if let Some(id) = headers.get(reply::REQUEST_ID).filter(is_fit) {
        return id.clone();
    }
    let mut digits = Uuid::encode_buffer();
    let id = new_id().hyphenated().encode_lower(&mut digits);
    // The digits of an id are fit for a header.
    let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""));
    headers.insert(reply::REQUEST_ID, id.clone());
    id
}

/// A UUID of version 7 (RFC 9562): ids sort by time. It need not be unguessable, so the system is not asked for randomness
/// with each request.
fn new_id() -> Uuid {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let [random @ .., _, _, _, _, _, _] = fastrand::u128(..).to_le_bytes();
    Builder::from_unix_timestamp_millis(since.as_millis() as u64, &random).into_uuid()
}
