//! Recorded Gemini and Vertex traffic through the Gemini dialect: every answer decodes wherever it is cut, goes back to the
//! same neutral form, and every request is kept.

use crate::recordings::{self, Recording};
use crate::stream;
use bifrost::chat::{Candidate, Collector, DialectId, ErrorKind, Event, Losses, Part, Response, StopReason, Usage};
use bifrost::dialect::gemini::{Gemini, count_tokens, embedding};
use bifrost::dialect::{Dialect, Profile, StreamOptions};
use serde_json::{Map, Value};

/// A request that Google itself refused, for the same reason as the dialect: `contents[].role` is `invalid_role`.
const REFUSED_REQUESTS: [&str; 1] = ["ec616566b758"];

fn recordings() -> impl Iterator<Item = &'static Recording> {
    recordings::of("gemini.generate")
}

/// A cheap sequence of cuts that is the same in every run.
struct Cuts(u64);

impl Cuts {
    fn next(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + usize::try_from(self.0 >> 33).unwrap() % most
    }
}

fn decode(body: &[u8], cuts: Option<Cuts>) -> Vec<Event> {
    match cuts {
        None => stream::decode(DialectId::Gemini, body),
        Some(mut cuts) => stream::decode_pieces(DialectId::Gemini, body, || cuts.next(90)),
    }
}

fn collect(events: &[Event]) -> Response {
    let mut collector = Collector::default();
    events.iter().for_each(|event| collector.push(event));
    assert_eq!(collector.skipped(), 0, "an event could not be read");
    collector.finish().expect("the stream holds no error")
}

/// What must be the same after a round trip.
#[derive(Debug, PartialEq)]
struct Essence {
    id: Option<String>,
    model: Option<String>,
    created: Option<u64>,
    usage: Option<Usage>,
    candidates: Vec<Candidate>,
    extras: Map<String, Value>,
}

fn essence(mut response: Response) -> Essence {
    for part in response.candidates.iter_mut().flat_map(|candidate| &mut candidate.parts) {
        if let Part::ToolCall(call) = part {
            call.arguments = call.parsed_arguments().expect("arguments are JSON").to_string();
        }
    }
    Essence {
        id: response.id,
        model: response.model,
        created: response.created,
        usage: response.usage,
        candidates: response.candidates,
        extras: response.extras.fields,
    }
}

#[test]
fn every_answer_decodes_wherever_it_is_cut() {
    for recording in recordings().filter(|recording| recording.succeeded()) {
        let id = &recording.id;
        if !recording.is_stream() {
            let response =
                Gemini.parse_response(&recording.response_bytes()).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert!(!response.candidates.is_empty(), "{id}: no candidate");
            assert!(response.candidates.iter().all(|candidate| candidate.stop.is_some()), "{id}: no stop reason");
            assert!(response.model.is_some(), "{id}: no model");
            continue;
        }
        let body = recording.response_bytes();
        let whole = decode(&body, None);
        assert!(!whole.iter().any(|event| matches!(event, Event::Error(_))), "{id}: {:?}", whole.last());
        for seed in 0..3 {
            assert_eq!(decode(&body, Some(Cuts(seed))), whole, "{id}: cut by {seed}");
        }
        let response = collect(&whole);
        assert!(!response.candidates.is_empty(), "{id}: no candidate");
    }
}

/// What stands in an answer, taken from its JSON without the dialect's help.
#[derive(Debug, Default, PartialEq)]
struct Raw {
    text: String,
    thoughts: String,
    calls: Vec<(String, Value)>,
    signatures: Vec<String>,
    output_tokens: u64,
    finished: Option<String>,
}

fn raw(recording: &Recording) -> Raw {
    let chunks: Vec<Value> = if recording.is_stream() {
        let lines = recording.response_chunks.iter().flat_map(|chunk| chunk.lines());
        lines
            .map(|line| line.strip_prefix("data:").unwrap_or(line).trim())
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    } else {
        match recording.response_body.clone() {
            Value::Array(chunks) => chunks,
            single => vec![single],
        }
    };
    let mut raw = Raw::default();
    for chunk in &chunks {
        let candidate = &chunk["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let text = part["text"].as_str().unwrap_or_default();
            if part["thought"] == true {
                raw.thoughts.push_str(text)
            } else {
                raw.text.push_str(text)
            }
            if let Some(name) = part["functionCall"]["name"].as_str() {
                let arguments = &part["functionCall"]["args"];
                raw.calls.push((name.to_owned(), arguments.as_object().cloned().unwrap_or_default().into()));
            }
            raw.signatures.extend(part["thoughtSignature"].as_str().map(str::to_owned));
        }
        let count = |name: &str| chunk["usageMetadata"][name].as_u64().unwrap_or(0);
        let output = count("candidatesTokenCount") + count("thoughtsTokenCount");
        raw.output_tokens = if output > 0 { output } else { raw.output_tokens };
        raw.finished = candidate["finishReason"].as_str().map(str::to_owned).or(raw.finished);
    }
    raw
}

