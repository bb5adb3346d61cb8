//! One finished exchange, as the log, the metrics and `/admin/exchanges` know it.

use super::access;
use super::traces::TraceContext;
use crate::chat::{ChatError, DialectId, ErrorKind, LossKind, Losses, Usage};
use crate::config::classes::Priority;
use crate::provider::prices::Prices;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A name that somebody else chose is cut to so many bytes.
const MAX_NAME: usize = 256;
/// A sentence that somebody else wrote is cut to so many bytes.
const MAX_TEXT: usize = 512;
/// So many losses of one exchange are kept.
const MAX_LOSSES: usize = 64;

/// What a client wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Operation {
    /// An answer of a model.
    #[default]
    Chat,
    /// Vectors.
    Embeddings,
    /// The size of a prompt.
    CountTokens,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Embeddings, Self::CountTokens];

    /// The name in metrics and in the log; `chat` and `embeddings` are those of OpenTelemetry's `gen_ai.operation.name`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count_tokens",
        }
    }
}

/// What is known of one exchange. Never holds content or a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeRecord {
    /// The gateway's id of the exchange.
    pub id: Arc<str>,
    /// When it began.
    pub started: SystemTime,
    /// The dialect that the client spoke.
    pub ingress: DialectId,
    /// What the client wanted.
    pub operation: Operation,
    /// The model string as the client wrote it.
    pub requested_model: String,
    /// The task class that it stood for.
    pub class: Option<String>,
    /// Why that class.
    pub class_reason: Option<String>,
    /// The provider that answered.
    pub provider: Option<Arc<str>>,
    /// The model that answered, in the provider's naming.
    pub model: Option<Arc<str>>,
    /// The model that the provider says it used.
    pub response_model: Option<String>,
    /// A catalogue lists `model` (where nobody answered, that of the last call), or the configuration names it; only then
    /// may its name become a label.
    pub known_model: bool,
    /// Every target that was asked, in order.
    pub attempts: Vec<AttemptRecord>,
    /// What became of it where no place was free at once.
    pub queue: Option<QueueRecord>,
    /// The client wanted a stream.
    pub stream: bool,
    /// The HTTP status that the client got; 0 when it left before there was one.
    pub status: u16,
    /// What went wrong, the stream's end included.
    pub error: Option<ErrorRecord>,
    /// Nothing could leave the machine.
    pub local_only: bool,
    /// The model that was asked for, where another one was put in its place.
    pub substituted: Option<String>,
    /// What the translations could not carry.
    pub losses: Losses,
    /// Token counts, as far as the provider told.
    pub usage: Option<Usage>,
    /// What the answering model's tokens cost.
    pub prices: Prices,
    /// From the request's head to the last byte of the answer.
    pub total: Duration,
    /// The part of `total` that the provider that answered took: to its answer, or to the first content of a stream.
    pub upstream: Option<Duration>,
    /// From the request's head to the first content of a stream.
    pub first_token: Option<Duration>,
    /// Events of the answering provider's stream that could not be read, and were left out.
    pub skipped: u64,
    /// The gateway's own share of `total`.
    pub overhead: Option<Duration>,
    /// Size of the client's body in bytes.
    pub bytes_in: u64,
    /// Size of the answer's body in bytes.
    pub bytes_out: u64,
    /// The client left, or the gateway ended the exchange, before the answer was complete.
    pub cancelled: bool,
    /// The answering provider's own id of the request.
    pub upstream_request_id: Option<String>,
    /// Its place in a trace, where traces are wanted.
    pub trace: Option<TraceContext>,
}

/// One call of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The provider.
    pub provider: Arc<str>,
    /// The model, in the provider's naming.
    pub model: Arc<str>,
    /// What became of it: the label of an outcome.
    pub outcome: &'static str,
    /// The HTTP status that the provider answered with; `None` when it did not, or what it said was no answer.
    pub status: Option<u16>,
    /// The same target was asked before by this exchange.
    pub retry: bool,
    /// What was waited for before it was asked: a place, a backoff, the provider's own `Retry-After`.
    pub waited: Duration,
    /// From the request's head to the call.
    pub began: Duration,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// What the provider said went wrong; no content of the client's.
    pub error: Option<String>,
}

