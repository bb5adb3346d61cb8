//! Model servers on this machine.

use super::{BodyEdit, COMPATIBLE, openai_at};
use crate::dialect::{Profile, ReasoningStyle};
use crate::provider::{Auth, ProviderKind, ProviderRow};

/// What local servers have in common: free, keyless, and asked only when the config names them.
const LOCAL: ProviderRow = ProviderRow { auth: Auth::None, kind: ProviderKind::Local, opt_in: true, ..COMPATIBLE };

/// The local MLX server: `vllm-mlx` (0.3.0 to 0.6.0), or `llama-swap` in front of it.
///
/// It has `/v1/messages` too, but streams it without counting the prompt, so Anthropic's clients are translated. What it
/// ignores was seen on the wire of 0.6.0.
pub const MLX_LOCAL: ProviderRow = ProviderRow {
    name: crate::provider::MLX_LOCAL,
    endpoints: &[openai_at("http://127.0.0.1:11434")],
    profile: Profile {
        reasoning: ReasoningStyle::TemplateSwitch,
        stop_list_only: true,
        ignored_fields: &[
            "n",
            "seed",
            "logprobs",
            "top_logprobs",
            "frequency_penalty",
            "logit_bias",
            "parallel_tool_calls",
            "prediction",
            "service_tier",
            "store",
            "verbosity",
        ],
        ..Profile::COMPATIBLE
    },
    edits: &[BodyEdit::MaxTokensName, BodyEdit::StopAsList, BodyEdit::DeveloperAsSystem, BodyEdit::IncludeUsage],
    opt_in: false,
    ..LOCAL
};
