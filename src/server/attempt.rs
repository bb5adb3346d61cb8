//! One call of one target: the body it gets, the answer it gives.

use super::exchange::Exchange;
use super::relay::{Relay, RelayOptions};
use super::splice::{self, Spliced};
use super::{count_tokens, directory, embeddings};
use crate::chat::{ChatError, DialectId, ErrorKind, Losses, Request, Response, SignatureOrigin, Usage};
use crate::dialect::{self, ReasoningStyle, StreamOptions};
use crate::local::llama_swap::is_failed_load;
use crate::observe::{Event, Operation};
use crate::provider::{BodyEdit, Deadlines, Endpoint, MLX_LOCAL, Provider};
use crate::route::{PlanError, Target};
use crate::secret::Secret;
use crate::upstream::auth::{Credential, without_scheme};
use crate::upstream::{Answer, Call, Failure, LOAD_FAILED, OriginalError, Outcome, Phase, limit_reset, retry_after};
use crate::wire::json::Object;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::InvalidUri;
use http::{HeaderMap, Method, Uri};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Headers of the client's that its own vendor gets to see.
pub static FORWARDED: [HeaderName; 6] = [
    HeaderName::from_static("anthropic-beta"),
    ANTHROPIC_VERSION,
    OPENAI_ORGANIZATION,
    OPENAI_PROJECT,
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("idempotency-key"),
];

/// So much of an error answer is read, in bytes: its status says what follows, and the rest is for people.
const MAX_REFUSAL: usize = 1024 * 1024;
/// The body of an error answer is waited for so long.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// The version that requests to Anthropic's dialect name when the client named none.
pub const USUAL_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
/// Which version of its API a request to Anthropic's dialect means.
pub const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const OPENAI_ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const OPENAI_PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// With these codes OpenAI says 401 to a good key, and means another header.
static NOT_OF_THE_KEY: [(&str, HeaderName); 4] = [
    ("mismatched_organization", OPENAI_ORGANIZATION),
    ("invalid_organization", OPENAI_ORGANIZATION),
    ("mismatched_project", OPENAI_PROJECT),
    ("invalid_project", OPENAI_PROJECT),
];

/// A target that answers.
pub enum Live {
    /// The whole answer, in the client's dialect.
    Whole(Whole),
    /// A stream whose first content has come.
    Stream(Box<Relay>, Box<AnswerFacts>),
}

/// A whole answer, in the client's dialect.
pub struct Whole {
    /// The body.
    pub body: Bytes,
    /// What is known of it.
    pub facts: Box<AnswerFacts>,
    /// Token counts.
    pub usage: Option<Usage>,
}

impl Live {
    /// What is known of the answer besides its body.
    pub fn facts(&self) -> &AnswerFacts {
        match self {
            Self::Whole(whole) => &whole.facts,
            Self::Stream(_, facts) => facts,
        }
    }
}

/// What is known of an answer besides its body.
pub struct AnswerFacts {
    /// The provider's status; `None` where nobody was called.
    pub status: Option<u16>,
    /// The provider's headers.
    pub headers: HeaderMap,
    /// What the translations could not carry.
    pub losses: Losses,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// When the answer (its first content, for a stream) was there.
    pub received: Instant,
    /// When the call was sent.
    pub sent: Instant,
}

/// On what terms a target is asked.
pub struct Terms {
    /// What it is called with.
    pub credential: Credential,
    /// The limits of time of this request at this target.
    pub deadlines: Deadlines,
    /// The end of the time of all attempts.
    pub budget_ends: Instant,
}

/// By when an answer (the first content of a stream) must be there.
#[derive(Clone, Copy)]
pub struct Limit {
    /// The moment.
    pub at: Instant,
    /// What has run out then.
    pub phase: Phase,
    /// The longest silence in a stream after its first content.
    pub idle: Duration,
}

