//! The wire formats: bytes to [`crate::chat`] and back. Pure: no IO, no clock, no provider's name.
//!
//! One folder per dialect, one line each in [`ALL`] and [`get`]. What a provider of a dialect does differently is data
//! ([`Profile`]), never code that asks for its name.

pub mod anthropic;
pub mod gemini;
mod google_details;
mod mention;
mod named_status;
pub mod openai_chat;
pub mod openai_embeddings;
mod profile;

pub use profile::{Profile, ReasoningStyle, TokenLimitField};

use crate::chat::{ChatError, DialectId, Event, Losses, Request, Response, Usage};
use crate::wire::sse::{OneLineEvent, SseEvent};
use std::borrow::Cow;

/// Every dialect, for what has to hold for each of them.
pub const ALL: [&dyn Dialect; 3] = [&openai_chat::OpenAiChat, &anthropic::Anthropic, &gemini::Gemini];

/// The dialect called `id`.
pub fn get(id: DialectId) -> &'static dyn Dialect {
    match id {
        DialectId::OpenAiChat => &openai_chat::OpenAiChat,
        DialectId::Anthropic => &anthropic::Anthropic,
        DialectId::Gemini => &gemini::Gemini,
    }
}

/// What the URL says of a request where the body does not (Gemini names model and streaming in the path).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UrlHints {
    /// The model in the path.
    pub model: Option<String>,
    /// The path asks for a stream.
    pub stream: Option<bool>,
}

/// What the gateway must know of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// Token counts.
    pub usage: Option<Usage>,
}

impl From<Response> for Summary {
    fn from(response: Response) -> Self {
        Self { model: response.model, usage: response.usage }
    }
}

/// One wire format, as spoken by clients and by providers.
pub trait Dialect: Send + Sync {
    /// Which one it is.
    fn id(&self) -> DialectId;

    /// The path of a chat call to a provider, from the base URL on (which ends before `/v1`). A borrowed one is the same for
    /// every model.
    fn chat_path(&self, model: &str, stream: bool) -> Cow<'static, str>;

    /// Reads a client's request.
    ///
    /// # Errors
    /// [`crate::chat::ErrorKind::InvalidRequest`] with the field that is wrong.
    fn parse_request(&self, body: &[u8], url: &UrlHints) -> Result<Request, ChatError>;

    /// Writes a request to a provider. What the provider cannot be told becomes a loss.
    fn write_request(&self, request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8>;

    /// Reads a provider's whole answer.
    ///
    /// # Errors
    /// [`crate::chat::ErrorKind::Upstream`] when it is none, or the error that stands in its place.
    fn parse_response(&self, body: &[u8]) -> Result<Response, ChatError>;

    /// Reads of a provider's whole answer only what the gateway must know of one that it passes on.
    ///
    /// # Errors
    /// As [`Dialect::parse_response`].
    fn summarise(&self, body: &[u8]) -> Result<Summary, ChatError> {
        self.parse_response(body).map(Summary::from)
    }

    /// True for an event that can hold neither token counts, nor an error, nor the end of an answer. Asked of the events
    /// after the first content; what it is not sure of is false, and decoded.
    fn is_mere_content(&self, event: &OneLineEvent<'_>) -> bool {
        let _ = event;
        false
    }

    /// True for an event of a stream that clients of this dialect read as an error.
    fn is_error_event(&self, event: &SseEvent) -> bool;

    /// Writes a whole answer to a client.
    fn write_response(&self, response: &Response, losses: &mut Losses) -> Vec<u8>;

    /// Reads a provider's stream.
    fn decoder(&self) -> Box<dyn StreamDecoder>;

    /// Writes a stream to a client.
    fn encoder(&self, options: &StreamOptions) -> Box<dyn StreamEncoder>;

    /// Reads the body of a provider's error answer. Never fails: what cannot be read is quoted, cut to a readable length.
    fn parse_error(&self, status: u16, body: &[u8]) -> ChatError;

    /// Writes an error to a client: the status and the body in the dialect's own shape.
    fn write_error(&self, error: &ChatError) -> (u16, Vec<u8>);
}

/// How a stream is to be written to a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// The client asked for usage (matters to OpenAI's dialect only; the others always send it).
    pub include_usage: bool,
    /// The model's name, used until the provider says its own.
    pub model: String,
    /// Gemini without `alt=sse`: one JSON array instead of events.
    pub json_array: bool,
    /// Unix seconds, for dialects that date their frames.
    pub created: u64,
    /// The gateway's id of the exchange, used where the provider gives no id.
    pub id: String,
}

/// Reads a provider's stream. Owns all state, so where the network cuts the bytes cannot matter.
pub trait StreamDecoder: Send {
    /// Takes the next bytes of the body and appends what they mean.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>);

    /// The dialect's own last word has come (`[DONE]`, `message_stop`; Gemini has none): nothing that follows is of the
    /// answer, and nobody needs to wait for the end of the body.
    fn is_complete(&self) -> bool {
        false
    }

    /// The body has ended. A stream that ends without a finish reason, or with nothing at all, appends an
    /// [`Event::Error`]; one that has its finish reason and only lacks the terminal marker is complete.
    fn finish(&mut self, out: &mut Vec<Event>);
}

/// Writes a stream to a client, with the lifecycle frames that client expects.
pub trait StreamEncoder: Send {
    /// Appends what `event` is in this dialect. After an [`Event::Error`] has been written nothing more is.
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>, losses: &mut Losses);

    /// Ends the stream in good order (unless an error has ended it before).
    fn finish(&mut self, out: &mut Vec<u8>, losses: &mut Losses);

    /// A sign of life while nothing comes (an SSE comment, a `ping` event, an empty line, white space).
    fn keep_alive(&mut self, out: &mut Vec<u8>);
}
