//! Sends what is to be traced to the collector, in the background and through the same clients as everything else, so that
//! local-only mode holds for it too.

use super::Gateway;
use crate::config::Traces;
use crate::observe::{Event, TraceBatch, TraceQueue};
use crate::provider::Deadlines;
use crate::secret::SecretError;
use crate::upstream::{Call, Failure, Phase};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The collector must have answered by then.
const LIMIT: Duration = Duration::from_secs(10);
/// A collector that cannot take a batch now gets it again after so long, then after twice as long, ...
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// ... so many times.
const RETRIES: u32 = 5;
/// What waits when the gateway ends is sent within this, or lost.
const LAST_CALL: Duration = Duration::from_millis(150);

/// Why a batch was not taken.
enum Refused {
    /// It may be taken later: OTLP names 429, 502, 503 and 504, and a collector that cannot be reached.
    ForNow(String),
    /// It will never be.
    ForGood(String),
}

impl Gateway {
    /// Sends what waits, as long as the gateway runs.
    pub async fn send_traces(&self, queue: &mut TraceQueue) {
        // A failure is told in words once, until something was sent again.
        let mut told = false;
        while let Some(batch) = queue.next().await {
            let spans = batch.spans();
            match self.send_batch(&batch).await {
                Ok(()) => {
                    told = false;
                    self.observer.tell(Event::SpansSent { spans });
                }
                Err(reason) => {
                    self.observer.tell(Event::SpansDropped { spans, reason: &reason, again: told });
                    told = true;
                }
            }
            let overflow = queue.take_dropped();
            if overflow > 0 {
                let reason = "the collector is too slow, and the queue was full";
                self.observer.tell(Event::SpansDropped { spans: overflow, reason, again: told });
                told = true;
            }
        }
    }

    /// Sends what still waits at the end.
    pub async fn send_last_traces(&self, queue: &mut TraceQueue) {
        let rest = queue.rest();
        if rest.spans() > 0 {
            // Nobody waits longer for a collector than for clients, and nobody is left to be told.
            let _ = timeout(LAST_CALL, self.post_batch(&rest)).await;
        }
    }

    async fn send_batch(&self, batch: &TraceBatch) -> Result<(), String> {
        let mut wait = FIRST_WAIT;
        for _ in 0..RETRIES {
            match self.post_batch(batch).await {
                Ok(()) => return Ok(()),
                Err(Refused::ForGood(reason)) => return Err(reason),
                Err(Refused::ForNow(_)) => sleep(wait).await,
            }
            wait *= 2;
        }
        self.post_batch(batch).await.map_err(|(Refused::ForNow(reason) | Refused::ForGood(reason))| reason)
    }

    async fn post_batch(&self, batch: &TraceBatch) -> Result<(), Refused> {
        let snapshot = self.snapshot();
        let gone = || Refused::ForGood("traces were switched off".to_owned());
        let traces = snapshot.traces.as_ref().ok_or_else(gone)?;
        if self.mode.is_on() && !traces.is_local {
            return Err(Refused::ForGood("local-only mode was switched on, and the collector is elsewhere".to_owned()));
        }
        let key = |error: SecretError| Refused::ForGood(format!("a header of [traces] could not be had: {error}"));
        let headers = self.trace_headers(traces).await.map_err(key)?;
        let deadline = Instant::now() + LIMIT;
        let connect = if traces.is_local { Deadlines::LOCAL.connect } else { Deadlines::CLOUD.connect };
        let call = Call {
            provider: &Arc::from("the trace collector"),
            method: Method::POST,
            url: Uri::try_from(&*traces.url),
            headers: &|| headers.clone(),
            body: Bytes::from(batch.encode()),
            local_only: false,
            connect,
            deadline,
            phase: Phase::WholeAnswer,
        };
        let unreachable =
            |failure: Failure| Refused::ForNow(format!("{} does not answer ({})", traces.url, failure.outcome.label()));
        let answer = call.send(&self.clients).await.map_err(unreachable)?;
        let status = answer.status;
        // Read to the end, so that the connection can be used again.
        answer.body.whole(deadline, Phase::WholeAnswer).await.map_err(unreachable)?;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::ForNow(format!("{} answered {status}", traces.url))),
            status => Err(Refused::ForGood(format!("{} answered {status}", traces.url))),
        }
    }

    async fn trace_headers(&self, traces: &Traces) -> Result<HeaderMap, SecretError> {
        let snapshot = self.snapshot();
        let mut headers = HeaderMap::new();
        for (name, reference) in &traces.headers {
            let secret = snapshot.secrets.resolve(reference).await?;
            // The name was checked with the configuration; a value that no header can carry is left out.
            if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(secret.expose())) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(headers)
    }
}
