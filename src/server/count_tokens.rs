//! How many tokens a request would have: asked where the provider can count, estimated where it cannot.

use super::attempt::{AnswerFacts, Live, Terms, Whole, ask, no_answer};
use super::exchange::Exchange;
use super::splice::splice;
use crate::chat::{ChatError, DialectId, ErrorKind, Losses, Part, Request};
use crate::dialect::{anthropic, gemini};
use crate::observe::Operation;
use crate::route::Target;
use crate::upstream::Failure;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::time::Instant;

/// Bytes of text per token, the rule of thumb of the vendors' own documentation for English.
const BYTES_PER_TOKEN: usize = 4;

/// The tokens of a request to this target are estimated, and nobody is called.
pub fn is_estimated(exchange: &Exchange, target: &Target) -> bool {
    exchange.operation == Operation::CountTokens
        && target.provider.endpoint_for(exchange.ingress).dialect == DialectId::OpenAiChat
}

/// Asks one target, whose dialect has a call that counts.
///
/// # Errors
/// It gave no count.
pub async fn run(exchange: &Exchange, target: &Target, terms: &Terms) -> Result<Live, Failure> {
    let endpoint = target.provider.endpoint_for(exchange.ingress);
    // Anthropic's is the other dialect with such a call: for a target of OpenAI's nobody is asked (`is_estimated`).
    let is_gemini = endpoint.dialect == DialectId::Gemini;
    let path =
        if is_gemini { gemini::count_tokens::path(&target.model) } else { anthropic::COUNT_TOKENS_PATH.to_owned() };
    let mut losses = Losses::new();
    let same = endpoint.dialect == exchange.ingress;
    let body = if same {
        // The request as it would be sent: what a provider refuses there it refuses here.
        splice(exchange, &target.provider, &target.model, &mut losses).map_err(Failure::from_error)?.bytes
    } else {
        let mut request = request(exchange).map_err(Failure::from_error)?;
        request.model = target.model.to_string();
        Bytes::from(if is_gemini {
            gemini::count_tokens::write_request(&request, &mut losses)
        } else {
            anthropic::write_count_request(&request, &target.provider.profile, &mut losses)
        })
    };
    let sent = Instant::now();
    let limit = terms.limit(false, false, sent);
    let url = Uri::try_from(endpoint.url(&path));
    let answer = match ask(exchange, &target.provider, endpoint, url, body, terms, limit).await {
        // Clients count pieces of a conversation too (Gemini CLI a lone result of a tool), which other dialects refuse.
        Err(failure) if !same && failure.error.kind == ErrorKind::InvalidRequest => {
            let facts = AnswerFacts { received: Instant::now(), sent, ..estimated(failure.error.status) };
            return guess(exchange, facts);
        }
        answer => answer?,
    };
    let (status, headers) = (Some(answer.status.as_u16()), answer.headers);
    let body = answer.body.whole(limit.at, limit.phase).await?;
    let facts = Box::new(AnswerFacts { status, headers, losses, model: None, received: Instant::now(), sent });
    let tokens =
        if is_gemini { gemini::count_tokens::parse_response(&body) } else { anthropic::parse_count_response(&body) };
    let tokens = tokens.map_err(|error| no_answer(error, &target.provider))?;
    let body = if same { body } else { written(exchange.ingress, tokens) };
    Ok(Live::Whole(Whole { body, facts, usage: None }))
}

fn request(exchange: &Exchange) -> Result<Request, ChatError> {
    match exchange.ingress {
        DialectId::Gemini => gemini::count_tokens::parse_request(&exchange.body, &exchange.hints),
        DialectId::Anthropic | DialectId::OpenAiChat => exchange.request().cloned(),
    }
}

/// OpenAI's dialect has no call that counts; an estimate is what its clients use too, and the loss says that it is one.
/// Nobody is called, so it is no attempt, and nothing is learned of the target.
///
/// # Errors
/// The request could not be read.
pub fn estimate(exchange: &Exchange, target: &Target) -> Result<Live, Failure> {
    let live = guess(exchange, estimated(None))?;
    exchange.answered(target, live.facts(), None);
    Ok(live)
}

/// What is known of an answer that is an estimate. `status`: that of who was asked before.
fn estimated(status: Option<u16>) -> AnswerFacts {
    let mut losses = Losses::new();
    losses.approximated("input_tokens");
    let now = Instant::now();
    AnswerFacts { status, headers: HeaderMap::new(), losses, model: None, received: now, sent: now }
}

fn guess(exchange: &Exchange, facts: AnswerFacts) -> Result<Live, Failure> {
    let request = request(exchange).map_err(Failure::from_error)?;
    let texts = request.messages.iter().flat_map(|message| &message.parts).map(text_length).sum::<usize>();
    let tools = request.tools.iter().map(|tool| format!("{tool:?}").len()).sum::<usize>();
    let tokens = (texts + tools).div_ceil(BYTES_PER_TOKEN).max(1) as u64;
    Ok(Live::Whole(Whole { body: written(exchange.ingress, tokens), facts: Box::new(facts), usage: None }))
}

fn text_length(part: &Part) -> usize {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => text.len(),
        Part::Reasoning(part) => part.text.len(),
        Part::ToolCall(call) => call.name.len() + call.arguments.len(),
        Part::ToolResult(result) => result.content.iter().map(text_length).sum(),
        // A picture of middling size, by Anthropic's formula (width x height / 750).
        Part::Media(_) => 1_300 * BYTES_PER_TOKEN,
        Part::Foreign { value, .. } => value.to_string().len(),
    }
}

fn written(ingress: DialectId, tokens: u64) -> Bytes {
    Bytes::from(match ingress {
        DialectId::Gemini => gemini::count_tokens::write_response(tokens),
        DialectId::Anthropic | DialectId::OpenAiChat => anthropic::write_count_response(tokens),
    })
}
