//! Errors: the many shapes that providers of this dialect answer with, and OpenAI's own for clients.

use super::fields::says_something;
use crate::chat::{ChatError, ErrorKind};
use crate::dialect::google_details;
use crate::dialect::named_status::named_status;
use serde_json::{Map, Value, json};

/// A provider's text is quoted up to this many characters.
const QUOTED: usize = 800;

/// Reads the body of an error answer: OpenAI's and Google's (wrapped in a list), FastAPI's `detail` (vllm-mlx, Mistral),
/// bare `message` or text (llama-swap). Never fails.
pub(in crate::dialect) fn parse(status: u16, body: &[u8]) -> ChatError {
    ChatError { status: Some(status), ..read(status, body) }
}

/// Reads an error that stands where an answer should be, under a status of success. Never fails.
pub(in crate::dialect) fn parse_in_success(body: &[u8]) -> ChatError {
    read(200, body)
}

fn read(status: u16, body: &[u8]) -> ChatError {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => read_value(status, &value),
        Err(_) => read_text(status, &String::from_utf8_lossy(body)),
    }
}

/// The error that stands in the place of an answer or in a stream, if there is one.
pub(super) fn in_answer(value: &Value) -> Option<ChatError> {
    let error = match value {
        // Google's compatible API wraps errors in a list.
        Value::Array(list) => return list.first().and_then(in_answer),
        Value::Object(map) => map.get("error").filter(|error| !error.is_null()),
        _ => None,
    };
    match (error, value.get("choices")) {
        (Some(_), _) => Some(read_value(200, value)),
        (None, None) if value.get("detail").is_some() || value["object"] == "error" => Some(read_value(200, value)),
        (None, choices) => choices?.as_array()?.iter().find_map(in_choice),
    }
}

/// OpenRouter tells beside a choice why it ended with an error.
fn in_choice(choice: &Value) -> Option<ChatError> {
    let error = choice.get("error").filter(|error| says_something(error))?;
    // Alone: what stands beside it is the answer.
    Some(read_value(200, &json!({"error": error})))
}

/// True for the text of an error as OpenAI's clients read it.
pub(super) fn is_own_form(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value["error"]["message"].is_string())
}

fn read_value(status: u16, value: &Value) -> ChatError {
    match value {
        Value::Array(list) if list.len() == 1 => read_value(status, &list[0]),
        Value::String(text) => read_text(status, text),
        Value::Object(map) => match (map.get("error"), map.get("detail"), map.get("message")) {
            (Some(Value::Object(error)), _, _) => {
                let beside = status_in(map).filter(|_| status < 400 && status_in(error).is_none());
                read_object(beside.unwrap_or(status), error)
            }
            (Some(Value::String(text)), _, _) => {
                // `{"error": "Unauthorized", "message": ...}`: the longer text says more.
                let message = map.get("message").and_then(Value::as_str).unwrap_or(text);
                let mut outer = map.clone();
                outer.insert("message".into(), json!(message));
                outer.shift_remove("error");
                read_object(status, &outer)
            }
            (_, Some(Value::String(text)), _) => read_text(status, text),
            (_, Some(Value::Array(list)), _) => read_fastapi(status, list),
            (_, Some(Value::Object(detail)), _) => read_value(status, &Value::Object(detail.clone())),
            (_, _, Some(_)) => read_object(status, map),
            _ => read_text(status, &value.to_string()),
        },
        other => read_text(status, &other.to_string()),
    }
}

fn read_text(status: u16, text: &str) -> ChatError {
    let text = text.trim();
    if text.is_empty() {
        let message = format!("The provider answered with status {status} and said nothing more.");
        return ChatError::new(kind_of(status, "", ""), message);
    }
    ChatError::new(kind_of(status, "", text), quoted(text))
}

/// FastAPI's list of what is wrong where. The wrong input itself is left out: it is the client's content.
fn read_fastapi(status: u16, list: &[Value]) -> ChatError {
    let mut param = None;
    let texts: Vec<String> = list
        .iter()
        .map(|entry| {
            let message = entry.get("msg").and_then(Value::as_str).unwrap_or("invalid");
            let place = location(entry.get("loc"));
            if place.is_empty() {
                return message.to_owned();
            }
            let text = format!("{place}: {message}");
            param.get_or_insert(place);
            text
        })
        .collect();
    let message =
        if texts.is_empty() { format!("The provider answered with status {status}.") } else { texts.join("; ") };
    let code = list.first().and_then(|entry| entry.get("type")).and_then(Value::as_str).map(str::to_owned);
    ChatError { param, code, ..ChatError::new(kind_of(status, "", ""), quoted(&message)) }
}

