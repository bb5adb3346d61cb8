//! Foreign signatures in a request that goes to Google as the client wrote it.

use super::proof::SKIP_VALIDATION;
use crate::chat::Signature;
use crate::wire::cuts::Cuts;
use crate::wire::json_tree::Node;
use memchr::memmem;

const NAMES: [&str; 2] = ["thoughtSignature", "thought_signature"];

/// Takes out what Google would refuse: signatures of other vendors, which an earlier answer through the gateway had sealed.
/// A thought goes with its signature, and a content with its last part; a function call gets Google's skip value instead,
/// because Gemini 3 refuses a call without any. Every other byte stays. `None` when there is nothing to take out.
pub fn strip_foreign_signatures(body: &[u8]) -> Option<Vec<u8>> {
    memmem::find(body, Signature::SEALED_PREFIX.as_bytes())?;
    let root = Node::parse(body).ok()?;
    let contents = root.member(body, "contents")?;
    let mut cuts = Cuts::default();
    // A single content may stand without its list.
    if contents.items().is_empty() {
        strip_parts(body, contents, &mut cuts);
    } else {
        let empty: Vec<bool> = contents.items().iter().map(|content| strip_parts(body, content, &mut cuts)).collect();
        cuts.remove_items(contents, |index| empty.get(index).copied().unwrap_or(false));
    }
    (!cuts.is_empty()).then(|| cuts.apply(body))
}

/// Notes the cuts of one content; true when nothing of it is left.
fn strip_parts(body: &[u8], content: &Node, cuts: &mut Cuts) -> bool {
    let Some(parts) = content.member(body, "parts") else { return false };
    let mut gone = Vec::with_capacity(parts.items().len());
    for part in parts.items() {
        let signature =
            NAMES.iter().find_map(|name| part.member(body, name)).filter(|value| is_sealed(value.raw(body)));
        let Some(signature) = signature else {
            gone.push(false);
            continue;
        };
        let is_thought = part.member(body, "thought").is_some_and(|value| value.raw(body) == b"true");
        let is_call = ["functionCall", "function_call"].iter().any(|name| part.member(body, name).is_some());
        let is_blank = part.member(body, "text").is_some_and(|text| text.raw(body) == b"\"\"");
        gone.push(is_thought || is_blank);
        if is_call {
            cuts.replace(signature, format!("\"{SKIP_VALIDATION}\"").as_bytes());
        } else if !is_thought && !is_blank {
            cuts.remove_members(body, part, &NAMES);
        }
    }
    cuts.remove_items(parts, |index| gone.get(index).copied().unwrap_or(false));
    !gone.is_empty() && gone.iter().all(|gone| *gone)
}

fn is_sealed(raw: &[u8]) -> bool {
    raw.strip_prefix(b"\"").is_some_and(|text| text.starts_with(Signature::SEALED_PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::SignatureOrigin;

    #[test]
    fn only_foreign_signatures_go() {
        let sealed = Signature::new(SignatureOrigin::Anthropic, "EqQB").seal(SignatureOrigin::Gemini);
        let body = format!(
            r#"{{ "contents": [ {{"role":"user","parts":[{{"text":"hi"}}]}},
  {{"role":"model","parts":[{{"text":"hm","thought":true,"thoughtSignature":"{sealed}"}}]}},
  {{"role":"model","parts":[{{"text":"hm","thought":true,"thoughtSignature":"{sealed}"}}, {{"text":"a", "thoughtSignature": "own"}},
    {{"thoughtSignature":"{sealed}", "text":"b"}}, {{"functionCall":{{"name":"f"}},"thought_signature":"{sealed}"}}]}} ], "x" : 1.0 }}"#
        );
        let expected = format!(
            r#"{{ "contents": [ {{"role":"user","parts":[{{"text":"hi"}}]}},
  {{"role":"model","parts":[{{"text":"a", "thoughtSignature": "own"}},
    {{"text":"b"}}, {{"functionCall":{{"name":"f"}},"thought_signature":"{SKIP_VALIDATION}"}}]}} ], "x" : 1.0 }}"#
        );
        let stripped = strip_foreign_signatures(body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(stripped).unwrap(), expected);
        assert_eq!(strip_foreign_signatures(expected.as_bytes()), None);
    }
}
