//! `thinking` and `output_config.effort`: what was asked of the model's reasoning.
//!
//! What was asked as an effort is said as an effort (`adaptive` with `output_config.effort`), what was asked as a budget as a
//! budget (`enabled` with `budget_tokens`), where the model takes that form; otherwise in the other form, by the steps of
//! [`Effort::to_budget`]. A server whose model is not a Claude gets the budget and the effort.

use super::fields::Fields;
use super::generation::{Generation, ThinkingForm};
use crate::chat::{ChatError, Effort, Losses, Message, Part, Reasoning, ReasoningMode, Request, Role};
use crate::chat::{SignatureOrigin, ToolChoice};
use serde_json::{Map, Value, json};

/// The smallest `budget_tokens` that the API takes.
pub(super) const MIN_BUDGET: u64 = 1_024;
/// `max_tokens` where the client set no limit. The API requires one; 32,000 is the most that every model since Claude 4 takes.
const DEFAULT_MAX_TOKENS: u64 = 32_000;
/// What the default leaves for the answer after the reasoning, and the most it grows to for that (the limit of Claude Sonnet 4).
const ANSWER_ROOM: u64 = 8_192;
const GROWN_MAX_TOKENS: u64 = 64_000;

/// Reads `thinking` and the effort of `output_config`; the members that are left stay with the fields.
pub(super) fn read(thinking: Option<&mut Fields>, effort: Option<Effort>) -> Result<Option<Reasoning>, ChatError> {
    let Some(thinking) = thinking else {
        let mode = ReasoningMode::Unsaid;
        return Ok(effort.map(|effort| Reasoning { mode, effort: Some(effort), ..Reasoning::default() }));
    };
    let kind = thinking.required_string("type")?;
    let budget_tokens = thinking.count("budget_tokens")?;
    let mode = match (kind.as_str(), effort) {
        ("enabled", _) | ("adaptive", Some(_)) => ReasoningMode::On,
        ("adaptive", None) => ReasoningMode::Adaptive,
        ("disabled", _) => ReasoningMode::Off,
        _ => {
            let at = thinking.at("type");
            return Err(ChatError::invalid(&at, format!("`{at}` must be enabled, adaptive or disabled")));
        }
    };
    let include = match thinking.string("display")?.as_deref() {
        Some("summarized") => Some(true),
        Some("omitted") => Some(false),
        _ => None,
    };
    // Both, and the one stands for the other: written by this gateway for a server that may know only one.
    let is_same = mode == ReasoningMode::On && effort.map(Effort::to_budget) == budget_tokens;
    let budget_tokens = if is_same { None } else { budget_tokens };
    Ok(Some(Reasoning { mode, effort, budget_tokens, include }))
}

/// The word of `output_config.effort`.
pub(super) fn read_effort(word: &str) -> Option<Effort> {
    match word {
        "low" => Some(Effort::Low),
        "medium" => Some(Effort::Medium),
        "high" => Some(Effort::High),
        "xhigh" => Some(Effort::XHigh),
        "max" => Some(Effort::Max),
        _ => None,
    }
}

/// How a request asks for reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Disabled,
    Enabled { budget: u64 },
    Adaptive,
}

/// Writes `thinking`, `output_config.effort`, `max_tokens`, and what of the sampling the model takes together with them.
pub(super) fn write(request: &Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let generation = Generation::of(&request.model);
    let asked = request.reasoning.as_ref().filter(|asked| asked.mode != ReasoningMode::Unsaid);
    let form = asked.map(|reasoning| form(reasoning, generation, losses));
    let max_tokens = request.sampling.max_tokens.unwrap_or_else(|| default_limit(form));
    let form = form.map(|form| allowed(form, max_tokens, request, losses));
    body.insert("max_tokens".to_owned(), json!(max_tokens));
    if let Some(form) = form {
        let mut thinking = match form {
            Form::Disabled => json!({"type": "disabled"}),
            Form::Enabled { budget } => json!({"type": "enabled", "budget_tokens": budget}),
            Form::Adaptive => json!({"type": "adaptive"}),
        };
        if let (Some(include), true) = (asked.and_then(|asked| asked.include), form != Form::Disabled) {
            thinking["display"] = json!(if include { "summarized" } else { "omitted" });
        }
        body.insert("thinking".to_owned(), thinking);
    }
    let is_switched_off = form == Some(Form::Disabled) && asked.is_some_and(|asked| asked.mode != ReasoningMode::Off);
    if let Some(word) = request.reasoning.as_ref().and_then(|asked| effort_word(asked, generation, losses))
        && !is_switched_off
    {
        body.insert("output_config".to_owned(), json!({ "effort": word }));
    }
    let is_thinking = form.is_some_and(|form| form != Form::Disabled);
    write_sampling(request, generation, is_thinking, body, losses);
}

fn form(reasoning: &Reasoning, generation: Generation, losses: &mut Losses) -> Form {
    let budget = || reasoning.budget_tokens.or_else(|| reasoning.effort.map(Effort::to_budget));
    let some_budget = || budget().unwrap_or(Effort::Medium.to_budget());
    match (reasoning.mode, generation.thinking()) {
        (ReasoningMode::Off, _) => Form::Disabled,
        (ReasoningMode::Adaptive, ThinkingForm::Budget) => {
            losses.approximated("reasoning");
            Form::Enabled { budget: some_budget() }
        }
        (ReasoningMode::Adaptive | ReasoningMode::Unsaid, _) => Form::Adaptive,
        (ReasoningMode::On, ThinkingForm::Budget | ThinkingForm::Unknown) => Form::Enabled { budget: some_budget() },
        (ReasoningMode::On, ThinkingForm::Either) => {
            reasoning.budget_tokens.map_or(Form::Adaptive, |budget| Form::Enabled { budget })
        }
        (ReasoningMode::On, ThinkingForm::Adaptive) => {
            if reasoning.budget_tokens.is_some() {
                losses.approximated("reasoning.budget_tokens");
            }
            Form::Adaptive
        }
    }
}

