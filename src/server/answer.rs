//! A request for an answer: read, planned, asked, and told to the client.

use super::attempt::{Live, Whole};
use super::exchange::Exchange;
use super::failover::first_answer;
use super::relay::Relay;
use super::{Gateway, body, reply};
use crate::chat::{ChatError, DialectId, ErrorKind, Event, Losses};
use crate::dialect::{self, StreamEncoder, UrlHints};
use crate::observe::{ExchangeRecord, OpenStream, Operation, QueueRecord, trail};
use crate::route::Plan;
use crate::upstream::{Alarm, Failure, Outcome};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::{Body as _, Frame};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Headers are held back so long for the first real content.
const HOLD: Duration = Duration::from_secs(10);
/// A waiting client gets a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Who was cut off by the end of the process finds it again after so long, where something starts it again.
const BACK_AFTER: Duration = Duration::from_secs(2);

/// Answers a request of `ingress`.
pub async fn answer(
    gateway: Arc<Gateway>,
    operation: Operation,
    ingress: DialectId,
    hints: UrlHints,
    json_array: bool,
    request: Request<impl http_body::Body<Data = Bytes>>,
) -> Response {
    let (parts, incoming) = request.into_parts();
    let mut exchange = Exchange::begin(Arc::clone(&gateway), ingress, operation, &parts.headers, hints);
    drop(parts);
    exchange.json_array = json_array;
    let planned = {
        let planning = pin!(planned(&mut exchange, incoming));
        gateway.unless_stopped(planning).await.unwrap_or_else(|| Err(gateway_stopped()))
    };
    match planned {
        Err(error) => refuse(&exchange, &Failure::from_error(error)),
        Ok(plan) => {
            exchange.planned(&plan);
            respond(Arc::new(exchange), plan).await
        }
    }
}

/// Reads a request, and finds who may answer it.
async fn planned(exchange: &mut Exchange, incoming: impl http_body::Body<Data = Bytes>) -> Result<Plan, ChatError> {
    let body = {
        let reading = pin!(body::read(incoming, &exchange.snapshot.server));
        exchange.away(reading).await?
    };
    exchange.read(body)?;
    exchange.gateway.plan(exchange).await
}

/// An error before anything was sent.
pub fn refuse(exchange: &Exchange, failure: &Failure) -> Response {
    let mut response = reply::failure(exchange.ingress, failure, &exchange.id, &exchange.record().attempts);
    reply::put_upstream(response.headers_mut(), &failure.headers);
    exchange.failed(&failure.error, response.status().as_u16());
    exchange.record().bytes_out = response.body().size_hint().exact().unwrap_or_default();
    tell(exchange, response.headers_mut());
    response
}

/// The headers that tell what happened so far.
pub fn tell(exchange: &Exchange, headers: &mut HeaderMap) {
    let record = exchange.record();
    if let Some(id) = exchange.headers.get(reply::REQUEST_ID) {
        headers.insert(reply::REQUEST_ID, id.clone());
    }
    if let Some(provider) = &record.provider {
        reply::put(headers, reply::PROVIDER, provider);
    }
    if let Some(model) = &record.model {
        reply::put(headers, reply::MODEL, model);
    }
    if let Some(class) = &record.class {
        let reason = record.class_reason.as_ref().map_or_else(String::new, |reason| format!("; {reason}"));
        reply::put(headers, reply::CLASS, &format!("{class}{reason}"));
    }
    if let Some(asked) = &record.substituted {
        reply::put(headers, reply::SUBSTITUTED, asked);
    }
    if !record.attempts.is_empty() {
        reply::put(headers, reply::ATTEMPTS, &trail(&record.attempts));
    }
    if let Some(first) = record.fell_back_from() {
        reply::put(headers, reply::FALLBACK, &format!("{}/{}", first.provider, first.model));
    }
    if let Some(id) = &record.upstream_request_id {
        reply::put(headers, reply::UPSTREAM_ID, id);
    }
    put_queue(headers, &record);
    if let Some(overhead) = record.overhead {
        headers.insert(reply::OVERHEAD, HeaderValue::from(overhead.as_micros() as u64));
    }
    reply::put_losses(headers, &record.losses);
}

