//! The parts of a message's `content`, read and written.
//!
//! OpenAI's own parts, and those that compatible vendors added: `cache_control`, `video_url`, files by URL and `images`
//! (OpenRouter), `document_url` and `thinking` (Mistral).

use super::fields::{Fields, missing, wrong_type};
use super::reasoning;
use crate::chat::{
    CacheMarker, ChatError, DialectId, Extras, Losses, MediaKind, MediaPart, MediaSource, Part, ReasoningPart,
};
use serde_json::{Map, Value, json};

/// The file name written where the client gave none; OpenAI refuses files without one.
const UNNAMED: &str = "document.pdf";

/// The types of parts that are understood; every other is kept as it stands.
const KINDS: [&str; 10] = [
    "text",
    "input_text",
    "output_text",
    "refusal",
    "thinking",
    "image_url",
    "video_url",
    "document_url",
    "file",
    "input_audio",
];

/// Reads `content`: a string, a list of parts, or nothing. An empty string is nothing.
pub(super) fn read(value: Option<Value>, path: &str) -> Result<Vec<Part>, ChatError> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(list)) => {
            list.into_iter().enumerate().map(|(index, part)| read_part(part, &format!("{path}[{index}]"))).collect()
        }
        // Cloudflare answers structured output as an object.
        Some(Value::Object(map)) => Ok(vec![Part::text(Value::Object(map).to_string())]),
        Some(other) => Err(wrong_type(path, "one of a string or array of objects", &other)),
    }
}

/// Reads one part.
pub(super) fn read_part(value: Value, path: &str) -> Result<Part, ChatError> {
    if let Value::String(text) = value {
        return Ok(Part::text(text));
    }
    let Value::Object(map) = value else { return Err(wrong_type(path, "an object", &value)) };
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        None | Some(Value::Null) => return Err(missing(&format!("{path}.type"))),
        Some(other) => return Err(wrong_type(&format!("{path}.type"), "a string", other)),
    };
    if !KINDS.contains(&kind.as_str()) {
        return Ok(Part::Foreign { dialect: DialectId::OpenAiChat, value: Value::Object(map) });
    }
    let mut fields = Fields::new(map, path);
    fields.take("type");
    match kind.as_str() {
        "text" | "input_text" | "output_text" => {
            let text = fields.string("text")?.ok_or_else(|| missing(&format!("{path}.text")))?;
            let cache = read_cache(&mut fields);
            Ok(Part::Text { text, cache, signature: None, extras: fields.telling_extras() })
        }
        "refusal" => Ok(Part::Refusal(fields.string("refusal")?.unwrap_or_default())),
        "thinking" => Ok(read_thinking(fields)),
        "image_url" => read_media(fields, "image_url", MediaKind::Image),
        "video_url" => read_media(fields, "video_url", MediaKind::Video),
        "document_url" => read_media(fields, "document_url", MediaKind::Document),
        "file" => read_media(fields, "file", MediaKind::Document),
        // The last of the known ones.
        _ => read_media(fields, "input_audio", MediaKind::Audio),
    }
}

