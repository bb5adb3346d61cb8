//! Answers of real providers, from the fixtures of the tests.

use bifrost::chat::DialectId;
use serde::Deserialize;
use serde_json::Value;

/// Every dialect, for the `args` of a benchmark.
pub const DIALECTS: [DialectId; 3] = [DialectId::OpenAiChat, DialectId::Anthropic, DialectId::Gemini];

#[derive(Deserialize)]
struct Recording {
    name: String,
    #[serde(default)]
    response_body: Value,
    #[serde(default)]
    response_chunks: Vec<String>,
}

/// A whole answer with a tool call.
pub fn answer(dialect: DialectId) -> Vec<u8> {
    let name = match dialect {
        DialectId::OpenAiChat => "openai_tool_call",
        DialectId::Anthropic => "anthropic_tool_call",
        DialectId::Gemini => "gemini_tools",
    };
    serde_json::to_vec(&find(dialect, name).response_body).unwrap()
}

/// A stream that thinks and then speaks, in the pieces in which it came.
pub fn stream(dialect: DialectId) -> Vec<String> {
    let name = match dialect {
        DialectId::OpenAiChat => "openai_thinking_streamed",
        DialectId::Anthropic => "anthropic_thinking_streamed",
        DialectId::Gemini => "gemini_thinking_streamed",
    };
    find(dialect, name).response_chunks
}

fn find(dialect: DialectId, name: &str) -> Recording {
    let lines = match dialect {
        DialectId::OpenAiChat => include_str!("../../tests/fixtures/golden/openai.jsonl"),
        DialectId::Anthropic => include_str!("../../tests/fixtures/golden/anthropic.jsonl"),
        DialectId::Gemini => include_str!("../../tests/fixtures/golden/gemini.jsonl"),
    };
    let mut recordings = lines.lines().map(|line| serde_json::from_str::<Recording>(line).unwrap());
    recordings.find(|recording| recording.name == name).unwrap()
}
