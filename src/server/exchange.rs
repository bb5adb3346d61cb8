//! One request of a client, from accept to log line.

use super::asking::Answering;
use super::attempt::{AnswerFacts, FORWARDED};
use super::keys::KeyPools;
use super::{Gateway, Loaded, gate, reply};
use crate::chat::{ChatError, DialectId, ErrorKind, Losses, Request, Response, Usage};
use crate::config::Snapshot;
use crate::config::classes::Priority;
use crate::dialect::{self, StreamOptions, UrlHints};
use crate::limit::Permit;
use crate::observe::{AttemptRecord, ExchangeRecord, InFlight, Operation, TraceContext, trail};
use crate::provider::prices::Prices;
use crate::route::{Plan, Target};
use crate::upstream::auth::{self, Credential};
use crate::upstream::{Failure, Outcome};
use crate::wire::json::{Object, Outline};
use bytes::Bytes;
use futures_util::poll;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// What the gateway's own headers begin with.
const OWN: &str = "x-bifrost-";
/// A task class, which goes before the model string.
const CLASS: HeaderName = HeaderName::from_static("x-bifrost-class");
/// Who goes first where requests wait for a place.
const PRIORITY: HeaderName = HeaderName::from_static("x-bifrost-priority");
/// The client's own limit for a target, in milliseconds.
const TIMEOUT: HeaderName = HeaderName::from_static("x-bifrost-timeout-ms");
/// Model strings to go on with, separated by commas; the body's go before them.
const FALLBACKS: HeaderName = HeaderName::from_static("x-bifrost-fallbacks");
/// Nothing may leave the machine for this request.
const LOCAL: HeaderName = HeaderName::from_static("x-bifrost-local");
/// The caller's place in a trace.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What else somebody asks for on the way of a request, besides what is forwarded.
static ASKED_FOR: [HeaderName; 6] =
    [AUTHORIZATION, USER_AGENT, reply::REQUEST_ID, TRACEPARENT, auth::X_API_KEY, auth::X_GOOG_API_KEY];

/// One request of a client. Its end is written down exactly once, when the last holder lets go: whether it was answered,
/// failed, was left by its client or ended in a panic.
pub struct Exchange {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The configuration that holds from start to end.
    pub snapshot: Arc<Snapshot>,
    /// The keys of that configuration.
    pub keys: Arc<KeyPools>,
    /// The gateway's id of the exchange.
    pub id: Arc<str>,
    /// What the client wants.
    pub operation: Operation,
    /// The dialect that the client spoke.
    pub ingress: DialectId,
    /// Those of the client's headers that somebody asks for later, but the gateway's own.
    pub headers: HeaderMap,
    /// The gateway's own headers; nearly always none.
    own: HeaderMap,
    /// The client's body.
    pub body: Bytes,
    outline: Outline,
    /// What the URL says.
    pub hints: UrlHints,
    /// The client wants a stream.
    pub stream: bool,
    /// The client of an OpenAI stream asked for usage.
    pub include_usage: bool,
    /// The client wants the stream as one JSON array.
    pub json_array: bool,
    /// The model string as the client wrote it.
    pub asked: String,
    /// `x-bifrost-class`, which goes before the model string.
    pub class: Option<String>,
    /// Model strings to go on with when the asked one fails, in order.
    pub fallbacks: Vec<String>,
    /// `x-bifrost-priority`, which goes before the class's word.
    pub priority: Option<Priority>,
    /// The client's own limit for a target.
    pub timeout: Option<Duration>,
    /// Nothing may leave the machine for this request.
    pub local_only: bool,
    /// The class that answers may not leave the machine.
    pub stays_here: bool,
    started: Instant,
    parsed: OnceLock<Box<Result<Request, ChatError>>>,
    record: Mutex<Arc<ExchangeRecord>>,
    progress: Mutex<Progress>,
    _in_flight: InFlight,
}