#[test]
fn what_is_read_is_what_stands_there() {
    for recording in recordings().filter(|recording| recording.succeeded()) {
        let id = &recording.id;
        let response = match recording.is_stream() {
            true => collect(&decode(&recording.response_bytes(), None)),
            false => Gemini.parse_response(&recording.response_bytes()).unwrap(),
        };
        let in_pieces = recording.response_bytes().windows(11).any(|window| window == b"partialArgs");
        let expected = raw(recording);
        let mut found = Raw::default();
        let candidate = &response.candidates[0];
        for part in &candidate.parts {
            match part {
                Part::Text { text, signature, .. } => {
                    found.text.push_str(text);
                    found.signatures.extend(signature.iter().map(|signature| signature.value.clone()));
                }
                Part::Reasoning(part) => found.thoughts.push_str(&part.text),
                Part::ToolCall(call) => {
                    let arguments = call.parsed_arguments().unwrap();
                    found
                        .calls
                        .push((call.name.clone(), if in_pieces { Value::Object(Map::new()) } else { arguments }));
                    found.signatures.extend(call.signature.iter().map(|signature| signature.value.clone()));
                }
                Part::Media(media) => {
                    found.signatures.extend(media.signature.iter().map(|signature| signature.value.clone()));
                }
                Part::Foreign { value, .. } => {
                    found.signatures.extend(value["thoughtSignature"].as_str().map(str::to_owned));
                }
                Part::Refusal(_) | Part::ToolResult(_) => panic!("{id}: a part that Gemini does not have"),
            }
        }
        found.output_tokens = response.usage.map_or(0, |usage| usage.output);
        found.finished.clone_from(&expected.finished);
        assert_eq!(found, expected, "{id}");
        let stop = candidate.stop.as_ref().unwrap();
        match expected.finished.as_deref() {
            Some("STOP") if found.calls.is_empty() => assert_eq!(*stop, StopReason::EndTurn, "{id}"),
            Some("STOP") => assert_eq!(*stop, StopReason::ToolUse, "{id}"),
            Some("MAX_TOKENS") => assert_eq!(*stop, StopReason::MaxTokens, "{id}"),
            Some("MODEL_ARMOR") => assert_eq!(*stop, StopReason::ContentFilter, "{id}"),
            Some(word) => assert_eq!(*stop, StopReason::Other(word.to_owned()), "{id}"),
            None => {}
        }
    }
}

#[test]
fn every_count_of_tokens_is_read() {
    for recording in recordings::of("gemini.count_tokens") {
        let id = &recording.id;
        let request = count_tokens::parse_request(recording.request_body.to_string().as_bytes(), &recording.hints())
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut losses = Losses::new();
        let written = count_tokens::write_request(&request, &mut losses);
        assert!(losses.is_empty(), "{id}: {losses}");
        assert_eq!(count_tokens::parse_request(&written, &recording.hints()).unwrap(), request, "{id}");
        let answer = count_tokens::parse_response(&recording.response_bytes());
        assert_eq!(answer.ok(), recording.response_body["totalTokens"].as_u64(), "{id}");
    }
}

#[test]
fn every_embedding_is_kept() {
    for recording in recordings::of("gemini.embed") {
        let id = &recording.id;
        let original = &recording.request_body;
        let answer =
            embedding::parse_response(&recording.response_bytes()).unwrap_or_else(|error| panic!("{id}: {error}"));
        let request = match embedding::parse_request(original.to_string().as_bytes(), &recording.hints()) {
            Err(error) => {
                assert!(original.to_string().contains("inline_data"), "{id}: {error}");
                assert_eq!(error.code.as_deref(), Some("unsupported_content"));
                continue;
            }
            Ok(request) => request,
        };
        assert_eq!(answer.vectors.len(), request.inputs.len(), "{id}");
        assert!(recording.path.ends_with(embedding::path(&request).rsplit(':').next().unwrap()), "{id}");
        let mut losses = Losses::new();
        let written = embedding::write_request(&request, &mut losses).unwrap();
        assert_eq!(embedding::parse_request(&written, &recording.hints()).unwrap(), request, "{id}");
        let body = embedding::write_response(&answer, request.single, &mut losses);
        assert_eq!(embedding::parse_response(&body).unwrap(), answer, "{id}");
        assert!(losses.is_empty(), "{id}: {losses}");
    }
}

