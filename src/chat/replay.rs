//! A whole answer told as a stream: some servers answer a request for a stream with one JSON body.

use super::{BlockKind, Candidate, Delta, Event, Extras, Part, Response};

impl Response {
    /// The events that a stream of this answer would have had.
    pub fn into_events(self) -> Vec<Event> {
        let mut events = vec![Event::Start { id: self.id, model: self.model, created: self.created }];
        if !self.extras.is_empty() {
            events.push(Event::Extras(self.extras));
        }
        let mut index = 0;
        for (number, candidate) in (0..).zip(self.candidates) {
            tell(candidate, number, &mut index, &mut events);
        }
        events.extend(self.usage.map(Event::Usage));
        events
    }
}

fn tell(candidate: Candidate, number: u32, index: &mut usize, events: &mut Vec<Event>) {
    for part in candidate.parts {
        let Some((kind, deltas)) = block(part) else { continue };
        events.push(Event::BlockStart { index: *index, candidate: number, kind });
        events.extend(deltas.into_iter().map(|delta| Event::Delta { index: *index, delta }));
        events.push(Event::BlockStop { index: *index });
        *index += 1;
    }
    if let Some(reason) = candidate.stop {
        events.push(Event::Stop { candidate: number, reason, sequence: candidate.stop_sequence });
    }
}

/// `None` for a tool result: no answer has one.
fn block(part: Part) -> Option<(BlockKind, Vec<Delta>)> {
    let extra = |extras: Extras| (!extras.is_empty()).then_some(Delta::Extras(extras));
    Some(match part {
        Part::Text { text, signature, extras, .. } => {
            let deltas = [Some(Delta::Text(text)), signature.map(Delta::Signature), extra(extras)];
            (BlockKind::Text, deltas.into_iter().flatten().collect())
        }
        Part::Reasoning(part) => {
            let text = (!part.text.is_empty()).then_some(Delta::Text(part.text));
            let deltas = [text, part.signature.map(Delta::Signature), part.encrypted.map(Delta::Encrypted)];
            (BlockKind::Reasoning { id: part.id, summary: part.summary }, deltas.into_iter().flatten().collect())
        }
        Part::ToolCall(call) => {
            // The arguments come last: some dialects say the rest at the start of the block.
            let deltas =
                [extra(call.extras), call.signature.map(Delta::Signature), Some(Delta::Arguments(call.arguments))];
            (BlockKind::ToolCall { id: call.id, name: call.name }, deltas.into_iter().flatten().collect())
        }
        Part::Refusal(text) => (BlockKind::Refusal, vec![Delta::Text(text)]),
        Part::Media(media) => (BlockKind::Media(media), Vec::new()),
        Part::Foreign { dialect, value } => (BlockKind::Foreign { dialect, value }, Vec::new()),
        Part::ToolResult(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::chat::{
        Candidate, Collector, Part, ReasoningPart, Response, Signature, SignatureOrigin, StopReason, Usage,
    };

    #[test]
    fn an_answer_told_as_a_stream_is_the_same_answer() {
        let thinking = ReasoningPart {
            text: "hm".to_owned(),
            signature: Some(Signature::new(SignatureOrigin::Anthropic, "proof")),
            ..ReasoningPart::default()
        };
        let candidate = Candidate {
            parts: vec![Part::Reasoning(thinking), Part::text("hello"), Part::Refusal("no".to_owned())],
            stop: Some(StopReason::EndTurn),
            ..Candidate::default()
        };
        let response = Response {
            id: Some("1".to_owned()),
            candidates: vec![candidate.clone(), Candidate { parts: vec![Part::text("two")], ..candidate }],
            usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
            ..Response::default()
        };
        let mut collector = Collector::default();
        for event in response.clone().into_events() {
            collector.push(&event);
        }
        assert_eq!(collector.finish().unwrap(), response);
    }
}
