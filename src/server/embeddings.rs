//! Embeddings: OpenAI's and Gemini's forms, to providers of either.

use super::attempt::{AnswerFacts, Live, Terms, Whole, ask, no_answer};
use super::exchange::Exchange;
use super::splice::with_model;
use crate::chat::{ChatError, DialectId, EmbeddingRequest, EmbeddingResponse, ErrorKind, Losses};
use crate::dialect::{gemini::embedding as gemini, openai_embeddings as openai};
use crate::provider::Endpoint;
use crate::route::Target;
use crate::upstream::{Failure, Outcome};
use bytes::Bytes;
use http::Uri;
use tokio::time::Instant;

/// Asks one target.
///
/// # Errors
/// It gave no vectors.
pub async fn run(exchange: &Exchange, target: &Target, terms: &Terms) -> Result<Live, Failure> {
    let provider = &target.provider;
    let Some(endpoint) = endpoint(exchange.ingress, &provider.endpoints) else {
        let message =
            format!("{} offers no embeddings. Ask for an embedding model of another provider.", provider.name);
        let error = ChatError::invalid("model", message).with_code("no_embeddings");
        return Err(Failure::new(Outcome::NotOffered, error));
    };
    let mut losses = Losses::new();
    let mut request = parse(exchange).map_err(Failure::from_error)?;
    // Gemini repeats the model inside the body, so its bytes can stay only where the name does.
    let same = endpoint.dialect == exchange.ingress;
    let keeps_bytes = same && (endpoint.dialect == DialectId::OpenAiChat || *exchange.asked == *target.model);
    request.model = target.model.to_string();
    let path = match endpoint.dialect {
        DialectId::Gemini => gemini::path(&request),
        DialectId::OpenAiChat | DialectId::Anthropic => openai::PATH.to_owned(),
    };
    let body = if keeps_bytes {
        with_model(exchange, &target.model)
    } else {
        match endpoint.dialect {
            DialectId::Gemini => gemini::write_request(&request, &mut losses).map_err(Failure::from_error)?,
            DialectId::OpenAiChat | DialectId::Anthropic => openai::write_request(&request, &mut losses),
        }
    };
    let sent = Instant::now();
    let limit = terms.limit(false, false, sent);
    let answer =
        ask(exchange, provider, endpoint, Uri::try_from(endpoint.url(&path)), Bytes::from(body), terms, limit).await?;
    let (status, headers) = (Some(answer.status.as_u16()), answer.headers);
    let body = answer.body.whole(limit.at, limit.phase).await?;
    let response = match endpoint.dialect {
        DialectId::Gemini => gemini::parse_response(&body),
        DialectId::OpenAiChat | DialectId::Anthropic => openai::parse_response(&body),
    };
    let response = response.map_err(|error| no_answer(error, provider))?;
    let body = if same { body } else { write(exchange.ingress, &response, &request, &mut losses) };
    let facts =
        Box::new(AnswerFacts { status, headers, losses, model: response.model, received: Instant::now(), sent });
    Ok(Live::Whole(Whole { body, facts, usage: response.usage }))
}

/// Where embeddings are asked for: in the client's own dialect if it can be, in any that has them else.
fn endpoint(ingress: DialectId, endpoints: &[Endpoint]) -> Option<&Endpoint> {
    let has_them = |endpoint: &&Endpoint| endpoint.dialect != DialectId::Anthropic;
    let own = endpoints.iter().find(|endpoint| endpoint.dialect == ingress);
    own.or_else(|| endpoints.iter().find(has_them)).filter(has_them)
}

fn parse(exchange: &Exchange) -> Result<EmbeddingRequest, ChatError> {
    match exchange.ingress {
        DialectId::OpenAiChat => openai::parse_request(&exchange.body),
        DialectId::Gemini => gemini::parse_request(&exchange.body, &exchange.hints),
        DialectId::Anthropic => Err(ChatError::new(ErrorKind::NotFound, "Anthropic's API has no embeddings.")),
    }
}

fn write(ingress: DialectId, response: &EmbeddingResponse, request: &EmbeddingRequest, losses: &mut Losses) -> Bytes {
    Bytes::from(match ingress {
        DialectId::Gemini => gemini::write_response(response, request.single, losses),
        DialectId::OpenAiChat | DialectId::Anthropic => openai::write_response(response, request.encoding, losses),
    })
}
