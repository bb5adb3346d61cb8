//! OpenAI Embeddings, `POST /v1/embeddings` (OpenAI API reference, 2025-12), for clients and providers.

use super::openai_chat::fields::{Fields, invalid, missing, wrong_type};
use super::openai_chat::usage;
use crate::chat::{
    ChatError, DialectId, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, ErrorKind, Extras, Losses,
    VectorEncoding,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The path of an embeddings call to a provider, from the base URL on (which ends before `/v1`).
pub const PATH: &str = "/v1/embeddings";

/// OpenAI takes no more inputs than this in one request.
const MAX_INPUTS: usize = 2_048;

/// Reads a client's request.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field that is wrong.
pub fn parse_request(body: &[u8]) -> Result<EmbeddingRequest, ChatError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}.");
        ChatError::new(ErrorKind::InvalidRequest, message).with_code("invalid_json")
    })?;
    let mut fields = Fields::of(value, "")?;
    let Some(model) = fields.string("model")?.filter(|model| !model.is_empty()) else {
        return Err(invalid("model", "you must provide a model parameter").with_code("missing_required_parameter"));
    };
    let (inputs, single) = read_inputs(fields.take("input"))?;
    let encoding = match fields.string("encoding_format")?.as_deref() {
        None => None,
        Some("float") => Some(VectorEncoding::Float),
        Some("base64") => Some(VectorEncoding::Base64),
        Some(other) => {
            let message =
                format!("Invalid value for 'encoding_format': '{other}'. Supported values are: 'float' and 'base64'.");
            return Err(invalid("encoding_format", message).with_code("invalid_value"));
        }
    };
    Ok(EmbeddingRequest {
        model,
        inputs,
        single,
        dimensions: fields.integer("dimensions")?,
        encoding,
        task: None,
        title: None,
        user: fields.string("user")?,
        extras: Extras::from_fields(DialectId::OpenAiChat, fields.rest()),
    })
}

/// Reads `input`: a text, a list of texts, a list of tokens, or a list of those. The second value: it was a bare one.
fn read_inputs(value: Option<Value>) -> Result<(Vec<EmbeddingInput>, bool), ChatError> {
    let list = match value {
        None => return Err(missing("input")),
        Some(Value::String(text)) => return Ok((vec![read_text(text, "input")?], true)),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("input", "one of a string or an array", &other)),
    };
    if list.is_empty() {
        return Err(invalid("input", "Invalid 'input': input cannot be an empty array.").with_code("empty_array"));
    }
    if list.iter().all(Value::is_number) {
        return Ok((vec![EmbeddingInput::Tokens(read_tokens(list, "input")?)], true));
    }
    if list.len() > MAX_INPUTS {
        let message = format!("Invalid 'input': at most {MAX_INPUTS} inputs are taken, but there are {}.", list.len());
        return Err(invalid("input", message).with_code("array_above_max_length"));
    }
    let inputs = list.into_iter().enumerate().map(|(index, value)| {
        let path = format!("input[{index}]");
        match value {
            Value::String(text) => read_text(text, &path),
            Value::Array(tokens) => Ok(EmbeddingInput::Tokens(read_tokens(tokens, &path)?)),
            other => Err(wrong_type(&path, "one of a string or an array of integers", &other)),
        }
    });
    Ok((inputs.collect::<Result<_, _>>()?, false))
}

fn read_text(text: String, path: &str) -> Result<EmbeddingInput, ChatError> {
    if text.is_empty() {
        return Err(
            invalid(path, format!("Invalid '{path}': input cannot be an empty string.")).with_code("empty_string")
        );
    }
    Ok(EmbeddingInput::Text(text))
}

fn read_tokens(list: Vec<Value>, path: &str) -> Result<Vec<u32>, ChatError> {
    let tokens = list.into_iter().enumerate().map(|(index, value)| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| wrong_type(&format!("{path}[{index}]"), "a token", &value))
    });
    tokens.collect()
}

