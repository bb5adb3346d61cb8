//! Requests as coding agents send them: a long system prompt, a dozen tools, some turns of a tool loop.

use bifrost::chat::{DialectId, Losses};
use bifrost::dialect::{self, Profile, UrlHints};
use serde_json::{Value, json};

/// What Gemini's dialect says in the path.
pub const MODEL: &str = "a-model";

/// A question and nothing else, about 200 bytes of OpenAI's dialect.
pub fn small() -> Vec<u8> {
    json!({
        "model": "coding",
        "messages": [
            { "role": "system", "content": "You are a helpful assistant." },
            { "role": "user", "content": "What is the weather in Paris?" },
        ],
        "max_tokens": 200,
        "stream": true,
    })
    .to_string()
    .into_bytes()
}

/// An agent's third step, about 20 kB of Anthropic's dialect.
pub fn anthropic() -> Vec<u8> {
    let system = "You are an agent in a terminal. Keep to the conventions of the code around you, say what you are \
                  going to do, and \"quote\" paths.\n\t- Run the tests before you call a task done.\n";
    let tools: Vec<Value> = (0..12).map(tool).collect();
    let mut messages =
        vec![json!({ "role": "user", "content": [{ "type": "text", "text": "Mend the failing test." }] })];
    for step in 0..3 {
        let id = format!("toolu_{step:024}");
        messages.push(json!({ "role": "assistant", "content": [
            { "type": "text", "text": "I look at the file first." },
            { "type": "tool_use", "id": id, "name": format!("tool_{step}"), "input": { "path": "src/main.rs", "limit": 40 } },
        ]}));
        messages.push(json!({ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": id, "content": "fn main() {\n    println!(\"hello\");\n}\n".repeat(30) },
        ]}));
    }
    json!({
        "model": "coding",
        "max_tokens": 32_000,
        "stream": true,
        "system": [{ "type": "text", "text": system.repeat(45), "cache_control": { "type": "ephemeral" } }],
        "tools": tools,
        "messages": messages,
    })
    .to_string()
    .into_bytes()
}

/// The same step in the words of `client`.
pub fn of(client: DialectId) -> Vec<u8> {
    let bytes = anthropic();
    if client == DialectId::Anthropic {
        return bytes;
    }
    let request = dialect::get(DialectId::Anthropic).parse_request(&bytes, &UrlHints::default()).unwrap();
    dialect::get(client).write_request(&request, &Profile::FULL, &mut Losses::new())
}

fn tool(number: usize) -> Value {
    json!({
        "name": format!("tool_{number}"),
        "description": "Reads a part of a file. Lines are numbered from 1; what is longer than a screen is cut. ".repeat(2),
        "input_schema": {
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Where the file lies, from the project's root on." },
                "limit": { "type": "integer", "minimum": 1, "description": "So many lines at most." },
                "mode": { "type": "string", "enum": ["text", "bytes"], "description": "How to read it." },
            },
            "required": ["path"],
            "additionalProperties": false,
        },
    })
}
