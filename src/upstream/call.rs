//! One HTTP call to a provider, under its deadlines.

use super::client::{Clients, Destination, LocalUrlError};
use super::outcome::{Failure, Outcome, Phase};
use crate::chat::{ChatError, ErrorKind};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use std::error::Error as _;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A whole answer larger than this is an error of the provider's; in bytes.
const MAX_ANSWER: usize = 512 * 1024 * 1024;

/// What is suggested to a client whose provider cannot be reached.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(5);

/// One call, ready to be sent.
#[derive(Debug)]
pub struct Call {
    /// The provider's name, for messages.
    pub provider: String,
    /// Method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// Headers, the credential included.
    pub headers: HeaderMap,
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
    /// The rest.
    pub body: AnswerBody,
}

/// The body of an answer. Dropping it closes the connection if there is more to come, and the provider stops working.
#[derive(Debug)]
pub struct AnswerBody {
    provider: String,
    response: reqwest::Response,
    revoked: CancellationToken,
}

impl Call {
    /// Sends the call and waits for the head of the answer.
    ///
    /// # Errors
    /// Not reachable, a deadline, or forbidden by local-only mode. An error status is no error here.
    pub async fn send(self, clients: &Clients) -> Result<Answer, Failure> {
        let Destination { client, revoked } = clients
            .for_url(&self.url, self.connect, self.local_only)
            .map_err(|error| forbidden(&self.provider, &error))?;
        let request = client.request(self.method, &self.url).headers(self.headers).body(self.body);
        let sent = under(&self.provider, &revoked, self.deadline, self.phase, request.send()).await?;
        let response = sent.map_err(|error| unreachable(&self.provider, &self.url, &error))?;
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: AnswerBody { provider: self.provider, response, revoked },
        })
    }
}

impl AnswerBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing came until `deadline`.
    pub async fn chunk(&mut self, deadline: Instant, phase: Phase) -> Result<Option<Bytes>, Failure> {
        let read = under(&self.provider, &self.revoked, deadline, phase, self.response.chunk()).await?;
        read.map_err(|error| broken(&self.provider, &error))
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`AnswerBody::chunk`], or larger than the gateway takes.
    pub async fn whole(mut self, deadline: Instant, phase: Phase) -> Result<Bytes, Failure> {
        let Some(first) = self.chunk(deadline, phase).await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk(deadline, phase).await? else { return Ok(first) };
        let mut all = BytesMut::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(more) = self.chunk(deadline, phase).await? {
            if all.len() + more.len() > MAX_ANSWER {
                let message = format!("{} answered with more than {MAX_ANSWER} bytes.", self.provider);
                return Err(Failure::from_error(ChatError::new(ErrorKind::Upstream, message)));
            }
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }
}

/// Runs `work` until the deadline, or until the cloud is forbidden.
async fn under<T>(
    provider: &str,
    revoked: &CancellationToken,
    deadline: Instant,
    phase: Phase,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        // First, or a provider that always has more to say would never be interrupted.
        () = revoked.cancelled() => Err(Failure::new(
            Outcome::Cancelled,
            ChatError::new(
                ErrorKind::Unavailable,
                format!("Local-only mode was switched on while {provider} was answering; the answer was ended. Ask again: the local server will answer."),
            )
            .with_code("local_only_switched_on"),
        )),
        done = work => Ok(done),
        () = tokio::time::sleep_until(deadline) => Err(Failure::new(Outcome::Timeout(phase), timed_out(provider, phase))),
    }
}

fn timed_out(provider: &str, phase: Phase) -> ChatError {
    let what = match phase {
        Phase::Connect => "did not take the connection in time",
        Phase::FirstToken => "sent no first token in time",
        Phase::Idle => "stopped in the middle of its answer",
        Phase::WholeAnswer => "did not finish its answer in time",
        Phase::Budget => "had not answered when the time of all attempts was used up",
    };
    let message = format!(
        "{provider} {what}. Ask again, ask for a stream, or raise the limit in the config ([providers.{provider}] deadlines)."
    );
    ChatError::new(ErrorKind::Timeout, message).with_code("upstream_timeout")
}

fn forbidden(provider: &str, error: &LocalUrlError) -> Failure {
    let message = format!("{provider} was not asked: {error}.");
    Failure::new(Outcome::Cancelled, ChatError::new(ErrorKind::Unavailable, message).with_code("local_only"))
}

fn unreachable(provider: &str, url: &str, error: &reqwest::Error) -> Failure {
    let host = reqwest::Url::parse(url)
        .map_or_else(|_| String::new(), |url| format!(" at {}", url.origin().ascii_serialization()));
    let cause = root_cause(error);
    if error.is_connect() && error.is_timeout() {
        return Failure::new(Outcome::Timeout(Phase::Connect), timed_out(provider, Phase::Connect));
    }
    let remedy = if !error.is_connect() {
        "Ask again; if it happens again, the provider's own log tells why."
    } else if provider == crate::provider::MLX_LOCAL {
        "Start it (`launchctl start dev.bifrost.vllm-mlx`, or your own vllm-mlx or llama-swap) and ask again; `bifrost local status` shows when it is up."
    } else {
        "Check the network and the provider's base_url, then ask again."
    };
    let what = if error.is_connect() { "could not be reached" } else { "closed the connection before it answered" };
    let message = format!("{provider}{host} {what}: {cause}. {remedy}");
    let code = if provider == crate::provider::MLX_LOCAL { "local_server_down" } else { "provider_unreachable" };
    let mut error = ChatError::new(ErrorKind::Unavailable, message).with_code(code);
    error.retry_after = Some(RETRY_UNREACHABLE);
    Failure::new(Outcome::Unreachable, error)
}

fn broken(provider: &str, error: &reqwest::Error) -> Failure {
    let message = format!("{provider} broke off its answer: {}. Ask again.", root_cause(error));
    Failure::new(Outcome::UpstreamFault, ChatError::new(ErrorKind::Upstream, message).with_code("stream_cut"))
}

/// The innermost cause: the outer ones repeat the URL, which may hold a key in its query.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = match error.source() {
        Some(source) => source,
        None => return "the request failed".to_owned(),
    };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_provider_that_always_has_more_to_say_is_interrupted_all_the_same() {
        let revoked = CancellationToken::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let said = under("p", &revoked, deadline, Phase::Idle, std::future::ready(1)).await;
        assert!(matches!(said, Ok(1)));
        revoked.cancel();
        let said = under("p", &revoked, deadline, Phase::Idle, std::future::ready(1)).await;
        assert!(matches!(said, Err(failure) if failure.outcome == Outcome::Cancelled));
    }
}
