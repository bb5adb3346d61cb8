//! Model servers on this machine.

use super::{BodyEdit, COMPATIBLE, openai_at};
use crate::dialect::{Profile, ReasoningStyle};
use crate::provider::{Auth, ProviderKind, ProviderRow};

/// What local servers have in common: free, keyless, and asked only when the config names them.
const LOCAL: ProviderRow = ProviderRow { auth: Auth::None, kind: ProviderKind::Local, opt_in: true, ..COMPATIBLE };

/// The local MLX server: `vllm-mlx` (0.3.0 to 0.6.0), or `llama-swap` in front of it.
///
/// It has `/v1/messages` too, but streams it without counting the prompt, so Anthropic's clients are translated. What it
/// ignores was seen on the wire of 0.6.0, and is what its `ChatCompletionRequest` (vllm_mlx/api/models.py) does not have;
/// its `Message` has no place for the reasoning of earlier turns.
pub const MLX_LOCAL: ProviderRow = ProviderRow {
    name: crate::provider::MLX_LOCAL,
    endpoints: &[openai_at("http://127.0.0.1:11434")],
    profile: Profile {
        reasoning: ReasoningStyle::TemplateSwitch,
        reasoning_history: false,
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
    edits: &[
        BodyEdit::MaxTokensName,
        BodyEdit::StopAsList,
        BodyEdit::DeveloperAsSystem,
        BodyEdit::ThinkingSwitch,
        BodyEdit::IncludeUsage,
    ],
    opt_in: false,
    ..LOCAL
};

/// Ollama: docs.ollama.com/openai. Its default port is that of the local MLX server: move one of the two.
pub const OLLAMA: ProviderRow =
    ProviderRow { name: "ollama", endpoints: &[openai_at("http://127.0.0.1:11434")], ..LOCAL };

/// LM Studio: lmstudio.ai/docs/app/api/endpoints/openai.
pub const LMSTUDIO: ProviderRow =
    ProviderRow { name: "lmstudio", endpoints: &[openai_at("http://127.0.0.1:1234")], ..LOCAL };

/// vLLM: docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
pub const VLLM: ProviderRow = ProviderRow {
    name: "vllm",
    endpoints: &[openai_at("http://127.0.0.1:8000")],
    profile: Profile { reasoning: ReasoningStyle::TemplateSwitch, ..Profile::COMPATIBLE },
    ..LOCAL
};

/// A `llama-swap` of its own, beside the local MLX server: github.com/mostlygeek/llama-swap.
pub const LLAMA_SWAP: ProviderRow = ProviderRow {
    name: "llama-swap",
    endpoints: &[openai_at("http://127.0.0.1:8080")],
    profile: Profile { reasoning: ReasoningStyle::TemplateSwitch, ..Profile::COMPATIBLE },
    ..LOCAL
};

/// llama.cpp's server: github.com/ggml-org/llama.cpp, tools/server.
pub const LLAMA_CPP: ProviderRow = ProviderRow {
    name: "llama-cpp",
    endpoints: &[openai_at("http://127.0.0.1:8080")],
    profile: Profile { reasoning: ReasoningStyle::TemplateSwitch, ..Profile::COMPATIBLE },
    ..LOCAL
};
