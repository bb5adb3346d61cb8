//! Recorded traffic through the matrix of dialects: what a provider said is read, written in each client's dialect, and
//! read again; it must say the same, but for what that dialect cannot say (the tables in `projection`). In its own dialect
//! (`own`) it loses nothing at all.

mod golden;
mod passage;
mod own {
    mod anthropic;
    mod gemini;
    mod openai;
}
mod projection {
    pub mod answer;
    pub mod request;
}
mod recordings;
mod stream;

use bifrost::chat::{Collector, DialectId, ErrorKind, Event, Losses, Request, Response};
use bifrost::dialect::{self, Profile, UrlHints};
use projection::answer::Answer;
use projection::request;
use proptest::prelude::*;
use recordings::Recording;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use stream::{collect, decode, decode_pieces, encode};

/// A recording may be excepted, by id and with its reason: one, and at most one in so many of an API's.
const EXCEPTION_IN: usize = 50;

const EXCEPTIONS: &str = include_str!("../fixtures/exceptions.txt");

const CLIENTS: [DialectId; 3] = [DialectId::OpenAiChat, DialectId::Anthropic, DialectId::Gemini];

#[test]
fn answers_of_openai_chat_survive_every_dialect() {
    survive("openai.chat");
}

#[test]
fn answers_of_anthropic_messages_survive_every_dialect() {
    survive("anthropic.messages");
}

#[test]
fn answers_of_gemini_generate_survive_every_dialect() {
    survive("gemini.generate");
}