impl Terms {
    /// The limit of a call that is sent now.
    pub fn limit(&self, stream: bool, reasons: bool, now: Instant) -> Limit {
        let (time, phase) = match (stream, reasons) {
            (false, _) => (self.deadlines.whole_answer, Phase::WholeAnswer),
            (true, false) => (self.deadlines.first_token, Phase::FirstToken),
            (true, true) => (self.deadlines.first_token.max(self.deadlines.first_token_reasoning), Phase::FirstToken),
        };
        let idle = self.deadlines.idle;
        let at = (now + time).min(self.budget_ends);
        // Who had nearly all of its own limit was too slow by that; both are the same by default.
        let had_its_time = at.duration_since(now) * 10 >= time * 9;
        Limit { at, phase: if had_its_time { phase } else { Phase::Budget }, idle }
    }
}

/// Asks one target. The future may be dropped at any time; the provider then stops working.
///
/// # Errors
/// It gave no answer; the outcome says what follows.
pub async fn run(exchange: &Exchange, target: &Target, terms: &Terms) -> Result<Live, Failure> {
    let gateway = &exchange.gateway;
    let (provider, model) = (&target.provider, &target.model);
    // While the request waited, the model may have left or the mode come on; of the cloud the client itself is gone then.
    let stays_here = exchange.local_only || exchange.stays_here || gateway.mode.is_on();
    if stays_here && provider.is_local() && !gateway.directory.catalogue().is_here(provider, model) {
        return Err(Failure::new(Outcome::NotOffered, PlanError::Elsewhere { model: target.to_string() }.into()));
    }
    let answer = match exchange.operation {
        Operation::Chat => chat(exchange, target, terms).await,
        // Rare, and large: what every request carries with it stays small.
        Operation::Embeddings => Box::pin(embeddings::run(exchange, target, terms)).await,
        Operation::CountTokens => Box::pin(count_tokens::run(exchange, target, terms)).await,
    };
    answer.map_err(|mut failure| {
        hide(&terms.credential.secrets(), &mut failure);
        if &*target.provider.name == MLX_LOCAL && is_failed_load(&failure.error.message) {
            failure.error.code = Some(LOAD_FAILED.to_owned());
        }
        failure
    })
}

async fn chat(exchange: &Exchange, target: &Target, terms: &Terms) -> Result<Live, Failure> {
    let provider = &target.provider;
    let endpoint = provider.endpoint_for(exchange.ingress);
    let mut losses = Losses::new();
    let body = prepare(exchange, target, endpoint, &mut losses).map_err(Failure::from_error)?;
    let sent = Instant::now();
    let limit = terms.limit(exchange.stream, body.reasons, sent);
    let url = endpoint.chat_url(&target.model, exchange.stream);
    let mut answer = ask(exchange, provider, endpoint, url, body.bytes, terms, limit).await?;
    let (status, headers) = (Some(answer.status.as_u16()), std::mem::take(&mut answer.headers));
    let facts = Box::new(AnswerFacts { status, headers, losses, model: None, received: sent, sent });
    if exchange.stream {
        let is_events = content_type(&facts.headers).is_none_or(|kind| !kind.contains("json"));
        if is_events {
            return stream(exchange, target, endpoint, answer, body.hide_usage, facts, limit).await;
        }
    }
    whole(exchange, target, endpoint, answer, facts, limit).await
}