/// The outcomes of a target that was not called: it has no such operation, rests, or had no place.
const PASSED_OVER: [&str; 3] = ["not_offered", "resting", "busy"];

impl AttemptRecord {
    /// The target was called.
    pub(super) fn was_called(&self) -> bool {
        !PASSED_OVER.contains(&self.outcome)
    }

    /// True if both asked the same target.
    pub(super) fn is_same_target(&self, other: &Self) -> bool {
        self.provider == other.provider && self.model == other.model
    }
}

/// What became of a request where no place was free at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// Its place in the queue when it came there, 1 being the next; of several queues the last. `None`: it did not wait.
    pub position: Option<usize>,
    /// How long it waited, in all queues together.
    pub waited: Duration,
    /// Who goes first.
    pub priority: Priority,
    /// It went on from a busy target without waiting.
    pub spilled: bool,
}

impl QueueRecord {
    /// A request that has not waited yet.
    pub const fn of(priority: Priority) -> Self {
        Self { position: None, waited: Duration::ZERO, priority, spilled: false }
    }
}

/// As in the header `x-bifrost-attempts`: `openai/gpt-x rate_limited 12ms, openrouter/openai/gpt-x ok 900ms`.
pub fn trail(attempts: &[AttemptRecord]) -> String {
    let mut trail = String::with_capacity(64 * attempts.len());
    for attempt in attempts {
        let before = if trail.is_empty() { "" } else { ", " };
        let mut number = itoa::Buffer::new();
        let millis = number.format(attempt.millis);
        for word in [before, &attempt.provider, "/", &attempt.model, " ", attempt.outcome, " ", millis, "ms"] {
            trail.push_str(word);
        }
    }
    trail
}

/// What went wrong, without the words: those may quote the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The stable code.
    pub code: Option<String>,
    /// The request field that is wrong.
    pub param: Option<String>,
}

impl From<&ChatError> for ErrorRecord {
    fn from(error: &ChatError) -> Self {
        Self { kind: error.kind, code: error.code.clone(), param: error.param.clone() }
    }
}

impl ErrorRecord {
    /// The kind as it stands in the log and in the label `error_type`.
    pub const fn label(&self) -> &'static str {
        match self.kind {
            ErrorKind::InvalidRequest => "invalid_request",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Permission => "permission",
            ErrorKind::NotFound => "not_found",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::QuotaExceeded => "quota_exceeded",
            ErrorKind::ContextTooLong => "context_too_long",
            ErrorKind::ContentFilter => "content_filter",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Upstream => "upstream",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal",
        }
    }
}

impl Default for ExchangeRecord {
    fn default() -> Self {
        Self {
            id: Arc::from(""),
            started: SystemTime::UNIX_EPOCH,
            ingress: DialectId::OpenAiChat,
            operation: Operation::default(),
            requested_model: String::new(),
            class: None,
            class_reason: None,
            provider: None,
            model: None,
            response_model: None,
            known_model: false,
            attempts: Vec::new(),
            queue: None,
            stream: false,
            status: 0,
            error: None,
            local_only: false,
            substituted: None,
            losses: Losses::new(),
            usage: None,
            prices: Prices::default(),
            total: Duration::ZERO,
            upstream: None,
            first_token: None,
            skipped: 0,
            overhead: None,
            bytes_in: 0,
            bytes_out: 0,
            cancelled: false,
            upstream_request_id: None,
            trace: None,
        }
    }
}

impl ExchangeRecord {
    /// The record of an exchange that begins now. It counts as cancelled until somebody writes down how it ended.
    pub fn begin(id: Arc<str>, ingress: DialectId, operation: Operation, local_only: bool) -> Self {
        Self { id, started: SystemTime::now(), ingress, operation, local_only, cancelled: true, ..Self::default() }
    }

