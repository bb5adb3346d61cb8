//! One HTTP connection to a server, and the loan of it for one request.

use super::connect::{Connected, Duplex, ForwardProxy, root_cause};
use super::deadline::Alarm;
use super::origin::Origin;
use super::severable::Severable;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio_util::sync::CancellationToken;

/// The body of a call.
pub type Body = Full<Bytes>;

/// A connection that requests can be sent over, one after the other (HTTP/1) or side by side (HTTP/2).
#[derive(Debug)]
pub struct Connection {
    line: Line,
    proxy: Option<ForwardProxy>,
    /// Bytes that the server has sent so far.
    received: Arc<AtomicU64>,
    /// What ends a call that takes too long; kept from call to call.
    alarm: Alarm,
}

enum Line {
    /// Whoever holds the connection drives it too, in the same task: nothing has to be handed from task to task, and what
    /// the server sent in many pieces is there at once.
    Http1 { sender: http1::SendRequest<Body>, driver: Option<Box<Driver>> },
    /// A task of its own drives it, for all who hold it.
    Http2(http2::SendRequest<Body>),
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Http2(_)) { "Http2" } else { "Http1" })
    }
}

type Driver = http1::Connection<TokioIo<Metered<Box<dyn Duplex>>>, Body>;

/// A request that got no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// Why, in words.
    pub cause: String,
    /// The connection had ended, and not a byte of an answer had come.
    pub silent: bool,
}

/// A connection that carries requests side by side is asked for a sign of life this often while it carries some, ...
const PING_EVERY: Duration = Duration::from_secs(15);
/// ... and given up when none comes within this.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// So many requests go side by side over one connection: RFC 9113, section 6.5.2, advises servers to take no fewer, and many
/// take just these. One more would wait inside of the connection, unseen.
const SIDE_BY_SIDE: usize = 100;

/// So much of an answer may be on its way while its client does not read, in bytes; ...
const UNREAD: u32 = 512 * 1024;
/// ... and that of all answers on a connection, so that slow clients hold up nobody beside them: 50 MB where none of a
/// hundred reads.
const ALL_UNREAD: u32 = UNREAD * SIDE_BY_SIDE as u32;

