//! The model lists of providers: bodies to [`ListedModel`]s. Whatever a list does not say stays unknown.

use super::facts::Facts;
use super::{ModelList, llama_swap};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One model as its provider lists it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListedModel {
    /// The provider's own name for it, without Google's `models/`.
    pub id: String,
    /// When it came into the list, in Unix seconds; `None` where the list gives all models the same.
    pub created: Option<u64>,
    /// Whether it can chat, where the list says so (embedding and speech models cannot).
    pub chat: Option<bool>,
    /// What the list says of it.
    pub facts: Facts,
    /// llama-swap's other names for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// llama-swap chooses a model each time that this name is asked for.
    #[serde(skip)]
    pub is_choice: bool,
    /// llama-swap passes it on to another machine, or may.
    #[serde(skip)]
    pub is_remote: bool,
}

/// A body that is no model list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Not JSON.
    #[error("the model list is not JSON: {0}")]
    NotJson(String),
    /// JSON without the list.
    #[error("the answer has no `{0}` list")]
    NoList(&'static str),
}

/// Reads the body of a model list.
///
/// # Errors
/// The body is not JSON or has no list in it. Entries that cannot be read are left out.
pub fn parse(kind: ModelList, body: &[u8]) -> Result<Vec<ListedModel>, ListingError> {
    let field = match kind {
        ModelList::None => return Ok(Vec::new()),
        ModelList::Gemini => "models",
        ModelList::OpenAi | ModelList::OpenRouter | ModelList::Anthropic => "data",
    };
    let value: Value = serde_json::from_slice(body).map_err(|error| ListingError::NotJson(error.to_string()))?;
    // Together answers with the bare array.
    let entries = value.get(field).or(Some(&value)).and_then(Value::as_array).ok_or(ListingError::NoList(field))?;
    let read: fn(&Map<String, Value>) -> Option<ListedModel> = match kind {
        ModelList::Gemini => gemini,
        ModelList::Anthropic => anthropic,
        ModelList::OpenRouter => openrouter,
        ModelList::OpenAi | ModelList::None => openai,
    };
    let mut models: Vec<ListedModel> = entries.iter().filter_map(Value::as_object).filter_map(read).collect();
    forget_uniform_dates(&mut models);
    llama_swap::complete(&mut models, entries);
    Ok(models)
}

/// A list that dates all its models alike (its own start, the time of the call) dates none of them.
fn forget_uniform_dates(models: &mut [ListedModel]) {
    let Some(first) = models.first().and_then(|model| model.created) else { return };
    if models.iter().all(|model| model.created.is_some_and(|date| date.abs_diff(first) <= 60)) {
        for model in models {
            model.created = None;
        }
    }
}

