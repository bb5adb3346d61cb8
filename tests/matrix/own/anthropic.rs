//! Recorded traffic of Anthropic's Messages, read and written in that dialect.

use crate::recordings::{self, Recording};
use crate::stream::{collect, decode, decode_pieces};
use bifrost::chat::{DialectId, Losses, Part, Response};
use bifrost::dialect::anthropic::Anthropic;
use bifrost::dialect::{Dialect, Profile, StreamOptions, UrlHints};
use serde_json::Value;

/// Requests that cannot mean the same when written again, each with the reason; all of them were refused.
const CHANGED_REQUESTS: [(&str, &str); 5] = [
    ("d93c07042175", "asks Opus 4.6 for the effort `xhigh`, which it does not know"),
    ("6a868a4338a3", NO_LIMIT),
    ("ecf09c986d91", NO_LIMIT),
    ("2bcb1cae8b71", NO_LIMIT),
    ("ca4a69ca04a4", NO_LIMIT),
];
const NO_LIMIT: &str = "has no `max_tokens`, which the API requires: the default is written";

fn is_stream(recording: &Recording) -> bool {
    recording.succeeded() && recording.is_stream()
}

/// The answer with what no reader can tell apart made alike: arguments parsed, texts of no characters left out.
fn comparable(mut response: Response) -> Response {
    for candidate in &mut response.candidates {
        candidate.parts.retain(|part| {
            !matches!(part, Part::Text { text, signature: None, extras, .. } if text.is_empty() && extras.is_empty())
        });
        for part in &mut candidate.parts {
            if let Part::ToolCall(call) = part {
                call.arguments = call.parsed_arguments().map_or(call.arguments.clone(), |parsed| parsed.to_string());
            }
        }
    }
    response
}

/// Runs `check` on every recording that it is for and names all that fail.
fn every(is_meant: impl Fn(&Recording) -> bool, check: impl Fn(&Recording) -> Result<(), String>) {
    every_but(&[], is_meant, check);
}

/// The same with exceptions; one that holds all the same fails too.
fn every_but(
    exceptions: &[(&str, &str)],
    is_meant: impl Fn(&Recording) -> bool,
    check: impl Fn(&Recording) -> Result<(), String>,
) {
    let meant: Vec<&Recording> = recordings::of("anthropic.messages").filter(|recording| is_meant(recording)).collect();
    assert!(!meant.is_empty());
    let mut failures = Vec::new();
    for recording in &meant {
        let is_excepted = exceptions.iter().any(|(id, _)| *id == recording.id);
        match check(recording) {
            Err(why) if !is_excepted => failures.push(format!("{}: {why}", recording.id)),
            Ok(()) if is_excepted => failures.push(format!("{}: is an exception and holds all the same", recording.id)),
            _ => {}
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), meant.len(), failures.join("\n"));
}

#[test]
fn a_stream_means_the_same_wherever_the_network_cuts_it() {
    every(is_stream, |recording| {
        let body = recording.response_bytes();
        let whole = collect(&decode(DialectId::Anthropic, &body))?;
        let mut seed = body.len() as u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % 61
        };
        for _ in 0..2 {
            let cut = collect(&decode_pieces(DialectId::Anthropic, &body, &mut random))?;
            if cut != whole {
                return Err(format!("cut: {cut:?}\nwhole: {whole:?}"));
            }
        }
        if whole.candidates[0].stop.is_none() || whole.usage.is_none() {
            return Err("no stop reason or no usage".to_owned());
        }
        Ok(())
    });
}

#[test]
fn a_stream_written_again_means_the_same() {
    every(is_stream, |recording| {
        let events = decode(DialectId::Anthropic, &recording.response_bytes());
        let mut encoder = Anthropic.encoder(&StreamOptions::default());
        let (mut bytes, mut losses) = (Vec::new(), Losses::new());
        for event in &events {
            encoder.encode(event, &mut bytes, &mut losses);
        }
        encoder.finish(&mut bytes, &mut losses);
        let before = comparable(collect(&events)?);
        let after = comparable(collect(&decode_pieces(DialectId::Anthropic, &bytes, || 7))?);
        same(&before, &after, &losses)
    });
}

