//! `inlineData` and `fileData`.

use super::fields::Fields;
use super::proof::{self, Towards, standard_base64};
use crate::chat::{DialectId, Extras, Losses, MediaKind, MediaPart, MediaSource};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Files of Gemini's own files API; nobody else can read them (nor what has no http URL, as `gs://` of Vertex AI).
const FILES_API: &str = "https://generativelanguage.googleapis.com/";

/// Reads the medium of a part with `inlineData` or `fileData`; `None` when neither is an object. What is left of the part
/// becomes extras.
pub(super) fn read(mut part: Fields, signature: Option<String>) -> Option<MediaPart> {
    let (source, media_type, place, rest) = if let Some(mut blob) = part.take_object("inlineData") {
        let data = standard_base64(&blob.take_string("data").unwrap_or_default());
        let media_type = blob.take_string("mimeType");
        (inline(data, media_type.as_deref()), media_type, "inlineData", blob)
    } else {
        let mut file = part.take_object("fileData")?;
        let uri = file.take_string("fileUri").unwrap_or_default();
        let is_public = !uri.starts_with(FILES_API) && (uri.starts_with("https://") || uri.starts_with("http://"));
        let source =
            if is_public { MediaSource::Url(uri) } else { MediaSource::FileId { dialect: DialectId::Gemini, id: uri } };
        (source, file.take_string("mimeType"), "fileData", file)
    };
    let mut extras = part.rest();
    rest.rest_into(place, &mut extras);
    Some(MediaPart {
        kind: kind(media_type.as_deref(), &source),
        source,
        media_type,
        name: None,
        detail: None,
        cache: None,
        signature: signature.and_then(|text| proof::read(&text)),
        extras: Extras::from_fields(DialectId::Gemini, extras),
    })
}

/// Documents of text are text inside: other dialects take base64 for pictures and PDF only.
fn inline(data: String, media_type: Option<&str>) -> MediaSource {
    let is_text = media_type.is_some_and(|media_type| media_type.starts_with("text/"));
    let text = is_text.then(|| STANDARD.decode(&data).ok().and_then(|bytes| String::from_utf8(bytes).ok())).flatten();
    text.map_or(MediaSource::Base64(data), MediaSource::Text)
}

/// Writes a medium as a part; `None` where Gemini cannot reach it.
pub(super) fn write(media: &MediaPart, towards: Towards, losses: &mut Losses) -> Option<Map<String, Value>> {
    let mut part = Map::new();
    match &media.source {
        MediaSource::Base64(data) => {
            let media_type = media.media_type.clone().unwrap_or_else(|| sniffed(data, media.kind).to_owned());
            part.insert("inlineData".into(), json!({ "mimeType": media_type, "data": data }));
        }
        MediaSource::Text(text) => {
            let media_type = media.media_type.as_deref().unwrap_or("text/plain");
            part.insert("inlineData".into(), json!({ "mimeType": media_type, "data": STANDARD.encode(text) }));
        }
        MediaSource::Url(uri) | MediaSource::FileId { dialect: DialectId::Gemini, id: uri } => {
            let mut file = Map::new();
            file.insert("fileUri".into(), uri.as_str().into());
            let guessed = media.media_type.as_deref().or_else(|| from_extension(uri));
            if let Some(media_type) = guessed.or_else(|| default_of(media.kind, uri)) {
                file.insert("mimeType".into(), media_type.into());
            }
            part.insert("fileData".into(), Value::Object(file));
        }
        MediaSource::FileId { .. } => {
            losses.dropped("file_id");
            return None;
        }
    }
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.dropped("image_url.detail");
    }
    if media.name.is_some() {
        losses.dropped("file.name");
    }
    if media.cache.is_some() {
        losses.dropped("cache_control");
    }
    super::content::write_extras(&media.extras, &mut part, losses);
    if let Some(text) =
        media.signature.as_ref().and_then(|signature| proof::write(signature, towards, "media.signature", losses))
    {
        part.insert("thoughtSignature".into(), text.into());
    }
    Some(part)
}

fn kind(media_type: Option<&str>, source: &MediaSource) -> MediaKind {
    let guessed = match (media_type, source) {
        (Some(media_type), _) => Some(media_type),
        (None, MediaSource::Url(uri)) if is_youtube(uri) => Some("video/*"),
        (None, MediaSource::Url(uri)) => from_extension(uri),
        _ => None,
    };
    match guessed.and_then(|media_type| media_type.split('/').next()) {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

fn is_youtube(uri: &str) -> bool {
    ["https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/"].iter().any(|site| uri.starts_with(site))
}

/// The MIME type of a URL's path by its extension, of the types that Gemini takes.
fn from_extension(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?;
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "aac" => "audio/aac",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        "mpeg" | "mpg" => "video/mpeg",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        _ => return None,
    })
}

/// The MIME type that the first bytes of base64 data name, or the usual one of its kind: Gemini wants one.
fn sniffed(data: &str, kind: MediaKind) -> &'static str {
    const MAGIC: [(&str, &str); 6] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
        ("SUQz", "audio/mp3"),
    ];
    let named = MAGIC.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, media_type)| *media_type);
    match (named, kind) {
        (Some("image/webp"), MediaKind::Audio) => "audio/wav",
        (Some(media_type), _) => media_type,
        (None, kind) => usual(kind),
    }
}

fn default_of(kind: MediaKind, uri: &str) -> Option<&'static str> {
    (!is_youtube(uri)).then(|| usual(kind))
}

fn usual(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image/jpeg",
        MediaKind::Audio => "audio/wav",
        MediaKind::Video => "video/mp4",
        MediaKind::Document => "application/pdf",
    }
}