/// `["body", "messages", 0, "content"]` as `messages[0].content`.
fn location(loc: Option<&Value>) -> String {
    let mut path = String::new();
    for step in loc.and_then(Value::as_array).into_iter().flatten() {
        match step {
            Value::String(name) if name == "body" && path.is_empty() => {}
            Value::String(name) if path.is_empty() => path.push_str(name),
            Value::String(name) => {
                path.push('.');
                path.push_str(name);
            }
            // A bare number right after the body is a byte offset of broken JSON.
            Value::Number(number) if !path.is_empty() => path.push_str(&format!("[{number}]")),
            _ => {}
        }
    }
    path
}

fn read_object(status: u16, error: &Map<String, Value>) -> ChatError {
    let text_of = |key: &str| error.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    // An error inside an answer that says 200 names its status itself.
    let status = if status < 400 { status_in(error).unwrap_or(status) } else { status };
    let named = ["code", "status", "error_code", "error_type", "type"];
    let code = named.into_iter().find_map(text_of);
    let metadata = error.get("metadata");
    let mut message = match (text_of("message"), error.get("message")) {
        (Some(message), _) => message.to_owned(),
        // Older Mistral answers put the list of what is wrong into `message`.
        (None, Some(Value::Object(inner))) if inner.get("detail").is_some_and(Value::is_array) => {
            let list = inner.get("detail").and_then(Value::as_array).cloned().unwrap_or_default();
            read_fastapi(status, &list).message
        }
        (None, Some(other)) if !other.is_null() => other.to_string(),
        _ => format!("The provider answered with status {status} and said nothing more."),
    };
    let words = named.into_iter().filter_map(text_of).chain(inner_code(error)).collect::<Vec<_>>().join(" ");
    let mut kind = kind_of(status, &words, &message);
    // OpenRouter puts what its provider said behind a sentence of its own.
    if let Some(raw) = metadata.and_then(|metadata| metadata.get("raw")).and_then(Value::as_str) {
        // That one's quota and keys are not ours; what it has against the request holds.
        let relayed = kind_of(status, "", raw);
        match (kind, relayed) {
            (ErrorKind::InvalidRequest, ErrorKind::ContextTooLong)
            | (ErrorKind::InvalidRequest | ErrorKind::Permission, ErrorKind::ContentFilter) => kind = relayed,
            _ => {}
        }
        message = format!("{message}: {raw}");
    }
    if kind == ErrorKind::Permission && metadata.is_some_and(|metadata| metadata.get("flagged_input").is_some()) {
        kind = ErrorKind::ContentFilter;
    }
    let mut details = error.clone();
    details.shift_remove("message");
    details.retain(|_, value| !value.is_null());
    ChatError {
        code: code.map(str::to_owned),
        param: text_of("param").map(str::to_owned),
        retry_after: google_details::retry_after(error.get("details"), &message),
        details: (!details.is_empty()).then_some(Value::Object(details)),
        ..ChatError::new(kind, quoted(&message))
    }
}

fn status_in(error: &Map<String, Value>) -> Option<u16> {
    ["status_code", "code", "status"].into_iter().find_map(|name| named_status(error.get(name)?))
}

/// Azure names its content filter in `innererror.code`.
fn inner_code(error: &Map<String, Value>) -> Option<&str> {
    error.get("innererror")?.get("code")?.as_str()
}

