//! Anthropic Messages: `POST /v1/messages`, `anthropic-version: 2023-06-01`.
//!
//! Sources: the types of the official Python SDK (anthropic-sdk-python, August 2026), Anthropic's API pages, and recorded
//! traffic. What this dialect cannot say, and what it says in other words, is written down where it is written.

mod blocks;
mod count_tokens;
mod decode;
pub mod edits;
mod encode;
mod error;
mod fields;
mod foreign_signatures;
mod generation;
mod media;
mod request;
mod response;
mod schema;
mod sealed;
mod stop;
mod thinking;
mod tools;
mod turns;
mod usage;

pub use count_tokens::{COUNT_TOKENS_PATH, parse_count_response, write_count_request, write_count_response};
pub use foreign_signatures::strip_foreign_signatures;
pub use tools::tool_name;

use super::mention::{Name, mentions_any};
use super::{Dialect, Profile, StreamDecoder, StreamEncoder, StreamOptions, Summary, UrlHints};
use crate::chat::{ChatError, DialectId, Losses, Request, Response};
use crate::wire::sse::{OneLineEvent, SseEvent};
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

const ID: DialectId = DialectId::Anthropic;

static CONTENT_BLOCK: Name = LazyLock::new(|| Finder::new("\"content_block_"));
static MESSAGE: Name = LazyLock::new(|| Finder::new("message_"));
static ERROR: Name = LazyLock::new(|| Finder::new("error"));
static USAGE: Name = LazyLock::new(|| Finder::new("usage"));

/// Anthropic Messages.
#[derive(Debug, Clone, Copy)]
pub struct Anthropic;

impl Dialect for Anthropic {
    fn id(&self) -> DialectId {
        ID
    }

    fn chat_path(&self, _model: &str, _stream: bool) -> Cow<'static, str> {
        Cow::Borrowed("/v1/messages")
    }

    fn parse_request(&self, body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
        request::parse(body, url)
    }

    fn write_request(&self, request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
        request::write(request, profile, losses)
    }

    fn parse_response(&self, body: &[u8]) -> Result<Response, ChatError> {
        response::parse(body)
    }

    fn summarise(&self, body: &[u8]) -> Result<Summary, ChatError> {
        response::summarise(body)
    }

    /// Counts, stops and ends stand in `message_start`, `message_delta` and `message_stop`, errors in `error`.
    fn is_mere_content(&self, event: &OneLineEvent<'_>) -> bool {
        (event.name.is_empty() || event.name.starts_with(b"content_block_"))
            && event.data.is_some_and(|data| {
                CONTENT_BLOCK.find(data).is_some() && !mentions_any(data, &[&MESSAGE, &ERROR, &USAGE])
            })
    }

    /// The SDKs look at the `event` field alone.
    fn is_error_event(&self, event: &SseEvent) -> bool {
        event.event == "error" && event.data.as_deref().is_some_and(error::is_own_form)
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