    /// What went wrong, as it stands in the label and the attribute `error.type`; one that was left is `cancelled`.
    pub fn error_type(&self) -> Option<&'static str> {
        match &self.error {
            Some(error) => Some(error.label()),
            None => self.cancelled.then_some("cancelled"),
        }
    }

    /// What the answer cost, in US dollars; `None` if nobody answered, or a price or the usage is not known. No vendor
    /// asks money for counting tokens.
    pub fn cost_usd(&self) -> Option<f64> {
        self.provider.as_ref()?;
        if self.operation == Operation::CountTokens { Some(0.0) } else { self.prices.cost(self.usage.as_ref()) }
    }

    /// How many of the attempts asked a target again.
    pub fn retries(&self) -> u64 {
        self.attempts.iter().filter(|attempt| attempt.retry).count() as u64
    }

    /// The last attempt that was a call.
    pub fn last_call(&self) -> Option<&AttemptRecord> {
        self.attempts.iter().rev().find(|attempt| attempt.was_called())
    }

    /// The time of a whole stream after its first content, per token after the first: as the conventions count
    /// `gen_ai.server.time_per_output_token`.
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let first = self.first_token.filter(|_| self.stream && self.error_type().is_none())?;
        let after_first = self.usage?.output.checked_sub(1).filter(|tokens| *tokens > 0)?;
        Some(self.total.saturating_sub(first).div_f64(after_first as f64))
    }

    /// The target that should have answered, when another one did.
    pub fn fell_back_from(&self) -> Option<&AttemptRecord> {
        let first = self.attempts.first()?;
        let (provider, model) = (self.provider.as_ref()?, self.model.as_ref()?);
        (first.provider != *provider || first.model != *model).then_some(first)
    }

    /// The status for counting: one that was never sent is nginx's 499, "client closed request".
    pub(super) fn counted_status(&self) -> u16 {
        if self.status == 0 { ErrorKind::Cancelled.status() } else { self.status }
    }

    /// Cuts what others wrote to bounded lengths: the ring keeps records for long.
    pub(super) fn shorten(&mut self) {
        cut_shared(&mut self.id);
        for name in [&mut self.provider, &mut self.model].into_iter().flatten() {
            cut_shared(name);
        }
        cut(&mut self.requested_model, MAX_NAME);
        let optional = [
            (&mut self.class, MAX_NAME),
            (&mut self.class_reason, MAX_TEXT),
            (&mut self.response_model, MAX_NAME),
            (&mut self.substituted, MAX_NAME),
            (&mut self.upstream_request_id, MAX_NAME),
        ];
        for (text, limit) in optional {
            if let Some(text) = text {
                cut(text, limit);
            }
        }
        if let Some(error) = &mut self.error {
            for text in [&mut error.code, &mut error.param].into_iter().flatten() {
                cut(text, MAX_NAME);
            }
        }
        for attempt in &mut self.attempts {
            cut_shared(&mut attempt.model);
            if let Some(text) = &mut attempt.error {
                cut(text, MAX_TEXT);
            }
        }
        if self.losses.iter().count() > MAX_LOSSES || self.losses.iter().any(|loss| loss.field.len() > MAX_NAME) {
            let mut kept = Losses::new();
            for loss in self.losses.iter().take(MAX_LOSSES) {
                let mut loss = loss.clone();
                if let Cow::Owned(field) = &mut loss.field {
                    cut(field, MAX_NAME);
                }
                kept.add(loss);
            }
            self.losses = kept;
        }
    }
}

/// Cuts `text` to at most `limit` bytes, the mark of the cut included, and gives the memory back.
fn cut(text: &mut String, limit: usize) {
    const MARK: &str = "…";
    if text.len() > limit {
        let end = (0..=limit - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MARK);
        text.shrink_to_fit();
    }
}

/// The same for a name that is shared.
fn cut_shared(name: &mut Arc<str>) {
    if name.len() > MAX_NAME {
        let mut shorter = String::from(&**name);
        cut(&mut shorter, MAX_NAME);
        *name = Arc::from(shorter);
    }
}

