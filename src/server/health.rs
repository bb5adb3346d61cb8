//! Is it alive, could it answer, and what has it counted.

use super::{Gateway, admission, reply};
use axum::extract::State;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// `GET /health`: 200 while it serves; 503, with the reasons, while every request would be refused.
pub async fn health(State(gateway): State<Arc<Gateway>>) -> Response {
    let reasons = why_not(&gateway);
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, report(&gateway, &reasons).to_string())
}

/// `GET /ready`: 200 only if a request could be answered now.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut reasons = why_not(&gateway);
    if reasons.is_empty() && !gateway.directory.lists_a_model() {
        reasons.push("no provider lists a model yet; set a provider's key or start the local server".to_owned());
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, report(&gateway, &reasons).to_string())
}

/// `GET /metrics`, in the text format of OpenMetrics.
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let depths = gateway.admission.depths();
    let snapshot = gateway.snapshot();
    let load = |depth| admission::load(depth, gateway.knows(&snapshot, &depth.provider, &depth.model));
    gateway.observer.set_load(depths.iter().map(load));
    let (conditions, now) = (gateway.conditions.all(), Instant::now());
    gateway.observer.set_breakers(conditions.iter().map(|(provider, model, condition)| {
        let known = gateway.knows(&snapshot, provider, model).then_some(model.as_str());
        (provider.as_str(), known, condition.state(now))
    }));
    let mut response = Response::new(gateway.observer.metrics_text().into());
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn why_not(gateway: &Gateway) -> Vec<String> {
    let answers = gateway.directory.local_server().is_some() && !gateway.supervision.state().refuses();
    if gateway.mode.is_on() && !answers {
        return vec![gateway.local_trouble().message];
    }
    Vec::new()
}

fn report(gateway: &Gateway, reasons: &[String]) -> Value {
    let snapshot = gateway.snapshot();
    let config_error = gateway.config_error();
    let state = match (reasons.is_empty(), &config_error) {
        (false, _) => "unavailable",
        (true, Some(_)) => "degraded",
        (true, None) => "ok",
    };
    json!({
        "status": state,
        "version": env!("CARGO_PKG_VERSION"),
        "reasons": reasons,
        "local_only": gateway.mode.is_on(),
        "local_server": gateway.local_report(),
        "config": {
            "path": snapshot.path,
            "ok": config_error.is_none(),
            "error": config_error.as_deref(),
        },
    })
}
