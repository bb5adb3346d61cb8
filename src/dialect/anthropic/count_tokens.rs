//! `POST /v1/messages/count_tokens`: a Messages request without what only matters to the answer, and one number back.

use super::{error, request};
use crate::chat::{ChatError, ErrorKind, Losses, Request};
use crate::dialect::Profile;
use serde_json::{Map, Value, json};

/// The path, from the base URL on.
pub const COUNT_TOKENS_PATH: &str = "/v1/messages/count_tokens";

/// The members that the endpoint takes (`MessageCountTokensParams` of the official Python SDK, beta ones included).
const TAKEN: [&str; 12] = [
    "model",
    "system",
    "messages",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "cache_control",
    "context_management",
    "mcp_servers",
    "speed",
];

/// Writes the request that counts what `request` would send.
pub fn write_count_request(request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
    let mut body: Map<String, Value> =
        serde_json::from_slice(&request::write(request, profile, losses)).unwrap_or_default();
    body.retain(|name, _| TAKEN.contains(&name.as_str()));
    Value::Object(body).to_string().into_bytes()
}

/// Reads the number of tokens.
///
/// # Errors
/// [`ErrorKind::Upstream`] when there is none, or the error that stands in its place.
pub fn parse_count_response(body: &[u8]) -> Result<u64, ChatError> {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    match value["input_tokens"].as_u64() {
        Some(count) => Ok(count),
        None if value["type"] == "error" => Err(error::parse_in_success(body)),
        None => {
            Err(ChatError::new(ErrorKind::Upstream, "the provider's answer has no count of tokens (`input_tokens`)"))
        }
    }
}

/// Writes the number of tokens to a client.
pub fn write_count_response(input_tokens: u64) -> Vec<u8> {
    json!({ "input_tokens": input_tokens }).to_string().into_bytes()
}