/// As at `GET /admin/exchanges/{id}` and in JSON log lines: absent facts are null, times are UTC, durations say their unit.
impl Serialize for ExchangeRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &*self.id)?;
        map.serialize_entry("started", &access::Rfc3339(self.started).to_string())?;
        map.serialize_entry("ingress", self.ingress.name())?;
        map.serialize_entry("operation", self.operation.name())?;
        map.serialize_entry("requested_model", &self.requested_model)?;
        map.serialize_entry("class", &self.class)?;
        map.serialize_entry("class_reason", &self.class_reason)?;
        map.serialize_entry("provider", &self.provider.as_deref())?;
        map.serialize_entry("model", &self.model.as_deref())?;
        map.serialize_entry("response_model", &self.response_model)?;
        map.serialize_entry("attempts", &self.attempts)?;
        map.serialize_entry("queue", &self.queue)?;
        map.serialize_entry("stream", &self.stream)?;
        map.serialize_entry("status", &(self.status != 0).then_some(self.status))?;
        map.serialize_entry("error", &self.error)?;
        map.serialize_entry("cancelled", &self.cancelled)?;
        map.serialize_entry("local_only", &self.local_only)?;
        map.serialize_entry("substituted", &self.substituted)?;
        map.serialize_entry("losses", &LossList(&self.losses))?;
        map.serialize_entry("usage", &self.usage.as_ref().map(UsageFields))?;
        map.serialize_entry("cost_usd", &self.cost_usd())?;
        map.serialize_entry("total_ms", &millis(self.total))?;
        map.serialize_entry("upstream_ms", &self.upstream.map(millis))?;
        map.serialize_entry("first_token_ms", &self.first_token.map(millis))?;
        map.serialize_entry("skipped", &self.skipped)?;
        map.serialize_entry("overhead_us", &self.overhead.map(|time| time.as_micros() as u64))?;
        map.serialize_entry("bytes_in", &self.bytes_in)?;
        map.serialize_entry("bytes_out", &self.bytes_out)?;
        map.serialize_entry("upstream_request_id", &self.upstream_request_id)?;
        map.serialize_entry("trace_id", &self.trace.as_ref().map(|trace| trace.id()))?;
        map.end()
    }
}

/// Milliseconds with microseconds behind the point.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

impl Serialize for AttemptRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(9))?;
        map.serialize_entry("provider", &*self.provider)?;
        map.serialize_entry("model", &*self.model)?;
        map.serialize_entry("outcome", self.outcome)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("retry", &self.retry)?;
        map.serialize_entry("waited_ms", &millis(self.waited))?;
        map.serialize_entry("began_ms", &millis(self.began))?;
        map.serialize_entry("ms", &self.millis)?;
        map.serialize_entry("error", &self.error)?;
        map.end()
    }
}

impl Serialize for QueueRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("position", &self.position)?;
        map.serialize_entry("waited_ms", &millis(self.waited))?;
        map.serialize_entry("priority", self.priority.name())?;
        map.serialize_entry("spilled", &self.spilled)?;
        map.end()
    }
}

impl Serialize for ErrorRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kind", self.label())?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("param", &self.param)?;
        map.end()
    }
}

struct LossList<'a>(&'a Losses);

impl Serialize for LossList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for loss in self.0.iter() {
            list.serialize_element(&LossFields { field: &loss.field, kind: kind_name(loss.kind) })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct LossFields<'a> {
    field: &'a str,
    kind: &'static str,
}

const fn kind_name(kind: LossKind) -> &'static str {
    match kind {
        LossKind::Dropped => "dropped",
        LossKind::Approximated => "approximated",
    }
}

struct UsageFields<'a>(&'a Usage);

impl Serialize for UsageFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("input", &self.0.input)?;
        map.serialize_entry("output", &self.0.output)?;
        map.serialize_entry("cache_read", &self.0.cache_read)?;
        map.serialize_entry("cache_write", &self.0.cache_write)?;
        map.serialize_entry("cache_write_1h", &self.0.cache_write_1h)?;
        map.serialize_entry("reasoning", &self.0.reasoning)?;
        map.end()
    }
}