/// Sends `body` to `url`, one of a provider's, and waits for the head of a good answer.
///
/// # Errors
/// It could not be reached, or answered with an error.
pub async fn ask(
    exchange: &Exchange,
    provider: &Provider,
    endpoint: &Endpoint,
    url: Result<Uri, InvalidUri>,
    body: Bytes,
    terms: &Terms,
    limit: Limit,
) -> Result<Answer, Failure> {
    let headers = || headers(exchange, provider, endpoint, &terms.credential);
    let call = Call {
        provider: &provider.name,
        method: Method::POST,
        url,
        headers: &headers,
        body,
        local_only: exchange.local_only,
        connect: terms.deadlines.connect,
        deadline: limit.at,
        phase: limit.phase,
    };
    exchange.gateway.in_step().await;
    let answer = call.send(&exchange.gateway.clients).await?;
    if answer.reconnected {
        exchange.gateway.observer.tell(Event::Reconnected { provider: &provider.name });
    }
    if answer.status.is_success() {
        return Ok(answer);
    }
    let mut failure = refusal(exchange.ingress, provider, endpoint.dialect, answer, limit).await;
    let sent = headers();
    if failure.outcome == Outcome::Auth && is_of_clients_header(&failure.error, &sent, &exchange.headers) {
        failure.outcome = Outcome::ClientFault;
    }
    hide(&secrets_in(&sent), &mut failure);
    Err(failure)
}

/// The error is about a header that was sent as the client wrote it, and not about the key.
fn is_of_clients_header(error: &ChatError, sent: &HeaderMap, clients: &HeaderMap) -> bool {
    let named = NOT_OF_THE_KEY.iter().find(|(code, _)| error.code.as_deref() == Some(code));
    named.is_some_and(|(_, header)| sent.get(header).is_some_and(|value| clients.get(header) == Some(value)))
}

fn prepare(
    exchange: &Exchange,
    target: &Target,
    endpoint: &Endpoint,
    losses: &mut Losses,
) -> Result<Spliced, ChatError> {
    let (provider, model) = (&target.provider, &*target.model);
    if endpoint.dialect == exchange.ingress {
        if &*provider.name == MLX_LOCAL {
            // It would answer some bad input with a 500; the client hears of it here, in its own dialect.
            let request = exchange.request()?;
            note_stop(request, provider, losses);
        }
        return splice::splice(exchange, provider, model, losses);
    }
    let mut request = exchange.request()?.clone();
    model.clone_into(&mut request.model);
    // Where usage must be asked for, the gateway wants it; the client sees it only if its dialect or its request says so.
    request.include_usage = exchange.stream && provider.edits.contains(&BodyEdit::IncludeUsage);
    exchange.gateway.signatures.recall(&mut request, provider, verified(endpoint.dialect, provider));
    note_stop(&request, provider, losses);
    if request.reasoning.is_some() && exchange.gateway.facts(&exchange.snapshot, target).reasoning == Some(false) {
        // Such a model refuses to be asked (gpt-4o does), and has nothing to switch off.
        if asks_for_reasoning(&request) {
            losses.dropped("reasoning");
        }
        request.reasoning = None;
    }
    let reasons = asks_for_reasoning(&request);
    let bytes = dialect::get(endpoint.dialect).write_request(&request, &provider.profile, losses);
    Ok(Spliced { bytes: Bytes::from(bytes), hide_usage: false, reasons })
}

/// A server that takes stop sequences only as a list honours them only in one of its engines, and does not tell which runs.
fn note_stop(request: &Request, provider: &Provider, losses: &mut Losses) {
    if provider.profile.stop_list_only && !request.sampling.stop.is_empty() {
        losses.approximated("stop");
    }
}

fn headers(exchange: &Exchange, provider: &Provider, endpoint: &Endpoint, credential: &Credential) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if exchange.stream { "text/event-stream, application/json" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if endpoint.dialect == exchange.ingress {
        for (name, value) in exchange.headers.iter().filter(|(name, _)| FORWARDED.contains(name)) {
            headers.append(name, value.clone());
        }
    }
    if endpoint.dialect == DialectId::Anthropic {
        headers.entry(ANTHROPIC_VERSION).or_insert(USUAL_VERSION);
    }
    for (name, value) in &provider.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    credential.apply(provider.auth, &mut headers);
    headers
}

