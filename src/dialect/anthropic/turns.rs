//! The conversation: turns of `user` and `assistant`, and system prompts before or between them.
//!
//! The API reads consecutive messages of one role as one turn and wants results of tools first in it, so that is how turns
//! are read and written here. A turn of the user's becomes a message of results and one of the rest.

use super::blocks::{BlockWriter, foreign_name, read_blocks};
use super::fields::{Fields, put_extras};
use crate::chat::{ChatError, Extras, Losses, Message, Part, Role};
use serde_json::{Map, Value, json};

/// Reads `messages`.
pub(super) fn read(values: Vec<Value>) -> Result<Vec<Message>, ChatError> {
    let mut messages = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let mut fields = Fields::new(value, format!("messages.{index}"))?;
        let role = match fields.required_string("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => {
                let at = fields.at("role");
                return Err(ChatError::invalid(&at, format!("`{at}` must be user, assistant or system")));
            }
        };
        let parts = match fields.take("content") {
            Some(Value::String(text)) => vec![Part::text(text)],
            Some(Value::Array(blocks)) => read_blocks(blocks, &fields.at("content"))?,
            _ => {
                let at = fields.at("content");
                return Err(ChatError::invalid(&at, format!("`{at}` must be a text or a list of content blocks")));
            }
        };
        add(&mut messages, role, parts, fields.extras());
    }
    Ok(messages)
}

fn add(messages: &mut Vec<Message>, role: Role, parts: Vec<Part>, extras: Extras) {
    let (results, rest): (Vec<Part>, Vec<Part>) = match role {
        Role::User => parts.into_iter().partition(|part| matches!(part, Part::ToolResult(_))),
        _ => (Vec::new(), parts),
    };
    if !results.is_empty() {
        // Results that follow the user's words in the same turn go before them.
        let at = match messages.last() {
            Some(last) if last.role == Role::User => messages.len() - 1,
            _ => messages.len(),
        };
        match at.checked_sub(1).map(|before| &mut messages[before]) {
            Some(before) if before.role == Role::Tool => before.parts.extend(results),
            _ => messages.insert(at, Message::new(Role::Tool, results)),
        }
        if rest.is_empty() && extras.is_empty() {
            return;
        }
    }
    match messages.last_mut() {
        Some(last) if last.role == role && role != Role::System => {
            last.parts.extend(rest);
            last.extras.dialect = extras.dialect.or(last.extras.dialect);
            last.extras.fields.extend(extras.fields);
        }
        _ => messages.push(Message { role, parts: rest, name: None, extras }),
    }
}

/// A conversation as the API takes it.
pub(super) struct Turns {
    /// The `system` field.
    pub(super) system: Option<Value>,
    /// The `messages` field.
    pub(super) messages: Vec<Value>,
}

/// One message on its way to the wire.
struct Turn {
    role: &'static str,
    blocks: Vec<Value>,
    more: Map<String, Value>,
}

/// Writes the conversation. A system prompt between the turns stays there if the model takes it and the place is one that
/// the API allows (after a user's turn, before the model's or at the end); otherwise it joins the ones at the start.
pub(super) fn write(messages: &[Message], takes_system_messages: bool, mut writer: BlockWriter<'_>) -> Turns {
    let mut system = Vec::new();
    let mut turns: Vec<Turn> = Vec::new();
    for message in messages {
        if message.name.is_some() {
            writer.losses.dropped("messages.name");
        }
        let mut more = Map::new();
        put_extras(&mut more, &message.extras, "messages.", writer.losses);
        let (role, blocks) = match message.role {
            Role::System | Role::Developer => ("system", prompt(message, &mut writer)),
            Role::Assistant => ("assistant", writer.blocks(&message.parts)),
            Role::User | Role::Tool => ("user", writer.blocks(&message.parts)),
        };
        let mut turn = Turn { role, blocks, more };
        // The model itself may write a text of white space; from anyone else the API refuses it.
        if role != "assistant" {
            turn.blocks.retain(|block| !is_white(block));
        }
        if turn.blocks.is_empty() {
            continue;
        }
        match role {
            "system" if turns.is_empty() => system.extend(turn.blocks),
            _ => turns.push(turn),
        }
    }
    let mut turns = settle(turns, takes_system_messages, &mut system, writer.losses);
    trim_prefill(&mut turns, writer.losses);
    if turns.is_empty() && !system.is_empty() {
        // The API wants at least one turn of the user's.
        writer.losses.approximated("messages");
        turns.push(Turn { role: "user", blocks: std::mem::take(&mut system), more: Map::new() });
    }
    let messages = turns.into_iter().map(finish).collect();
    Turns { system: (!system.is_empty()).then(|| content(system)), messages }
}

