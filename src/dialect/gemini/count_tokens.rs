//! `models/{model}:countTokens`: <https://ai.google.dev/api/tokens>.

use super::fields::Fields;
use super::{model_path, request_read, request_write};
use crate::chat::{ChatError, ErrorKind, Losses, Request};
use crate::dialect::UrlHints;
use serde_json::{Value, json};

/// The path of the call, from the base URL on.
pub fn path(model: &str) -> String {
    model_path(model, "countTokens")
}

/// Reads a client's request: `{contents}`, or `{generateContentRequest}` with all that a chat would hold.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field that is wrong.
pub fn parse_request(body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
    let fields = serde_json::from_slice(body).ok().and_then(Fields::of);
    let mut fields = fields.ok_or_else(|| {
        ChatError::new(
            ErrorKind::InvalidRequest,
            "the body must be a JSON object with `contents` or `generateContentRequest`",
        )
    })?;
    let inner = fields.take_object("generateContentRequest");
    request_read::read_fields(inner.unwrap_or(fields), url)
}

/// Writes a request to a provider.
pub fn write_request(request: &Request, losses: &mut Losses) -> Vec<u8> {
    let mut chat = request_write::write(request, losses);
    let only_contents = chat.as_object().is_some_and(|members| members.keys().all(|name| name == "contents"));
    if only_contents {
        return chat.to_string().into_bytes();
    }
    let model = &request.model;
    chat["model"] = if model.contains('/') { model.as_str().into() } else { format!("models/{model}").into() };
    json!({ "generateContentRequest": chat }).to_string().into_bytes()
}

/// Reads a provider's answer: the number of tokens.
///
/// # Errors
/// [`ErrorKind::Upstream`] when it holds no `totalTokens`.
pub fn parse_response(body: &[u8]) -> Result<u64, ChatError> {
    let fields = serde_json::from_slice::<Value>(body).ok().and_then(Fields::of);
    let count = fields.and_then(|mut fields| fields.take_count("totalTokens"));
    count.ok_or_else(|| ChatError::new(ErrorKind::Upstream, "the provider's answer to countTokens has no totalTokens"))
}

/// Writes an answer to a client.
pub fn write_response(tokens: u64) -> Vec<u8> {
    json!({ "totalTokens": tokens }).to_string().into_bytes()
}
