//! Edits of a body that stays in Anthropic's dialect, for models that take less than it asks. Every other byte stays.

use super::foreign_signatures::open_turn_lacks_thinking;
use super::generation::{Generation, ThinkingForm};
use crate::chat::Losses;
use crate::wire::json::{Edits, Object};

const DISABLED: &[u8] = br#"{"type":"disabled"}"#;

/// `thinking` as a Claude called `model` takes it: `enabled` is refused in a turn whose thinking the client has dropped
/// (Claude Code does where the answer names another model than it asked for), and becomes `disabled`.
pub fn thinking_form(body: &Object<'_>, model: &str, edits: &mut Edits<'_, '_>, losses: &mut Losses) {
    let form = Generation::of(model).thinking();
    let thinking = body.raw("thinking").and_then(|raw| Object::scan(raw).ok());
    let is_enabled = thinking.and_then(|thinking| thinking.string("type")).is_some_and(|kind| kind == "enabled");
    if is_enabled
        && matches!(form, ThinkingForm::Budget | ThinkingForm::Either)
        && body.raw("messages").is_some_and(open_turn_lacks_thinking)
    {
        losses.dropped("thinking");
        edits.set("thinking", DISABLED);
    }
}