/// Mistral's `{"type": "thinking", "thinking": [{"type": "text", "text": ...}]}`.
fn read_thinking(mut fields: Fields) -> Part {
    let text = match fields.take("thinking") {
        Some(Value::Array(list)) => {
            list.iter().filter_map(|chunk| chunk.get("text").and_then(Value::as_str)).collect::<String>()
        }
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    Part::Reasoning(ReasoningPart { text, ..ReasoningPart::default() })
}

fn read_media(mut fields: Fields, key: &str, kind: MediaKind) -> Result<Part, ChatError> {
    let cache = read_cache(&mut fields);
    let path = fields.path_of(key);
    // Mistral writes the URL (or the base64 data) bare.
    let mut inner = match fields.take(key) {
        None => return Err(missing(&path)),
        Some(Value::String(text)) => {
            let name = if kind == MediaKind::Audio { "data" } else { "url" };
            Fields::new(Map::from_iter([(name.to_owned(), Value::String(text))]), path.clone())
        }
        Some(value) => Fields::of(value, path.clone())?,
    };
    let name = inner.string("filename")?.or(fields.string("document_name")?).filter(|name| name != UNNAMED);
    let detail = inner.string("detail")?;
    let (source, media_type) =
        match kind {
            MediaKind::Audio => {
                let data = inner.string("data")?.ok_or_else(|| missing(&format!("{path}.data")))?;
                let format = inner.string("format")?;
                match read_url(&data) {
                    (MediaSource::Url(url), _) if !url.contains("://") => {
                        (MediaSource::Base64(data), format.as_deref().map(audio_type))
                    }
                    (source, media_type) => (source, media_type.or(format.as_deref().map(audio_type))),
                }
            }
            _ => {
                if let Some(id) = inner.string("file_id")? {
                    (MediaSource::FileId { dialect: DialectId::OpenAiChat, id }, None)
                } else {
                    let url = inner.string("url")?.or(inner.string("file_data")?);
                    read_url(&url.ok_or_else(|| {
                        missing(&format!("{path}.{}", if key == "file" { "file_data" } else { "url" }))
                    })?)
                }
            }
        };
    for (key, value) in inner.rest() {
        fields.put_back(&key, value);
    }
    let extras = fields.telling_extras();
    Ok(Part::Media(MediaPart { kind, source, media_type, name, detail, cache, signature: None, extras }))
}

/// Splits a `data:` URL; any other URL stays what it is.
pub(super) fn read_url(url: &str) -> (MediaSource, Option<String>) {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media_type, data)) => {
            let media_type = media_type.split(';').next().unwrap_or_default();
            (MediaSource::Base64(data.to_owned()), (!media_type.is_empty()).then(|| media_type.to_owned()))
        }
        None => (MediaSource::Url(url.to_owned()), None),
    }
}

/// Takes `cache_control`. Only Anthropic's `ephemeral` is a marker.
pub(super) fn read_cache(fields: &mut Fields) -> Option<CacheMarker> {
    let kind = fields.get("cache_control")?.get("type").and_then(Value::as_str);
    if kind != Some("ephemeral") {
        return None;
    }
    let marker = fields.take("cache_control")?;
    Some(CacheMarker { ttl: marker.get("ttl").and_then(Value::as_str).map(str::to_owned) })
}

/// Writes `cache_control` into `object` where the provider takes it.
pub(super) fn write_cache(
    cache: Option<&CacheMarker>,
    taken: bool,
    object: &mut Map<String, Value>,
    losses: &mut Losses,
) {
    let Some(cache) = cache else { return };
    if !taken {
        losses.dropped("cache_control");
        return;
    }
    let mut marker = json!({"type": "ephemeral"});
    if let Some(ttl) = &cache.ttl {
        marker["ttl"] = json!(ttl);
    }
    object.insert("cache_control".into(), marker);
}

