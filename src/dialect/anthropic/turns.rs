//! The conversation: turns of `user` and `assistant`, and system prompts before or between them.
//!
//! The API reads consecutive messages of one role as one turn and wants results of tools first in it, so that is how turns
//! are read and written here. A turn of the user's becomes a message of results and one of the rest.

use super::ID;
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
    for (index, message) in messages.iter().enumerate() {
        if message.name.is_some() {
            writer.losses.dropped("messages.name");
        }
        match message.role {
            Role::System | Role::Developer => {
                let is_prompt = |role: &Role| matches!(role, Role::System | Role::Developer);
                let next = messages[index + 1..].iter().map(|next| next.role).find(|role| !is_prompt(role));
                let is_placed = takes_system_messages
                    && turns.last().is_some_and(|turn| turn.role != "assistant")
                    && next.is_none_or(|role| role == Role::Assistant);
                if is_placed {
                    push(&mut turns, "system", writer.blocks(&message.parts), &message.extras, writer.losses);
                } else {
                    hoist(message, !turns.is_empty(), &mut system, &mut writer);
                }
            }
            Role::Assistant => {
                let blocks = writer.blocks(&message.parts);
                push(&mut turns, "assistant", blocks, &message.extras, writer.losses);
            }
            Role::User | Role::Tool => {
                let blocks = writer.blocks(&message.parts);
                push(&mut turns, "user", blocks, &message.extras, writer.losses);
            }
        }
    }
    if turns.is_empty() && !system.is_empty() {
        // The API wants at least one turn of the user's.
        writer.losses.approximated("messages");
        turns.push(Turn { role: "user", blocks: std::mem::take(&mut system), more: Map::new() });
    }
    trim_prefill(&mut turns, writer.losses);
    let messages = turns.into_iter().map(finish).collect();
    Turns { system: (!system.is_empty()).then(|| content(system)), messages }
}

fn hoist(message: &Message, is_late: bool, system: &mut Vec<Value>, writer: &mut BlockWriter<'_>) {
    if is_late {
        writer.losses.approximated("messages.system");
    }
    for part in &message.parts {
        match part {
            Part::Text { .. } | Part::Refusal(_) => writer.part(part, system),
            Part::Foreign { dialect, value } if *dialect == ID && is_late => {
                writer.losses.dropped(format!("content.{}", foreign_name(value)));
            }
            Part::Foreign { .. } => writer.part(part, system),
            _ => writer.losses.dropped("messages.system"),
        }
    }
    put_extras(&mut Map::new(), &message.extras, "messages.", writer.losses);
}

fn push(turns: &mut Vec<Turn>, role: &'static str, mut blocks: Vec<Value>, extras: &Extras, losses: &mut Losses) {
    let mut more = Map::new();
    put_extras(&mut more, extras, "messages.", losses);
    // The model itself may write a text of white space; from anyone else the API refuses it.
    if role != "assistant" {
        blocks.retain(|block| !is_white(block));
    }
    match turns.last_mut() {
        Some(last) if last.role == role && role != "system" => {
            last.blocks.extend(blocks);
            last.more.extend(more);
        }
        _ if blocks.is_empty() => {}
        _ => turns.push(Turn { role, blocks, more }),
    }
}

fn is_white(block: &Value) -> bool {
    block["type"] == "text" && block["text"].as_str().is_some_and(|text| text.trim().is_empty())
}

/// The API refuses white space at the end of an answer that it is to continue.
fn trim_prefill(turns: &mut Vec<Turn>, losses: &mut Losses) {
    let Some(last) = turns.last_mut().filter(|turn| turn.role == "assistant") else { return };
    let Some(Value::String(text)) = last.blocks.last_mut().and_then(|block| block.get_mut("text")) else { return };
    let trimmed = text.trim_end().len();
    if trimmed == text.len() {
        return;
    }
    losses.approximated("messages.content");
    text.truncate(trimmed);
    if trimmed == 0 {
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
