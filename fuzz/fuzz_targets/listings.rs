#![no_main]

use bifrost::provider::{ModelList, listing};
use libfuzzer_sys::fuzz_target;

// Whatever a provider says of its models is read or refused.
fuzz_target!(|data: &[u8]| {
    for kind in [ModelList::OpenAi, ModelList::OpenRouter, ModelList::Anthropic, ModelList::Gemini] {
        if let Ok(models) = listing::parse(kind, data) {
            assert!(models.iter().all(|model| !model.id.is_empty()), "a model without a name");
        }
    }
});
