//! OpenAI Chat Completions, `POST /v1/chat/completions` (OpenAI API reference, 2025-12), with the members that compatible
//! vendors added: reasoning (`reasoning_content`, `reasoning`, `reasoning_details`), `cache_control`, `images`, citations.

mod audio;
mod choice;
mod content;
mod decode;
mod encode;
pub(super) mod error;
pub(super) mod fields;
mod read_messages;
mod read_request;
mod reasoning;
mod response;
mod strip;
mod tool_call;
pub(super) mod usage;
mod words;
mod write_messages;
mod write_request;

pub mod edits;
pub mod usage_chunk;

pub use strip::strip_reasoning_history;

use super::mention::{Name, mentions_any, mentions_nonzero, mentions_value};
use super::{Dialect, Profile, StreamDecoder, StreamEncoder, StreamOptions, Summary, UrlHints};
use crate::chat::{ChatError, DialectId, Losses, Request, Response};
use crate::wire::sse::{OneLineEvent, SseEvent};
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The name of a schema that has none: OpenAI asks for one, other dialects have none.
const UNNAMED_SCHEMA: &str = "response";

static CHOICES: Name = LazyLock::new(|| Finder::new("\"choices\""));
static ERROR: Name = LazyLock::new(|| Finder::new("error"));
static DETAIL: Name = LazyLock::new(|| Finder::new("detail"));
static FINISH_REASON: Name = LazyLock::new(|| Finder::new("finish_reason"));
static INDEX: Name = LazyLock::new(|| Finder::new("index"));
static USAGE: Name = LazyLock::new(|| Finder::new("usage"));

/// OpenAI Chat Completions.
pub struct OpenAiChat;

impl Dialect for OpenAiChat {
    fn id(&self) -> DialectId {
        DialectId::OpenAiChat
    }

    fn chat_path(&self, _model: &str, _stream: bool) -> Cow<'static, str> {
        Cow::Borrowed("/v1/chat/completions")
    }

    fn parse_request(&self, body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
        read_request::read(body, url)
    }

    fn write_request(&self, request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
        write_request::write(request, profile, losses)
    }

    fn parse_response(&self, body: &[u8]) -> Result<Response, ChatError> {
        response::read(body)
    }

    fn summarise(&self, body: &[u8]) -> Result<Summary, ChatError> {
        response::summarise(body)
    }

    /// Where errors stand and look like is [`error`]'s business (`error`, `detail`, an object called `error`); an end is a
    /// finish reason or `[DONE]`, which is no object with choices. Of several alternatives the end of each is waited for, so
    /// that those behind the first are looked at.
    fn is_mere_content(&self, event: &OneLineEvent<'_>) -> bool {
        event.name.is_empty()
            && event.data.is_some_and(|data| {
                CHOICES.find(data).is_some()
                    && !mentions_any(data, &[&ERROR, &DETAIL])
                    && !mentions_value(data, &FINISH_REASON)
                    && !mentions_value(data, &USAGE)
                    && !mentions_nonzero(data, &INDEX)
            })
    }

    fn is_error_event(&self, event: &SseEvent) -> bool {
        event.data.as_deref().is_some_and(error::is_own_form)
    }

    fn write_response(&self, response: &Response, losses: &mut Losses) -> Vec<u8> {
        response::write(response, losses)
    }

    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(decode::Decoder::default())
    }

    fn encoder(&self, options: &StreamOptions) -> Box<dyn StreamEncoder> {
        Box::new(encode::Encoder::new(options))
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> ChatError {
        error::parse(status, body)
    }

    fn write_error(&self, error: &ChatError) -> (u16, Vec<u8>) {
        error::write(error)
    }
}