/// Writes extras back into `object`, or notes that they cannot go there. `place` names where they stood.
pub(super) fn write_extras(extras: &Extras, place: &str, object: &mut Map<String, Value>, losses: &mut Losses) {
    match extras.for_dialect(DialectId::OpenAiChat) {
        Some(fields) => {
            for (key, value) in fields {
                object.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        None => {
            for key in extras.fields.keys() {
                losses.dropped(if place.is_empty() { key.clone() } else { format!("{place}.{key}") });
            }
        }
    }
}

/// Writes the parts that stand in a `content`: a bare string for one plain text, else a list; `None` for nothing.
/// Reasoning, tool calls and results stand elsewhere and are skipped.
pub(super) fn write(parts: &[&Part], cache_markers: bool, losses: &mut Losses) -> Option<Value> {
    let mut list: Vec<Value> = parts.iter().filter_map(|part| write_part(part, cache_markers, losses)).collect();
    if list.len() == 1
        && let Some(object) = list[0].as_object()
        && object.len() == 2
        && let Some(text @ Value::String(_)) = object.get("text")
    {
        return Some(text.clone());
    }
    if list.is_empty() { None } else { Some(Value::Array(std::mem::take(&mut list))) }
}

fn write_part(part: &Part, cache_markers: bool, losses: &mut Losses) -> Option<Value> {
    let mut object = Map::new();
    match part {
        Part::Text { text, cache, extras, .. } => {
            object.insert("type".into(), json!("text"));
            object.insert("text".into(), json!(text));
            write_cache(cache.as_ref(), cache_markers, &mut object, losses);
            write_extras(&without_answers(extras), "content", &mut object, losses);
        }
        Part::Media(media) => {
            object = write_media(media, losses)?;
            write_cache(media.cache.as_ref(), cache_markers, &mut object, losses);
            write_extras(&media.extras, "content", &mut object, losses);
        }
        Part::Refusal(text) => {
            object.insert("type".into(), json!("refusal"));
            object.insert("refusal".into(), json!(text));
        }
        Part::Foreign { dialect: DialectId::OpenAiChat, value } if !reasoning::is_detail(value) => {
            return Some(value.clone());
        }
        Part::Foreign { dialect: DialectId::OpenAiChat, .. } => return None,
        Part::Foreign { value, .. } => {
            losses.dropped(foreign_name(value));
            return None;
        }
        Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => return None,
    }
    Some(Value::Object(object))
}

/// `annotations` and `logprobs` belong to the message, not to the part.
fn without_answers(extras: &Extras) -> Extras {
    let mut extras = extras.clone();
    if extras.dialect == Some(DialectId::OpenAiChat) {
        extras.fields.shift_remove("annotations");
        extras.fields.shift_remove("logprobs");
    }
    extras
}

/// How a part that only another dialect knows is called in the losses: its type, never its content.
pub(super) fn foreign_name(value: &Value) -> String {
    let name =
        value.get("type").and_then(Value::as_str).or_else(|| value.as_object()?.keys().next().map(String::as_str));
    name.unwrap_or("part").to_owned()
}

/// Writes a medium as a content part.
pub(super) fn write_media(media: &MediaPart, losses: &mut Losses) -> Option<Map<String, Value>> {
    let mut inner = Map::new();
    let key = match media.kind {
        MediaKind::Image => "image_url",
        MediaKind::Video => "video_url",
        MediaKind::Audio => "input_audio",
        MediaKind::Document => "file",
    };
    match (&media.source, media.kind) {
        (MediaSource::Text(text), _) => {
            if media.name.is_some() {
                losses.dropped("document.title");
            }
            return Some(Map::from_iter([("type".to_owned(), json!("text")), ("text".to_owned(), json!(text))]));
        }
        (MediaSource::FileId { dialect: DialectId::OpenAiChat, id }, _) => {
            inner.insert("file_id".into(), json!(id));
        }
        (MediaSource::FileId { .. }, _) => {
            losses.dropped(format!("{key}.file_id"));
            return None;
        }
        (MediaSource::Base64(data), MediaKind::Audio) => {
            inner.insert("data".into(), json!(data));
            inner.insert("format".into(), json!(audio_format(media.media_type.as_deref())));
        }
        // No server of this dialect reaches Google's storage.
        (MediaSource::Url(url), MediaKind::Audio) if !url.starts_with("http") => {
            losses.dropped("input_audio.url");
            return None;
        }
        (MediaSource::Url(url), MediaKind::Audio) => {
            inner.insert("data".into(), json!(url));
            if let Some(media_type) = &media.media_type {
                inner.insert("format".into(), json!(audio_format(Some(media_type))));
            }
            losses.approximated("input_audio.url");
        }
        (source, MediaKind::Document) => {
            inner.insert("filename".into(), json!(media.name.as_deref().unwrap_or(UNNAMED)));
            inner.insert("file_data".into(), json!(write_url(source, media.media_type.as_deref(), "application/pdf")));
        }
        (source, kind) => {
            let fallback = if kind == MediaKind::Video { "video/mp4" } else { "image/png" };
            inner.insert("url".into(), json!(write_url(source, media.media_type.as_deref(), fallback)));
        }
    }
    if let Some(detail) = &media.detail {
        inner.insert("detail".into(), json!(detail));
    }
    // OpenAI takes uploaded files only as `file`, whatever is in them.
    let key = if inner.contains_key("file_id") { "file" } else { key };
    Some(Map::from_iter([("type".to_owned(), json!(key)), (key.to_owned(), Value::Object(inner))]))
}

fn write_url(source: &MediaSource, media_type: Option<&str>, fallback: &str) -> String {
    match source {
        MediaSource::Base64(data) => format!("data:{};base64,{data}", media_type.unwrap_or(fallback)),
        MediaSource::Url(url) => url.clone(),
        MediaSource::FileId { id, .. } => id.clone(),
        MediaSource::Text(text) => text.clone(),
    }
}

fn audio_type(format: &str) -> String {
    match format {
        "mp3" => "audio/mpeg".to_owned(),
        other => format!("audio/{other}"),
    }
}

fn audio_format(media_type: Option<&str>) -> &str {
    match media_type {
        Some("audio/mpeg" | "audio/mp3") => "mp3",
        Some("audio/x-wav" | "audio/wave" | "audio/vnd.wave") | None => "wav",
        Some(other) => other.strip_prefix("audio/").unwrap_or(other),
    }
}
