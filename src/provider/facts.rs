//! What is known of models: context window, prices, abilities. Unknown is unknown and never guessed.

use super::Provider;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::LazyLock;

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

impl Facts {
    /// Takes from `other` what is unknown here.
    pub fn fill_from(&mut self, other: &Self) {
        let Self {
            context,
            max_output,
            input_price,
            output_price,
            cache_read_price,
            tools,
            vision,
            reasoning,
            released,
        } = other;
        self.context = self.context.or(*context);
        self.max_output = self.max_output.or(*max_output);
        self.input_price = self.input_price.or(*input_price);
        self.output_price = self.output_price.or(*output_price);
        self.cache_read_price = self.cache_read_price.or(*cache_read_price);
        self.tools = self.tools.or(*tools);
        self.vision = self.vision.or(*vision);
        self.reasoning = self.reasoning.or(*reasoning);
        self.released = self.released.or(*released);
    }
}

/// Facts by model, whoever serves it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    by_name: HashMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// The vendor whose prices these are, by its name in the provider table.
    vendor: String,
    facts: Facts,
}

/// The data file: keys are `<vendor>/<model>`, the vendor by its name in the provider table.
#[derive(Deserialize)]
struct File {
    models: HashMap<String, Facts>,
}

static SHIPPED: LazyLock<Known> = LazyLock::new(|| {
    let file = serde_json::from_str::<File>(include_str!("facts.json"));
    Known::new(file.map(|file| file.models).unwrap_or_default())
});

impl Known {
    /// The facts of the data file, whose source and date stand in it.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Facts by `<vendor>/<model>`.
    pub fn new(models: impl IntoIterator<Item = (String, Facts)>) -> Self {
        let mut known = Self::default();
        for (key, facts) in models {
            let vendor = vendor(&key).to_owned();
            known.by_name.insert(canonical(&key), Entry { vendor, facts });
        }
        known
    }

    /// What is known of `model` as `provider` serves it. Prices are the vendor's own: another host's are unknown. A local
    /// server's model may be a conversion without its image tower, so there vision is unknown too.
    pub fn find(&self, provider: &Provider, model: &str) -> Option<Facts> {
        let name = canonical(model);
        let entry = self.by_name.get(&name).or_else(|| self.by_name.get(undated(&name)?))?;
        let mut facts = entry.facts.clone();
        if entry.vendor != provider.name {
            facts.input_price = None;
            facts.output_price = None;
            facts.cache_read_price = None;
        }
        if provider.is_local() {
            facts.vision = None;
        }
        Some(facts)
    }
}

/// The vendor of `<vendor>/<model>` by its name in the provider table.
fn vendor(key: &str) -> &str {
    match key.split_once('/').map_or("", |(vendor, _)| vendor) {
        "google" => "gemini",
        "x-ai" => "xai",
        "mistralai" => "mistral",
        "moonshotai" => "moonshot",
        "z-ai" => "zai",
        "qwen" => "alibaba",
        vendor => vendor,
    }
}

/// The name of a model without those who pass it on, the form of its weights, and the spelling: `anthropic/claude-opus-4.5`
/// is `claude-opus-4-5`, `mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit` is `qwen3-coder-30b-a3b-instruct`.
pub fn canonical(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model);
    // OpenRouter's variants (`:free`) and ollama's tags.
    let name = name.split(':').next().unwrap_or(name);
    let mut name = name.to_ascii_lowercase().replace(['.', '_'], "-");
    while let Some(shorter) = WEIGHT_FORMS.iter().find_map(|form| name.strip_suffix(form)) {
        name = shorter.to_owned();
    }
    name
}

/// How converted weights are marked at the end of a model's name.
const WEIGHT_FORMS: [&str; 19] = [
    "-2bit", "-3bit", "-4bit", "-5bit", "-6bit", "-8bit", "-bf16", "-fp16", "-fp8", "-mxfp4", "-mxfp8", "-nvfp4",
    "-q4", "-q8", "-q4-k-m", "-dwq", "-mlx", "-gguf", "-awq",
];

/// `claude-sonnet-4-5-20250929` and `gpt-5-2025-08-07` without their date and `-latest`; `None` if there is none.
fn undated(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_suffix("-latest").or_else(|| name.strip_suffix("-preview")) {
        return Some(rest);
    }
    let start = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-').len();
    let tail = name.get(start..)?;
    for length in [11, 9] {
        let Some(cut) = tail.len().checked_sub(length) else { continue };
        let date = tail.get(cut..)?;
        let dashes: Vec<usize> = date.match_indices('-').map(|(at, _)| at).collect();
        if (length == 11 && dashes == [0, 5, 8]) || (length == 9 && dashes == [0]) {
            return name.get(..start + cut);
        }
    }
    None
}
