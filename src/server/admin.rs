//! What the owner of the machine may ask and switch: `/admin/`, with a token that only the owner can read.

use super::{Gateway, Loaded, admission, gate, guard, planning, reply};
use crate::chat::{ChatError, DialectId, ErrorKind};
use crate::config::{Paths, private_file, state};
use crate::observe::ExchangeRecord;
use crate::route::Condition;
use crate::secret::Secret;
use crate::upstream::auth;
use axum::Router;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// The file in the state folder that holds the token.
pub const TOKEN_FILE: &str = "admin-token";

/// The admin routes, behind their token.
pub fn routes(gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    Router::new()
        .route("/local", get(local_status).put(switch_local))
        .route("/reload", post(reload))
        .route("/status", get(status))
        .route("/resolve", get(resolve))
        .route("/exchanges", get(exchanges))
        .route("/exchanges/{id}", get(exchange))
        .layer(middleware::from_fn_with_state(Arc::clone(gateway), owner_only))
}

/// Lets only the owner through: no web page at all, and the token of the state folder.
async fn owner_only(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    match check_owner(&gateway, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&error, request.headers()),
    }
}

/// Writes a new token into the state folder, readable by its owner only. Without a state folder nobody knows the token.
///
/// # Errors
/// The folder or the file could not be written.
pub fn write_token(paths: &Paths) -> io::Result<Secret> {
    let token = Uuid::new_v4().simple().to_string();
    if let Some(folder) = &paths.state {
        private_file::replace(&folder.join(TOKEN_FILE), token.as_bytes(), false)?;
    }
    Ok(Secret::new(token))
}

fn check_owner(gateway: &Gateway, headers: &HeaderMap) -> Result<(), ChatError> {
    if headers.contains_key(ORIGIN) {
        let message = "The admin API takes no requests from web pages.";
        return Err(ChatError::new(ErrorKind::Permission, message).with_code("origin_not_allowed"));
    }
    let offered = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(auth::bearer);
    if offered.is_some_and(|offer| guard::same(offer.as_bytes(), gateway.admin_token.expose().as_bytes())) {
        return Ok(());
    }
    let message = "The admin API asks for the token that Bifrost wrote at its start: `Authorization: Bearer $(cat <state folder>/admin-token)`. The commands of `bifrost` read it themselves.";
    Err(ChatError::new(ErrorKind::Authentication, message).with_code("admin_token_needed"))
}

fn refuse(error: &ChatError, headers: &HeaderMap) -> Response {
    reply::error(DialectId::OpenAiChat, error, gate::request_id(headers))
}

fn local_json(gateway: &Gateway) -> Value {
    let mode = &gateway.mode;
    let reason = match (mode.is_declared(), mode.is_switched()) {
        (true, _) => "declared by file, flag or environment",
        (false, true) => "switched on at run time",
        (false, false) => "not asked for",
    };
    json!({
        "only": mode.is_on(),
        "declared": mode.is_declared(),
        "state": mode.is_switched(),
        "reason": reason,
        "server": gateway.local_report(),
    })
}

async fn local_status(State(gateway): State<Arc<Gateway>>) -> Response {
    reply::json(StatusCode::OK, local_json(&gateway).to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalSwitch {
    only: bool,
}

async fn switch_local(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some(switch) = body.ok().and_then(|body| serde_json::from_slice::<LocalSwitch>(&body).ok()) else {
        return refuse(&ChatError::invalid("only", "Send {\"only\": true} or {\"only\": false}."), &headers);
    };
    if switch.only {
        // What is on already needs no proof to stay on.
        if !gateway.mode.is_switched()
            && let Err(refusal) = gateway.prove_local().await
        {
            let message = format!("Local-only mode stays off: {}.", refusal.reason);
            return conflict("local_server_not_proven", &message, &refusal.remedy);
        }
    } else if gateway.mode.is_declared() {
        return conflict(
            "declared",
            "Local-only mode is declared by file, flag or environment and cannot be switched off at run time.",
            "Take `[local] only`, `--local` or BIFROST_LOCAL_ONLY away; the file is read again at once.",
        );
    }
    if let Err(error) = state::write_local_only(&gateway.inputs.paths, switch.only) {
        return conflict(
            "state_not_written",
            &format!(
                "The switch could not be written to the state folder, so it would not outlive a restart: {error}."
            ),
            "Make the state folder writable and try again.",
        );
    }
    gateway.mode.switch(switch.only);
    gateway.apply_mode();
    reply::json(StatusCode::OK, local_json(&gateway).to_string())
}

fn conflict(code: &str, message: &str, remedy: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "remedy": remedy } });
    reply::json(StatusCode::CONFLICT, body.to_string())
}

async fn reload(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.reload().await {
        Ok(()) => reply::json(StatusCode::OK, json!({ "reloaded": true }).to_string()),
        Err(error) => conflict(
            "config_invalid",
            &error,
            "The last good configuration stays in force. Mend the file; it is read again at once.",
        ),
    }
}

async fn status(State(gateway): State<Arc<Gateway>>) -> Response {
    let Loaded { snapshot, keys } = gateway.loaded();
    let classes: Vec<Value> = snapshot.classes.keys().map(|name| planning::explain(&gateway, name, false)).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config": { "path": snapshot.path, "error": gateway.config_error().as_deref(), "warnings": snapshot.warnings },
        "local": local_json(&gateway),
        "providers": gateway.directory.report(&snapshot),
        "targets": targets(&gateway),
        "queues": admission::report(&gateway.admission.depths()),
        "keys_out_of_use": keys.report(Instant::now()),
        "classes": classes,
    });
    reply::json(StatusCode::OK, body.to_string())
}

/// How every target is doing that was asked.
fn targets(gateway: &Gateway) -> Vec<Value> {
    let now = Instant::now();
    let one = |(provider, model, condition): (String, String, Arc<Condition>)| {
        let rest = condition.rest(now).map(|rest| rest.until.saturating_duration_since(now).as_secs_f64());
        json!({
            "provider": provider,
            "model": model,
            "breaker": condition.state(now).name(),
            "rests_seconds": rest,
        })
    };
    gateway.conditions.all().into_iter().map(one).collect()
}

#[derive(Deserialize)]
struct ResolveQuery {
    model: String,
    #[serde(default)]
    local: bool,
}

async fn resolve(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    query: Result<Query<ResolveQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        let error =
            ChatError::invalid("model", "Ask for /admin/resolve?model=MODEL, with `&local=true` for local-only mode.");
        return refuse(&error, &headers);
    };
    reply::json(StatusCode::OK, planning::explain(&gateway, &query.model, query.local).to_string())
}

async fn exchanges(State(gateway): State<Arc<Gateway>>) -> Response {
    let recent = gateway.observer.recent();
    let list: Vec<&ExchangeRecord> = recent.iter().map(AsRef::as_ref).collect();
    reply::json(StatusCode::OK, json!({ "exchanges": list }).to_string())
}

async fn exchange(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // An id that is no UTF-8 was never given.
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    match gateway.observer.by_id(&id) {
        Some(record) => reply::json(StatusCode::OK, json!(*record).to_string()),
        None => {
            let message = format!("No finished exchange `{id}` is remembered; the ring holds the newest ones only.");
            refuse(&ChatError::new(ErrorKind::NotFound, message).with_code("exchange_not_found"), &headers)
        }
    }
}
