//! `thinkingConfig`: <https://ai.google.dev/gemini-api/docs/thinking>.
//!
//! Gemini 2.5 takes a budget, Gemini 3 a level (and still a budget, but never both).

use super::fields::{Fields, whole};
use super::generation::{cannot_think, is_pro, third_or_later};
use crate::chat::{Effort, Losses, Reasoning, ReasoningMode};
use serde_json::{Map, Value};

/// Reads it. What has no neutral word goes to `extras`. Thoughts are left out of the answer unless they are asked for.
pub(super) fn read(mut config: Fields, extras: &mut Map<String, Value>) -> Reasoning {
    let mut reasoning = Reasoning { include: Some(false), ..Reasoning::default() };
    if let Some(include) = config.take("includeThoughts") {
        reasoning.include = Some(include.as_bool().unwrap_or(false));
    }
    if let Some(budget) = config.take("thinkingBudget") {
        match whole(&budget) {
            Some(0) => reasoning.mode = ReasoningMode::Off,
            Some(-1) => reasoning.mode = ReasoningMode::Adaptive,
            Some(tokens) if tokens > 0 => reasoning.budget_tokens = tokens.try_into().ok(),
            _ => config.put("thinkingBudget", budget),
        }
    }
    if let Some(level) = config.take("thinkingLevel") {
        match level.as_str().map(str::to_ascii_uppercase).as_deref() {
            Some("MINIMAL") => reasoning.effort = Some(Effort::Minimal),
            Some("LOW") => reasoning.effort = Some(Effort::Low),
            Some("MEDIUM") => reasoning.effort = Some(Effort::Medium),
            Some("HIGH") => reasoning.effort = Some(Effort::High),
            Some("THINKING_LEVEL_UNSPECIFIED") => {}
            _ => config.put("thinkingLevel", level),
        }
    }
    config.rest_into("generationConfig.thinkingConfig", extras);
    reasoning
}

/// Writes it for `model`.
pub(super) fn write(reasoning: &Reasoning, model: &str, losses: &mut Losses) -> Map<String, Value> {
    let mut config = Map::new();
    if cannot_think(model) {
        if reasoning.mode != ReasoningMode::Off {
            losses.dropped("reasoning");
        }
        return config;
    }
    let levels = third_or_later(model);
    if reasoning.mode == ReasoningMode::Unsaid && !levels {
        // Here an effort would be a budget, which switches thinking on.
        losses.dropped("reasoning.effort");
        return config;
    }
    match (reasoning.mode, reasoning.effort, reasoning.budget_tokens) {
        (ReasoningMode::Off, ..) if levels => {
            // Gemini 3 cannot stop thinking; this is the least.
            losses.approximated("reasoning");
            let least = if is_pro(model) { "LOW" } else { "MINIMAL" };
            config.insert("thinkingLevel".into(), least.into());
        }
        (ReasoningMode::Off, ..) => {
            let least = smallest_budget(model);
            if least > 0 {
                losses.approximated("reasoning");
            }
            config.insert("thinkingBudget".into(), least.into());
        }
        (_, Some(effort), budget) if levels => {
            if budget.is_some() {
                losses.dropped("reasoning.budget_tokens");
            }
            let (level, exact) = level(effort, model);
            if !exact {
                losses.approximated("reasoning.effort");
            }
            config.insert("thinkingLevel".into(), level.into());
        }
        (_, effort, Some(budget)) => {
            if effort.is_some() {
                losses.dropped("reasoning.effort");
            }
            config.insert("thinkingBudget".into(), within(budget, model, "reasoning.budget_tokens", losses).into());
        }
        (_, Some(effort), None) => {
            losses.approximated("reasoning.effort");
            config
                .insert("thinkingBudget".into(), within(effort.to_budget(), model, "reasoning.effort", losses).into());
        }
        (ReasoningMode::Adaptive, None, None) => {
            config.insert("thinkingBudget".into(), (-1).into());
        }
        (ReasoningMode::On | ReasoningMode::Unsaid, None, None) => {}
    }
    // Who asks for reasoning in another dialect and says no more wants to see it.
    let include = reasoning.include.unwrap_or(matches!(reasoning.mode, ReasoningMode::On | ReasoningMode::Adaptive));
    config.insert("includeThoughts".into(), include.into());
    config
}

fn level(effort: Effort, model: &str) -> (&'static str, bool) {
    match effort {
        Effort::Minimal if is_pro(model) => ("LOW", false),
        Effort::Minimal => ("MINIMAL", true),
        Effort::Low => ("LOW", true),
        Effort::Medium => ("MEDIUM", true),
        Effort::High => ("HIGH", true),
        Effort::XHigh | Effort::Max => ("HIGH", false),
    }
}

/// The budgets of Gemini 2.5: Pro from 128 to 32,768, Flash from 0 and Flash-Lite from 512 (0 is off) to 24,576.
fn within(budget: u64, model: &str, field: &'static str, losses: &mut Losses) -> u64 {
    let most = if is_pro(model) || third_or_later(model) { 32_768 } else { 24_576 };
    let least = if model.contains("flash-lite") { 512 } else { smallest_budget(model).max(1) };
    let within = budget.clamp(least, most);
    if within != budget {
        losses.approximated(field);
    }
    within
}

fn smallest_budget(model: &str) -> u64 {
    if is_pro(model) { 128 } else { 0 }
}
