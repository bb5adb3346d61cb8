//! Embeddings: `models/{model}:embedContent` for one content, `:batchEmbedContents` for several
//! (<https://ai.google.dev/api/embeddings>). google-genai sends the batch form for the Gemini API; for Vertex AI it puts the
//! settings of `embedContent` into `embedContentConfig`, which is read as well.

use super::content::write_extras;
use super::error;
use super::fields::Fields;
use super::model_path;
use crate::chat::{
    ChatError, DialectId, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, ErrorKind, Extras, Losses, Usage,
};
use crate::dialect::UrlHints;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The path of the call, from the base URL on.
pub fn path(request: &EmbeddingRequest) -> String {
    model_path(&request.model, if is_one(request) { "embedContent" } else { "batchEmbedContents" })
}

/// The form for one content can be used.
fn is_one(request: &EmbeddingRequest) -> bool {
    request.single && request.inputs.len() == 1
}

/// Reads a client's request, of either form.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field that is wrong; also for contents that are no text, and for lengths that differ
/// between the contents of a batch.
pub fn parse_request(body: &[u8], url: &UrlHints) -> Result<EmbeddingRequest, ChatError> {
    let fields = serde_json::from_slice(body).ok().and_then(Fields::of);
    let mut fields = fields.ok_or_else(|| {
        ChatError::new(ErrorKind::InvalidRequest, "the body must be a JSON object with `content` or `requests`")
    })?;
    let mut request = EmbeddingRequest::default();
    let mut extras = Map::new();
    let model = match fields.take("requests") {
        Some(Value::Array(list)) => {
            let items = list.into_iter().enumerate().map(|(at, value)| {
                let path = format!("requests[{at}]");
                let item = Fields::of(value)
                    .ok_or_else(|| ChatError::invalid(&path, format!("`{path}` must be an object")))?;
                read_item(item, &format!("{path}.content"))
            });
            let items = items.collect::<Result<Vec<_>, _>>()?;
            let model = items.first().and_then(|item| item.model.clone());
            fold(items, &mut request, &mut extras)?;
            extras.extend(fields.rest());
            model
        }
        Some(_) => return Err(ChatError::invalid("requests", "`requests` must be a list of {content}")),
        None => {
            let mut item = read_item(fields, "content")?;
            request.single = true;
            request.dimensions = item.dimensions;
            request.task = item.task.take();
            request.title = item.title.take();
            request.inputs.push(EmbeddingInput::Text(item.text));
            extras = item.rest;
            item.model
        }
    };
    let model = url.model.clone().or(model).unwrap_or_default();
    request.model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
    request.extras = Extras::from_fields(DialectId::Gemini, extras);
    Ok(request)
}

/// One `EmbedContentRequest`.
struct Item {
    model: Option<String>,
    text: String,
    task: Option<String>,
    title: Option<String>,
    dimensions: Option<u32>,
    rest: Map<String, Value>,
}

fn read_item(mut fields: Fields, path: &str) -> Result<Item, ChatError> {
    let mut rest = Map::new();
    let (mut task, mut title, mut dimensions) = (None, None, None);
    let mut config = fields.take_object("embedContentConfig");
    for source in [Some(&mut fields), config.as_mut()].into_iter().flatten() {
        task = task.or(source.take_string("taskType"));
        title = title.or(source.take_string("title"));
        dimensions = dimensions.or(source.take_count("outputDimensionality"));
    }
    if let Some(config) = config {
        config.rest_into("embedContentConfig", &mut rest);
    }
    let text = read_text(fields.take("content"), path)?;
    let model = fields.take_string("model");
    rest.extend(fields.rest());
    let dimensions = dimensions.map(u32::try_from).transpose().map_err(|_| {
        ChatError::invalid("outputDimensionality", "`outputDimensionality` is larger than any model's vectors")
    })?;
    Ok(Item { model, text, task, title, dimensions, rest })
}

/// The text of a content; several texts are one, as Google embeds them.
fn read_text(content: Option<Value>, path: &str) -> Result<String, ChatError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Object(mut content)) => content.remove("parts").unwrap_or_default(),
        _ => Value::Null,
    };
    let list = match parts {
        Value::Array(list) => list,
        single @ (Value::Object(_) | Value::String(_)) => vec![single],
        _ => return Err(ChatError::invalid(path, format!("`{path}.parts` must be a list of texts"))),
    };
    let texts = list.iter().map(|part| {
        part.get("text").unwrap_or(part).as_str().ok_or_else(|| {
            let message = format!("`{path}` holds something else than text; only a Gemini model can embed that");
            ChatError::invalid(path, message).with_code("unsupported_content")
        })
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Puts the items of a batch together. Tasks and titles that differ are kept item by item under `requests`.
fn fold(items: Vec<Item>, request: &mut EmbeddingRequest, extras: &mut Map<String, Value>) -> Result<(), ChatError> {
    let Some(first) = items.first() else {
        return Err(ChatError::invalid("requests", "`requests` is empty: send at least one content"));
    };
    request.dimensions = first.dimensions;
    let same = items.iter().all(|item| item.task == first.task && item.title == first.title && item.rest == first.rest);
    if same {
        request.task.clone_from(&first.task);
        request.title.clone_from(&first.title);
        extras.extend(first.rest.iter().map(|(name, value)| (format!("requests.{name}"), value.clone())));
    } else {
        let own = items.iter().map(|item| {
            let mut own = item.rest.clone();
            own.extend(
                [("taskType", &item.task), ("title", &item.title)]
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value.as_deref()?.into()))),
            );
            Value::Object(own)
        });
        extras.insert("requests".into(), own.collect());
    }
    for item in items {
        if item.dimensions != request.dimensions {
            let message =
                "`outputDimensionality` differs between the contents of a batch; send them in batches of one length";
            return Err(ChatError::invalid("requests.outputDimensionality", message));
        }
        request.inputs.push(EmbeddingInput::Text(item.text));
    }
    Ok(())
}

