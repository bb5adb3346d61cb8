//! stub

pub mod usage_chunk;

use super::{Dialect, Profile, StreamDecoder, StreamEncoder, StreamOptions, UrlHints};
use crate::chat::{ChatError, DialectId, Losses, Request, Response};

/// stub
pub struct OpenAiChat;

#[allow(clippy::todo, unused_variables)]
impl Dialect for OpenAiChat {
    fn id(&self) -> DialectId {
        DialectId::OpenAiChat
    }
    fn chat_path(&self, model: &str, stream: bool) -> String {
        todo!()
    }
    fn parse_request(&self, body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
        todo!()
    }
    fn write_request(&self, request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
        todo!()
    }
    fn parse_response(&self, body: &[u8]) -> Result<Response, ChatError> {
        todo!()
    }
    fn write_response(&self, response: &Response, losses: &mut Losses) -> Vec<u8> {
        todo!()
    }
    fn decoder(&self) -> Box<dyn StreamDecoder> {
        todo!()
    }
    fn encoder(&self, options: &StreamOptions) -> Box<dyn StreamEncoder> {
        todo!()
    }
    fn parse_error(&self, status: u16, body: &[u8]) -> ChatError {
        todo!()
    }
    fn write_error(&self, error: &ChatError) -> (u16, Vec<u8>) {
        todo!()
    }
}
