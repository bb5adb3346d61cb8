//! One HTTP call to a provider, under its deadlines.

use super::client::{Clients, LocalUrlError};
use super::connect::{ConnectError, root_cause};
use super::connection::Connection;
use super::deadline::{Limits, timed_out};
use super::origin::Origin;
use super::outcome::{Failure, Outcome, Phase};
use crate::chat::{ChatError, ErrorKind};
use crate::wire::buffer::Pieces;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// A whole answer larger than this is an error of the provider's; in bytes.
const MAX_ANSWER: usize = 512 * 1024 * 1024;

/// What is suggested to a client whose provider cannot be reached.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(5);

/// Who asks; some hosts refuse whoever does not say.
const BIFROST: HeaderValue = HeaderValue::from_static(concat!("bifrost/", env!("CARGO_PKG_VERSION")));

/// One call, ready to be sent.
pub struct Call<'a> {
    /// The provider's name, for messages.
    pub provider: &'a Arc<str>,
    /// Method.
    pub method: Method,
    /// The whole URL, if it is one.
    pub url: Result<Uri, InvalidUri>,
    /// Makes the headers, the credential included: once, and once more for a call that has to be sent again.
    pub headers: &'a (dyn Fn() -> HeaderMap + Send + Sync),
    /// The body; empty for GET.
    pub body: Bytes,
    /// Nothing but this machine may be called, whatever the mode.
    pub local_only: bool,
    /// The limit for connecting.
    pub connect: Duration,
    /// The response headers must be there by then.
    pub deadline: Instant,
    /// What to call it when they are not.
    pub phase: Phase,
}

/// The head of an answer; the body is still on the wire.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// A connection that had waited turned out to be dead, and the call was sent again over a new one.
    pub reconnected: bool,
    /// The rest.
    pub body: AnswerBody,
}

/// The body of an answer. Dropping it closes the connection if there is more to come, and the provider stops working.
#[derive(Debug)]
pub struct AnswerBody {
    limits: Limits,
    incoming: Incoming,
    /// Given back at the end of the body, for the next call; `None` from then on.
    connection: Option<(Connection, Arc<Origin>)>,
}

/// Why a call got no answer.
enum Unreached {
    Connect(ConnectError),
    /// The connection ended before the head of an answer; why, in words.
    Unanswered(String),
}

impl Call<'_> {
    /// Sends the call and waits for the head of the answer.
    ///
    /// # Errors
    /// Not reachable, a deadline, or forbidden by local-only mode. An error status is no error here.
    pub async fn send(&self, clients: &Clients) -> Result<Answer, Failure> {
        let uri = self.url.as_ref().map_err(|_| forbidden(self.provider, &no_url()))?;
        let origin = clients.origin(uri, self.local_only).map_err(|error| forbidden(self.provider, &error))?;
        let mut idle = origin.idle();
        let alarm = idle.as_mut().map(Connection::take_alarm).unwrap_or_default();
        let mut limits = Limits::new(Arc::clone(self.provider), origin.revoked(), alarm);
        let sent = {
            let work = pin!(self.exchange(&origin, uri, idle));
            limits.within(self.deadline, self.phase, work).await?
        };
        let (response, connection, reconnected) =
            sent.map_err(|unreached| unreachable(limits.provider(), &origin, unreached))?;
        let (head, incoming) = response.into_parts();
        let body = AnswerBody { limits, incoming, connection: Some((connection, origin)) };
        Ok(Answer { status: head.status, headers: head.headers, reconnected, body })
    }

    /// Sends the call over a connection that was `idle`, or a new one. A connection that waited may be dead without anybody
    /// having noticed: if it ends without a byte of an answer, the call is sent once more, over a new one.
    async fn exchange(
        &self,
        origin: &Arc<Origin>,
        uri: &Uri,
        idle: Option<Connection>,
    ) -> Result<(Response<Incoming>, Connection, bool), Unreached> {
        let reused = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            // Rare, and large: what every request carries with it stays small.
            None => Box::pin(origin.connect(self.connect)).await.map_err(Unreached::Connect)?,
        };
        let unanswered = match connection.send(self.request(uri), origin).await {
            Ok(response) => return Ok((response, connection, false)),
            Err(unanswered) => unanswered,
        };
        if !reused || !unanswered.silent {
            return Err(Unreached::Unanswered(unanswered.cause));
        }
        debug!(origin = ?origin.host(), cause = unanswered.cause, "an idle connection was dead; sending again over a new one");
        // What waited beside it has met the same fate.
        origin.close_idle();
        let mut connection = Box::pin(origin.connect(self.connect)).await.map_err(Unreached::Connect)?;
        match Box::pin(connection.send(self.request(uri), origin)).await {
            Ok(response) => Ok((response, connection, true)),
            Err(unanswered) => Err(Unreached::Unanswered(unanswered.cause)),
        }
    }

    fn request(&self, uri: &Uri) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.clone();
        let mut headers = (self.headers)();
        headers.entry(USER_AGENT).or_insert(BIFROST);
        *request.headers_mut() = headers;
        request
    }
}

