//! Foreign signatures in a request that goes to Anthropic as the client wrote it.

use crate::chat::Signature;
use crate::wire::cuts::Cuts;
use crate::wire::json_tree::{Children, Node};
use memchr::memmem;

/// Signatures that are none; other servers of the dialect give them, and so does nobody else.
const EMPTY: [&[u8]; 2] = [br#""signature":"""#, br#""signature": """#];

/// Takes out what Anthropic would refuse: `thinking` and `redacted_thinking` blocks of other vendors' models, which an
/// earlier answer through the gateway had sealed, and thinking that nobody signed. A message goes with its last block. Where
/// the turn that is to be continued has no thinking left, `thinking` is disabled if it was `enabled`, because that is refused
/// too. Every other byte stays. `None` when there is nothing to take out.
pub fn strip_foreign_signatures(body: &[u8]) -> Option<Vec<u8>> {
    let holds = |needle: &[u8]| memmem::find(body, needle).is_some();
    if !holds(Signature::SEALED_PREFIX.as_bytes()) && !EMPTY.into_iter().any(holds) {
        return None;
    }
    let root = Node::parse(body).ok()?;
    let messages = root.member(body, "messages")?;
    let mut cuts = Cuts::default();
    let mut turn = OpenTurn::default();
    let empty: Vec<bool> =
        messages.items().iter().map(|message| strip_blocks(body, message, &mut cuts, &mut turn)).collect();
    cuts.remove_items(messages, |index| empty.get(index).copied().unwrap_or(false));
    if cuts.is_empty() {
        return None;
    }
    let thinking = root.member(body, "thinking");
    if let Some(thinking) = thinking.filter(|thinking| turn.lacks_thinking() && is(body, thinking, "type", "enabled")) {
        cuts.replace(thinking, br#"{"type":"disabled"}"#);
    }
    Some(cuts.apply(body))
}

/// True for `messages` whose last turn of the model's goes on after calls of tools and has no thinking. The API answers that
/// with 400 while `thinking` is `enabled`.
pub(super) fn open_turn_lacks_thinking(messages: &[u8]) -> bool {
    if memmem::find(messages, b"\"tool_use\"").is_none() {
        return false;
    }
    let Ok(list) = Node::parse(messages) else { return false };
    let mut turn = OpenTurn::default();
    for message in list.items() {
        turn.read(messages, message);
    }
    turn.lacks_thinking()
}

/// What is known of the model's turn that the request asks to continue.
#[derive(Debug, Default)]
struct OpenTurn {
    has_call: bool,
    has_thinking: bool,
}

impl OpenTurn {
    /// Takes up the next message, and tells which of its blocks are foreign.
    fn read(&mut self, body: &[u8], message: &Node) -> Vec<bool> {
        let is_user = is(body, message, "role", "user");
        let Some(content) = message.member(body, "content") else { return Vec::new() };
        if is_user && !matches!(content.children, Children::Items(_)) {
            *self = Self::default();
        }
        let mut foreign = Vec::with_capacity(content.items().len());
        for block in content.items() {
            let proof = if is(body, block, "type", "thinking") {
                Some("signature")
            } else if is(body, block, "type", "redacted_thinking") {
                Some("data")
            } else {
                None
            };
            let is_foreign = proof.is_some_and(|name| !is_own(body, block.member(body, name)));
            self.has_thinking |= proof.is_some() && !is_foreign;
            self.has_call |= is(body, block, "type", "tool_use");
            if is_user && !is(body, block, "type", "tool_result") {
                *self = Self::default();
            }
            foreign.push(is_foreign);
        }
        foreign
    }

    fn lacks_thinking(&self) -> bool {
        self.has_call && !self.has_thinking
    }
}

/// Notes the cuts of one message; true when nothing of it is left.
fn strip_blocks(body: &[u8], message: &Node, cuts: &mut Cuts, turn: &mut OpenTurn) -> bool {
    let foreign = turn.read(body, message);
    if let Some(content) = message.member(body, "content") {
        cuts.remove_items(content, |index| foreign.get(index).copied().unwrap_or(false));
    }
    !foreign.is_empty() && foreign.iter().all(|is_foreign| *is_foreign)
}

/// True for a proof that may be Anthropic's own.
fn is_own(body: &[u8], proof: Option<&Node>) -> bool {
    let raw = proof.map(|proof| proof.raw(body)).unwrap_or_default();
    let text = raw.strip_prefix(b"\"").unwrap_or_default();
    !text.starts_with(b"\"") && !text.is_empty() && !text.starts_with(Signature::SEALED_PREFIX.as_bytes())
}

/// True when the member `name` is the string `word`.
fn is(body: &[u8], object: &Node, name: &str, word: &str) -> bool {
    let raw = object.member(body, name).map(|node| node.raw(body)).unwrap_or_default();
    raw.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) == Some(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::SignatureOrigin;
    use proptest::prelude::*;

    fn sealed() -> String {
        Signature::new(SignatureOrigin::Gemini, "CiQB").seal(SignatureOrigin::Anthropic)
    }

    fn stripped(body: &str) -> Option<String> {
        strip_foreign_signatures(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn only_foreign_thinking_goes() {
        let sealed = sealed();
        let body = format!(
            r#"{{ "x" : 1.0, "messages": [ {{"role":"user","content":"hi"}},
  {{"role":"assistant","content":[{{"type":"thinking","thinking":"a","signature":"own"}}, {{"type":"thinking","signature":"{sealed}","thinking":"b"}}, {{"type":"text","text":"{sealed}"}}, {{"type":"redacted_thinking","data":"{sealed}"}} ]}},
  {{"role":"assistant","content":[{{"type":"thinking","thinking":"c","signature":""}}]}},
  {{"role":"user","content":"go on"}} ] }}"#
        );
        let expected = format!(
            r#"{{ "x" : 1.0, "messages": [ {{"role":"user","content":"hi"}},
  {{"role":"assistant","content":[{{"type":"thinking","thinking":"a","signature":"own"}}, {{"type":"text","text":"{sealed}"}} ]}},
  {{"role":"user","content":"go on"}} ] }}"#
        );
        assert_eq!(stripped(&body).unwrap(), expected);
        assert_eq!(stripped(&expected), None);
    }

    #[test]
    fn thinking_goes_off_where_the_open_turn_has_none_left() {
        let body = |last: &str| {
            format!(
                r#"{{"thinking": {{"type": "enabled","budget_tokens":2000}},"messages":[{{"role":"user","content":"hi"}},{{"role":"assistant","content":[{{"type":"redacted_thinking","data":"{}"}},{{"type":"tool_use","id":"a","name":"f","input":{{}}}}]}},{{"role":"user","content":[{last}]}}]}}"#,
                sealed()
            )
        };
        let in_loop = stripped(&body(r#"{"type":"tool_result","tool_use_id":"a"}"#)).unwrap();
        assert!(in_loop.starts_with(r#"{"thinking": {"type":"disabled"},"#), "{in_loop}");
        let next_turn =
            stripped(&body(r#"{"type":"tool_result","tool_use_id":"a"},{"type":"text","text":"and?"}"#)).unwrap();
        assert!(next_turn.starts_with(r#"{"thinking": {"type": "enabled","budget_tokens":2000},"#), "{next_turn}");
    }

    proptest! {
        #[test]
        fn a_body_cut_anywhere_is_left_alone_or_stays_json(at in 0usize..400) {
            let body = format!(r#"{{"messages":[{{"role":"assistant","content":[{{"type":"thinking","signature":"{}"}}]}}]}}"#, sealed());
            if let Some(stripped) = stripped(&body[..at.min(body.len())]) {
                prop_assert_eq!(stripped, r#"{"messages":[]}"#);
            }
        }
    }
}