/// Words in code or type that say more than the status.
const CODES: [(&str, ErrorKind); 31] = [
    ("context_length_exceeded", ErrorKind::ContextTooLong),
    ("too_many_prompt_tokens", ErrorKind::ContextTooLong),
    ("exceed_context_size", ErrorKind::ContextTooLong),
    ("TOO_MANY_TOKENS", ErrorKind::ContextTooLong),
    ("tokens_limit_reached", ErrorKind::ContextTooLong),
    ("content_filter", ErrorKind::ContentFilter),
    ("content_policy_violation", ErrorKind::ContentFilter),
    ("moderation_blocked", ErrorKind::ContentFilter),
    ("ResponsibleAIPolicyViolation", ErrorKind::ContentFilter),
    ("insufficient_quota", ErrorKind::QuotaExceeded),
    ("billing_hard_limit_reached", ErrorKind::QuotaExceeded),
    ("billing_not_active", ErrorKind::QuotaExceeded),
    ("billing_error", ErrorKind::QuotaExceeded),
    ("exceeded_current_quota", ErrorKind::QuotaExceeded),
    ("Arrearage", ErrorKind::QuotaExceeded),
    ("invalid_api_key", ErrorKind::Authentication),
    ("authentication_error", ErrorKind::Authentication),
    ("UNAUTHENTICATED", ErrorKind::Authentication),
    ("permission_error", ErrorKind::Permission),
    ("permission_denied", ErrorKind::Permission),
    ("model_not_found", ErrorKind::NotFound),
    ("not_found_error", ErrorKind::NotFound),
    ("DeploymentNotFound", ErrorKind::NotFound),
    ("rate_limit", ErrorKind::RateLimited),
    ("RESOURCE_EXHAUSTED", ErrorKind::RateLimited),
    ("unavailable_error", ErrorKind::Unavailable),
    ("overloaded", ErrorKind::Overloaded),
    ("service_unavailable", ErrorKind::Overloaded),
    ("timeout_error", ErrorKind::Timeout),
    ("request_cancelled", ErrorKind::Cancelled),
    ("request_too_large", ErrorKind::TooLarge),
];

/// Z.AI's codes are numbers: nothing else may stand beside them.
const NUMBERS: [(&str, ErrorKind); 2] = [("1113", ErrorKind::QuotaExceeded), ("1261", ErrorKind::ContextTooLong)];

/// Words in a message, in lower case, of providers that have no code for it.
const TEXTS: [(&str, ErrorKind); 22] = [
    ("maximum context length", ErrorKind::ContextTooLong),
    ("max context length", ErrorKind::ContextTooLong),
    ("context window", ErrorKind::ContextTooLong),
    ("context size", ErrorKind::ContextTooLong),
    ("prompt is too long", ErrorKind::ContextTooLong),
    ("prompt too long", ErrorKind::ContextTooLong),
    ("input token count exceeds", ErrorKind::ContextTooLong),
    ("too many tokens: size limit exceeded", ErrorKind::ContextTooLong),
    ("maximum prompt length is", ErrorKind::ContextTooLong),
    ("[input_too_large]", ErrorKind::ContextTooLong),
    ("exceeded model token limit", ErrorKind::ContextTooLong),
    ("range of input length should be", ErrorKind::ContextTooLong),
    ("`inputs` tokens + `max_new_tokens` must be <=", ErrorKind::ContextTooLong),
    ("exceeds maximum input length", ErrorKind::ContextTooLong),
    ("greater than the context length", ErrorKind::ContextTooLong),
    ("context length of only", ErrorKind::ContextTooLong),
    ("api key not valid", ErrorKind::Authentication),
    ("incorrect api key", ErrorKind::Authentication),
    ("insufficient balance", ErrorKind::QuotaExceeded),
    ("exceeded your current quota", ErrorKind::QuotaExceeded),
    ("monthly spending limit", ErrorKind::QuotaExceeded),
    ("content violates usage guidelines", ErrorKind::ContentFilter),
];