/// The blocks of a system prompt: texts, and what only this dialect knows.
fn prompt(message: &Message, writer: &mut BlockWriter<'_>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { .. } | Part::Refusal(_) | Part::Foreign { .. } => writer.part(part, &mut blocks),
            _ => writer.losses.dropped("messages.system"),
        }
    }
    blocks
}

/// Puts turns of one role together, and moves system prompts that cannot stay where they are to `system`.
fn settle(turns: Vec<Turn>, takes_system_messages: bool, system: &mut Vec<Value>, losses: &mut Losses) -> Vec<Turn> {
    let next_role: Vec<Option<&str>> = (0..turns.len())
        .map(|index| turns[index + 1..].iter().map(|turn| turn.role).find(|role| *role != "system"))
        .collect();
    let mut settled: Vec<Turn> = Vec::with_capacity(turns.len());
    for (turn, next) in turns.into_iter().zip(next_role) {
        let before = settled.iter().rev().map(|turn| turn.role).find(|role| *role != "system");
        if turn.role == "system" {
            if takes_system_messages && before == Some("user") && next != Some("user") {
                settled.push(turn);
                continue;
            }
            losses.approximated("messages.system");
            for block in turn.blocks {
                // A change of tools means something only at its place.
                if block["type"] == "text" {
                    system.push(block);
                } else {
                    losses.dropped(format!("content.{}", foreign_name(&block)));
                }
            }
            continue;
        }
        match settled.last_mut() {
            Some(last) if last.role == turn.role => {
                last.blocks.extend(turn.blocks);
                last.more.extend(turn.more);
            }
            _ => settled.push(turn),
        }
    }
    settled
}

fn is_white(block: &Value) -> bool {
    block["type"] == "text" && block["text"].as_str().is_some_and(|text| text.trim().is_empty())
}

/// The API refuses white space at the end of an answer that it is to continue.
fn trim_prefill(turns: &mut Vec<Turn>, losses: &mut Losses) {
    let Some(last) = turns.last_mut().filter(|turn| turn.role == "assistant") else { return };
    while let Some(block) = last.blocks.last_mut().filter(|block| block["type"] == "text") {
        let Value::String(text) = &mut block["text"] else { break };
        let trimmed = text.trim_end().len();
        if trimmed < text.len() {
            losses.approximated("messages.content");
            text.truncate(trimmed);
        }
        if trimmed > 0 {
            break;
        }
        last.blocks.pop();
    }
    if last.blocks.is_empty() {
        turns.pop();
    }
}

fn finish(turn: Turn) -> Value {
    let Turn { role, mut blocks, more } = turn;
    // Stable: results first, everything else in its order.
    blocks.sort_by_key(|block| role == "user" && block["type"] != "tool_result");
    let mut message = Map::from_iter([("role".to_owned(), json!(role)), ("content".to_owned(), content(blocks))]);
    message.extend(more);
    Value::Object(message)
}

/// A single plain text is written as a string: every server that speaks the dialect takes that.
fn content(blocks: Vec<Value>) -> Value {
    if let [Value::Object(block)] = &blocks[..]
        && block.len() == 2
        && block["type"] == "text"
        && let Some(text) = block.get("text")
    {
        return text.clone();
    }
    Value::Array(blocks)
}
