//! One HTTP connection to a server, and the loan of it for one request.

use super::connect::{Connected, ForwardProxy, root_cause};
use super::origin::Origin;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// The body of a call.
pub type Body = Full<Bytes>;

/// A connection that requests can be sent over, one after the other (HTTP/1) or side by side (HTTP/2).
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    proxy: Option<ForwardProxy>,
    /// Bytes that the server has sent so far.
    received: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// Why, in words.
    pub cause: String,
    /// The connection had ended, and not a byte of an answer had come.
    pub silent: bool,
}

impl Connection {
    /// Agrees with the server on how to speak. The connection lives until both sides are done with it, or `revoked` ends.
    ///
    /// # Errors
    /// The connection broke meanwhile.
    pub async fn open(connected: Connected, revoked: Option<&CancellationToken>) -> Result<Self, hyper::Error> {
        let received = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Metered { inner: connected.io, received: Arc::clone(&received) });
        let sender = if connected.http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.timer(TokioTimer::new()).handshake(io).await?;
            drive(connection, revoked);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::Builder::new().handshake(io).await?;
            drive(connection, revoked);
            Sender::Http1(sender)
        };
        Ok(Self { sender, proxy: connected.proxy, received })
    }

    /// True when it carries requests side by side.
    pub fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Another hold of the same connection, if it carries requests side by side.
    pub fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                proxy: self.proxy.clone(),
                received: Arc::clone(&self.received),
            }),
        }
    }

    /// Waits until the next request can be sent; false when the connection has ended.
    pub async fn is_ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// True once the connection has ended.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request to `origin` and waits for the head of the answer.
    ///
    /// # Errors
    /// The connection ended before the head was whole.
    pub async fn send(
        &mut self,
        mut request: Request<Body>,
        origin: &Origin,
    ) -> Result<Response<Incoming>, Unanswered> {
        let before = self.received.load(Ordering::Relaxed);
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(HOST, origin.host().clone());
                match &self.proxy {
                    // On a connection of its own a server gets the path alone.
                    None => *request.uri_mut() = path_only(request.uri()),
                    Some(ForwardProxy { authorization: Some(authorization) }) => {
                        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
                    }
                    Some(ForwardProxy { authorization: None }) => {}
                }
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        sent.map_err(|error| Unanswered { cause: root_cause(&error), silent: self.is_silent_since(before) })
    }

    /// The connection has ended without another byte. Over HTTP/2 those may be of other answers, so only the end counts.
    fn is_silent_since(&self, before: u64) -> bool {
        match &self.sender {
            Sender::Http1(_) => self.received.load(Ordering::Relaxed) == before,
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

fn path_only(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

/// Lets a connection run beside the requests. How it ended is told to the request that it was to carry.
fn drive(
    connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static,
    revoked: Option<&CancellationToken>,
) {
    match revoked {
        None => drop(tokio::spawn(connection)),
        Some(revoked) => drop(tokio::spawn(revoked.clone().run_until_cancelled_owned(connection))),
    }
}

/// Counts what is read.
struct Metered<T> {
    inner: T,
    received: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