/// Writes a request to a provider. What it cannot be told becomes a loss.
pub fn write_request(request: &EmbeddingRequest, losses: &mut Losses) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut inputs: Vec<Value> = request
        .inputs
        .iter()
        .map(|input| match input {
            EmbeddingInput::Text(text) => json!(text),
            EmbeddingInput::Tokens(tokens) => json!(tokens),
        })
        .collect();
    let input = match (request.single, inputs.pop()) {
        (true, Some(only)) if inputs.is_empty() => only,
        (_, last) => {
            inputs.extend(last);
            Value::Array(inputs)
        }
    };
    body.insert("input".into(), input);
    if let Some(dimensions) = request.dimensions {
        body.insert("dimensions".into(), json!(dimensions));
    }
    if let Some(encoding) = request.encoding {
        let word = match encoding {
            VectorEncoding::Float => "float",
            VectorEncoding::Base64 => "base64",
        };
        body.insert("encoding_format".into(), json!(word));
    }
    if let Some(user) = &request.user {
        body.insert("user".into(), json!(user));
    }
    for (field, value) in [("task_type", &request.task), ("title", &request.title)] {
        if value.is_some() {
            losses.dropped(field);
        }
    }
    write_extras(&request.extras, &mut body, losses);
    Value::Object(body).to_string().into_bytes()
}

/// Reads a provider's answer. Vectors come as lists of numbers or in base64, whatever was asked for.
///
/// # Errors
/// [`ErrorKind::Upstream`] when it is none, or the error that stands in its place.
pub fn parse_response(body: &[u8]) -> Result<EmbeddingResponse, ChatError> {
    let upstream = |what: String| {
        ChatError::new(ErrorKind::Upstream, format!("The provider's answer holds no embeddings: {what}."))
    };
    let value: Value = serde_json::from_slice(body).map_err(|found| upstream(found.to_string()))?;
    if value.get("data").is_none() && value.get("error").is_some_and(|error| !error.is_null()) {
        return Err(super::openai_chat::error::parse_in_success(body));
    }
    let Value::Object(map) = value else { return Err(upstream("it is no object".to_owned())) };
    let mut fields = Fields::new(map, "");
    fields.take("object");
    let Some(Value::Array(data)) = fields.take("data") else { return Err(upstream("it has no 'data'".to_owned())) };
    let mut vectors = Vec::with_capacity(data.len());
    for (position, entry) in data.into_iter().enumerate() {
        let index = entry.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let vector = read_vector(entry.get("embedding"));
        vectors.push((index, vector.ok_or_else(|| upstream(format!("data[{position}].embedding is no vector")))?));
    }
    // The specification orders them; servers that work in parallel do not always.
    vectors.sort_by_key(|(index, _)| *index);
    let model = match fields.take("model") {
        Some(Value::String(model)) => Some(model),
        _ => None,
    };
    let usage = fields.take("usage").and_then(usage::read).map(|(usage, _)| usage);
    Ok(EmbeddingResponse {
        model,
        vectors: vectors.into_iter().map(|(_, vector)| vector).collect(),
        usage,
        extras: fields.telling_extras(),
    })
}

