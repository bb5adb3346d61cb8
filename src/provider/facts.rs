//! What is known of models: context window, prices, abilities. Unknown is unknown and never guessed.

use serde::{Deserialize, Serialize};

/// What is known of one model; every field may be unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// Tokens that prompt and answer together may have.
    pub context: Option<u64>,
    /// Tokens of the longest answer.
    pub max_output: Option<u64>,
    /// US dollars per million tokens of the prompt.
    pub input_price: Option<f64>,
    /// US dollars per million generated tokens.
    pub output_price: Option<f64>,
    /// US dollars per million tokens of the prompt read from the vendor's cache.
    pub cache_read_price: Option<f64>,
    /// It can call tools.
    pub tools: Option<bool>,
    /// It takes images.
    pub vision: Option<bool>,
    /// It can reason.
    pub reasoning: Option<bool>,
    /// When it was released, in Unix seconds.
    pub released: Option<u64>,
}