/// How far an exchange has come.
#[derive(Default)]
struct Progress {
    /// Time that was not the gateway's own, before the call that is under way.
    away: Duration,
    /// Who answers.
    answering: Option<Answering>,
    /// The place of the request at who answers; free for the next one when this goes.
    place: Option<Permit>,
}

impl Exchange {
    /// Begins an exchange. What is missing in the body is found out by [`Exchange::read`].
    pub fn begin(
        gateway: Arc<Gateway>,
        ingress: DialectId,
        operation: Operation,
        headers: &HeaderMap,
        hints: UrlHints,
    ) -> Self {
        let Loaded { snapshot, keys } = gateway.loaded();
        let id: Arc<str> = Arc::from(gate::request_id(headers));
        let (headers, own) = kept(headers);
        let local_only = gateway.mode.is_on() || asks_local_only(&own);
        let class = header(&own, &CLASS).map(|class| class.trim().trim_start_matches("class/").to_owned());
        let record = ExchangeRecord::begin(id.clone(), ingress, operation, local_only);
        let in_flight = gateway.observer.in_flight();
        Self {
            gateway,
            snapshot,
            keys,
            id,
            operation,
            ingress,
            headers,
            own,
            body: Bytes::new(),
            outline: Outline::default(),
            hints,
            stream: false,
            include_usage: false,
            json_array: false,
            asked: String::new(),
            class: class.filter(|class| !class.is_empty()),
            fallbacks: Vec::new(),
            priority: None,
            timeout: None,
            local_only,
            stays_here: false,
            started: Instant::now(),
            parsed: OnceLock::new(),
            record: Mutex::new(Arc::new(record)),
            progress: Mutex::default(),
            _in_flight: in_flight,
        }
    }

    /// Takes the body and finds the few fields that the way depends on.
    ///
    /// # Errors
    /// It is no JSON object, or names no model, or a header of Bifrost's own makes no sense.
    pub fn read(&mut self, body: Bytes) -> Result<(), ChatError> {
        self.body = body;
        // The mode may have been switched on while the body was on its way.
        self.local_only |= self.gateway.mode.is_on();
        let mut record = self.record();
        record.bytes_in = self.body.len() as u64;
        record.local_only = self.local_only;
        drop(record);
        self.timeout = timeout(&self.own)?;
        self.priority = priority(&self.own)?;
        if self.class.is_none() && self.own.get(CLASS).is_some_and(|class| !class.is_empty()) {
            let message = format!("`{CLASS}` must be the name of a task class, as in `{CLASS}: coding`.");
            return Err(ChatError::invalid(CLASS.as_str(), message).with_code("header_invalid"));
        }
        self.outline = Outline::scan(&self.body).map_err(|error| {
            ChatError::new(ErrorKind::InvalidRequest, format!("The request could not be read: {error}."))
                .with_code("invalid_json")
        })?;
        let object = self.outline.of(&self.body);
        let named = self.hints.model.clone().or_else(|| object.string("model").map(std::borrow::Cow::into_owned));
        self.stream = self.hints.stream.unwrap_or_else(|| object.boolean("stream") == Some(true));
        self.fallbacks = fallbacks(&object, &self.own)?;
        if self.fallbacks.len() > MOST_FALLBACKS {
            let message = format!("`fallbacks` names {} models; name at most {MOST_FALLBACKS}.", self.fallbacks.len());
            return Err(ChatError::invalid("fallbacks", message).with_code("fallbacks_too_many"));
        }
        let options = object.raw("stream_options").and_then(|options| Object::scan(options).ok());
        self.include_usage = options.is_some_and(|options| options.boolean("include_usage") == Some(true));
        self.asked = named.or_else(|| self.class.clone()).filter(|model| !model.trim().is_empty()).ok_or_else(|| {
            let message = "The request names no model. Set `model` to a task class (`coding`), `auto`, or `provider/model`; GET /v1/models lists them.";
            ChatError::invalid("model", message).with_code("model_missing")
        })?;
        check_name("model", &self.asked)?;
        self.fallbacks.iter().try_for_each(|name| check_name("fallbacks", name))?;
        self.class.iter().try_for_each(|name| check_name(CLASS.as_str(), name))?;
        let mut record = self.record();
        record.requested_model.clone_from(&self.asked);
        record.stream = self.stream;
        drop(record);
        Ok(())
    }