#[test]
fn an_answer_written_again_means_the_same() {
    every(
        |recording| recording.succeeded() && !recording.is_stream(),
        |recording| {
            let body = recording.response_bytes();
            let before = Anthropic.parse_response(&body).map_err(|error| error.to_string())?;
            if before.candidates[0].stop.is_none() || before.usage.is_none() {
                return Err("no stop reason or no usage".to_owned());
            }
            let mut losses = Losses::new();
            let bytes = Anthropic.write_response(&before, &mut losses);
            let after = Anthropic.parse_response(&bytes).map_err(|error| error.to_string())?;
            nothing_is_missing(&serde_json::from_slice(&body).unwrap(), &bytes)?;
            same(&comparable(before), &comparable(after), &losses)
        },
    );
}

fn same(before: &Response, after: &Response, losses: &Losses) -> Result<(), String> {
    if before != after {
        return Err(format!("before: {before:#?}\nafter: {after:#?}"));
    }
    if losses.is_empty() { Ok(()) } else { Err(format!("losses: {losses}")) }
}

#[test]
fn an_error_answer_says_what_its_status_says() {
    use bifrost::chat::ErrorKind::{
        Authentication, ContextTooLong, InvalidRequest, NotFound, Overloaded, Permission, RateLimited, Upstream,
    };
    every(
        |recording| recording.status >= 400,
        |recording| {
            let error = Anthropic.parse_error(recording.status, &recording.response_bytes());
            let expected: &[_] = match recording.status {
                400 => &[InvalidRequest, ContextTooLong],
                401 => &[Authentication],
                403 => &[Permission],
                404 => &[NotFound],
                429 => &[RateLimited],
                529 => &[Overloaded],
                _ => &[Upstream],
            };
            if expected.contains(&error.kind) && !error.message.is_empty() {
                return Ok(());
            }
            Err(format!("{error:?}"))
        },
    );
}

#[test]
fn a_request_written_again_means_the_same() {
    every_but(
        &CHANGED_REQUESTS,
        |recording| recording.request_body.is_object(),
        |recording| {
            let parse = |bytes: &[u8]| Anthropic.parse_request(bytes, &UrlHints::default()).map_err(|e| e.to_string());
            let before = parse(recording.request_body.to_string().as_bytes())?;
            let mut losses = Losses::new();
            let bytes = Anthropic.write_request(&before, &Profile::FULL, &mut losses);
            let after = parse(&bytes)?;
            if before != after {
                return Err(format!("({losses}) before: {before:#?}\nafter: {after:#?}"));
            }
            if !losses.is_empty() && recording.status < 400 {
                return Err(format!("a request that was accepted has losses: {losses}"));
            }
            nothing_is_missing(&recording.request_body, &bytes)
        },
    );
}

/// Every member of `before` that holds a text, a number or `true` stands in `after` too, at any depth and in any order.
fn nothing_is_missing(before: &Value, after: &[u8]) -> Result<(), String> {
    fn members(value: &Value, name: &str, found: &mut std::collections::BTreeMap<String, usize>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| members(value, name, found)),
            Value::Array(list) => list.iter().for_each(|value| members(value, name, found)),
            Value::Null | Value::Bool(false) => {}
            // A lone text stands for a list of one text block, wherever there may be either.
            Value::String(text) if matches!(name, "content" | "text" | "system") => {
                *found.entry(format!("text: {text}")).or_default() += usize::from(!text.is_empty());
            }
            // Counts of nothing.
            Value::Number(number) if name.ends_with("_tokens") || name.ends_with("_requests") => {
                *found.entry(format!("{name}: {number}")).or_default() += usize::from(number.as_u64() != Some(0));
            }
            Value::Number(number) => *found.entry(format!("{name}: {:?}", number.as_f64())).or_default() += 1,
            leaf => *found.entry(format!("{name}: {leaf}")).or_default() += 1,
        }
    }
    let (mut expected, mut found) = Default::default();
    members(before, "", &mut expected);
    members(&serde_json::from_slice(after).unwrap(), "", &mut found);
    // Words for what is meant anyway, and roles of turns that were put together.
    let is_implied = |member: &str| {
        matches!(member, "type: \"text\"" | "type: \"custom\"" | "type: \"direct\"") || member.starts_with("role: ")
    };
    for (member, count) in expected {
        if found.get(&member).copied().unwrap_or(0) < count && !is_implied(&member) {
            return Err(format!("{member:.200} is missing"));
        }
    }
    Ok(())
}
