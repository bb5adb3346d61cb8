#![no_main]

use bifrost::chat::Losses;
use bifrost::dialect::openai_chat::{edits, strip_reasoning_history, usage_chunk};
use bifrost::dialect::{Profile, anthropic, gemini};
use bifrost::wire::json::Object;
use libfuzzer_sys::fuzz_target;

// What is cut out of a body for a provider, and what the provider's row changes in it, leaves a body.
fuzz_target!(|data: &[u8]| {
    // A recorded body is of use as it stands: what comes behind it chooses.
    let model = if data.ends_with(b"}") { "claude-sonnet-4-5" } else { "claude-opus-4-8" };
    let Ok(object) = Object::scan(data) else { return };
    let stripped = [
        anthropic::strip_foreign_signatures(data),
        gemini::strip_foreign_signatures(data),
        strip_reasoning_history(data, &Profile::VENDOR),
    ];
    let mut changes = object.edit();
    changes.remove("fallbacks");
    edits::max_tokens_name(&object, &mut changes);
    edits::max_completion_tokens_name(&object, &mut changes);
    edits::stop_as_list(&object, &mut changes);
    edits::developer_as_system(&object, &mut changes);
    edits::thinking_switch(&object, &mut changes, &mut Losses::new());
    anthropic::edits::thinking_form(&object, model, &mut changes, &mut Losses::new());
    anthropic::edits::system_messages(&object, model, &mut changes, &mut Losses::new());
    usage_chunk::ask(&object, &mut changes);
    for body in stripped.into_iter().flatten().chain([changes.apply()]) {
        assert!(Object::scan(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
    }
});
