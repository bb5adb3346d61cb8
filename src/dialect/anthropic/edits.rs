//! Edits of a body that stays in Anthropic's dialect, for models that take less than it asks. Every other byte stays.

use super::foreign_signatures::open_turn_lacks_thinking;
use super::generation::{Generation, ThinkingForm};
use super::thinking::{MIN_BUDGET, effort_word, fitting, read_effort};
use crate::chat::{Effort, Losses, Reasoning};
use crate::wire::cuts::Cuts;
use crate::wire::json::{Edits, Object, quoted};
use crate::wire::json_tree::Node;
use memchr::memmem;

/// The role, as it stands on the wire.
const SYSTEM: &[u8] = b"\"system\"";

/// `thinking` and `output_config.effort` as a Claude called `model` takes them: a client knows only the model that it named,
/// and a class or a fallback may be answered by another. The form that the model refuses becomes the other one, by the steps
/// of [`Effort::to_budget`]; an effort that it refuses goes. `enabled` becomes `disabled` beside a forced call and in a turn
/// whose thinking the client has dropped (Claude Code does where the answer names another model than it asked for).
pub fn thinking_form(body: &Object<'_>, model: &str, edits: &mut Edits<'_, '_>, losses: &mut Losses) {
    let generation = Generation::of(model);
    if generation.thinking() == ThinkingForm::Unknown {
        return;
    }
    let scanned = |name| body.raw(name).and_then(|raw| Object::scan(raw).ok());
    let (thinking, config) = (scanned("thinking"), scanned("output_config"));
    let effort = config.as_ref().and_then(|config| config.string("effort"));
    let kind = thinking.as_ref().and_then(|thinking| thinking.string("type"));
    let mut is_budget = false;
    if let Some(thinking) = &thinking {
        match (kind.as_deref(), generation.thinking()) {
            (Some("enabled"), ThinkingForm::Adaptive) => adaptive(thinking, config.as_ref(), generation, edits, losses),
            (Some("adaptive"), ThinkingForm::Budget) if is_forced(body) || !goes_on(body) => disable(edits, losses),
            (Some("adaptive"), ThinkingForm::Budget) => {
                let asked = effort.as_deref().and_then(read_effort).unwrap_or(Effort::Medium).to_budget();
                is_budget = budget(body, thinking, asked, edits, losses);
            }
            (Some("enabled"), _) if !goes_on(body) => disable(edits, losses),
            _ => {}
        }
    }
    if let (Some(config), Some(_), false) = (config, effort, generation.takes_effort(model)) {
        // A budget says it.
        if !is_budget {
            losses.dropped("output_config.effort");
        }
        if config.members().count() == 1 {
            edits.remove("output_config");
        } else {
            let mut inner = config.edit();
            inner.remove("effort");
            edits.set("output_config", &inner.apply());
        }
    }
}

/// Messages with the role `system` between the others are said by the user where a Claude called `model` takes none: where
/// they stand, so that what was cached before them stays so.
pub fn system_messages(body: &Object<'_>, model: &str, edits: &mut Edits<'_, '_>, losses: &mut Losses) {
    if Generation::of(model).takes_system_messages() || Generation::of(model).thinking() == ThinkingForm::Unknown {
        return;
    }
    let Some(raw) = body.raw("messages").filter(|raw| memmem::find(raw, SYSTEM).is_some()) else { return };
    let Ok(messages) = Node::parse(raw) else { return };
    let mut cuts = Cuts::default();
    for message in messages.items() {
        if let Some(role) = message.member(raw, "role").filter(|role| role.raw(raw) == SYSTEM) {
            cuts.replace(role, b"\"user\"");
        }
    }
    if !cuts.is_empty() {
        losses.approximated("messages.role");
        edits.set("messages", &cuts.apply(raw));
    }
}

/// The model's turn may go on with `enabled`.
fn goes_on(body: &Object<'_>) -> bool {
    !body.raw("messages").is_some_and(open_turn_lacks_thinking)
}

/// A forced call excludes `enabled`; the call wins, for a client that forces one cannot go on without it.
fn is_forced(body: &Object<'_>) -> bool {
    let choice = body.raw("tool_choice").and_then(|raw| Object::scan(raw).ok());
    choice.and_then(|choice| choice.string("type")).is_some_and(|kind| kind == "any" || kind == "tool")
}

fn disable(edits: &mut Edits<'_, '_>, losses: &mut Losses) {
    losses.dropped("thinking");
    edits.set("thinking", br#"{"type":"disabled"}"#);
}

/// `adaptive` as `enabled` with a budget that fits into the limit of the answer; false if none does.
fn budget(
    body: &Object<'_>,
    thinking: &Object<'_>,
    asked: u64,
    edits: &mut Edits<'_, '_>,
    losses: &mut Losses,
) -> bool {
    let limit = body.raw("max_tokens").and_then(|raw| serde_json::from_slice::<u64>(raw).ok()).unwrap_or(u64::MAX);
    if limit <= MIN_BUDGET {
        disable(edits, losses);
        return false;
    }
    losses.approximated("thinking");
    let mut inner = thinking.edit();
    inner.set("type", br#""enabled""#);
    inner.set("budget_tokens", fitting(asked, limit).to_string().as_bytes());
    edits.set("thinking", &inner.apply());
    true
}

/// `enabled` as `adaptive`, with the effort that stands for the budget unless the client named one.
fn adaptive(
    thinking: &Object<'_>,
    config: Option<&Object<'_>>,
    generation: Generation,
    edits: &mut Edits<'_, '_>,
    losses: &mut Losses,
) {
    losses.approximated("thinking.budget_tokens");
    let budget_tokens = thinking.raw("budget_tokens").and_then(|raw| serde_json::from_slice::<u64>(raw).ok());
    let mut inner = thinking.edit();
    inner.set("type", br#""adaptive""#);
    inner.remove("budget_tokens");
    edits.set("thinking", &inner.apply());
    if config.is_some_and(|config| config.member("effort").is_some()) {
        return;
    }
    let asked = Reasoning { budget_tokens, ..Reasoning::default() };
    let Some(word) = effort_word(&asked, generation, losses).map(quoted) else { return };
    match config {
        Some(config) => {
            let mut inner = config.edit();
            inner.set("effort", &word);
            edits.set("output_config", &inner.apply());
        }
        None => edits.set("output_config", &[b"{\"effort\":", word.as_slice(), b"}"].concat()),
    }
}
