//! A bounded memory of the proofs that most OpenAI clients drop between two turns of a tool loop, and of the reasoning that
//! some providers want back without a proof (DeepSeek).

use crate::chat::{Part, ReasoningPart, Request, Response, Role, Signature, SignatureOrigin};
use crate::provider::Provider;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Calls remembered at most.
const MAX_CALLS: usize = 4_096;
/// Bytes of reasoning and proofs remembered at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What belonged to a tool call when it was made.
#[derive(Debug, Clone, PartialEq)]
struct Remembered {
    /// Who made it: reasoning that nobody signed means something to that one only.
    provider: Arc<str>,
    signature: Option<Signature>,
    reasoning: Vec<ReasoningPart>,
}

/// Tool-call id to what the vendor wants back with it; the oldest are forgotten first.
#[derive(Debug, Default)]
pub struct SignatureMemory(Mutex<Store>);

#[derive(Debug, Default)]
struct Store {
    calls: HashMap<String, Remembered>,
    order: VecDeque<(String, usize)>,
    bytes: usize,
}

impl SignatureMemory {
    /// Remembers the signed calls of an answer of `provider`'s, with the reasoning before them: the signed, and all of it where
    /// the provider takes it back.
    pub fn learn(&self, response: &Response, provider: &Provider) {
        let is_wanted = |part: &ReasoningPart| {
            proof(part).is_some() || (provider.profile.reasoning_history && !part.text.is_empty())
        };
        for candidate in &response.candidates {
            let mut reasoning = Vec::new();
            for part in &candidate.parts {
                match part {
                    Part::Reasoning(part) if is_wanted(part) => reasoning.push(part.clone()),
                    Part::ToolCall(call) if call.signature.is_some() || !reasoning.is_empty() => {
                        let remembered = Remembered {
                            provider: Arc::clone(&provider.name),
                            signature: call.signature.clone(),
                            reasoning: reasoning.clone(),
                        };
                        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(call.id.clone(), remembered);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Puts back what the client dropped and `provider` will ask for. `vendor`: whose proofs it verifies; `None` where it passes
    /// them on to whoever made them.
    pub fn recall(&self, request: &mut Request, provider: &Provider, vendor: Option<SignatureOrigin>) {
        let is_verified = |signature: &Signature| vendor.is_none_or(|vendor| signature.origin == vendor);
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if store.calls.is_empty() {
            return;
        }
        for message in request.messages.iter_mut().filter(|message| message.role == Role::Assistant) {
            let has_reasoning = message.parts.iter().any(|part| matches!(part, Part::Reasoning(_)));
            let mut reasoning = Vec::new();
            for part in &mut message.parts {
                let Part::ToolCall(call) = part else { continue };
                let Some(remembered) = store.calls.get(&call.id) else { continue };
                if call.signature.is_none() {
                    call.signature = remembered.signature.clone().filter(is_verified);
                }
                if !has_reasoning && reasoning.is_empty() {
                    let is_own = provider.profile.reasoning_history && remembered.provider == provider.name;
                    let is_wanted = |part: &&ReasoningPart| proof(part).map_or(is_own, is_verified);
                    reasoning = remembered.reasoning.iter().filter(is_wanted).cloned().collect();
                }
            }
            message.parts.splice(0..0, reasoning.into_iter().map(Part::Reasoning));
        }
    }
}

impl Store {
    fn insert(&mut self, id: String, remembered: Remembered) {
        let size = id.len() + size_of(&remembered);
        if size > MAX_BYTES / 4 {
            return;
        }
        if self.calls.insert(id.clone(), remembered).is_none() {
            self.order.push_back((id, size));
        } else if let Some((_, known)) = self.order.iter_mut().find(|(known, _)| *known == id) {
            self.bytes -= std::mem::replace(known, size);
        }
        self.bytes += size;
        while self.calls.len() > MAX_CALLS || self.bytes > MAX_BYTES {
            let Some((oldest, size)) = self.order.pop_front() else { return };
            self.calls.remove(&oldest);
            self.bytes -= size;
        }
    }
}

fn proof(part: &ReasoningPart) -> Option<&Signature> {
    part.signature.as_ref().or(part.encrypted.as_ref())
}

fn size_of(remembered: &Remembered) -> usize {
    let length = |signature: &Option<Signature>| signature.as_ref().map_or(0, |signature| signature.value.len());
    let reasoning = remembered.reasoning.iter();
    length(&remembered.signature)
        + reasoning.map(|part| part.text.len() + length(&part.signature) + length(&part.encrypted)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Candidate, Extras, Message, ToolCall};
    use crate::provider::table;

    fn provider(name: &str) -> Provider {
        table::row(name).unwrap().provider()
    }

    fn call(id: &str, signature: Option<Signature>) -> Part {
        Part::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "get_weather".to_owned(),
            arguments: "{}".to_owned(),
            signature,
            cache: None,
            extras: Extras::default(),
        })
    }

    fn answer(id: &str, origin: SignatureOrigin) -> Response {
        let thinking = ReasoningPart {
            text: "hm".to_owned(),
            signature: Some(Signature::new(origin, "proof")),
            ..ReasoningPart::default()
        };
        let parts = vec![Part::Reasoning(thinking), call(id, None)];
        Response { candidates: vec![Candidate { parts, ..Candidate::default() }], ..Response::default() }
    }

    fn next_turn(id: &str) -> Request {
        Request { messages: vec![Message::new(Role::Assistant, vec![call(id, None)])], ..Request::default() }
    }

    #[test]
    fn what_the_client_dropped_comes_back_to_its_own_vendor_only() {
        let memory = SignatureMemory::default();
        memory.learn(&answer("call_1", SignatureOrigin::Anthropic), &provider("anthropic"));
        let mut request = next_turn("call_1");
        memory.recall(&mut request, &provider("gemini"), Some(SignatureOrigin::Gemini));
        assert_eq!(request, next_turn("call_1"));
        memory.recall(&mut request, &provider("anthropic"), Some(SignatureOrigin::Anthropic));
        assert!(matches!(&request.messages[0].parts[0], Part::Reasoning(part) if part.text == "hm"));
        let once = request.clone();
        memory.recall(&mut request, &provider("anthropic"), Some(SignatureOrigin::Anthropic));
        assert_eq!(request, once);
    }

    /// DeepSeek answers 400 to a turn of a tool loop whose reasoning does not come back, and signs none.
    #[test]
    fn reasoning_that_nobody_signed_comes_back_to_who_gave_it_only() {
        let memory = SignatureMemory::default();
        let unsigned = |id: &str| {
            let mut answer = answer(id, SignatureOrigin::Unknown);
            if let Part::Reasoning(part) = &mut answer.candidates[0].parts[0] {
                part.signature = None;
            }
            answer
        };
        memory.learn(&unsigned("call_1"), &provider("deepseek"));
        memory.learn(&unsigned("call_2"), &provider("mlx-local"));
        for (id, name, comes_back) in
            [("call_1", "deepseek", true), ("call_1", "moonshot", false), ("call_2", "mlx-local", false)]
        {
            let mut request = next_turn(id);
            memory.recall(&mut request, &provider(name), Some(SignatureOrigin::Unknown));
            assert_eq!(request != next_turn(id), comes_back, "{id} {name}");
        }
    }

    /// OpenRouter hands `reasoning_details` to the vendor that made them, and Gemini 3 refuses a call without its own.
    #[test]
    fn who_passes_proofs_on_gets_those_of_every_vendor() {
        let memory = SignatureMemory::default();
        let openrouter = provider("openrouter");
        memory.learn(&answer("call_1", SignatureOrigin::Gemini), &openrouter);
        let mut request = next_turn("call_1");
        memory.recall(&mut request, &openrouter, None);
        assert!(matches!(&request.messages[0].parts[0], Part::Reasoning(part) if part.signature.is_some()));
    }

    #[test]
    fn a_call_that_is_learned_again_counts_with_its_new_size() {
        let memory = SignatureMemory::default();
        memory.learn(&answer("call_1", SignatureOrigin::Anthropic), &provider("anthropic"));
        let once = memory.0.lock().unwrap().bytes;
        let mut longer = answer("call_1", SignatureOrigin::Anthropic);
        let Some(Part::Reasoning(thinking)) = longer.candidates[0].parts.first_mut() else { panic!("no reasoning") };
        thinking.text.push_str(" and more");
        memory.learn(&longer, &provider("anthropic"));
        let store = memory.0.lock().unwrap();
        assert_eq!((store.bytes, store.order.len()), (once + " and more".len(), 1));
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = SignatureMemory::default();
        let vendor = provider("anthropic");
        for number in 0..MAX_CALLS + 10 {
            memory.learn(&answer(&format!("call_{number}"), SignatureOrigin::Anthropic), &vendor);
        }
        let store = memory.0.lock().unwrap();
        assert_eq!(store.calls.len(), MAX_CALLS);
        assert_eq!(store.order.len(), MAX_CALLS);
        assert!(!store.calls.contains_key("call_0"));
        assert!(store.calls.contains_key(&format!("call_{}", MAX_CALLS + 9)));
    }
}
