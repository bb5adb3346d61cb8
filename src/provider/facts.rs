//! What is known of models: context window, prices, abilities. Unknown is unknown and never guessed.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::LazyLock;

/// For a prompt that is kept for an hour Anthropic asks so many times the price of one that is not kept
/// (platform.claude.com/docs/en/about-claude/pricing, prompt caching).
const ANTHROPIC_HOUR: f64 = 2.0;

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
    /// US dollars per million tokens of the prompt written to the vendor's cache; where its lifetime has a say in the
    /// price, for the shortest.
    pub cache_write_price: Option<f64>,
    /// US dollars per million tokens of the prompt written to the vendor's cache and kept there for an hour.
    pub cache_write_1h_price: Option<f64>,
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
            cache_write_price,
            cache_write_1h_price,
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
        self.cache_write_price = self.cache_write_price.or(*cache_write_price);
        self.cache_write_1h_price = self.cache_write_1h_price.or(*cache_write_1h_price);
        self.tools = self.tools.or(*tools);
        self.vision = self.vision.or(*vision);
        self.reasoning = self.reasoning.or(*reasoning);
        self.released = self.released.or(*released);
    }

    /// Adds the prices that follow from others by `vendor`'s own rule.
    pub fn apply_rule_of(&mut self, vendor: &str) {
        if vendor == "anthropic" && self.cache_write_1h_price.is_none() {
            self.cache_write_1h_price = self.input_price.map(|price| price * ANTHROPIC_HOUR);
        }
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

/// The data file: keys are `<vendor>/<model>`, the vendor by its name in the provider table. Where the numbers come from
/// and when stands in the file.
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

    /// True if `model` is known as one of `provider`'s own.
    pub fn is_vendor(&self, provider: &str, model: &str) -> bool {
        self.entry(model).is_some_and(|entry| entry.vendor == provider)
    }

    fn entry(&self, model: &str) -> Option<&Entry> {
        let name = canonical(model);
        self.by_name.get(&name).or_else(|| self.by_name.get(undated(&name)?))
    }

    /// What is known of `model` as `provider` serves it. Prices are the vendor's own: another host's are unknown. A local
    /// server's model may be a conversion without its image tower, so there vision is unknown too.
    pub fn find(&self, provider: &str, is_local: bool, model: &str) -> Option<Facts> {
        let entry = self.entry(model)?;
        let mut facts = entry.facts.clone();
        if entry.vendor != provider {
            facts.input_price = None;
            facts.output_price = None;
            facts.cache_read_price = None;
            facts.cache_write_price = None;
            facts.cache_write_1h_price = None;
        }
        if is_local {
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
fn canonical(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = match name.split_once(':') {
        Some((name, variant)) if VARIANTS.contains(&variant) => name,
        _ => name,
    };
    // What else stands behind a colon is ollama's way to say the size.
    let mut name = name.to_ascii_lowercase().replace(['.', '_', ':'], "-");
    while let Some(shorter) = WEIGHT_FORMS.iter().find_map(|form| name.strip_suffix(form)) {
        name = shorter.to_owned();
    }
    name
}

/// OpenRouter's ways to serve the same model.
const VARIANTS: [&str; 7] = ["free", "thinking", "nitro", "floor", "extended", "exacto", "online"];

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{ProviderKind, table};
    use proptest::prelude::*;

    fn find(provider: &str, model: &str) -> Option<Facts> {
        let row = table::row(provider).unwrap();
        Known::shipped().find(row.name, row.kind == ProviderKind::Local, model)
    }

    #[test]
    fn the_data_file_is_readable_and_plausible() {
        let text = include_str!("facts.json");
        let file: File = serde_json::from_str(text).unwrap();
        assert!(file.models.len() > 100 && text.contains("\"_source\"") && text.contains("\"_date\""));
        let mut names = std::collections::HashSet::new();
        for (key, facts) in &file.models {
            assert!(names.insert(canonical(key)), "{key} stands twice");
            assert!(key.contains('/') && *facts != Facts::default(), "{key}");
            assert!(facts.context.is_none_or(|context| (4096..20_000_000).contains(&context)), "{key}");
            assert!(facts.max_output.is_none_or(|most| facts.context.is_none_or(|context| most <= context)), "{key}");
            assert_eq!(facts.input_price.is_some(), facts.output_price.is_some(), "{key}");
            if let (Some(input), Some(output)) = (facts.input_price, facts.output_price) {
                assert!(input > 0.0 && input <= output && output < 1000.0, "{key}");
                assert!(facts.cache_read_price.is_none_or(|cached| cached < input), "{key}");
                assert!(
                    facts.cache_write_price.is_none_or(|written| (input..=2.0 * input).contains(&written)),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn one_model_has_many_spellings() {
        for (spelling, name) in [
            ("anthropic/claude-opus-4.5", "claude-opus-4-5"),
            ("mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit", "qwen3-coder-30b-a3b-instruct"),
            ("mlx-community/Qwen3.6-35B-A3B-mxfp4", "qwen3-6-35b-a3b"),
            ("lmstudio-community/gpt-oss-20b-MLX-8bit", "gpt-oss-20b"),
            ("accounts/fireworks/models/glm-4p6", "glm-4p6"),
            ("qwen/qwen3-32b:free", "qwen3-32b"),
            ("gpt-oss:20b", "gpt-oss-20b"),
            ("", ""),
        ] {
            assert_eq!(canonical(spelling), name, "{spelling}");
        }
    }

    #[test]
    fn a_date_at_the_end_is_no_other_model() {
        for (dated, name) in [
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("gpt-5-2025-08-07", Some("gpt-5")),
            ("gemini-pro-latest", Some("gemini-pro")),
            ("gpt-5", None),
            ("claude-sonnet-4-5", None),
            ("qwen3-30b-a3b-instruct-2507", None),
            ("", None),
        ] {
            assert_eq!(undated(dated), name, "{dated}");
        }
        assert!(find("anthropic", "claude-sonnet-4-5-20250929").unwrap().input_price.is_some());
        assert!(find("openai", "gpt-5-2025-08-07").unwrap().tools.unwrap());
    }

    #[test]
    fn prices_are_the_vendors_own_and_local_vision_is_unknown() {
        assert!(find("openai", "gpt-5-mini").unwrap().input_price.is_some());
        let hosted = find("openrouter", "openai/gpt-5-mini").unwrap();
        assert_eq!((hosted.input_price, hosted.output_price, hosted.cache_read_price), (None, None, None));
        assert_eq!(hosted.tools, Some(true));
        let local = find("mlx-local", "mlx-community/Qwen3.6-35B-A3B-mxfp4").unwrap();
        assert_eq!((local.tools, local.reasoning, local.vision), (Some(true), Some(true), None));
        assert_eq!(find("mlx-local", "tiny"), None);
    }

    #[test]
    fn what_anthropic_keeps_for_an_hour_has_the_price_of_its_rule_unless_one_is_known() {
        let ruled = |mut facts: Facts, vendor: &str| {
            facts.apply_rule_of(vendor);
            facts.cache_write_1h_price
        };
        let sonnet = find("anthropic", "claude-sonnet-4-5").unwrap();
        assert_eq!(ruled(sonnet.clone(), "anthropic"), sonnet.input_price.map(|price| price * 2.0));
        assert_eq!(ruled(sonnet.clone(), "elsewhere"), None);
        let known = Facts { cache_write_1h_price: Some(1.0), ..sonnet };
        assert_eq!(ruled(known, "anthropic"), Some(1.0));
        assert_eq!(ruled(Facts::default(), "anthropic"), None);
    }

    #[test]
    fn what_is_known_better_stays() {
        let mut facts = Facts { context: Some(1), tools: Some(false), ..Facts::default() };
        facts.fill_from(&Facts { context: Some(2), tools: Some(true), vision: Some(true), ..Facts::default() });
        assert_eq!((facts.context, facts.tools, facts.vision), (Some(1), Some(false), Some(true)));
    }

    proptest! {
        #[test]
        fn any_name_has_a_canonical_form_that_is_its_own(name in "\\PC{0,40}") {
            let once = canonical(&name);
            prop_assert_eq!(canonical(&once), once.clone());
            if let Some(shorter) = undated(&once) {
                prop_assert!(once.starts_with(shorter) && shorter.len() < once.len());
            }
        }
    }
}