    /// The body as the object that it is.
    pub fn object(&self) -> Object<'_> {
        self.outline.of(&self.body)
    }

    /// The request in the neutral form; read once, and only where somebody needs it.
    ///
    /// # Errors
    /// The body is wrong at some field.
    pub fn request(&self) -> Result<&Request, ChatError> {
        let parsed = self.parsed.get_or_init(|| {
            let mut parsed = dialect::get(self.ingress).parse_request(&self.body, &self.hints);
            if let Ok(request) = &mut parsed {
                // The gateway's own; nothing is lost when no provider gets it.
                request.extras.fields.shift_remove("fallbacks");
            }
            Box::new(parsed)
        });
        (**parsed).as_ref().map_err(Clone::clone)
    }

    /// The request declares tools.
    pub fn has_tools(&self) -> bool {
        self.request().is_ok_and(|request| !request.tools.is_empty())
    }

    /// How a stream is to be written to the client.
    pub fn stream_options(&self) -> StreamOptions {
        StreamOptions {
            include_usage: self.include_usage,
            model: self.asked.clone(),
            json_array: self.json_array,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            id: self.id.to_string(),
        }
    }

    /// The client's own credential of the vendor whose dialect it speaks, unless the gateway's keys stand in that place.
    pub fn client_credential(&self) -> Option<Credential> {
        if self.local_only || !self.snapshot.server.api_keys.is_empty() {
            return None;
        }
        auth::client_credential(self.ingress, &self.headers)
    }

    /// The record, for whoever learns something.
    pub fn record(&self) -> Record<'_> {
        Record(self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what the plan decided.
    pub fn planned(&mut self, plan: &Plan) {
        let class = plan.class.as_deref().and_then(|name| self.snapshot.classes.get(name));
        self.stays_here = class.is_some_and(|class| !class.cloud);
        let record = &mut *self.record();
        record.class.clone_from(&plan.class);
        record.class_reason.clone_from(&plan.class_reason);
        record.substituted.clone_from(&plan.substituted);
    }

    /// Writes down an attempt.
    pub fn attempted(&self, attempt: AttemptRecord) {
        let attempts = &mut self.record().attempts;
        // Nearly always it is the only one, and records are kept for long.
        attempts.reserve_exact(1);
        attempts.push(attempt);
    }

    /// Writes down that the answer of the last attempt broke off.
    pub fn broke_off(&self, outcome: Outcome) {
        let now = self.started.elapsed();
        if let Some(attempt) = self.record().attempts.last_mut() {
            attempt.outcome = outcome.label();
            attempt.millis = now.saturating_sub(attempt.began).as_millis() as u64;
        }
    }

    /// Writes down a target that was passed over without being asked, after it was `waited` for.
    pub fn not_asked(&self, target: &Target, outcome: Outcome, waited: Duration, error: &ChatError) {
        self.attempted(AttemptRecord {
            provider: target.provider.name.clone(),
            model: target.model.clone(),
            outcome: outcome.label(),
            status: None,
            retry: false,
            waited,
            began: self.started.elapsed(),
            millis: 0,
            error: Some(error.message.clone()),
        });
    }

    /// So much time was spent at a provider that failed, or waiting for somebody: none of it is the gateway's own.
    pub fn was_away(&self, time: Duration) {
        self.progress().away += time;
    }

    /// Waits for what is not the gateway's own work; what is there at once takes no look at the clock.
    pub async fn away<T>(&self, mut waiting: Pin<&mut impl Future<Output = T>>) -> T {
        if let Poll::Ready(there) = poll!(waiting.as_mut()) {
            return there;
        }
        let began = Instant::now();
        let there = waiting.await;
        self.was_away(began.elapsed());
        there
    }

    /// Keeps the place at a target that answers until the answer's end.
    pub fn keep_place(&self, place: Permit) {
        self.progress().place = Some(place);
    }

    /// Takes the place for who knows better when the target has done with the request.
    pub fn take_place(&self) -> Option<Permit> {
        self.progress().place.take()
    }

    /// The failure to be told when all targets have failed: with all attempts in its words, if there was more than one, or
    /// if the headers have gone and cannot tell it.
    pub fn with_attempts(&self, failure: Option<Failure>) -> Failure {
        let mut failure = failure.unwrap_or_else(|| {
            Failure::from_error(ChatError::new(ErrorKind::Internal, "The plan had no target that could be asked."))
        });
        let record = self.record();
        let fewest = if record.status == 0 { 2 } else { 1 };
        if record.attempts.len() >= fewest {
            failure.error.message = format!("{} Tried: {}.", failure.error.message, trail(&record.attempts));
        }
        failure
    }

    /// Writes down who answers, and what that answer is known to be. `answering`: the attempt, where there was one.
    pub fn answered(&self, target: &Target, facts: &AnswerFacts, answering: Option<Answering>) {
        let mut progress = self.progress();
        progress.answering = answering;
        let before = facts.sent.duration_since(self.started).saturating_sub(progress.away);
        drop(progress);
        let own = before + facts.received.elapsed();
        let prices = Prices::from(&self.gateway.facts(&self.snapshot, target));
        let record = &mut *self.record();
        record.known_model = self.gateway.knows(&self.snapshot, &target.provider.name, &target.model);
        record.prices = prices;
        record.response_model.clone_from(&facts.model);
        record.upstream = Some(facts.received.duration_since(facts.sent));
        record.provider = Some(Arc::clone(&target.provider.name));
        record.model = Some(Arc::clone(&target.model));
        record.losses.extend(&facts.losses);
        record.upstream_request_id = reply::upstream_id(&facts.headers).map(str::to_owned);
        record.first_token = self.stream.then(|| facts.received.duration_since(self.started));
        record.overhead = Some(own);
        record.status = 200;
    }

    /// Remembers of a streamed answer what its provider will want back.
    pub fn learn(&self, answer: &Response) {
        let name = self.record().provider.clone();
        let provider = self.snapshot.providers.iter().find(|provider| Some(&provider.name) == name.as_ref());
        if let Some(provider) = provider {
            self.gateway.signatures.learn(answer, provider);
        }
    }

    /// Writes down the end of an answer.
    pub fn finished(&self, usage: Option<Usage>, losses: &Losses, failure: Option<&Failure>, bytes_out: u64) {
        let answering = self.progress().answering.take();
        if let Some(answering) = answering {
            answering.ended(self, usage.as_ref(), failure);
        }
        let record = &mut *self.record();
        record.usage = usage;
        record.losses.extend(losses);
        record.bytes_out = bytes_out;
        record.cancelled = false;
        record.error = failure.map(|failure| (&*failure.error).into());
    }

    /// Its place in a trace, if traces are wanted. In local-only mode nothing is told to other machines, not even this.
    fn trace(&self, local_only: bool) -> Option<TraceContext> {
        let traces = self.snapshot.traces.as_ref()?;
        (traces.is_local || !local_only).then(|| TraceContext::of(header(&self.headers, &TRACEPARENT)))
    }

    /// Writes down a failure that the client is told with `status`.
    pub fn failed(&self, error: &ChatError, status: u16) {
        let mut record = self.record();
        record.status = status;
        record.cancelled = false;
        record.error = Some(error.into());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        static GONE: LazyLock<Arc<ExchangeRecord>> = LazyLock::new(Arc::default);
        let mut record = self.record();
        record.total = self.started.elapsed();
        record.trace = self.trace(record.local_only);
        if record.provider.is_none() {
            let knows = |asked: &AttemptRecord| self.gateway.knows(&self.snapshot, &asked.provider, &asked.model);
            record.known_model = record.last_call().is_some_and(knows);
        }
        let finished = std::mem::replace(&mut *record.0, Arc::clone(&GONE));
        drop(record);
        self.gateway.observer.finish(finished);
    }
}

