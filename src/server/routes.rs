//! Which path means what. Ingress routes are the same paths that the vendors serve, bare and behind the prefixes that
//! their SDKs are pointed at.

use super::{Gateway, admin, answer, gate, health, models, reply};
use crate::chat::{ChatError, DialectId, ErrorKind};
use crate::dialect::UrlHints;
use crate::observe::Operation;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::Incoming;
use std::sync::Arc;
use tower_service::Service;

/// The header in which Google takes a key.
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Headers that only Google's clients send.
const GOOGLE_HEADERS: [HeaderName; 2] = [GOOGLE_KEY, HeaderName::from_static("x-goog-api-client")];

/// Every route of the gateway.
pub struct Routes {
    gateway: Arc<Gateway>,
    router: Router,
}

impl Routes {
    /// The routes of a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let router = Router::new()
            .nest("/v1", openai().merge(anthropic()).merge(models_of_every_dialect()))
            .nest("/openai", openai().merge(openai_models()))
            .nest("/openai/v1", openai().merge(openai_models()))
            .nest("/anthropic/v1", anthropic().merge(anthropic_models()))
            .nest("/v1beta", gemini())
            .nest("/genai/v1beta", gemini())
            .nest("/genai/v1", gemini())
            .nest("/admin", admin::routes(&gateway))
            .route("/health", get(health::health))
            .route("/ready", get(health::ready))
            .route("/metrics", get(health::metrics))
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .with_state(Arc::clone(&gateway));
        Self { gateway, router }
    }

    /// The gateway behind them.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Answers a request that the gate has let in. The two routes that nearly every request takes are found without the
    /// router, which costs more than all the rest of the way to the provider.
    pub async fn answer(&self, request: http::Request<Incoming>) -> Response {
        let ingress = match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => DialectId::OpenAiChat,
            (&Method::POST, "/v1/messages") => DialectId::Anthropic,
            _ => {
                // Rare, and large: what every request carries with it stays small.
                return match Box::pin(self.router.clone().call(request.map(Body::new))).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
            }
        };
        let gateway = Arc::clone(&self.gateway);
        answer::answer(gateway, Operation::Chat, ingress, UrlHints::default(), false, request).await
    }
}

/// The dialect a client of `path` speaks.
pub fn dialect_of(path: &str, headers: &HeaderMap) -> DialectId {
    if path.starts_with("/anthropic/") || path.starts_with("/v1/messages") {
        return DialectId::Anthropic;
    }
    if path.starts_with("/genai/") || path.starts_with("/v1beta/") {
        return DialectId::Gemini;
    }
    let rest = path.strip_prefix("/v1/models").unwrap_or("");
    if rest.rsplit_once(':').is_some_and(|(_, method)| GeminiMethod::parse(method).is_some()) {
        return DialectId::Gemini;
    }
    if path.starts_with("/v1/models") && headers.contains_key("anthropic-version") {
        return DialectId::Anthropic;
    }
    // google-genai asks for lists there too since it speaks v1; these headers are Google's own.
    if path.starts_with("/v1/models") && GOOGLE_HEADERS.iter().any(|name| headers.contains_key(name)) {
        return DialectId::Gemini;
    }
    DialectId::OpenAiChat
}

fn openai() -> Router<Arc<Gateway>> {
    Router::new().route("/chat/completions", post(openai_chat)).route("/embeddings", post(openai_embeddings))
}

fn openai_models() -> Router<Arc<Gateway>> {
    Router::new().route("/models", get(list_models)).route("/models/{*id}", get(one_model))
}

fn anthropic() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/messages", post(anthropic_messages))
        .route("/messages/count_tokens", post(anthropic_count_tokens))
}

fn anthropic_models() -> Router<Arc<Gateway>> {
    openai_models()
}

/// AI SDK's provider for Google leaves `models/` out where the model's name has a slash.
fn gemini() -> Router<Arc<Gateway>> {
    models_of_every_dialect().route("/{*call}", any(gemini_call))
}

/// `/v1/models` is OpenAI's and Anthropic's list, and the newest google-genai calls models there.
fn models_of_every_dialect() -> Router<Arc<Gateway>> {
    Router::new().route("/models", get(list_models)).route("/models/{*call}", get(one_model).post(gemini_call))
}

async fn openai_chat(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    answer::answer(gateway, Operation::Chat, DialectId::OpenAiChat, UrlHints::default(), false, request).await
}

async fn anthropic_messages(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    answer::answer(gateway, Operation::Chat, DialectId::Anthropic, UrlHints::default(), false, request).await
}

async fn anthropic_count_tokens(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    answer::answer(gateway, Operation::CountTokens, DialectId::Anthropic, UrlHints::default(), false, request).await
}

async fn openai_embeddings(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    answer::answer(gateway, Operation::Embeddings, DialectId::OpenAiChat, UrlHints::default(), false, request).await
}

async fn list_models(State(gateway): State<Arc<Gateway>>, uri: OriginalPath, headers: HeaderMap) -> Response {
    models::list(&gateway, dialect_of(&uri.0, &headers), &headers).await
}

