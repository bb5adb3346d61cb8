//! Sound that a model made: `audio` of an answer.

use super::fields::{Fields, says_something};
use crate::chat::{DialectId, Extras, MediaKind, MediaPart, MediaSource};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Reads `audio: {id, data, transcript, expires_at}`; `None` when it holds nothing (Snowflake always writes one).
pub(super) fn read(value: Value) -> Option<MediaPart> {
    if !says_something(&value) {
        return None;
    }
    let mut fields = Fields::of(value, "audio").ok()?;
    let data = match fields.take("data") {
        Some(Value::String(data)) => data,
        _ => String::new(),
    };
    Some(audio(data, fields.telling_extras()))
}

fn audio(data: String, extras: Extras) -> MediaPart {
    MediaPart {
        kind: MediaKind::Audio,
        source: MediaSource::Base64(data),
        media_type: None,
        name: None,
        detail: None,
        cache: None,
        signature: None,
        extras,
    }
}

/// True for sound that is written as `audio`.
pub(super) fn is_audio(part: &MediaPart) -> bool {
    part.kind == MediaKind::Audio && matches!(part.source, MediaSource::Base64(_))
}

/// Writes `audio`.
pub(super) fn write(part: &MediaPart) -> Value {
    let mut map = Map::new();
    let own = part.extras.for_dialect(DialectId::OpenAiChat);
    map.insert("id".into(), own.and_then(|own| own.get("id")).cloned().unwrap_or_else(|| json!("audio_0")));
    let data = if let MediaSource::Base64(data) = &part.source { data.as_str() } else { "" };
    map.insert("data".into(), json!(data));
    map.insert("transcript".into(), json!(""));
    map.insert("expires_at".into(), json!(0));
    map.extend(own.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    Value::Object(map)
}

/// Puts the pieces of a streamed `audio` together.
#[derive(Debug, Default)]
pub(super) struct AudioPieces {
    bytes: Vec<u8>,
    extras: Map<String, Value>,
    transcript: String,
    seen: bool,
}

impl AudioPieces {
    /// Takes one `delta.audio`.
    pub(super) fn push(&mut self, value: Value) {
        let Value::Object(map) = value else { return };
        for (key, value) in map {
            match (key.as_str(), value) {
                ("data", Value::String(data)) => {
                    self.seen = true;
                    self.bytes.extend(STANDARD.decode(data).unwrap_or_default());
                }
                ("transcript", Value::String(text)) => {
                    self.seen = true;
                    self.transcript.push_str(&text);
                }
                (_, value) if says_something(&value) => {
                    self.extras.insert(key, value);
                }
                _ => {}
            }
        }
    }

    /// The whole sound, if there was any.
    pub(super) fn finish(&mut self) -> Option<MediaPart> {
        let pieces = std::mem::take(self);
        if !pieces.seen {
            return None;
        }
        let mut extras = pieces.extras;
        if !pieces.transcript.is_empty() {
            extras.insert("transcript".into(), json!(pieces.transcript));
        }
        Some(audio(STANDARD.encode(pieces.bytes), Extras::from_fields(DialectId::OpenAiChat, extras)))
    }
}