fn id(entry: &Map<String, Value>, field: &str) -> Option<String> {
    let id = entry.get(field)?.as_str()?.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

fn number(entry: &Map<String, Value>, field: &str) -> Option<u64> {
    entry.get(field)?.as_u64().filter(|number| *number > 0)
}

fn flag(value: Option<&Value>, field: &str) -> Option<bool> {
    value?.get(field)?.as_bool()
}

fn holds(list: Option<&Value>, word: &str) -> Option<bool> {
    Some(list?.as_array()?.iter().any(|entry| entry.as_str() == Some(word)))
}

/// OpenAI's shape, with what hosts of open models add to it: Mistral `capabilities`, `max_context_length`; Groq
/// `context_window`; vLLM `max_model_len`; Together and Hugging Face `context_length`; llama-swap `architecture`.
fn openai(entry: &Map<String, Value>) -> Option<ListedModel> {
    let abilities = entry.get("capabilities").filter(|value| value.is_object());
    let kind = entry.get("type").and_then(Value::as_str);
    let context = ["context_window", "context_length", "max_context_length", "max_model_len"]
        .iter()
        .find_map(|field| number(entry, field));
    Some(ListedModel {
        id: id(entry, "id")?,
        created: number(entry, "created"),
        chat: flag(abilities, "completion_chat").or_else(|| {
            let other = ["embedding", "image", "rerank", "moderation", "audio", "video", "transcribe"];
            let is_other = kind.is_some_and(|kind| other.contains(&kind)) || flag(abilities, "reranker") == Some(true);
            let speaks = |way: &str| holds(entry.get("architecture").and_then(|it| it.get(way)), "text");
            let is_mute = [speaks("input_modalities"), speaks("output_modalities")].contains(&Some(false));
            (is_other || is_mute).then_some(false)
        }),
        facts: Facts {
            context,
            max_output: number(entry, "max_completion_tokens"),
            tools: flag(abilities, "function_calling"),
            vision: flag(abilities, "vision"),
            ..Facts::default()
        },
        ..ListedModel::default()
    })
}

/// OpenRouter's shape (openrouter.ai/docs/models): prices are dollars a token, as strings.
fn openrouter(entry: &Map<String, Value>) -> Option<ListedModel> {
    let pricing = entry.get("pricing");
    let price = |field: &str| {
        let dollars: f64 = pricing?.get(field)?.as_str()?.parse().ok()?;
        // Negative is OpenRouter's word for "depends" (its own routers).
        (dollars.is_finite() && dollars >= 0.0).then(|| (dollars * 1e12).round() / 1e6)
    };
    let architecture = entry.get("architecture");
    let parameters = entry.get("supported_parameters");
    let created = number(entry, "created");
    let top = entry.get("top_provider").and_then(Value::as_object);
    Some(ListedModel {
        id: id(entry, "id")?,
        created,
        chat: holds(architecture.and_then(|it| it.get("output_modalities")), "text"),
        facts: Facts {
            context: number(entry, "context_length"),
            max_output: top.and_then(|top| number(top, "max_completion_tokens")),
            input_price: price("prompt"),
            output_price: price("completion"),
            cache_read_price: price("input_cache_read"),
            cache_write_price: price("input_cache_write"),
            cache_write_1h_price: None,
            tools: holds(parameters, "tools"),
            vision: holds(architecture.and_then(|it| it.get("input_modalities")), "image"),
            reasoning: holds(parameters, "reasoning"),
            released: created,
        },
        ..ListedModel::default()
    })
}

/// Anthropic's shape (platform.claude.com/docs/en/api/models); newer lists add limits and `capabilities`.
fn anthropic(entry: &Map<String, Value>) -> Option<ListedModel> {
    // The epoch stands for a date that is not known.
    let released = entry.get("created_at").and_then(Value::as_str).and_then(unix_seconds).filter(|date| *date > 0);
    let supported = |name: &str| flag(entry.get("capabilities").and_then(|it| it.get(name)), "supported");
    Some(ListedModel {
        id: id(entry, "id")?,
        created: released,
        chat: Some(true),
        facts: Facts {
            context: number(entry, "max_input_tokens"),
            max_output: number(entry, "max_tokens"),
            vision: supported("image_input"),
            reasoning: supported("thinking"),
            released,
            ..Facts::default()
        },
        ..ListedModel::default()
    })
}

/// Google's shape (ai.google.dev/api/models, v1beta).
fn gemini(entry: &Map<String, Value>) -> Option<ListedModel> {
    let name = id(entry, "name")?;
    let chat = holds(entry.get("supportedGenerationMethods"), "generateContent");
    Some(ListedModel {
        id: name.strip_prefix("models/").unwrap_or(&name).to_owned(),
        created: None,
        chat,
        facts: Facts {
            context: number(entry, "inputTokenLimit"),
            max_output: number(entry, "outputTokenLimit"),
            reasoning: entry.get("thinking").and_then(Value::as_bool),
            ..Facts::default()
        },
        ..ListedModel::default()
    })
}

/// Unix seconds of an RFC 3339 time in UTC (`2025-09-29T00:00:00Z`); fractions of a second are dropped.
fn unix_seconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || !text.ends_with('Z') {
        return None;
    }
    // Days since the epoch with the year starting in March, so that the leap day is the last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lists of real providers, cut to a few entries.
    const LISTS: [(ModelList, &str); 7] = [
        (ModelList::OpenAi, include_str!("../../tests/fixtures/models/openai.json")),
        (ModelList::OpenAi, include_str!("../../tests/fixtures/models/mistral.json")),
        (ModelList::OpenAi, include_str!("../../tests/fixtures/models/cerebras.json")),
        (ModelList::OpenAi, include_str!("../../tests/fixtures/models/huggingface.json")),
        (ModelList::OpenRouter, include_str!("../../tests/fixtures/models/openrouter.json")),
        (ModelList::Anthropic, include_str!("../../tests/fixtures/models/anthropic.json")),
        (ModelList::Gemini, include_str!("../../tests/fixtures/models/gemini.json")),
    ];

    #[test]
    fn real_lists_are_read() {
        let read: Vec<_> = LISTS.iter().map(|(kind, body)| parse(*kind, body.as_bytes()).unwrap()).collect();
        insta::assert_json_snapshot!(read);
    }

    #[test]
    fn a_list_that_dates_all_its_models_alike_dates_none() {
        let one = parse(ModelList::OpenAi, br#"{"data": [{"id": "tiny", "created": 1795362749}]}"#).unwrap();
        assert_eq!(one[0].created, None);
        let two = parse(ModelList::OpenAi, br#"{"data": [{"id": "a", "created": 100}, {"id": "b", "created": 900}]}"#);
        assert_eq!(two.unwrap()[1].created, Some(900));
    }

    #[test]
    fn entries_that_cannot_be_read_are_left_out_and_bodies_are_errors() {
        let body = br#"{"data": [{"id": "a"}, {"id": ""}, {"id": 7}, null, "b", {"name": "c"}]}"#;
        assert_eq!(parse(ModelList::OpenAi, body).unwrap().len(), 1);
        assert_eq!(parse(ModelList::OpenAi, br#"[{"id": "a"}]"#).unwrap()[0].id, "a");
        assert_eq!(parse(ModelList::OpenAi, br#"{"detail": "no"}"#), Err(ListingError::NoList("data")));
        assert!(matches!(parse(ModelList::Gemini, b"<html>"), Err(ListingError::NotJson(_))));
        assert_eq!(parse(ModelList::None, b"<html>"), Ok(Vec::new()));
    }

    #[test]
    fn a_router_whose_price_depends_has_no_price() {
        let body = br#"{"data": [{"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}}]}"#;
        assert_eq!(parse(ModelList::OpenRouter, body).unwrap()[0].facts.input_price, None);
    }

    #[test]
    fn dates_become_seconds() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:30:01Z", Some(951_827_401)),
            ("2025-09-29T00:00:00.123Z", Some(1_759_104_000)),
            ("2025-09-29", None),
            ("2025-13-01T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2025-09-29T00:00:00+02:00", None),
        ] {
            assert_eq!(unix_seconds(text), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn cut_or_spoiled_lists_never_panic(which in 0..LISTS.len(), cut in 0.0..1.0_f64, byte in any::<u8>(), kind in 0..5_usize) {
            let body = LISTS[which].1.as_bytes();
            let at = (body.len() as f64 * cut) as usize;
            let kind =
                [ModelList::OpenAi, ModelList::Anthropic, ModelList::Gemini, ModelList::OpenRouter, ModelList::None][kind];
            // A list that has lost only the white space behind it is whole.
            let is_whole = body[at..].iter().all(u8::is_ascii_whitespace);
            prop_assert!(is_whole || kind == ModelList::None || parse(kind, &body[..at]).is_err());
            let mut spoiled = body.to_vec();
            spoiled[at] = byte;
            if let Ok(models) = parse(kind, &spoiled) {
                prop_assert!(models.iter().all(|model| !model.id.is_empty()));
            }
        }

        #[test]
        fn any_text_is_a_date_or_none(text in "\\PC{0,30}", digits in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z") {
            unix_seconds(&text);
            unix_seconds(&digits);
        }
    }
}