fn survive(api: &str) {
    let recordings: Vec<&Recording> = recordings::of(api).collect();
    assert!(!recordings.is_empty(), "{api}: no recordings");
    let mut streams = 0;
    let mut errors = 0;
    let mut failures = Vec::new();
    let mut failed = BTreeSet::new();
    for recording in &recordings {
        streams += usize::from(recording.is_stream());
        errors += usize::from(!recording.succeeded());
        let checked = catch_unwind(AssertUnwindSafe(|| [check(recording), check_request(recording)].concat()));
        let broken = checked.unwrap_or_else(|_| vec!["it panics".to_owned()]);
        if !broken.is_empty() {
            failed.insert(recording.id.as_str());
            if exception(&recording.id).is_none() {
                failures.extend(broken.iter().map(|what| format!("{} ({}): {what}", recording.id, recording.provider)));
            }
        }
    }
    let excepted: Vec<&&Recording> = recordings.iter().filter(|recording| exception(&recording.id).is_some()).collect();
    // Past the capture of the test runner: the counts are to be seen when all is well.
    let summary = format!(
        "{api}: {} recordings ({streams} streams, {errors} errors) in {} dialects: {} differ, {} excepted\n",
        recordings.len(),
        CLIENTS.len(),
        failed.len() - excepted.len().min(failed.len()),
        excepted.len()
    );
    io::stderr().write_all(summary.as_bytes()).unwrap();
    for recording in &excepted {
        assert!(failed.contains(recording.id.as_str()), "{} need not be excepted any more", recording.id);
    }
    let most = (recordings.len() / EXCEPTION_IN).max(1);
    assert!(excepted.len() <= most, "{api}: {} exceptions, at most {most} may be", excepted.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The reason why a recording is excepted.
fn exception(id: &str) -> Option<&'static str> {
    EXCEPTIONS.lines().filter(|line| !line.starts_with('#')).find_map(|line| line.strip_prefix(id))
}

/// What is wrong with a recording's way through the dialects.
fn check(recording: &Recording) -> Vec<String> {
    let from = dialect::get(recording.dialect());
    let bytes = recording.response_bytes();
    if !recording.succeeded() {
        return check_error(recording, &bytes);
    }
    if !recording.is_stream() {
        return match from.parse_response(&bytes) {
            Ok(response) => check_answer(recording, &response, &response.clone().into_events()),
            Err(error) => vec![format!("the answer cannot be read: {error}")],
        };
    }
    let events = decode(recording.dialect(), &bytes);
    let mut broken = Vec::new();
    for steps in Steps::of(recording) {
        let mut cutting = steps.clone();
        if decode_pieces(recording.dialect(), &bytes, || cutting.step()) != events {
            broken.push(format!("cut with {steps:?} it says something else"));
        }
    }
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    if collector.skipped() > 0 {
        broken.push(format!("{} events could not be read", collector.skipped()));
    }
    match collector.finish() {
        Ok(response) => broken.extend(check_answer(recording, &response, &events)),
        Err(error) => broken.extend(check_stream_error(&events, &error.message)),
    }
    broken
}

fn check_answer(recording: &Recording, response: &Response, events: &[Event]) -> Vec<String> {
    let answer = Answer::of(response);
    let mut broken = Vec::new();
    for client in CLIENTS {
        let (expected, lost) = answer.project(client);
        let mut say = |form: &str, said: Result<Response, String>, losses: &Losses| {
            let way = format!("{} to {client}, {form}", recording.dialect());
            match said {
                Err(error) => broken.push(format!("{way}: cannot be read again: {error}")),
                Ok(said) => {
                    // A whole answer that is read again is already what the dialect can say.
                    let (said, _) = Answer::of(&said).project(client);
                    broken.extend(expected.difference(&said).map(|difference| format!("{way}: {difference}")));
                }
            }
            if losses.is_empty() && !lost.is_empty() && client != recording.dialect() {
                broken.push(format!("{way}: {lost:?} lost in silence"));
            }
        };
        let mut losses = Losses::new();
        let body = dialect::get(client).write_response(response, &mut losses);
        say("whole", dialect::get(client).parse_response(&body).map_err(|error| error.message), &losses);
        let mut losses = Losses::new();
        let bytes = encode(client, events, false, true, &mut losses);
        say("streamed", collect(&decode(client, &bytes)), &losses);
        if client == DialectId::Gemini {
            let bytes = encode(client, events, true, true, &mut losses);
            say("as a JSON array", dialect::get(client).parse_response(&bytes).map_err(|error| error.message), &losses);
        }
    }
    broken
}

/// A request, written to a provider of each dialect and read again, asks the same; and once more back in its own.
fn check_request(recording: &Recording) -> Vec<String> {
    let Some(bytes) = recording.request_bytes() else { return Vec::new() };
    let own = recording.dialect();
    let request = match dialect::get(own).parse_request(&bytes, &recording.hints()) {
        Ok(request) => request,
        // What the provider refused may be refused here too.
        Err(_) if !recording.succeeded() => return Vec::new(),
        Err(error) => return vec![format!("the request cannot be read: {error}")],
    };
    let mut broken = Vec::new();
    for to in CLIENTS {
        let way = format!("the request of {own} in {to}");
        let expected = request::project(&request, to);
        if expected.messages.is_empty() {
            // All that it says is said in words that only its own dialect has.
            continue;
        }
        let mut losses = Losses::new();
        let there = match rewrite(&request, to, &mut losses) {
            Ok(there) => there,
            Err(error) => {
                broken.push(format!("{way}: cannot be read again: {error}"));
                continue;
            }
        };
        let limited = request.sampling.max_tokens.is_some();
        let lost = request::difference(&request::noticed(&request, limited), &request::noticed(&there, limited));
        if let (Some(lost), true) = (lost, losses.is_empty()) {
            broken.push(format!("{way}: lost in silence: {lost}"));
        }
        if let Some(difference) = request::difference(&expected, &request::project(&there, to)) {
            broken.push(format!("{way}: {difference}"));
            continue;
        }
        match rewrite(&there, own, &mut Losses::new()) {
            Ok(back) => {
                let difference = request::difference(&request::project(&there, own), &request::project(&back, own));
                broken.extend(difference.map(|difference| format!("{way} and back: {difference}")));
            }
            Err(error) => broken.push(format!("{way} and back: cannot be read again: {error}")),
        }
    }
    broken
}

/// The request as a provider of `dialect` would get and read it.
fn rewrite(request: &Request, to: DialectId, losses: &mut Losses) -> Result<Request, String> {
    let bytes = dialect::get(to).write_request(request, &Profile::FULL, losses);
    let hints = UrlHints { model: Some(request.model.clone()), stream: Some(request.stream) };
    dialect::get(to).parse_request(&bytes, &hints).map_err(|error| error.message)
}

/// An error in the middle of a stream is an error in the middle of every client's stream.
fn check_stream_error(events: &[Event], message: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for client in CLIENTS {
        let bytes = encode(client, events, false, true, &mut Losses::new());
        match collect(&decode(client, &bytes)) {
            Ok(_) => broken.push(format!("to {client}: the stream's error is hidden: {message}")),
            Err(said) if said != message => broken.push(format!("to {client}: {message:?} became {said:?}")),
            Err(_) => {}
        }
    }
    broken
}

/// A provider's error keeps its kind and its message in every client's dialect.
fn check_error(recording: &Recording, bytes: &[u8]) -> Vec<String> {
    let error = dialect::get(recording.dialect()).parse_error(recording.status, bytes);
    let mut broken = Vec::new();
    if error.message.trim().is_empty() {
        broken.push("the error has no message".to_owned());
    }
    for client in CLIENTS {
        let (status, body) = dialect::get(client).write_error(&error);
        let again = dialect::get(client).parse_error(status, &body);
        // A dialect may put in front what its clients look for (`prompt is too long: `).
        if !again.message.ends_with(&error.message) {
            broken.push(format!("to {client}: {:?} became {:?}", error.message, again.message));
        }
        if family(again.kind) != family(error.kind) {
            broken.push(format!("to {client}: {:?} became {:?} ({status})", error.kind, again.kind));
        }
    }
    broken
}

/// Kinds that share a status in some dialect.
fn family(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Unavailable => ErrorKind::Overloaded.status(),
        ErrorKind::Upstream => ErrorKind::Internal.status(),
        kind => kind.status(),
    }
}

/// Where the network cuts: steps from 1 to `most` bytes, always the same ones for the same seed.
#[derive(Debug, Clone)]
struct Steps {
    seed: u64,
    most: usize,
}

impl Steps {
    /// Every byte by itself, small pieces, and pieces about as large as packets.
    fn of(recording: &Recording) -> [Self; 3] {
        let seed = u64::from_str_radix(&recording.id, 16).unwrap_or(7) | 1;
        [Self { seed, most: 1 }, Self { seed, most: 40 }, Self { seed, most: 1500 }]
    }

    fn step(&mut self) -> usize {
        if self.most == 1 {
            return self.most;
        }
        // Xorshift (Marsaglia): no more randomness is needed than that no cut is always missed.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        1 + usize::try_from(self.seed % self.most as u64).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn where_the_network_cuts_a_stream_does_not_matter(
        chosen in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(1usize..300, 1..80),
    ) {
        let streams: Vec<Recording> = recordings::fixtures().into_iter().filter(Recording::is_stream).collect();
        let recording = chosen.get(&streams);
        let bytes = recording.response_bytes();
        let mut cuts = cuts.iter().copied().cycle();
        let pieces = decode_pieces(recording.dialect(), &bytes, || cuts.next().unwrap_or(1));
        prop_assert_eq!(pieces, decode(recording.dialect(), &bytes), "{}", recording.name);
    }
}
