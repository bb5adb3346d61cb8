//! Reasoning of earlier turns in a request that goes on as the client wrote it.

use crate::dialect::Profile;
use crate::wire::cuts::Cuts;
use crate::wire::json_tree::Node;
use memchr::memmem;

/// What this gateway writes into answers and a provider without [`Profile::reasoning_history`] refuses with 400 when the
/// client hands it back.
const OF_MESSAGES: [&str; 2] = ["reasoning_content", "reasoning_details"];
const OF_CALLS: [&str; 1] = ["extra_content"];

/// Takes the reasoning of earlier turns out, with its proofs, where the provider does not take it: an answer of another
/// model had brought it. Every other byte stays. `None` when there is nothing to take out.
pub fn strip_reasoning_history(body: &[u8], profile: &Profile) -> Option<Vec<u8>> {
    let has = |name: &&str| memmem::find(body, name.as_bytes()).is_some();
    if profile.reasoning_history || !OF_MESSAGES.iter().chain(&OF_CALLS).any(has) {
        return None;
    }
    let root = Node::parse(body).ok()?;
    let mut cuts = Cuts::default();
    for message in root.member(body, "messages")?.items() {
        if message.member(body, "role").is_none_or(|role| role.raw(body) != b"\"assistant\"") {
            continue;
        }
        cuts.remove_members(body, message, &OF_MESSAGES);
        for call in message.member(body, "tool_calls").map(Node::items).unwrap_or_default() {
            cuts.remove_members(body, call, &OF_CALLS);
        }
    }
    (!cuts.is_empty()).then(|| cuts.apply(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"messages":[ {"role":"user","content":"reasoning_content"},
        {"role":"assistant", "reasoning_content":"hm","content":"so","reasoning_details":[{"a":1}],
         "tool_calls":[{"id":"a","extra_content":{"google":{}},"function":{}}]}], "seed" : 1}"#;

    #[test]
    fn only_the_reasoning_of_earlier_turns_is_taken_out() {
        let stripped = strip_reasoning_history(BODY.as_bytes(), &Profile::VENDOR).unwrap();
        let expected = r#"{"messages":[ {"role":"user","content":"reasoning_content"},
        {"role":"assistant", "content":"so","tool_calls":[{"id":"a","function":{}}]}], "seed" : 1}"#;
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&stripped).unwrap(),
            serde_json::from_str::<serde_json::Value>(expected).unwrap()
        );
        assert!(stripped.ends_with(br#""seed" : 1}"#));
    }

    #[test]
    fn a_provider_that_takes_it_gets_it() {
        assert_eq!(strip_reasoning_history(BODY.as_bytes(), &Profile::COMPATIBLE), None);
        let untouched = br#"{"messages":[{"role":"user","content":"reasoning_content"}]}"#;
        assert_eq!(strip_reasoning_history(untouched, &Profile::VENDOR), None);
    }
}
