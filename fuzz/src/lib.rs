//! What several fuzz targets do: bytes of a provider through its decoder, and what they mean through every encoder.

use bifrost::chat::{Collector, DialectId, Event, Losses};
use bifrost::dialect::{self, StreamOptions};

/// A stream must mean the same in one piece and in pieces, and every client must get what can be read.
pub fn stream(dialect: DialectId, data: &[u8]) {
    let Some((&step, body)) = data.split_first() else { return };
    let whole = decode(dialect, body, body.len().max(1));
    let pieces = decode(dialect, body, usize::from(step).max(1));
    assert_eq!(pieces, whole, "where the stream is cut changes what it says");
    let mut collector = Collector::default();
    whole.iter().for_each(|event| collector.push(event));
    if let Ok(response) = collector.finish() {
        for client in dialect::ALL {
            client.write_response(&response, &mut Losses::new());
        }
    }
    for client in dialect::ALL {
        for json_array in [false, true] {
            let options = StreamOptions { include_usage: true, json_array, ..StreamOptions::default() };
            let (mut out, mut losses) = (Vec::new(), Losses::new());
            let mut encoder = client.encoder(&options);
            for event in &whole {
                encoder.encode(event, &mut out, &mut losses);
                encoder.keep_alive(&mut out);
            }
            encoder.finish(&mut out, &mut losses);
            assert!(std::str::from_utf8(&out).is_ok(), "a client gets bytes that are no text");
        }
    }
}

fn decode(dialect: DialectId, body: &[u8], step: usize) -> Vec<Event> {
    let mut decoder = dialect::get(dialect).decoder();
    let mut events = Vec::new();
    for piece in body.chunks(step) {
        decoder.push(piece, &mut events);
    }
    decoder.finish(&mut events);
    events
}
