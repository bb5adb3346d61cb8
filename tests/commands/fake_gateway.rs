//! A gateway that says what a test wants it to say.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What is answered on a route.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<String>,
    hangs: bool,
    held: bool,
}

impl Reply {
    /// JSON with a status.
    pub fn json(status: u16, body: serde_json::Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: vec![body.to_string()],
            hangs: false,
            held: false,
        }
    }

    /// An OpenAI chat stream of these chunks; `[DONE]` is added.
    pub fn stream(chunks: &[serde_json::Value]) -> Self {
        let mut body: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        body.push("data: [DONE]\n\n".to_owned());
        Self {
            status: 200,
            headers: vec![("content-type", "text/event-stream".to_owned())],
            body,
            hangs: false,
            held: false,
        }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Nothing at all until [`FakeGateway::opener`] opens.
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Only the first `pieces` of the body, and then silence.
    pub fn hanging_after(mut self, pieces: usize) -> Self {
        self.body.truncate(pieces);
        self.hangs = true;
        self
    }

    /// Only the first `pieces` of the body, and then the end.
    pub fn ending_after(mut self, pieces: usize) -> Self {
        self.body.truncate(pieces);
        self
    }
}

struct Shared {
    routes: HashMap<&'static str, Reply>,
    asked: Mutex<Vec<String>>,
    left: Sender<()>,
    open: watch::Sender<bool>,
}

/// A running fake; gone when dropped.
pub struct FakeGateway {
    /// Its address.
    pub url: String,
    shared: Arc<Shared>,
    left: Receiver<()>,
    _runtime: Runtime,
}

impl FakeGateway {
    /// Answers on these routes (`GET /health`), and 404 elsewhere.
    pub fn start<const N: usize>(routes: [(&'static str, Reply); N]) -> Self {
        let (sender, left) = channel();
        let shared = Arc::new(Shared {
            routes: routes.into(),
            asked: Mutex::default(),
            left: sender,
            open: watch::Sender::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let service = hyper_util::service::TowerToHyperService::new(app);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let socket = hyper_util::rt::TokioIo::new(socket);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(socket, service).await;
                });
            }
        });
        Self { url, shared, left, _runtime: runtime }
    }

    /// What was asked: method, path with query, the headers that matter, the body.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Lets the held answers go.
    pub fn opener(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            shared.open.send_replace(true);
        }
    }

    /// Waits until a client has left a hanging answer.
    pub fn client_left(&self) -> bool {
        self.left.recv_timeout(Duration::from_secs(20)).is_ok()
    }
}

struct TellsWhenDropped(Sender<()>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut asked = format!("{} {}", parts.method, parts.uri);
    for name in ["authorization", "x-bifrost-local"] {
        if let Some(value) = parts.headers.get(name) {
            asked.push_str(&format!(" {name}={}", value.to_str().unwrap()));
        }
    }
    if !bytes.is_empty() {
        asked.push_str(&format!(" {}", String::from_utf8_lossy(&bytes)));
    }
    shared.asked.lock().unwrap().push(asked);
    let route = format!("{} {}", parts.method, parts.uri.path());
    let missing = serde_json::json!({ "error": { "code": "unknown_route", "message": format!("no route {route}") } });
    let reply = shared.routes.get(route.as_str()).cloned().unwrap_or_else(|| Reply::json(404, missing));
    if reply.held {
        shared.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
    let pieces = stream::iter(reply.body.into_iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece))));
    let body = if reply.hangs {
        let guard = TellsWhenDropped(shared.left.clone());
        let silence = stream::once(async move {
            let _guard = guard;
            pending::<Result<Bytes, Infallible>>().await
        });
        Body::from_stream(pieces.chain(silence))
    } else {
        Body::from_stream(pieces)
    };
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap()
}
