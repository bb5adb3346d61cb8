//! Google Gemini's `generateContent` (Gemini API `v1beta`; Vertex AI takes the same bodies).
//!
//! Source of the wire format: <https://ai.google.dev/api/generate-content> and the types of `googleapis/python-genai`
//! (August 2026). It is proto3 JSON, so every name is read in camelCase and in snake_case, and written in camelCase.

mod content;
pub mod count_tokens;
mod decode;
pub mod embedding;
mod encode;
mod error;
mod fields;
mod foreign_signatures;
mod generation;
mod media;
mod partial_args;
mod proof;
mod request_read;
mod request_write;
mod response;
mod schema;
mod thinking;
mod tool_result;
mod tools;
mod usage;

pub use foreign_signatures::strip_foreign_signatures;
pub(super) use proof::read as read_signature;

use super::{Dialect, Profile, StreamDecoder, StreamEncoder, StreamOptions, UrlHints};
use crate::chat::{ChatError, DialectId, Losses, Request, Response};
use crate::wire::sse::SseEvent;
use std::borrow::Cow;

/// Gemini `generateContent` and `streamGenerateContent`.
pub struct Gemini;

impl Dialect for Gemini {
    fn id(&self) -> DialectId {
        DialectId::Gemini
    }

    fn chat_path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        Cow::Owned(model_path(model, method))
    }

    fn parse_request(&self, body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
        request_read::read(body, url)
    }

    fn write_request(&self, request: &Request, _profile: &Profile, losses: &mut Losses) -> Vec<u8> {
        request_write::write(request, losses).to_string().into_bytes()
    }

    fn parse_response(&self, body: &[u8]) -> Result<Response, ChatError> {
        response::read(body)
    }

    fn is_error_event(&self, event: &SseEvent) -> bool {
        event.data.as_deref().is_some_and(error::is_own_form)
    }

    fn write_response(&self, response: &Response, losses: &mut Losses) -> Vec<u8> {
        response::write(response, losses).to_string().into_bytes()
    }

    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decode::Decoder::default())
    }

    fn encoder(&self, options: &StreamOptions) -> Box<dyn StreamEncoder> {
        Box::new(encode::Encoder::new(options))
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> ChatError {
        error::read(status, body)
    }

    fn write_error(&self, error: &ChatError) -> (u16, Vec<u8>) {
        error::write(error)
    }
}

/// The path of `method` of a model: `/v1beta/models/{model}:{method}`. A `models/` in front of the name is taken off,
/// `tunedModels/` is kept; what is not safe in one segment of a path is percent-encoded.
pub fn model_path(model: &str, method: &str) -> String {
    let (collection, name) = match model.split_once('/') {
        Some((collection @ ("models" | "tunedModels"), name)) => (collection, name),
        _ => ("models", model),
    };
    let mut path = format!("/v1beta/{collection}/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path.push(':');
    path.push_str(method);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_stays_in_its_segment_of_the_path() {
        assert_eq!(Gemini.chat_path("gemini-2.5-pro", false), "/v1beta/models/gemini-2.5-pro:generateContent");
        assert_eq!(
            Gemini.chat_path("models/gemini-2.5-pro", true),
            "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
        );
        assert_eq!(Gemini.chat_path("tunedModels/mine", false), "/v1beta/tunedModels/mine:generateContent");
        assert_eq!(Gemini.chat_path("../a?b#c", false), "/v1beta/models/..%2Fa%3Fb%23c:generateContent");
    }
}
