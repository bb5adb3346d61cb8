#![no_main]

use bifrost::wire::sse::{SseEvent, SseParser};
use libfuzzer_sys::fuzz_target;

// Cut anywhere, the events are the same, and together they are the bytes that came.
fuzz_target!(|data: &[u8]| {
    let Some((&step, body)) = data.split_first() else { return };
    let whole = events(body, body.len().max(1));
    assert_eq!(events(body, usize::from(step).max(1)), whole);
    let raw: Vec<u8> = whole.iter().flat_map(|event| event.raw.to_vec()).collect();
    assert_eq!(raw, body);
});

fn events(body: &[u8], step: usize) -> Vec<SseEvent> {
    let mut parser = SseParser::new();
    let mut events = Vec::new();
    for piece in body.chunks(step) {
        if parser.push(piece).is_err() {
            return events;
        }
        events.extend(std::iter::from_fn(|| parser.next_event()));
    }
    events.extend(parser.finish());
    events
}
