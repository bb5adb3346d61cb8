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
    let object = match &stripped {
        Some(body) => scan(body)?,
        None => exchange.object(),
    };
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
    for edit in provider.edits.iter().filter(|edit| edit.dialect() == exchange.ingress) {
        match edit {
            BodyEdit::MaxTokensName => edits::max_tokens_name(&object, &mut changes),
            BodyEdit::MaxCompletionTokensName => edits::max_completion_tokens_name(&object, &mut changes),
            BodyEdit::StopAsList => edits::stop_as_list(&object, &mut changes),
            BodyEdit::DeveloperAsSystem => edits::developer_as_system(&object, &mut changes),
            BodyEdit::ThinkingSwitch => edits::thinking_switch(&object, &mut changes, losses),
            BodyEdit::ThinkingForm => anthropic::edits::thinking_form(&object, model, &mut changes, losses),
            BodyEdit::SystemMessages => anthropic::edits::system_messages(&object, model, &mut changes, losses),
            BodyEdit::IncludeUsage if exchange.stream => hide_usage = usage_chunk::ask(&object, &mut changes),
            BodyEdit::IncludeUsage => {}
        }
    }
    let reasons = asks_for_reasoning(&object, exchange.ingress);
    Ok(Spliced { bytes: Bytes::from(changes.apply()), hide_usage, reasons })
}

/// Whether a field of the dialect's asks for reasoning; one that switches it off does not.
fn asks_for_reasoning(object: &Object<'_>, dialect: DialectId) -> bool {
    let asks = |value: &[u8]| match Object::scan(value) {
        Ok(value) => {
            let says = |name, no| value.string(name).is_some_and(|word| word == no);
            let off = says("type", "disabled") || says("effort", "none") || value.boolean("enabled") == Some(false);
            !off && ["thinkingBudget", "thinking_budget"].iter().all(|name| value.raw(name) != Some(b"0"))
        }
        Err(_) => value != b"null" && value != br#""none""#,
    };
    let inner = |name| object.raw(name).and_then(|raw| Object::scan(raw).ok());
    if dialect == DialectId::Gemini {
        // It takes names in either case.
        let config = inner("generationConfig").or_else(|| inner("generation_config"));
        let thinking = config.as_ref().and_then(|it| it.raw("thinkingConfig").or_else(|| it.raw("thinking_config")));
        return thinking.is_some_and(asks);
    }
    if ["reasoning_effort", "reasoning", "thinking"].iter().filter_map(|name| object.raw(name)).any(asks) {
        return true;
    }
    // What vLLM's templates and Alibaba know it by.
    let switch = |object: &Object<'_>| object.boolean("enable_thinking") == Some(true);
    let has_switch = || switch(object) || inner("chat_template_kwargs").as_ref().is_some_and(switch);
    dialect == DialectId::OpenAiChat && has_switch()
}

/// The client's bytes with the model's name in the place of what the client asked for; Gemini names it in the URL.
pub fn with_model(exchange: &Exchange, model: &str) -> Vec<u8> {
    let object = exchange.object();
    let mut changes = object.edit();
    if exchange.ingress != DialectId::Gemini {
        changes.set("model", &json::quoted(model));
    }
    changes.remove("fallbacks");
    changes.apply()
}

fn scan(body: &[u8]) -> Result<Object<'_>, ChatError> {
    Object::scan(body).map_err(|error| ChatError::new(ErrorKind::InvalidRequest, error.to_string()))
}