/// The place in a queue when the request came there, and how long it waited.
fn put_queue(headers: &mut HeaderMap, record: &ExchangeRecord) {
    if let Some(QueueRecord { position: Some(position), waited, .. }) = record.queue {
        reply::put(headers, reply::QUEUE_POSITION, &position.to_string());
        reply::put(headers, reply::QUEUE_MS, &waited.as_millis().to_string());
    }
}

type Trying = Pin<Box<dyn Future<Output = Result<Live, Failure>> + Send>>;

async fn respond(exchange: Arc<Exchange>, plan: Plan) -> Response {
    if !exchange.stream {
        // The attempt that is under way ends with this block: it is written down before it is told.
        let done = {
            let asking = pin!(first_answer(Arc::clone(&exchange), plan));
            exchange.gateway.unless_stopped(asking).await.unwrap_or_else(|| Err(cut_off()))
        };
        return settled(&exchange, done);
    }
    let mut trying: Trying = Box::pin(first_answer(Arc::clone(&exchange), plan));
    let (mut alarm, held_until) = (Alarm::default(), Instant::now() + HOLD);
    let known = pin!(poll_fn(|cx| match trying.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => alarm.poll(cx, held_until).map(|()| None),
    }));
    match exchange.gateway.unless_stopped(known).await {
        Some(Some(done)) => settled(&exchange, done),
        Some(None) => pending(exchange, trying),
        None => {
            // Here it ends with this.
            drop(trying);
            refuse(&exchange, &cut_off())
        }
    }
}

fn cut_off() -> Failure {
    Failure::new(Outcome::Cancelled, gateway_stopped())
}

fn gateway_stopped() -> ChatError {
    let message = "Bifrost is stopping, and the answer was not complete when its time to finish (`[server] shutdown_grace`) was over. Ask again in a moment.";
    let mut error = ChatError::new(ErrorKind::Unavailable, message).with_code("gateway_stopped");
    error.retry_after = Some(BACK_AFTER);
    error
}

/// The answer, or the failure, is known before the headers are sent.
fn settled(exchange: &Arc<Exchange>, done: Result<Live, Failure>) -> Response {
    let (mut response, upstream) = match done {
        Err(failure) => return refuse(exchange, &failure),
        Ok(Live::Whole(Whole { body, facts, usage })) => {
            exchange.finished(usage, &Losses::new(), None, body.len() as u64);
            let response = if exchange.stream {
                reply::stream(Body::from(body), exchange.json_array)
            } else {
                reply::json(StatusCode::OK, body)
            };
            (response, facts.headers)
        }
        Ok(Live::Stream(relay, facts)) => {
            let delivery = Delivery::new(Arc::clone(exchange), Source::Relay(relay));
            (reply::stream(delivery.into_body(), exchange.json_array), facts.headers)
        }
    };
    reply::put_upstream(response.headers_mut(), &upstream);
    tell(exchange, response.headers_mut());
    response
}

/// The client must hear something before the answer is known.
fn pending(exchange: Arc<Exchange>, trying: Trying) -> Response {
    let id = exchange.headers.get(reply::REQUEST_ID).cloned();
    let json_array = exchange.json_array;
    let mut record = exchange.record();
    record.status = 200;
    let class = record.class.clone();
    let position = record.queue.as_ref().and_then(|queue| queue.position);
    drop(record);
    let delivery = Delivery::new(exchange, Source::Trying(trying));
    let mut response = reply::stream(delivery.into_body(), json_array);
    response.headers_mut().extend(id.map(|id| (reply::REQUEST_ID, id)));
    reply::put(response.headers_mut(), reply::PROVIDER, "pending");
    if let Some(class) = class {
        reply::put(response.headers_mut(), reply::CLASS, &class);
    }
    if let Some(position) = position {
        reply::put(response.headers_mut(), reply::QUEUE_POSITION, &position.to_string());
    }
    response
}

/// A body on its way to the client. Dropped when the client leaves, and with it the provider's connection.
struct Delivery {
    /// Dropped before the exchange: the provider's connection closes before the place at it is given to the next.
    source: Source,
    exchange: Arc<Exchange>,
    /// Writes signs of life and errors while no relay does.
    encoder: Box<dyn StreamEncoder>,
    next_sign: Instant,
    alarm: Alarm,
    bytes: u64,
    _open: OpenStream,
}