#[test]
fn every_error_has_its_kind() {
    let expected = |recording: &Recording| match recording.id.as_str() {
        "4bd28401124e" | "2cca8b75609e" => ErrorKind::Authentication,
        "896ee9546694" => ErrorKind::RateLimited,
        "fa641021aeaf" => ErrorKind::ContextTooLong,
        _ if recording.status == 404 => ErrorKind::NotFound,
        _ => ErrorKind::InvalidRequest,
    };
    for recording in recordings().filter(|recording| !recording.succeeded()) {
        let error = Gemini.parse_error(recording.status, &recording.response_bytes());
        assert_eq!(error.kind, expected(recording), "{}: {}", recording.id, error.message);
        assert!(error.code.is_some() && !error.message.is_empty(), "{}", recording.id);
        let (status, body) = Gemini.write_error(&error);
        let again = Gemini.parse_error(status, &body);
        assert_eq!(
            (again.kind, &again.message, again.code, again.retry_after),
            (error.kind, &error.message, error.code, error.retry_after)
        );
    }
}

#[test]
fn every_answer_comes_back_from_its_own_dialect() {
    for recording in recordings().filter(|recording| recording.succeeded()) {
        let id = &recording.id;
        let mut losses = Losses::new();
        if !recording.is_stream() {
            let response = Gemini.parse_response(&recording.response_bytes()).unwrap();
            let written = Gemini.write_response(&response, &mut losses);
            let again = Gemini.parse_response(&written).unwrap();
            assert_eq!(essence(again), essence(response), "{id}");
        } else {
            let events = decode(&recording.response_bytes(), None);
            let expected = essence(collect(&events));
            for json_array in [false, true] {
                let options = StreamOptions { json_array, ..StreamOptions::default() };
                let (mut encoder, mut written) = (Gemini.encoder(&options), Vec::new());
                encoder.keep_alive(&mut written);
                for event in &events {
                    encoder.encode(event, &mut written, &mut losses);
                    encoder.keep_alive(&mut written);
                }
                encoder.finish(&mut written, &mut losses);
                let again = if json_array {
                    Gemini.parse_response(&written).unwrap()
                } else {
                    collect(&decode(&written, None))
                };
                assert_eq!(essence(again), expected, "{id} as array: {json_array}");
            }
        }
        assert!(losses.is_empty(), "{id}: {losses}");
    }
}

/// Google's values for calls that no model of its made, as they are documented and in base64.
const STAND_INS: [&str; 4] = [
    "skip_thought_signature_validator",
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    "context_engineering_is_the_way_to_go",
    "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
];

#[test]
fn every_request_is_kept() {
    for recording in recordings() {
        let original = &recording.request_body;
        if original.is_null() || REFUSED_REQUESTS.contains(&recording.id.as_str()) {
            continue;
        }
        let id = &recording.id;
        let url = recording.hints();
        let request =
            Gemini.parse_request(original.to_string().as_bytes(), &url).unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut losses = Losses::new();
        let written = Gemini.write_request(&request, &Profile::FULL, &mut losses);
        let again = Gemini.parse_request(&written, &url).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(again, request, "{id}");
        // What only stands for a proof is none, and something must stand for it again.
        let stands_in = STAND_INS.iter().any(|value| original.to_string().contains(value));
        let is_told = losses.to_string() == "tool_call.signature=approximated";
        assert!(losses.is_empty() || (stands_in && is_told), "{id}: {losses}");
        let rewritten: Value = serde_json::from_slice(&written).unwrap();
        for (name, value) in original.as_object().unwrap() {
            // The model stands in the URL.
            if name != "model" && !says_nothing(value) {
                assert!(rewritten.get(name).is_some(), "{id}: `{name}` is lost");
            }
        }
    }
}

#[test]
fn what_google_refused_is_refused() {
    for recording in recordings() {
        if REFUSED_REQUESTS.contains(&recording.id.as_str()) {
            let body = recording.request_body.to_string();
            let error = Gemini.parse_request(body.as_bytes(), &recording.hints()).unwrap_err();
            assert_eq!((error.kind, recording.status), (ErrorKind::InvalidRequest, 400));
        }
    }
}

/// Null, the default `responseModalities`, and objects and lists of nothing.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.iter().all(|(name, value)| {
            says_nothing(value) || (name == "responseModalities" && *value == serde_json::json!(["TEXT"]))
        }),
        Value::Array(list) => list.iter().all(says_nothing),
        _ => false,
    }
}