async fn stream(
    exchange: &Exchange,
    target: &Target,
    endpoint: &Endpoint,
    answer: Answer,
    hide_usage: bool,
    mut facts: Box<AnswerFacts>,
    limit: Limit,
) -> Result<Live, Failure> {
    let options = RelayOptions {
        upstream: endpoint.dialect,
        ingress: exchange.ingress,
        // Where the provider names no model, it is the one that was asked.
        stream: StreamOptions { model: target.model.to_string(), ..exchange.stream_options() },
        hide_usage,
        may_load: &*target.provider.name == MLX_LOCAL && endpoint.dialect == DialectId::OpenAiChat,
        collect: endpoint.dialect != exchange.ingress && exchange.has_tools(),
        idle: limit.idle,
    };
    let mut relay = Box::new(Relay::new(answer.body, &options));
    relay.until_content(limit.at, limit.phase).await.map_err(|failure| named(failure, &target.provider))?;
    facts.received = relay.seen().first_content.unwrap_or_else(Instant::now);
    facts.model.clone_from(&relay.seen().model);
    Ok(Live::Stream(relay, facts))
}

/// Says who failed, where the dialect could not know.
fn named(mut failure: Failure, provider: &Provider) -> Failure {
    if !failure.error.message.contains(&*provider.name) {
        failure.error.message = format!("{}: {}", provider.name, failure.error.message);
    }
    failure
}

/// The failure of a provider whose good status came with something that is no answer.
pub fn no_answer(error: ChatError, provider: &Provider) -> Failure {
    named(Failure::from_error(error), provider)
}

async fn whole(
    exchange: &Exchange,
    target: &Target,
    endpoint: &Endpoint,
    answer: Answer,
    mut facts: Box<AnswerFacts>,
    limit: Limit,
) -> Result<Live, Failure> {
    let body = answer.body.whole(limit.at, limit.phase).await?;
    facts.received = Instant::now();
    exchange.gateway.in_step().await;
    let dialect = dialect::get(endpoint.dialect);
    if endpoint.dialect == exchange.ingress && !exchange.stream {
        let told = dialect.summarise(&body).map_err(|error| no_answer(error, &target.provider))?;
        facts.model = told.model;
        return Ok(Live::Whole(Whole { body, facts, usage: told.usage }));
    }
    let mut response = dialect.parse_response(&body).map_err(|error| no_answer(error, &target.provider))?;
    let usage = response.usage;
    facts.model.clone_from(&response.model);
    if endpoint.dialect != exchange.ingress {
        exchange.gateway.signatures.learn(&response, &target.provider);
        // Not every dialect names and dates its answers; clients of those that do expect it.
        response.id.get_or_insert_with(|| exchange.id.to_string());
        response.created.get_or_insert_with(directory::now);
    }
    response.model.get_or_insert_with(|| target.model.to_string());
    let body = if exchange.stream {
        as_stream(exchange, response, &mut facts.losses)
    } else {
        Bytes::from(dialect::get(exchange.ingress).write_response(&response, &mut facts.losses))
    };
    Ok(Live::Whole(Whole { body, facts, usage }))
}

/// The client asked for a stream and the provider answered at once.
fn as_stream(exchange: &Exchange, response: Response, losses: &mut Losses) -> Bytes {
    let mut encoder = dialect::get(exchange.ingress).encoder(&exchange.stream_options());
    let mut out = Vec::new();
    for event in response.into_events() {
        encoder.encode(&event, &mut out, losses);
    }
    encoder.finish(&mut out, losses);
    Bytes::from(out)
}