enum Source {
    Trying(Trying),
    Relay(Box<Relay>),
    Ended,
}

impl http_body::Body for Delivery {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(bytes) = ready!(self.poll_next(cx)) else { return Poll::Ready(None) };
        self.bytes += bytes.len() as u64;
        self.next_sign = Instant::now() + KEEP_ALIVE;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Delivery {
    fn new(exchange: Arc<Exchange>, source: Source) -> Self {
        let encoder = dialect::get(exchange.ingress).encoder(&exchange.stream_options());
        let open = exchange.gateway.observer.open_stream();
        let alarm = Alarm::default();
        Self { exchange, source, encoder, next_sign: Instant::now(), alarm, bytes: 0, _open: open }
    }

    fn into_body(mut self) -> Body {
        // A relay has content ready; a client that waits gets its first sign of life at once.
        if matches!(self.source, Source::Relay(_)) {
            self.next_sign += KEEP_ALIVE;
        }
        Body::new(self)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // First, or a provider that always has more to say would not be ended.
        if self.exchange.gateway.is_stopped() {
            match &mut self.source {
                Source::Trying(_) => return Poll::Ready(Some(self.fail(&gateway_stopped()))),
                Source::Relay(relay) => relay.break_off(cut_off()),
                Source::Ended => {}
            }
        }
        loop {
            match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Trying(trying) => match trying.as_mut().poll(cx) {
                    Poll::Ready(Ok(Live::Stream(relay, _))) => self.source = Source::Relay(relay),
                    Poll::Ready(Ok(Live::Whole(Whole { body, usage, .. }))) => {
                        self.source = Source::Ended;
                        self.exchange.finished(usage, &Losses::new(), None, body.len() as u64);
                        return Poll::Ready(Some(body));
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Some(self.fail(&failure.error))),
                    Poll::Pending => {
                        ready!(self.alarm.poll(cx, self.next_sign));
                        let mut out = Vec::new();
                        self.encoder.keep_alive(&mut out);
                        return Poll::Ready(Some(Bytes::from(out)));
                    }
                },
                Source::Relay(relay) => match relay.poll_next(cx) {
                    Poll::Ready(Some(bytes)) => return Poll::Ready(Some(bytes)),
                    Poll::Ready(None) => self.end(),
                    Poll::Pending => {
                        ready!(self.alarm.poll(cx, self.next_sign));
                        return Poll::Ready(Some(relay.keep_alive()));
                    }
                },
            }
        }
    }

    fn fail(&mut self, error: &ChatError) -> Bytes {
        let mut error = error.clone();
        error.request_id = Some(self.exchange.id.to_string());
        let mut out = Vec::new();
        self.encoder.encode(&Event::Error(error.clone()), &mut out, &mut Losses::new());
        self.exchange.failed(&error, StatusCode::OK.as_u16());
        self.source = Source::Ended;
        Bytes::from(out)
    }

    fn end(&mut self) {
        if let Source::Relay(mut relay) = std::mem::replace(&mut self.source, Source::Ended) {
            if let Some(answer) = relay.take_collected() {
                self.exchange.learn(&answer);
            }
            let seen = relay.seen();
            self.exchange.record().skipped = seen.skipped as u64;
            self.exchange.finished(seen.usage, &seen.losses, seen.failure.as_ref(), self.bytes);
            let place = self.exchange.take_place();
            if seen.failure.is_none() {
                return relay.drain(place);
            }
            let was_cut = seen.was_cut;
            // The connection closes before the place is free; who was cut off does not know yet that it was.
            drop(relay);
            if let Some(place) = place.filter(|_| was_cut) {
                place.broken_off();
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // Who reads too slowly to come to the last word has not left.
        if self.exchange.gateway.is_stopped() && !matches!(self.source, Source::Ended) {
            self.exchange.failed(&gateway_stopped(), StatusCode::OK.as_u16());
        }
        let mut record = self.exchange.record();
        record.bytes_out = record.bytes_out.max(self.bytes);
        // The client left: what was used until then was used.
        if let Source::Relay(relay) = &mut self.source {
            record.usage = record.usage.or(relay.seen().usage);
            record.skipped = relay.seen().skipped as u64;
            drop(record);
            self.source = Source::Ended;
            if let Some(place) = self.exchange.take_place() {
                place.broken_off();
            }
        }
    }
}
