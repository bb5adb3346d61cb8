//! Streams through a dialect: bytes to events and back.

use bifrost::chat::{Collector, DialectId, Event, Losses, Response};
use bifrost::dialect::{self, StreamOptions};

/// The events of a body that came in one piece.
pub fn decode(dialect: DialectId, bytes: &[u8]) -> Vec<Event> {
    decode_pieces(dialect, bytes, || bytes.len())
}

/// The events of a body that came in pieces, each as long as `step` says.
pub fn decode_pieces(dialect: DialectId, mut bytes: &[u8], mut step: impl FnMut() -> usize) -> Vec<Event> {
    let mut decoder = dialect::get(dialect).decoder();
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(step().clamp(1, bytes.len()));
        decoder.push(now, &mut events);
        bytes = later;
    }
    decoder.finish(&mut events);
    events
}

/// What a client of `dialect` gets of `events`; `waiting` puts a sign of life behind each.
pub fn encode(dialect: DialectId, events: &[Event], json_array: bool, waiting: bool, losses: &mut Losses) -> Vec<u8> {
    let options = StreamOptions {
        include_usage: true,
        model: "a-model".to_owned(),
        json_array,
        created: 1_700_000_000,
        id: "an-id".to_owned(),
    };
    let mut encoder = dialect::get(dialect).encoder(&options);
    let mut bytes = Vec::new();
    for event in events {
        encoder.encode(event, &mut bytes, losses);
        if waiting {
            encoder.keep_alive(&mut bytes);
        }
    }
    encoder.finish(&mut bytes, losses);
    bytes
}

/// The answer that `events` tell, or the message of the error that ended them.
pub fn collect(events: &[Event]) -> Result<Response, String> {
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    if collector.skipped() > 0 {
        return Err(format!("{} events cannot be read", collector.skipped()));
    }
    collector.finish().map_err(|error| error.message)
}