impl AnswerBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing came until `deadline`.
    pub async fn chunk(&mut self, deadline: Instant, phase: Phase) -> Result<Option<Bytes>, Failure> {
        if let Some(failure) = self.limits.passed(deadline, phase) {
            return Err(failure);
        }
        poll_fn(|cx| self.poll_chunk(cx, deadline, phase)).await
    }

    /// The next piece, if it is there; `None` at the end.
    ///
    /// # Errors
    /// As [`AnswerBody::chunk`].
    pub fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Instant,
        phase: Phase,
    ) -> Poll<Result<Option<Bytes>, Failure>> {
        loop {
            let Some((connection, _)) = &mut self.connection else { return Poll::Ready(Ok(None)) };
            let incoming = &mut self.incoming;
            let read = self.limits.poll_within(cx, deadline, phase, |cx| connection.poll_frame(incoming, cx));
            let frame = match ready!(read)? {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(broken(self.limits.provider(), &error))),
                None => {
                    self.release();
                    return Poll::Ready(Ok(None));
                }
            };
            if self.incoming.is_end_stream() {
                self.release();
            }
            // Trailers are passed over: nobody asks for them.
            if let Ok(data) = frame.into_data() {
                return Poll::Ready(Ok(Some(data)));
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`AnswerBody::chunk`], or larger than the gateway takes.
    pub async fn whole(mut self, deadline: Instant, phase: Phase) -> Result<Bytes, Failure> {
        let mut pieces = Pieces::default();
        while let Some(piece) = self.chunk(deadline, phase).await? {
            if pieces.bytes() + piece.len() > MAX_ANSWER {
                let message = format!("{} answered with more than {MAX_ANSWER} bytes.", self.limits.provider());
                return Err(Failure::from_error(ChatError::new(ErrorKind::Upstream, message)));
            }
            pieces.push(piece);
        }
        Ok(pieces.join())
    }

    /// Its first `limit` bytes, or as many as come until `deadline` or the end of the connection. What is longer is not read to
    /// its end, and the connection closes.
    ///
    /// # Errors
    /// Local-only mode was switched on.
    pub async fn beginning(mut self, limit: usize, deadline: Instant) -> Result<Bytes, Failure> {
        let mut pieces = Pieces::default();
        while pieces.bytes() < limit {
            match self.chunk(deadline, Phase::WholeAnswer).await {
                Ok(Some(mut piece)) => {
                    piece.truncate(limit - pieces.bytes());
                    pieces.push(piece);
                }
                Err(failure) if failure.outcome == Outcome::Cancelled => return Err(failure),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(pieces.join())
    }

    /// The body has been read to its end: the connection is free.
    fn release(&mut self) {
        if let Some((mut connection, origin)) = self.connection.take() {
            connection.keep_alarm(self.limits.take_alarm());
            origin.give_back(connection);
        }
    }
}

fn no_url() -> LocalUrlError {
    // Without the text: a URL may hold a key.
    LocalUrlError::Invalid("the address of the call".to_owned())
}

fn forbidden(provider: &str, error: &LocalUrlError) -> Failure {
    let message = format!("{provider} was not asked: {error}.");
    let (outcome, code) = match error {
        LocalUrlError::NotLocal(_) => (Outcome::Cancelled, "local_only"),
        // Another target may be reached all the same.
        LocalUrlError::Invalid(_) | LocalUrlError::NoClient(_) => (Outcome::NotOffered, "provider_unreachable"),
    };
    Failure::new(outcome, ChatError::new(ErrorKind::Unavailable, message).with_code(code))
}

fn unreachable(provider: &str, origin: &Origin, unreached: Unreached) -> Failure {
    let is_local_server = provider == crate::provider::MLX_LOCAL;
    let (what, cause, remedy) = match unreached {
        Unreached::Connect(ConnectError::TimedOut) => {
            return Failure::new(Outcome::Timeout(Phase::Connect), timed_out(provider, Phase::Connect));
        }
        Unreached::Connect(ConnectError::Failed(cause)) => {
            let remedy = if is_local_server {
                "Start it (`launchctl start dev.bifrost.vllm-mlx`, or your own vllm-mlx or llama-swap) and ask again; `bifrost local status` shows when it is up."
            } else {
                "Check the network and the provider's base_url, then ask again."
            };
            ("could not be reached", cause, remedy)
        }
        Unreached::Unanswered(cause) => {
            let remedy = "Ask again; if it happens again, the provider's own log tells why.";
            ("closed the connection before it answered", cause, remedy)
        }
    };
    let message = format!("{provider} at {origin} {what}: {cause}. {remedy}");
    let code = if is_local_server { "local_server_down" } else { "provider_unreachable" };
    let mut error = ChatError::new(ErrorKind::Unavailable, message).with_code(code);
    error.retry_after = Some(RETRY_UNREACHABLE);
    Failure::new(Outcome::Unreachable, error)
}

fn broken(provider: &str, error: &hyper::Error) -> Failure {
    let message = format!("{provider} broke off its answer: {}. Ask again.", root_cause(error));
    Failure::new(Outcome::UpstreamFault, ChatError::new(ErrorKind::Upstream, message).with_code("stream_cut"))
}
