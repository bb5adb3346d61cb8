//! Requests that go to Anthropic as they are: thinking blocks that another vendor's model made are taken out first.

use crate::chat::Signature;
use crate::wire::json::Object;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// A message, as far as it matters here.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// A content block, as far as it matters here.
#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
}

/// Takes the `thinking` and `redacted_thinking` blocks out of a Messages request that hold a sealed foreign signature;
/// Anthropic would answer them with 400. Every other byte stays. Where the turn that the model is to go on with has no
/// thinking left, `thinking` is disabled if it was `enabled`, because that is refused too. `None`: nothing to do.
pub fn strip_foreign_signatures(body: &[u8]) -> Option<Vec<u8>> {
    let sealed = Signature::SEALED_PREFIX.as_bytes();
    body.windows(sealed.len()).any(|window| window == sealed).then_some(())?;
    let object = Object::scan(body).ok()?;
    let messages = object.raw("messages")?;
    let elements = elements(messages)?;
    let mut cuts = Vec::new();
    let mut is_whole_message = Vec::with_capacity(elements.len());
    let mut open_turn = OpenTurn::default();
    for (raw, at) in &elements {
        let stripped = strip_message(raw, at.start, &mut cuts, &mut open_turn);
        is_whole_message.push(stripped);
    }
    // A message of nothing else goes with its blocks.
    let gone: Vec<usize> = (0..elements.len()).filter(|index| is_whole_message[*index]).collect();
    let ranges: Vec<Range<usize>> = elements.iter().map(|(_, at)| at.clone()).collect();
    cuts.extend(removals(&ranges, &gone));
    if cuts.is_empty() {
        return None;
    }
    let mut edits = object.edit();
    edits.set("messages", &without(messages, cuts));
    let is_enabled = object.raw("thinking").and_then(|thinking| serde_json::from_slice::<Block>(thinking).ok());
    if open_turn.lacks_thinking() && is_enabled.is_some_and(|thinking| thinking.r#type == "enabled") {
        edits.set("thinking", br#"{"type":"disabled"}"#);
    }
    Some(edits.apply())
}

/// The model's turn that the request asks to go on with.
#[derive(Default)]
struct OpenTurn {
    has_call: bool,
    has_thinking: bool,
}

impl OpenTurn {
    fn lacks_thinking(&self) -> bool {
        self.has_call && !self.has_thinking
    }

    fn take(&mut self, role: &str, block: &Block, is_foreign: bool) {
        match (role, block.r#type.as_str()) {
            ("user", kind) if kind != "tool_result" => *self = Self::default(),
            ("assistant", "tool_use") => self.has_call = true,
            ("assistant", "thinking" | "redacted_thinking") => self.has_thinking |= !is_foreign,
            _ => {}
        }
    }
}

/// Notes the cuts in one message; true when nothing of it would be left.
fn strip_message(raw: &str, start: usize, cuts: &mut Vec<Range<usize>>, turn: &mut OpenTurn) -> bool {
    let Ok(message) = serde_json::from_str::<Message<'_>>(raw) else { return false };
    let Some(content) = message.content else { return false };
    let Some(blocks) = elements(content.get().as_bytes()) else {
        if message.role == "user" {
            *turn = OpenTurn::default();
        }
        return false;
    };
    let mut foreign = Vec::new();
    for (index, (raw, _)) in blocks.iter().enumerate() {
        let Ok(block) = serde_json::from_str::<Block>(raw) else { continue };
        let is_foreign = is_foreign(&block);
        turn.take(&message.role, &block, is_foreign);
        if is_foreign {
            foreign.push(index);
        }
    }
    if !foreign.is_empty() && foreign.len() == blocks.len() {
        return true;
    }
    let Some(offset) = offset_in(raw, content.get()) else { return false };
    let ranges: Vec<Range<usize>> = blocks.into_iter().map(|(_, at)| at).collect();
    let shift = start + offset;
    cuts.extend(removals(&ranges, &foreign).map(|cut| cut.start + shift..cut.end + shift));
    false
}

fn is_foreign(block: &Block) -> bool {
    let is_sealed =
        |text: &Option<String>| text.as_deref().is_some_and(|text| text.starts_with(Signature::SEALED_PREFIX));
    match block.r#type.as_str() {
        "thinking" => is_sealed(&block.signature),
        "redacted_thinking" => is_sealed(&block.data),
        _ => false,
    }
}

/// The elements of a JSON array, with where they stand in `array`; `None` when it is none.
fn elements(array: &[u8]) -> Option<Vec<(&str, Range<usize>)>> {
    let text = std::str::from_utf8(array).ok()?;
    let raw: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    raw.into_iter()
        .map(|raw| {
            let start = offset_in(text, raw.get())?;
            Some((raw.get(), start..start + raw.get().len()))
        })
        .collect()
}

/// Where `inner`, a slice of `outer`, begins in it.
fn offset_in(outer: &str, inner: &str) -> Option<usize> {
    (inner.as_ptr() as usize).checked_sub(outer.as_ptr() as usize).filter(|at| at + inner.len() <= outer.len())
}

/// What to cut so that the elements `gone` leave with one comma each.
fn removals<'a>(ranges: &'a [Range<usize>], gone: &'a [usize]) -> impl Iterator<Item = Range<usize>> + 'a {
    gone.iter().map(|&index| match ranges.get(index + 1) {
        Some(next) => ranges[index].start..next.start,
        None => {
            let kept = (0..index).rev().find(|before| !gone.contains(before));
            kept.map_or(ranges[index].start, |before| ranges[before].end)..ranges[index].end
        }
    })
}

fn without(bytes: &[u8], mut cuts: Vec<Range<usize>>) -> Vec<u8> {
    cuts.sort_by_key(|cut| cut.start);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for cut in cuts {
        if cut.start > at {
            out.extend_from_slice(&bytes[at..cut.start]);
        }
        at = at.max(cut.end);
    }
    out.extend_from_slice(&bytes[at..]);
    out
}