/// The effort to send, where the model takes one.
pub(super) fn effort_word(reasoning: &Reasoning, generation: Generation, losses: &mut Losses) -> Option<&'static str> {
    let stands_for_budget = || reasoning.budget_tokens.map(Effort::from_budget);
    let effort = match generation.thinking() {
        // Of these only Opus 4.5 takes an effort, and only a client of this dialect sends both.
        ThinkingForm::Budget => reasoning.effort.filter(|_| reasoning.budget_tokens.is_some())?,
        ThinkingForm::Either | ThinkingForm::Unknown => reasoning.effort?,
        ThinkingForm::Adaptive => reasoning.effort.or_else(stands_for_budget)?,
    };
    Some(match effort {
        Effort::Minimal => {
            losses.approximated("reasoning.effort");
            "low"
        }
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::XHigh if !generation.takes_xhigh() => {
            losses.approximated("reasoning.effort");
            "high"
        }
        Effort::XHigh => "xhigh",
        Effort::Max => "max",
    })
}

fn default_limit(form: Option<Form>) -> u64 {
    match form {
        Some(Form::Enabled { budget }) => {
            budget.saturating_add(ANSWER_ROOM).clamp(DEFAULT_MAX_TOKENS, GROWN_MAX_TOKENS)
        }
        _ => DEFAULT_MAX_TOKENS,
    }
}

/// The form with what the API demands of `enabled`: a forced call excludes it (the call wins: a client that forces one cannot
/// go on without it), a turn that began without signed thinking cannot go on with it, and the budget must fit. `adaptive`
/// is free of all that.
fn allowed(form: Form, max_tokens: u64, request: &Request, losses: &mut Losses) -> Form {
    let Form::Enabled { budget } = form else { return form };
    let is_forced = !request.tools.is_empty()
        && matches!(
            request.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { required: true, .. })
        );
    if is_forced || open_turn_lacks_proof(&request.messages) || max_tokens <= MIN_BUDGET {
        losses.dropped("reasoning");
        return Form::Disabled;
    }
    let fitting = fitting(budget, max_tokens);
    if fitting != budget {
        losses.approximated("reasoning.budget_tokens");
    }
    Form::Enabled { budget: fitting }
}

/// The budget as the API takes it: where it does not fit into `max_tokens`, the answer keeps a fifth of that.
pub(super) fn fitting(budget: u64, max_tokens: u64) -> u64 {
    let fitting = if budget < max_tokens { budget } else { max_tokens / 5 * 4 };
    fitting.max(MIN_BUDGET)
}

/// True when the conversation stands inside a tool loop whose turn does not begin with thinking that Anthropic signed.
/// The API answers such a request with 400 while `thinking` is `enabled`.
fn open_turn_lacks_proof(messages: &[Message]) -> bool {
    let start = messages.iter().rposition(|message| message.role == Role::User).map_or(0, |at| at + 1);
    let mut turn = messages[start..].iter().filter(|message| message.role == Role::Assistant).peekable();
    let Some(first) = turn.peek() else { return false };
    let is_proven = first.parts.iter().any(is_own_thinking);
    !is_proven && turn.any(|message| message.parts.iter().any(|part| matches!(part, Part::ToolCall(_))))
}

fn is_own_thinking(part: &Part) -> bool {
    let Part::Reasoning(part) = part else { return false };
    let own = |origin: SignatureOrigin| origin == SignatureOrigin::Anthropic;
    [&part.signature, &part.encrypted].into_iter().flatten().any(|signature| own(signature.origin))
}

fn write_sampling(
    request: &Request,
    generation: Generation,
    is_thinking: bool,
    body: &mut Map<String, Value>,
    losses: &mut Losses,
) {
    let sampling = &request.sampling;
    let is_free = generation.takes_sampling() && !is_thinking;
    let temperature = sampling.temperature.map(|temperature| {
        if temperature > 1.0 {
            losses.approximated("temperature");
        }
        temperature.clamp(0.0, 1.0)
    });
    // With thinking, and on the models that take no sampling at all, the defaults may still be said.
    let is_kept = |is_default: bool| is_free || is_default;
    if let Some(temperature) = temperature {
        if is_kept(temperature >= 1.0) {
            body.insert("temperature".to_owned(), json!(temperature));
        } else {
            losses.dropped("temperature");
        }
    }
    if let Some(top_p) = sampling.top_p {
        let is_alone = generation.takes_temperature_with_top_p() || sampling.temperature.is_none();
        let is_near = is_thinking && generation.takes_sampling() && top_p >= 0.95;
        if is_alone && is_kept(top_p >= 1.0 || is_near) {
            body.insert("top_p".to_owned(), json!(top_p));
        } else if top_p < 1.0 {
            losses.dropped("top_p");
        }
    }
    if let Some(top_k) = sampling.top_k {
        if is_free {
            body.insert("top_k".to_owned(), json!(top_k));
        } else {
            losses.dropped("top_k");
        }
    }
}