fn kind_of(status: u16, words: &str, message: &str) -> ErrorKind {
    match CODES.iter().find(|(word, _)| words.contains(word)) {
        // OpenAI says `model_not_found` of a model that is there and that the key may not use.
        Some((_, ErrorKind::NotFound)) if status == 403 => return ErrorKind::Permission,
        Some((_, kind)) => return *kind,
        None => {}
    }
    if let Some((_, kind)) = NUMBERS.iter().find(|(number, _)| words.split(' ').any(|word| word == *number)) {
        return *kind;
    }
    let lower = message.to_ascii_lowercase();
    let told = TEXTS.iter().find(|(text, _)| lower.contains(text)).map(|(_, kind)| *kind);
    match (status, told) {
        (0..=299 | 400 | 402 | 412 | 413 | 422 | 429 | 500, Some(kind)) => return kind,
        // A 403 speaks of what the key may do, and may name a context window that it has not.
        (403, Some(kind @ (ErrorKind::QuotaExceeded | ErrorKind::ContentFilter))) => return kind,
        _ => {}
    }
    match status {
        400.. => ErrorKind::from_status(status),
        _ if words.contains("invalid_request") || words.contains("INVALID_ARGUMENT") => ErrorKind::InvalidRequest,
        _ => ErrorKind::Upstream,
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Writes an error to a client: the status and `{"error": {message, type, param, code}}`.
pub(in crate::dialect) fn write(error: &ChatError) -> (u16, Vec<u8>) {
    (error.kind.status(), object(error).to_string().into_bytes())
}

/// The body of [`write`], which a stream writes as an event.
pub(super) fn object(error: &ChatError) -> Value {
    let (kind, code) = match error.kind {
        ErrorKind::InvalidRequest => ("invalid_request_error", None),
        ErrorKind::Authentication => ("authentication_error", Some("invalid_api_key")),
        ErrorKind::Permission => ("permission_error", None),
        ErrorKind::NotFound => ("invalid_request_error", Some("not_found")),
        ErrorKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        ErrorKind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::QuotaExceeded => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::ContextTooLong => ("invalid_request_error", Some("context_length_exceeded")),
        ErrorKind::ContentFilter => ("invalid_request_error", Some("content_filter")),
        ErrorKind::Overloaded => ("overloaded_error", None),
        ErrorKind::Upstream => ("upstream_error", None),
        ErrorKind::Unavailable => ("unavailable_error", None),
        ErrorKind::Timeout => ("timeout_error", None),
        ErrorKind::Cancelled => ("request_cancelled", None),
        ErrorKind::Internal => ("server_error", None),
    };
    // Clients act on these two codes, so the vendor's own spelling must not hide them.
    let fixed = matches!(error.kind, ErrorKind::ContextTooLong | ErrorKind::QuotaExceeded);
    let code = if fixed { code } else { error.code.as_deref().or(code) };
    let message = match &error.request_id {
        Some(id) if !error.message.contains(id.as_str()) => format!("{} (request id: {id})", error.message),
        _ => error.message.clone(),
    };
    json!({"error": {"message": message, "type": kind, "param": error.param, "code": code}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(status: u16, body: &str) -> ChatError {
        parse(status, body.as_bytes())
    }

    #[test]
    fn fastapi_errors_of_vllm_mlx_are_mended() {
        let error = parsed(
            422,
            r#"{"detail":[{"type":"missing","loc":["body","messages",0,"content"],"msg":"Field required","input":"my secret"}]}"#,
        );
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some("messages[0].content"));
        assert_eq!(error.message, "messages[0].content: Field required");
        assert!(!format!("{error:?}").contains("my secret"));
        assert_eq!(parsed(401, r#"{"detail":"API key required"}"#).kind, ErrorKind::Authentication);
        assert_eq!(parsed(500, "Internal Server Error").message, "Internal Server Error");
        assert_eq!(parsed(404, r#"{"detail":"The model `x` does not exist."}"#).kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_code_says_more_than_the_status() {
        let cases = [
            (429, r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, ErrorKind::QuotaExceeded),
            (400, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#, ErrorKind::ContextTooLong),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 9 tokens."}}"#,
                ErrorKind::ContextTooLong,
            ),
            (
                400,
                r#"{"error":{"message":"m","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                ErrorKind::ContentFilter,
            ),
            (400, r#"{"error":"Incorrect API key provided: k***y."}"#, ErrorKind::Authentication),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]"#,
                ErrorKind::Authentication,
            ),
            (404, r#"{"error":{"code":"DeploymentNotFound","message":"m"}}"#, ErrorKind::NotFound),
            (
                403,
                r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
                ErrorKind::Permission,
            ),
            (402, r#"{"error":{"message":"Insufficient Balance"}}"#, ErrorKind::QuotaExceeded),
            (502, "", ErrorKind::Upstream),
            (503, "<html>busy</html>", ErrorKind::Overloaded),
            (429, r#"{"error":{"message":"p","code":429,"metadata":{"raw":"slow down"}}}"#, ErrorKind::RateLimited),
        ];
        for (status, body, kind) in cases {
            let error = parsed(status, body);
            assert_eq!(error.kind, kind, "{body}");
            assert_eq!(error.status, Some(status));
        }
        assert_eq!(parsed(429, cases[11].1).message, "p: slow down");
    }

    #[test]
    fn an_error_inside_an_answer_names_its_own_status() {
        let value = json!({"error": {"message": "m", "type": "InternalServerError", "param": null, "code": 500}});
        assert_eq!(in_answer(&value).map(|error| error.kind), Some(ErrorKind::Upstream));
        let value = json!({"error": {"message": "m", "status_code": 400, "code": "tool_use_failed"}});
        assert_eq!(in_answer(&value).map(|error| error.kind), Some(ErrorKind::InvalidRequest));
        assert_eq!(in_answer(&json!({"choices": [], "error": null})), None);
    }

    #[test]
    fn what_a_provider_behind_the_provider_has_against_it_is_not_held_against_the_key() {
        let relayed = |status: u16, raw: &str| {
            let metadata = json!({"raw": raw, "provider_name": "Google"});
            let error = json!({"message": "Provider returned error", "code": status, "metadata": metadata});
            parsed(status, &json!({"error": error}).to_string())
        };
        let quota = r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED"}}"#;
        let error = relayed(429, quota);
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert_eq!(error.message, format!("Provider returned error: {quota}"));
        assert_eq!(relayed(400, "API key not valid. Please pass a valid API key.").kind, ErrorKind::InvalidRequest);
        // What it has against the request is told of the request all the same.
        let long = r#"{"error":{"message":"This endpoint's maximum context length is 8192 tokens."}}"#;
        assert_eq!(relayed(400, long).kind, ErrorKind::ContextTooLong);
    }

    #[test]
    fn an_account_that_has_nothing_left_is_known_by_its_vendors_words() {
        let xai = "Your team t has either used all available credits or reached its monthly spending limit. To continue making API requests, please purchase more credits or raise your spending limit.";
        let fireworks = "Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.";
        let arrearage = "Access denied, please make sure your account is in good standing.";
        for (status, body) in [
            (429, json!({"code": "Some resource has been exhausted", "error": xai})),
            (403, json!({"code": "The caller does not have permission", "error": xai})),
            (429, json!({"error": {"message": "Your account a is suspended", "type": "exceeded_current_quota_error"}})),
            (
                403,
                json!({"error": {"message": "Your account a is not active", "type": "exceeded_current_quota_error"}}),
            ),
            (429, json!({"error": {"code": "1113", "message": "Please recharge."}})),
            (400, json!({"error": {"code": "Arrearage", "type": "Arrearage", "param": null, "message": arrearage}})),
            (
                412,
                json!({"error": {"message": fireworks, "param": null, "code": "PRECONDITION_FAILED", "type": "error"}}),
            ),
            (400, json!({"error": {"message": "m", "type": "billing_error"}})),
        ] {
            assert_eq!(parsed(status, &body.to_string()).kind, ErrorKind::QuotaExceeded, "{body}");
        }
        for (status, body, kind) in [
            (429, json!({"error": {"code": "11130", "message": "m"}}), ErrorKind::RateLimited),
            (403, json!({"error": {"message": "No access to the 1M context window."}}), ErrorKind::Permission),
        ] {
            assert_eq!(parsed(status, &body.to_string()).kind, kind, "{body}");
        }
    }

    #[test]
    fn a_refusal_by_xais_filter_is_not_the_keys_fault() {
        let error = parsed(
            403,
            r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines. Team: t, API key ID: k, Model: grok-4-0709, Failed check: SAFETY_CHECK_TYPE_BIO"}"#,
        );
        assert_eq!(error.kind, ErrorKind::ContentFilter);
        let error = parsed(403, r#"{"code":"The caller does not have permission","error":"API key k has no access."}"#);
        assert_eq!(error.kind, ErrorKind::Permission);
    }

    #[test]
    fn a_prompt_that_does_not_fit_is_known_by_its_vendors_words() {
        let message = |text: &str| json!({"error": {"message": text, "type": "invalid_request_error", "code": null}});
        let cohere = "too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs. The limit for this model is 288000 tokens.";
        for (status, body) in [
            (400, json!({"error_type": "TOO_MANY_TOKENS", "id": "c1", "message": cohere})),
            (400, json!({"error_type": "TOO_MANY_TOKENS", "message": "m"})),
            (400, json!({"message": cohere})),
            (
                400,
                json!({"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 136973 tokens."}),
            ),
            (
                400,
                message(
                    "Failed to start sampling: [input_too_large] Current message (1149677 tokens) exceeds budget (975424 tokens)",
                ),
            ),
            (400, message("Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)")),
            (400, message("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]")),
            (400, json!({"error": {"code": "1261", "message": "Prompt 超长"}})),
            (
                422,
                message(
                    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 512 `max_new_tokens`",
                ),
            ),
            (500, json!({"error": {"message": "Requested input length 99009 exceeds maximum input length 8192"}})),
            (
                400,
                json!({"error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input."}),
            ),
            (
                400,
                json!({"error": "Trying to keep the first 10136 tokens when context the overflows. However, the model is loaded with context length of only 7866 tokens, which is not enough."}),
            ),
            (
                413,
                json!({"error": {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model. Max size: 8000 tokens.", "details": "d"}}),
            ),
        ] {
            assert_eq!(parsed(status, &body.to_string()).kind, ErrorKind::ContextTooLong, "{body}");
        }
        let cohere = parsed(400, r#"{"error_type":"TOO_MANY_TOKENS","id":"c1","message":"m"}"#);
        assert_eq!(cohere.code.as_deref(), Some("TOO_MANY_TOKENS"));
    }

    #[test]
    fn an_error_of_a_choice_is_read_as_one_of_the_answer() {
        let of = |choice: Value| in_answer(&json!({"id": "c1", "choices": [choice]}));
        let error = of(json!({"index": 0, "delta": {"content": ""}, "finish_reason": "error",
            "error": {"code": 429, "message": "the very reason"}}));
        let error = error.unwrap();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::RateLimited, "the very reason"));
        let error = of(json!({"index": 0, "message": {"content": "my secret"}, "error": "boom"})).unwrap();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Upstream, "boom"));
        assert!(!format!("{error:?}").contains("my secret"));
        for none in [Value::Null, json!({}), json!("")] {
            assert_eq!(of(json!({"index": 0, "message": {"content": "hi"}, "error": none})), None);
        }
    }

    #[test]
    fn the_status_is_found_wherever_an_error_inside_an_answer_names_it() {
        for (value, kind) in [
            (json!({"error": {"message": "m", "code": 504}}), ErrorKind::Timeout),
            (json!({"error": {"message": "m", "status": 503}}), ErrorKind::Overloaded),
            (json!({"error": {"message": "m", "code": "503"}}), ErrorKind::Overloaded),
            (json!({"error": {"message": "m"}, "code": 429}), ErrorKind::RateLimited),
            (json!({"error": "m", "status": 429}), ErrorKind::RateLimited),
            (json!({"error": {"message": "m", "status": 200}}), ErrorKind::Upstream),
        ] {
            assert_eq!(in_answer(&value).map(|error| error.kind), Some(kind), "{value}");
        }
        for (data, kind) in [
            (r#"{"message":"slow down","code":429}"#, ErrorKind::RateLimited),
            (r#"{"message":"m","type":"overloaded_error"}"#, ErrorKind::Overloaded),
            (r#"{"message":"m"}"#, ErrorKind::Upstream),
            ("This model's maximum context length is 9 tokens.", ErrorKind::ContextTooLong),
            ("boom", ErrorKind::Upstream),
        ] {
            assert_eq!(parse_in_success(data.as_bytes()).kind, kind, "{data}");
        }
    }

    #[test]
    fn googles_word_on_when_to_come_back_is_read_in_its_compatible_api_too() {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]);
        let body = |message: &str, details: Value| {
            json!([{"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}])
                .to_string()
        };
        let wait = |body: &str| parsed(429, body).retry_after.map(|wait| wait.as_millis());
        assert_eq!(wait(&body("m", details.clone())), Some(7_000));
        assert_eq!(wait(&body("Please retry in 1.5s.", Value::Null)), Some(1_500));
        assert_eq!(wait(&body("m", json!("slow"))), None);
        let error: Value = serde_json::from_str(&body("m", details)).unwrap();
        assert_eq!(in_answer(&error).and_then(|error| error.retry_after).map(|wait| wait.as_secs()), Some(7));
    }

    #[test]
    fn a_word_inside_an_answer_says_what_a_status_would() {
        for (kind, expected) in [
            ("not_found_error", ErrorKind::NotFound),
            ("permission_denied_error", ErrorKind::Permission),
            ("billing_error", ErrorKind::QuotaExceeded),
        ] {
            let value = json!({"error": {"message": "m", "type": kind}});
            assert_eq!(in_answer(&value).map(|error| error.kind), Some(expected), "{kind}");
        }
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        use ErrorKind::*;
        for kind in [
            InvalidRequest,
            Authentication,
            Permission,
            NotFound,
            TooLarge,
            RateLimited,
            QuotaExceeded,
            ContextTooLong,
            ContentFilter,
            Overloaded,
            Upstream,
            Unavailable,
            Timeout,
            Cancelled,
        ] {
            let mut error = ChatError::new(kind, "what happened");
            error.request_id = Some("req-1".into());
            let (status, body) = write(&error);
            let read = parse(status, &body);
            assert_eq!(read.kind, kind);
            assert_eq!(read.message, "what happened (request id: req-1)");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_with_a_message(status in 400u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!parse(status, &body).message.is_empty());
        }
    }
}