/// Reads an error answer; the client gets its very bytes if they are in its own dialect.
async fn refusal(ingress: DialectId, provider: &Provider, dialect: DialectId, answer: Answer, limit: Limit) -> Failure {
    let status = answer.status.as_u16();
    if answer.status.is_redirection() {
        let name = &provider.name;
        let message = format!(
            "{name} answered with a redirect ({status}), and Bifrost follows none: a key could go astray. Set `base_url` in [providers.{name}] to the address that answers itself."
        );
        return Failure::from_error(ChatError::new(ErrorKind::Upstream, message).with_code("upstream_redirect"));
    }
    let headers = answer.headers;
    let ends = limit.at.min(Instant::now() + REFUSAL_TIME);
    let body = match answer.body.beginning(MAX_REFUSAL, ends).await {
        Ok(body) => body,
        Err(failure) => return failure,
    };
    let mut error = dialect::get(dialect).parse_error(status, &body);
    let now = SystemTime::now();
    error.retry_after = retry_after(&headers, now).or(error.retry_after);
    if error.kind == ErrorKind::RateLimited && error.retry_after.is_none() {
        error.retry_after = limit_reset(&headers, now);
    }
    if &*provider.name == MLX_LOCAL
        && status == 500
        && content_type(&headers).is_some_and(|kind| kind.starts_with("text/plain"))
        && matches!(body.trim_ascii(), b"" | b"Internal Server Error")
    {
        // vllm-mlx says so of input that it did not expect; of its own failures it says more.
        error.kind = ErrorKind::InvalidRequest;
        error.message = "the local server could not read this request (it answered 500 without a reason); compare it with a request that works".to_owned();
    }
    let mut failure = Failure { headers: Box::new(headers), ..Failure::from_error(error) };
    let speaks_it =
        Object::scan(&body).is_ok_and(|object| object.raw("error").is_some_and(|error| error.starts_with(b"{")));
    if dialect == ingress && speaks_it {
        failure.original = Some(OriginalError { status, body });
    }
    // Not passed on as it stands, it no longer tells by itself who said it.
    if failure.original.is_none() {
        failure = named(failure, provider);
    }
    failure
}

/// What a provider must not say back: the credentials that were sent to it.
fn secrets_in(headers: &HeaderMap) -> Vec<Secret> {
    let sensitive = headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
    sensitive.map(|text| Secret::new(without_scheme(text))).collect()
}

/// Some providers quote the key that they refuse; neither the client nor the log is to see it.
fn hide(secrets: &[Secret], failure: &mut Failure) {
    for secret in secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()) {
        failure.error.message = failure.error.message.replace(secret, "***");
        let told = failure.error.details.as_ref().is_some_and(|details| details.to_string().contains(secret));
        failure.error.details = failure.error.details.take().filter(|_| !told);
        let quotes = |original: &OriginalError| String::from_utf8_lossy(&original.body).contains(secret);
        failure.original = failure.original.take().filter(|original| !quotes(original));
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

fn asks_for_reasoning(request: &Request) -> bool {
    request.reasoning.as_ref().is_some_and(|reasoning| reasoning.mode != crate::chat::ReasoningMode::Off)
}

/// Whose proofs `provider` can verify in `dialect`; `None` where it hands them to whoever made them.
fn verified(dialect: DialectId, provider: &Provider) -> Option<SignatureOrigin> {
    match dialect {
        DialectId::OpenAiChat if provider.profile.reasoning == ReasoningStyle::Object => None,
        DialectId::OpenAiChat => Some(SignatureOrigin::Unknown),
        DialectId::Anthropic => Some(SignatureOrigin::Anthropic),
        DialectId::Gemini => Some(SignatureOrigin::Gemini),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_had_all_of_its_time_was_too_slow_by_its_own_limit() {
        let now = Instant::now();
        let terms = |budget_ends| Terms { credential: Credential::None, deadlines: Deadlines::CLOUD, budget_ends };
        // By default both are the same, and the request began a moment before.
        let usual = terms(now + Deadlines::CLOUD.budget - Duration::from_millis(20));
        assert_eq!(usual.limit(false, false, now).phase, Phase::WholeAnswer);
        let late = terms(now + Duration::from_secs(30));
        let limit = late.limit(true, false, now);
        assert_eq!((limit.phase, limit.at), (Phase::Budget, late.budget_ends));
    }
}