async fn one_model(
    State(gateway): State<Arc<Gateway>>,
    WildPath(id): WildPath,
    uri: OriginalPath,
    headers: HeaderMap,
) -> Response {
    models::one(&gateway, dialect_of(&uri.0, &headers), &id, &headers).await
}

/// `models/{model}:{method}`; model ids hold slashes and colons, so the last colon divides.
async fn gemini_call(
    State(gateway): State<Arc<Gateway>>,
    WildPath(call): WildPath,
    path: OriginalPath,
    mut request: Request,
) -> Response {
    let parsed = call
        .rsplit_once(':')
        .filter(|_| request.method() == Method::POST)
        .and_then(|(model, method)| Some((model.to_owned(), GeminiMethod::parse(method)?)));
    let Some((model, method)) = parsed else {
        return unknown_route(request.method().clone(), path, request.headers().clone()).await;
    };
    key_into_header(&mut request);
    let sse = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    let (operation, stream) = match method {
        GeminiMethod::Generate => (Operation::Chat, false),
        GeminiMethod::Stream => (Operation::Chat, true),
        GeminiMethod::CountTokens => (Operation::CountTokens, false),
        GeminiMethod::Embed => (Operation::Embeddings, false),
    };
    let hints = UrlHints { model: Some(model), stream: Some(stream) };
    answer::answer(gateway, operation, DialectId::Gemini, hints, stream && !sse, request).await
}

/// Google takes a key as `?key=` too; here it is a header like any other.
fn key_into_header(request: &mut Request) {
    let query = request.uri().query().unwrap_or("");
    let key =
        query.split('&').find_map(|pair| pair.strip_prefix("key=")).and_then(|key| HeaderValue::from_str(key).ok());
    if let Some(mut key) = key {
        key.set_sensitive(true);
        request.headers_mut().entry(GOOGLE_KEY).or_insert(key);
    }
}

/// What Google's paths put after the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GeminiMethod {
    Generate,
    Stream,
    CountTokens,
    /// One text or a batch; the body tells.
    Embed,
}

impl GeminiMethod {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "generateContent" => Self::Generate,
            "streamGenerateContent" => Self::Stream,
            "countTokens" => Self::CountTokens,
            "embedContent" | "batchEmbedContents" => Self::Embed,
            _ => return None,
        })
    }
}

async fn unknown_route(method: Method, OriginalPath(path): OriginalPath, headers: HeaderMap) -> Response {
    let message = format!(
        "Bifrost has no route {method} {path}. Chat is POST /v1/chat/completions, /v1/messages or /v1beta/models/MODEL:generateContent; models are at GET /v1/models."
    );
    let error = ChatError::new(ErrorKind::NotFound, message).with_code("unknown_route");
    reply::error(dialect_of(&path, &headers), &error, gate::request_id(&headers))
}

async fn wrong_method(method: Method, OriginalPath(path): OriginalPath, headers: HeaderMap) -> Response {
    let mut error = ChatError::new(ErrorKind::InvalidRequest, format!("{path} does not take {method}."));
    error.status = Some(405);
    reply::error(dialect_of(&path, &headers), &error.with_code("method_not_allowed"), gate::request_id(&headers))
}

/// The whole path: a nested router sees only its own part of it.
struct OriginalPath(String);

impl<S: Sync> axum::extract::FromRequestParts<S> for OriginalPath {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let original = parts.extensions.get::<axum::extract::OriginalUri>();
        Ok(Self(original.map_or_else(|| parts.uri.path().to_owned(), |uri| uri.0.path().to_owned())))
    }
}

/// What stands in the place of a route's wildcard, percent-decoded.
struct WildPath(String);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for WildPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Response> {
        if let Ok(Path(path)) = Path::<String>::from_request_parts(parts, state).await {
            return Ok(Self(path));
        }
        let Ok(OriginalPath(path)) = OriginalPath::from_request_parts(parts, state).await;
        let error = ChatError::invalid("model", "The model's name in the path is no percent-encoded UTF-8.");
        Err(reply::error(dialect_of(&path, &parts.headers), &error, gate::request_id(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_the_dialect() {
        let none = HeaderMap::new();
        let mut anthropic = HeaderMap::new();
        anthropic.insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));
        let mut google = HeaderMap::new();
        google.insert("x-goog-api-client", http::HeaderValue::from_static("google-genai-sdk/3.4.0"));
        for (path, headers, dialect) in [
            ("/v1/chat/completions", &none, DialectId::OpenAiChat),
            ("/v1/messages", &none, DialectId::Anthropic),
            ("/anthropic/v1/models", &none, DialectId::Anthropic),
            ("/v1/models", &none, DialectId::OpenAiChat),
            ("/v1/models", &google, DialectId::Gemini),
            ("/v1/models/org/m", &google, DialectId::Gemini),
            ("/v1/chat/completions", &google, DialectId::OpenAiChat),
            ("/v1/models/a/b", &anthropic, DialectId::Anthropic),
            ("/v1/models/mlx-local/org/m:4bit:generateContent", &none, DialectId::Gemini),
            ("/v1/models/llama3:8b", &none, DialectId::OpenAiChat),
            ("/genai/v1beta/models/x:countTokens", &none, DialectId::Gemini),
        ] {
            assert_eq!(dialect_of(path, headers), dialect, "{path}");
        }
    }
}
