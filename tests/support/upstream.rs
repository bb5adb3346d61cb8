//! A provider that does what a test says, on a port of its own.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Generous: how long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query; empty when there was none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Seen {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What the provider does with a request.
pub enum Reply {
    /// Answers at once.
    Whole(Response<Bytes>),
    /// Sends the head, then what the test sends through its [`Stream`].
    Streamed(Response<()>, mpsc::Receiver<Piece>),
    /// Answers nothing until the test sends the answer.
    Held(oneshot::Receiver<Reply>),
    /// Closes the connection without a word.
    HangUp,
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string())
    }

    /// An answer of any kind.
    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
        Self::Whole(builder.header("content-type", content_type).body(body.into()).unwrap())
    }

    /// A list of models in OpenAI's and Anthropic's shape at once (both say `data` and `id`).
    pub fn models(ids: &[&str]) -> Self {
        let data: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "object": "model", "type": "model", "created": 1, "owned_by": "test"}))
            .collect();
        Self::json(200, &json!({"object": "list", "data": data, "has_more": false}))
    }

    /// A list of models in Gemini's shape.
    pub fn gemini_models(ids: &[&str]) -> Self {
        let models: Vec<Value> = ids
            .iter()
            .map(|id| json!({"name": format!("models/{id}"), "supportedGenerationMethods": ["generateContent"]}))
            .collect();
        Self::json(200, &json!({"models": models}))
    }

    /// An event stream that the test feeds.
    pub fn events() -> (Stream, Self) {
        let (sender, receiver) = mpsc::channel(1);
        let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
        (Stream(sender), Self::Streamed(head, receiver))
    }

    /// An answer that the test gives later.
    pub fn held() -> (oneshot::Sender<Reply>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self::Held(receiver))
    }
}

/// What a test puts into a stream.
pub enum Piece {
    /// Bytes, sent as one chunk.
    Bytes(Bytes),
    /// The connection breaks here.
    Break,
}

/// The test's end of a stream. Dropped, the stream ends in good order.
pub struct Stream(mpsc::Sender<Piece>);

impl Stream {
    /// Sends bytes; waits until what was sent before has been taken. The cut is kept: one chunk.
    pub async fn send(&self, bytes: impl Into<Bytes>) {
        assert!(self.0.send(Piece::Bytes(bytes.into())).await.is_ok(), "the gateway has left the stream");
    }

    /// Breaks the connection in the middle of the stream.
    pub async fn break_off(self) {
        assert!(self.0.send(Piece::Break).await.is_ok(), "the gateway has left the stream");
        self.gone().await;
    }

    /// Waits until the gateway has dropped the stream.
    pub async fn gone(&self) {
        tokio::time::timeout(PATIENCE, self.0.closed()).await.expect("the gateway still holds the stream");
    }
}

struct StreamBody(mpsc::Receiver<Piece>);

impl Body for StreamBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|piece| {
            piece.map(|piece| match piece {
                Piece::Bytes(bytes) => Ok(Frame::data(bytes)),
                Piece::Break => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            })
        })
    }
}

type Script = dyn FnMut(&Seen) -> Reply + Send;

/// A provider on `127.0.0.1`, until it is dropped.
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrivals: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts it; `script` is asked what to do with each request.
    pub async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (script, log, arrived) = (Arc::clone(&script), Arc::clone(&log), arrived.clone());
                let service = service_fn(move |request| {
                    let (script, log, arrived) = (Arc::clone(&script), Arc::clone(&log), arrived.clone());
                    async move {
                        let seen = receive(request).await;
                        log.lock().unwrap().push(seen.clone());
                        let reply = (script.lock().unwrap())(&seen);
                        // Nobody waits for arrivals in most tests.
                        let _ = arrived.send(seen);
                        answer(reply).await
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        Self { address, seen, arrivals, task }
    }

    /// The base URL, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for the next request of `method` that has not been waited for yet.
    pub async fn next(&mut self, method: &str) -> Seen {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let seen = self.arrivals.recv().await.unwrap();
                if seen.method == method {
                    return seen;
                }
            }
        })
        .await
        .expect("no request came")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    }
}

type AnyBody = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// Fails where the connection is to be closed.
async fn answer(mut reply: Reply) -> Result<Response<AnyBody>, std::io::Error> {
    let closed = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    loop {
        match reply {
            Reply::Whole(response) => {
                return Ok(response.map(|body| http_body_util::Full::new(body).map_err(infallible).boxed()));
            }
            Reply::Streamed(head, pieces) => return Ok(head.map(|()| StreamBody(pieces).boxed())),
            Reply::Held(later) => reply = later.await.map_err(|_| closed())?,
            Reply::HangUp => return Err(closed()),
        }
    }
}

fn infallible(never: Infallible) -> std::io::Error {
    match never {}
}
