//! Images and documents.

use super::ID;
use super::blocks::{put_cache, take_cache, typed};
use super::fields::{Fields, put_extras};
use crate::chat::{ChatError, Losses, MediaKind, MediaPart, MediaSource};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The kinds of sources that other dialects know too.
const SOURCES: [&str; 4] = ["base64", "text", "url", "file"];

/// False for a block whose source only this dialect knows (`content`).
pub(super) fn is_known(block: &Value) -> bool {
    let kind = block.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
    kind.is_none_or(|kind| SOURCES.contains(&kind))
}

/// Reads an `image` or `document` block.
pub(super) fn read(kind: &str, mut fields: Fields) -> Result<MediaPart, ChatError> {
    let Some(mut source) = fields.object("source")? else { return Err(fields.missing("source")) };
    let source_kind = source.required_string("type")?;
    let media_type = source.string("media_type")?;
    let source = match source_kind.as_str() {
        "base64" => MediaSource::Base64(source.required_string("data")?),
        "text" => MediaSource::Text(source.required_string("data")?),
        "url" => MediaSource::Url(source.required_string("url")?),
        _ => MediaSource::FileId { dialect: ID, id: source.required_string("file_id")? },
    };
    Ok(MediaPart {
        kind: if kind == "image" { MediaKind::Image } else { MediaKind::Document },
        source,
        media_type,
        name: fields.string("title")?,
        detail: None,
        cache: take_cache(&mut fields),
        signature: None,
        extras: fields.extras(),
    })
}

/// The word for a kind in names of losses.
pub(super) fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Document => "document",
    }
}

/// Writes a medium; `None` with a loss where the API has no block for it.
pub(super) fn write(part: &MediaPart, losses: &mut Losses) -> Option<Value> {
    let source = match part.kind {
        MediaKind::Image => image_source(part),
        MediaKind::Document => document_source(part),
        MediaKind::Audio | MediaKind::Video => None,
    };
    let name = kind_name(part.kind);
    let Some(source) = source else {
        losses.dropped(format!("content.{name}"));
        return None;
    };
    let mut map = typed(name);
    map.insert("source".to_owned(), source);
    match (&part.name, part.kind) {
        (Some(title), MediaKind::Document) => {
            map.insert("title".to_owned(), json!(title));
        }
        (Some(_), _) => losses.dropped(format!("content.{name}.name")),
        (None, _) => {}
    }
    if part.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.dropped("content.image.detail");
    }
    if part.signature.is_some() {
        losses.dropped("reasoning.signature");
    }
    put_cache(&mut map, part.cache.as_ref());
    put_extras(&mut map, &part.extras, "content.", losses);
    Some(Value::Object(map))
}

fn image_source(part: &MediaPart) -> Option<Value> {
    match &part.source {
        MediaSource::Base64(data) => {
            let media_type = part.media_type.as_deref().unwrap_or_else(|| image_type(data));
            Some(json!({"type": "base64", "media_type": media_type, "data": data}))
        }
        MediaSource::Text(_) => None,
        source => remote_source(source),
    }
}

fn document_source(part: &MediaPart) -> Option<Value> {
    let media_type = part.media_type.as_deref();
    match &part.source {
        MediaSource::Text(text) => {
            Some(json!({"type": "text", "media_type": media_type.unwrap_or("text/plain"), "data": text}))
        }
        // The API takes PDF as base64 and plain text as text, and nothing else inline.
        MediaSource::Base64(data) if media_type.is_none_or(|kind| kind == "application/pdf") => {
            Some(json!({"type": "base64", "media_type": "application/pdf", "data": data}))
        }
        MediaSource::Base64(data) if media_type.is_some_and(|kind| kind.starts_with("text/")) => {
            let text = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
            Some(json!({"type": "text", "media_type": "text/plain", "data": text}))
        }
        MediaSource::Base64(_) => None,
        source => remote_source(source),
    }
}

/// A source that the vendor fetches itself: the web, or its own files.
fn remote_source(source: &MediaSource) -> Option<Value> {
    match source {
        MediaSource::Url(url) if url.starts_with("http://") || url.starts_with("https://") => {
            Some(json!({"type": "url", "url": url}))
        }
        MediaSource::FileId { dialect, id } if *dialect == ID => Some(json!({"type": "file", "file_id": id})),
        _ => None,
    }
}

/// The type of a picture by its first bytes, for dialects that do not say it.
fn image_type(base64: &str) -> &'static str {
    match base64.as_bytes() {
        [b'/', b'9', b'j', ..] => "image/jpeg",
        [b'R', b'0', b'l', b'G', ..] => "image/gif",
        [b'U', b'k', b'l', b'G', ..] => "image/webp",
        _ => "image/png",
    }
}