fn read_vector(value: Option<&Value>) -> Option<Vec<f32>> {
    match value? {
        #[allow(clippy::cast_possible_truncation)]
        Value::Array(list) => list.iter().map(|number| number.as_f64().map(|number| number as f32)).collect(),
        Value::String(text) => {
            let bytes = STANDARD.decode(text).ok()?;
            let (numbers, rest) = bytes.as_chunks::<4>();
            rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
        _ => None,
    }
}

/// Writes an answer to a client, the vectors as it asked for them (`None`: lists of numbers).
pub fn write_response(response: &EmbeddingResponse, encoding: Option<VectorEncoding>, losses: &mut Losses) -> Vec<u8> {
    let data: Vec<Value> = response
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = match encoding {
                None | Some(VectorEncoding::Float) => json!(vector),
                Some(VectorEncoding::Base64) => {
                    json!(STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()))
                }
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let mut body = Map::new();
    body.insert("object".into(), json!("list"));
    body.insert("data".into(), Value::Array(data));
    body.insert("model".into(), json!(response.model.as_deref().unwrap_or_default()));
    // The SDKs ask for `usage`; where nothing is known it says zero.
    let tokens = response.usage.map_or(0, |usage| usage.input);
    body.insert("usage".into(), json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    write_extras(&response.extras, &mut body, losses);
    Value::Object(body).to_string().into_bytes()
}

fn write_extras(extras: &Extras, body: &mut Map<String, Value>, losses: &mut Losses) {
    match extras.for_dialect(DialectId::OpenAiChat) {
        Some(fields) => body.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone()))),
        None => extras.fields.keys().for_each(|key| losses.dropped(key.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Usage;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_input_is_read_and_written_as_it_was() {
        for input in [json!("a"), json!(["a"]), json!(["a", "b"]), json!([1, 2, 3]), json!([[1, 2], [3]])] {
            let body = json!({"model": "m", "input": input, "dimensions": 8, "encoding_format": "base64",
                "user": "u", "input_type": "query"});
            let request = parse_request(body.to_string().as_bytes()).unwrap();
            let mut losses = Losses::new();
            let written: Value = serde_json::from_slice(&write_request(&request, &mut losses)).unwrap();
            assert_eq!(written, body);
            assert!(losses.is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({"input": "a"}), "model"),
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": ""}), "input"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": ["a", 1]}), "input[1]"),
            (json!({"model": "m", "input": [1, -2]}), "input[1]"),
            (json!({"model": "m", "input": "a", "dimensions": "x"}), "dimensions"),
            (json!({"model": "m", "input": "a", "encoding_format": "int8"}), "encoding_format"),
        ];
        for (body, param) in cases {
            let error = parse_request(body.to_string().as_bytes()).unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)), "{body}");
        }
    }

    #[test]
    fn what_openai_cannot_be_told_is_a_loss() {
        let request = EmbeddingRequest {
            model: "m".into(),
            inputs: vec![EmbeddingInput::Text("a".into())],
            task: Some("RETRIEVAL_QUERY".into()),
            title: Some("t".into()),
            ..EmbeddingRequest::default()
        };
        let mut losses = Losses::new();
        write_request(&request, &mut losses);
        assert_eq!(losses.to_string(), "task_type=dropped, title=dropped");
    }

    #[test]
    fn vectors_out_of_order_are_put_in_order() {
        let body = br#"{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}],"model":"m"}"#;
        assert_eq!(parse_response(body).unwrap().vectors, [[1.0], [2.0]]);
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_an_error() {
        let error = parse_response(br#"{"error":{"message":"no such model","code":"model_not_found"}}"#).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(parse_response(b"[]").unwrap_err().kind, ErrorKind::Upstream);
        assert_eq!(parse_response(br#"{"data":[{"embedding":"AAA="}]}"#).unwrap_err().kind, ErrorKind::Upstream);
    }

    proptest! {
        #[test]
        fn both_encodings_give_the_same_vectors(vectors in proptest::collection::vec(proptest::collection::vec(-1e3f32..1e3, 0..9), 0..4)) {
            let usage = Some(Usage { input: 3, ..Usage::default() });
            let response = EmbeddingResponse { model: Some("m".into()), vectors, usage, extras: Extras::default() };
            for encoding in [None, Some(VectorEncoding::Float), Some(VectorEncoding::Base64)] {
                let written = write_response(&response, encoding, &mut Losses::new());
                prop_assert_eq!(&parse_response(&written).unwrap(), &response);
            }
        }

        #[test]
        fn no_bytes_break_the_parsers(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (parse_request(&bytes), parse_response(&bytes));
        }
    }
}