/// Writes a request to a provider, in the form that [`path`] names.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] when an input is a list of tokens: they mean nothing to another model.
pub fn write_request(request: &EmbeddingRequest, losses: &mut Losses) -> Result<Vec<u8>, ChatError> {
    if request.user.is_some() {
        losses.dropped("user");
    }
    let model = if request.model.contains('/') { request.model.clone() } else { format!("models/{}", request.model) };
    let own = request.extras.for_dialect(DialectId::Gemini);
    let mut items = Vec::with_capacity(request.inputs.len());
    for (at, input) in request.inputs.iter().enumerate() {
        let EmbeddingInput::Text(text) = input else {
            let message = "Gemini cannot embed token ids of another model: send the text itself";
            return Err(ChatError::invalid("input", message).with_code("unsupported_input"));
        };
        let mut item = Map::new();
        item.insert("model".into(), model.as_str().into());
        item.insert("content".into(), json!({ "parts": [{ "text": text }] }));
        if let Some(task) = &request.task {
            item.insert("taskType".into(), task.as_str().into());
        }
        if let Some(title) = &request.title {
            item.insert("title".into(), title.as_str().into());
        }
        if let Some(length) = request.dimensions {
            item.insert("outputDimensionality".into(), length.into());
        }
        for (name, value) in own.into_iter().flatten() {
            match (name.strip_prefix("requests."), value) {
                (Some(name), value) => super::fields::put_at(&mut item, name, value.clone()),
                (None, Value::Array(list)) if name == "requests" => {
                    if let Some(Value::Object(fields)) = list.get(at) {
                        item.extend(fields.clone());
                    }
                }
                (None, value) if is_one(request) => super::fields::put_at(&mut item, name, value.clone()),
                (None, _) => {}
            }
        }
        items.push(Value::Object(item));
    }
    if own.is_none() {
        write_extras(&request.extras, &mut Map::new(), losses);
    }
    let body = if is_one(request) { items.remove(0) } else { json!({ "requests": items }) };
    Ok(body.to_string().into_bytes())
}

/// Reads a provider's answer, of either form.
///
/// # Errors
/// [`ErrorKind::Upstream`] when it holds no vectors, or the error that stands in its place.
pub fn parse_response(body: &[u8]) -> Result<EmbeddingResponse, ChatError> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if error::is_error(&value) {
        return Err(error::read(200, body));
    }
    let none = || ChatError::new(ErrorKind::Upstream, "the provider's answer holds no embeddings");
    let mut fields = Fields::of(value).ok_or_else(none)?;
    let list = match (fields.take("embeddings"), fields.take("embedding")) {
        (Some(Value::Array(list)), _) => list,
        (_, Some(single)) => vec![single],
        _ => return Err(none()),
    };
    let vectors =
        list.into_iter().map(|embedding| read_vector(&embedding)).collect::<Option<Vec<_>>>().ok_or_else(none)?;
    let usage = fields.take_object("usageMetadata").and_then(|mut metadata| metadata.take_count("promptTokenCount"));
    Ok(EmbeddingResponse {
        model: None,
        vectors,
        usage: usage.map(|input| Usage { input, ..Usage::default() }),
        extras: Extras::from_fields(DialectId::Gemini, fields.rest()),
    })
}

fn read_vector(embedding: &Value) -> Option<Vec<f32>> {
    let values = embedding.get("values")?.as_array()?;
    #[allow(clippy::cast_possible_truncation, reason = "vectors are 32-bit floats, written in decimal")]
    values.iter().map(|value| value.as_f64().map(|number| number as f32)).collect()
}

#[derive(Serialize)]
struct Vector<'a> {
    values: &'a [f32],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vector<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embeddings: Option<Vec<Vector<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_metadata: Option<Value>,
    #[serde(flatten)]
    extras: Map<String, Value>,
}

/// Writes an answer to a client, in the form it asked for ([`EmbeddingRequest::single`]).
pub fn write_response(response: &EmbeddingResponse, single: bool, losses: &mut Losses) -> Vec<u8> {
    let mut extras = Map::new();
    write_extras(&response.extras, &mut extras, losses);
    let mut vectors: Vec<Vector<'_>> = response.vectors.iter().map(|values| Vector { values }).collect();
    let one = (single && vectors.len() == 1).then(|| vectors.remove(0));
    let answer = Answer {
        embeddings: one.is_none().then_some(vectors),
        embedding: one,
        usage_metadata: response
            .usage
            .map(|usage| json!({ "promptTokenCount": usage.input, "totalTokenCount": usage.input })),
        extras,
    };
    // A vector of numbers cannot fail to be written.
    serde_json::to_vec(&answer).unwrap_or_default()
}