/// The record while somebody writes to it. Nobody else has it before the end of the exchange.
pub struct Record<'a>(MutexGuard<'a, Arc<ExchangeRecord>>);

impl Deref for Record<'_> {
    type Target = ExchangeRecord;

    fn deref(&self) -> &ExchangeRecord {
        &self.0
    }
}

impl DerefMut for Record<'_> {
    fn deref_mut(&mut self) -> &mut ExchangeRecord {
        Arc::make_mut(&mut self.0)
    }
}

/// The headers that somebody asks for later, and the gateway's own; apart from the connection's buffer: while that is held,
/// the connection needs another one.
fn kept(headers: &HeaderMap) -> (HeaderMap, HeaderMap) {
    let (mut kept, mut own) = (HeaderMap::with_capacity(3), HeaderMap::new());
    for (name, value) in headers {
        let into = if ASKED_FOR.contains(name) || FORWARDED.contains(name) {
            &mut kept
        } else if name.as_str().starts_with(OWN) {
            &mut own
        } else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            into.append(name.clone(), value);
        }
    }
    (kept, own)
}

/// So many fallbacks a request may name: each is looked up in all lists, and nobody waits for more to fail.
const MOST_FALLBACKS: usize = 32;

/// Names are kept for long, in records and by targets; a longer one is no model's.
const MAX_NAME: usize = 512;

