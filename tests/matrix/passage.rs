//! Of an answer that is passed on as it is, the gateway decodes as little as it can. It must know all the same what it would
//! know of all of it: token counts, errors, the end, the first content.

use crate::recordings::{self, Recording};
use bifrost::chat::{Event, Usage};
use bifrost::dialect::{self, Summary};
use bifrost::wire::sse::{EventCutter, one_line_event};
use bytes::Bytes;

/// What the gateway knows of a stream.
#[derive(Debug, Default, PartialEq)]
struct Known {
    usage: Option<Usage>,
    error: Option<String>,
    stopped: bool,
    complete: bool,
    /// Which event had the first content.
    first_content: Option<usize>,
}

/// What is known of the first `count` events; and how many of them were decoded.
fn known(recording: &Recording, run: &Bytes, ends: &[usize], fully: bool) -> (Known, usize) {
    let dialect = dialect::get(recording.dialect());
    let mut decoder = dialect.decoder();
    let (mut known, mut decoded, mut start) = (Known::default(), 0, 0);
    let mut events = Vec::new();
    for (number, end) in ends.iter().enumerate() {
        let raw = &run[start..*end];
        start = *end;
        let is_mere = || one_line_event(raw).is_some_and(|event| dialect.is_mere_content(&event));
        if !fully && known.first_content.is_some() && is_mere() {
            continue;
        }
        decoded += 1;
        decoder.push(raw, &mut events);
        known.learn(number, &mut events);
    }
    known.complete = decoder.is_complete();
    decoder.finish(&mut events);
    known.learn(ends.len(), &mut events);
    (known, decoded)
}

impl Known {
    fn learn(&mut self, number: usize, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            match &event {
                Event::Usage(usage) => self.usage.get_or_insert_default().merge(usage),
                Event::Error(error) => self.error = Some(error.message.clone()),
                Event::Stop { .. } => self.stopped = true,
                event if event.is_content() && self.first_content.is_none() => self.first_content = Some(number),
                _ => {}
            }
        }
    }
}

#[test]
fn of_a_stream_in_part_is_known_what_is_known_of_all() {
    let (mut all, mut decoded) = (0, 0);
    for (api, _) in recordings::APIS {
        for recording in recordings::of(api).filter(|recording| recording.succeeded() && recording.is_stream()) {
            let mut ends = Vec::new();
            let run = EventCutter::default().cut(recording.response_bytes().into(), &mut ends).unwrap();
            // Streams that broke off at any place as well.
            for count in (0..=ends.len()).rev().step_by(1 + ends.len() / 24) {
                let (full, _) = known(recording, &run, &ends[..count], true);
                let (part, some) = known(recording, &run, &ends[..count], false);
                assert_eq!(part, full, "{} after {count} of {} events", recording.id, ends.len());
                if count == ends.len() {
                    (all, decoded) = (all + count, decoded + some);
                }
            }
        }
    }
    assert!(decoded < all, "nothing was spared: {decoded} of {all} events");
}

#[test]
fn of_a_whole_answer_in_part_is_known_what_is_known_of_all() {
    for (api, _) in recordings::APIS {
        for recording in recordings::of(api).filter(|recording| !recording.is_stream()) {
            let dialect = dialect::get(recording.dialect());
            let body = recording.response_bytes();
            let full = dialect.parse_response(&body).map(Summary::from);
            assert_eq!(dialect.summarise(&body), full, "{}", recording.id);
            let cut = &body[..body.len() * 2 / 3];
            assert_eq!(dialect.summarise(cut).is_err(), dialect.parse_response(cut).is_err(), "{} cut", recording.id);
        }
    }
}