impl Connection {
    /// Agrees with the server on how to speak. The connection ends with `revoked`, whoever holds it.
    ///
    /// # Errors
    /// The connection broke meanwhile.
    pub async fn open(connected: Connected, revoked: Option<&CancellationToken>) -> Result<Self, hyper::Error> {
        let received = Arc::new(AtomicU64::new(0));
        let inner = match revoked {
            // Nobody drives it while its answer is left unread.
            Some(revoked) if !connected.http2 => Box::new(Severable::new(connected.io, revoked)),
            _ => connected.io,
        };
        let io = TokioIo::new(Metered { inner, received: Arc::clone(&received) });
        let line = if connected.http2 {
            let tasks = Tasks { revoked: revoked.cloned() };
            let mut builder = http2::Builder::new(tasks.clone());
            // A network that has silently gone takes the connection with it, not every request that comes after.
            builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_LIMIT);
            builder.initial_stream_window_size(UNREAD).initial_connection_window_size(ALL_UNREAD);
            let (sender, driver) = builder.handshake(io).await?;
            tasks.execute(driver);
            Line::Http2(sender)
        } else {
            let (sender, driver) = http1::Builder::new().handshake(io).await?;
            Line::Http1 { sender, driver: Some(Box::new(driver)) }
        };
        Ok(Self { line, proxy: connected.proxy, received, alarm: Alarm::default() })
    }

    /// True when it carries requests side by side.
    pub fn is_shared(&self) -> bool {
        matches!(self.line, Line::Http2(_))
    }

    /// True for two holds of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.received, &other.received)
    }

    /// True when it carries as many requests side by side as it should. To be asked of the hold that waits.
    pub fn is_full(&self) -> bool {
        // This hold and the socket count the bytes too.
        self.is_shared() && Arc::strong_count(&self.received) >= SIDE_BY_SIDE + 2
    }

    /// Another hold of the same connection, if it carries requests side by side.
    pub fn share(&self) -> Option<Self> {
        match &self.line {
            Line::Http1 { .. } => None,
            Line::Http2(sender) => Some(Self {
                line: Line::Http2(sender.clone()),
                proxy: self.proxy.clone(),
                received: Arc::clone(&self.received),
                alarm: Alarm::default(),
            }),
        }
    }

    /// The alarm of the call before, for the next one.
    pub fn take_alarm(&mut self) -> Alarm {
        std::mem::take(&mut self.alarm)
    }

    /// Keeps an alarm for the next call.
    pub fn keep_alarm(&mut self, alarm: Alarm) {
        self.alarm = alarm;
    }

    /// True when the next request can be sent. Finds out now whether the server has closed the connection.
    pub fn is_ready(&mut self) -> bool {
        match &mut self.line {
            Line::Http1 { sender, driver } => {
                // Nobody waits for anything yet.
                drive(driver, &mut Context::from_waker(Waker::noop()));
                driver.is_some() && sender.is_ready()
            }
            Line::Http2(sender) => sender.is_ready(),
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
        let sent = match &mut self.line {
            Line::Http1 { sender, driver } => {
                request.headers_mut().insert(HOST, origin.host().clone());
                match &self.proxy {
                    // On a connection of its own a server gets the path alone.
                    None => *request.uri_mut() = path_only(request.uri()),
                    Some(ForwardProxy { authorization }) => {
                        name_host(request.uri_mut(), origin.host());
                        if let Some(authorization) = authorization {
                            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
                        }
                    }
                }
                let mut answer = pin!(sender.send_request(request));
                poll_fn(|cx| {
                    drive(driver, cx);
                    answer.as_mut().poll(cx)
                })
                .await
            }
            Line::Http2(sender) => {
                name_host(request.uri_mut(), origin.host());
                sender.send_request(request).await
            }
        };
        sent.map_err(|error| Unanswered { cause: root_cause(&error), silent: self.is_silent_since(before, &error) })
    }

    /// The next frame of the body of the answer that is under way.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Line::Http1 { driver, .. } = &mut self.line else {
            // Another task reads from the socket, so that nothing else ends the turn of this one.
            let turn = ready!(coop::poll_proceed(cx));
            return Pin::new(body).poll_frame(cx).map(|frame| {
                turn.made_progress();
                frame
            });
        };
        // Frames come from the driver alone, so that nothing else has to wake anybody.
        let mut quiet = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut quiet) {
            return Poll::Ready(frame);
        }
        drive(driver, cx);
        Pin::new(body).poll_frame(&mut quiet)
    }

    /// The connection has ended without another byte. Over HTTP/2 those may be of other answers, so only the end counts.
    fn is_silent_since(&self, before: u64, error: &hyper::Error) -> bool {
        match &self.line {
            Line::Http1 { .. } => self.received.load(Ordering::Relaxed) == before,
            // The request may hear of the end before the sender does.
            Line::Http2(sender) => sender.is_closed() || is_end(error),
        }
    }
}

/// The connection broke, or gave no sign of life, or was closed before the request was on it.
fn is_end(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_timeout() || error.source().is_some_and(|cause| cause.is::<io::Error>())
}

fn path_only(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

/// Leaves of the authority of a URL what a `host` header says: the user's name and password are nobody's business.
fn name_host(uri: &mut Uri, host: &HeaderValue) {
    if uri.authority().is_some_and(|authority| authority.as_str().as_bytes() == host.as_bytes()) {
        return;
    }
    let mut parts = std::mem::take(uri).into_parts();
    parts.authority = Authority::try_from(host.as_bytes()).ok();
    // What is no URL then is sent nowhere.
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Lets a connection do what can be done now. How it ended is told to the request that it carried.
fn drive(driver: &mut Option<Box<Driver>>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
    }
}

/// Runs the tasks of a connection that carries requests side by side. All of them end with `revoked`, the one that has the
/// socket among them, whoever still holds an answer.
#[derive(Clone)]
struct Tasks {
    revoked: Option<CancellationToken>,
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, task: F) {
        match &self.revoked {
            None => drop(tokio::spawn(task)),
            Some(revoked) => drop(tokio::spawn(revoked.clone().run_until_cancelled_owned(task))),
        }
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
