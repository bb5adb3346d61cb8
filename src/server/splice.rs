//! The body of a call whose dialect is the client's own: the client's bytes, with the model's name and declared edits.

use super::exchange::Exchange;
use crate::chat::{ChatError, DialectId, ErrorKind, Losses};
use crate::dialect::openai_chat::{edits, usage_chunk};
use crate::dialect::{anthropic, gemini, openai_chat};
use crate::provider::{BodyEdit, Provider};
use crate::wire::json::{self, Object};
use bytes::Bytes;

/// A body as it goes to a provider.
pub struct Spliced {
    /// The bytes.
    pub bytes: Bytes,
    /// The gateway asked for usage in the stream, the client did not.
    pub hide_usage: bool,
    /// The request asks for reasoning.
    pub reasons: bool,
}

/// The client's bytes, with the model's name and the edits that the provider's row declares.
///
/// # Errors
/// The body is no JSON object.
pub fn splice(
    exchange: &Exchange,
    provider: &Provider,
    model: &str,
    losses: &mut Losses,
) -> Result<Spliced, ChatError> {
    let stripped = match exchange.ingress {
        DialectId::Anthropic => anthropic::strip_foreign_signatures(&exchange.body),
        DialectId::Gemini => gemini::strip_foreign_signatures(&exchange.body),
        DialectId::OpenAiChat => openai_chat::strip_reasoning_history(&exchange.body, &provider.profile),
    };
    if stripped.is_some() {
        losses.dropped("reasoning");
    }
    let object = scan(stripped.as_deref().unwrap_or(&exchange.body))?;
    for field in provider.profile.ignored_fields {
        if object.raw(field).is_some_and(|value| value != b"null") {
            losses.dropped(*field);
        }
    }
    let mut changes = object.edit();
    if exchange.ingress != DialectId::Gemini {
        changes.set("model", &json::quoted(model));
    }
    changes.remove("fallbacks");
    let mut hide_usage = false;
    for edit in &provider.edits {
        match edit {
            BodyEdit::MaxTokensName => edits::max_tokens_name(&object, &mut changes),
            BodyEdit::StopAsList => edits::stop_as_list(&object, &mut changes),
            BodyEdit::DeveloperAsSystem => edits::developer_as_system(&object, &mut changes),
            BodyEdit::ThinkingSwitch => edits::thinking_switch(&object, &mut changes, losses),
            BodyEdit::IncludeUsage if exchange.stream => hide_usage = usage_chunk::ask(&object, &mut changes),
            BodyEdit::IncludeUsage => {}
        }
    }
    let reasons = ["reasoning_effort", "reasoning", "thinking"].iter().any(|name| object.member(name).is_some());
    Ok(Spliced { bytes: Bytes::from(changes.apply()), hide_usage, reasons })
}

/// The client's bytes with the model's name in the place of what the client asked for; Gemini names it in the URL.
///
/// # Errors
/// The body is no JSON object.
pub fn with_model(exchange: &Exchange, model: &str) -> Result<Vec<u8>, ChatError> {
    let object = scan(&exchange.body)?;
    let mut changes = object.edit();
    if exchange.ingress != DialectId::Gemini {
        changes.set("model", &json::quoted(model));
    }
    changes.remove("fallbacks");
    Ok(changes.apply())
}

fn scan(body: &[u8]) -> Result<Object<'_>, ChatError> {
    Object::scan(body).map_err(|error| ChatError::new(ErrorKind::InvalidRequest, error.to_string()))
}