fn check_name(param: &str, name: &str) -> Result<(), ChatError> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    let message =
        format!("`{param}` holds a name of {} bytes; the name of a model has at most {MAX_NAME}.", name.len());
    Err(ChatError::invalid(param, message).with_code("model_too_long"))
}

/// Who goes first, by the client's own word.
fn priority(headers: &HeaderMap) -> Result<Option<Priority>, ChatError> {
    let Some(value) = headers.get(PRIORITY) else { return Ok(None) };
    let word = value.to_str().unwrap_or_default().trim();
    let named = Priority::ALL.into_iter().find(|priority| priority.name().eq_ignore_ascii_case(word));
    let wrong = || {
        let message = format!("`{PRIORITY}` must be `interactive` or `batch`.");
        ChatError::invalid(PRIORITY.as_str(), message).with_code("header_invalid")
    };
    named.map(Some).ok_or_else(wrong)
}

/// The client's own limit for a target.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, ChatError> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|millis| *millis > 0);
    let wrong = || {
        let message = format!("`{TIMEOUT}` must be a whole number of milliseconds, 1 or more.");
        ChatError::invalid(TIMEOUT.as_str(), message).with_code("header_invalid")
    };
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(wrong)
}

/// The body's `fallbacks`, else those of the header, which may have several lines.
fn fallbacks(object: &Object<'_>, headers: &HeaderMap) -> Result<Vec<String>, ChatError> {
    if let Some(raw) = object.raw("fallbacks").filter(|raw| *raw != b"null") {
        let wrong = |_| ChatError::invalid("fallbacks", "`fallbacks` must be an array of model strings.");
        return serde_json::from_slice(raw).map_err(wrong);
    }
    let mut named = Vec::new();
    for line in headers.get_all(FALLBACKS) {
        let line = line.to_str().map_err(|_| {
            let message = format!("`{FALLBACKS}` must be model strings in ASCII, separated by commas.");
            ChatError::invalid(FALLBACKS.as_str(), message).with_code("header_invalid")
        })?;
        named.extend(line.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    Ok(named)
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `x-bifrost-local: true`: nothing may leave the machine for this request. A word that is not known means yes.
pub fn asks_local_only(headers: &HeaderMap) -> bool {
    let no = |text: &str| matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "0" | "no" | "off");
    headers.get_all(LOCAL).iter().any(|value| !value.to_str().is_ok_and(no))
}
