//! What providers say when something is wrong, in the forms that they have on the wire, and streams in pieces.
//! After recorded exchanges and the vendors' pages on errors and rate limits.

use super::fault_server::{Reply, Step};
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use serde_json::{Value, json};

/// What a provider may have against a request, or against itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many requests for now; no word on how long.
    Throttled,
    /// The quota or the credit is used up.
    UsedUp,
    /// The key is wrong.
    BadKey,
    /// The key may not use this model.
    Forbidden,
    /// The prompt is too long.
    TooLong,
    /// The filter refuses the prompt.
    Filtered,
    /// The last turn may not be the assistant's.
    Prefilled,
    /// A field is wrong.
    BadRequest,
    /// A failure of its own.
    Internal,
    /// Too much to do.
    Overloaded,
}

impl Refusal {
    /// The status and the body.
    pub fn form(self, dialect: DialectId) -> (u16, Value) {
        match dialect {
            OpenAiChat => self.of_openai(),
            Anthropic => self.of_anthropic(),
            Gemini => self.of_gemini(),
        }
    }

    /// The whole answer.
    pub fn reply(self, dialect: DialectId) -> Reply {
        let (status, body) = self.form(dialect);
        Reply::json(status, &body)
    }

    fn of_openai(self) -> (u16, Value) {
        let (status, message, kind, code) = match self {
            Self::Throttled => (429, "Rate limit reached for requests", "requests", json!("rate_limit_exceeded")),
            Self::UsedUp => (
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                json!("insufficient_quota"),
            ),
            Self::BadKey => {
                (401, "Incorrect API key provided: sk-***.", "invalid_request_error", json!("invalid_api_key"))
            }
            // The code says that the model is not there, and the status that it is the key's fault.
            Self::Forbidden => (
                403,
                "Project `proj_1` does not have access to model `m`.",
                "invalid_request_error",
                json!("model_not_found"),
            ),
            Self::TooLong => (
                400,
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
                "invalid_request_error",
                json!("context_length_exceeded"),
            ),
            Self::Filtered => (
                400,
                "The response was filtered due to the prompt triggering the content management policy.",
                "invalid_request_error",
                json!("content_filter"),
            ),
            Self::Prefilled => {
                (400, "The last message must have the role `user`.", "invalid_request_error", Value::Null)
            }
            Self::BadRequest => {
                (400, "Invalid 'messages[0]': expected text.", "invalid_request_error", json!("invalid_value"))
            }
            Self::Internal => {
                (500, "The server had an error while processing your request.", "server_error", Value::Null)
            }
            Self::Overloaded => (503, "The server is overloaded or not ready yet.", "server_error", Value::Null),
        };
        (status, json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
    }

    fn of_anthropic(self) -> (u16, Value) {
        let (status, kind, message) = match self {
            Self::Throttled => (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
            Self::UsedUp => (
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
            ),
            Self::BadKey => (401, "authentication_error", "invalid x-api-key"),
            Self::Forbidden => (403, "permission_error", "Your API key does not have permission to use this model."),
            Self::TooLong => (400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
            Self::Filtered => (400, "invalid_request_error", "Output blocked by content filtering policy"),
            Self::Prefilled => (
                400,
                "invalid_request_error",
                "This model does not support assistant message prefill. The conversation must end with a user message.",
            ),
            Self::BadRequest => (400, "invalid_request_error", "messages.0.content: Field required"),
            Self::Internal => (500, "api_error", "Internal server error"),
            Self::Overloaded => (529, "overloaded_error", "Overloaded"),
        };
        (status, json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}))
    }

    fn of_gemini(self) -> (u16, Value) {
        const KIND: &str = "type.googleapis.com/google.rpc";
        let quota = json!([{
            "@type": format!("{KIND}.QuotaFailure"),
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"}],
        }]);
        let bad_key = json!([{
            "@type": format!("{KIND}.ErrorInfo"), "reason": "API_KEY_INVALID", "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }]);
        let (code, status, message, details) = match self {
            Self::Throttled => {
                (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", json!([]))
            }
            Self::UsedUp => (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", quota),
            Self::BadKey => (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", bad_key),
            Self::Forbidden => (403, "PERMISSION_DENIED", "The caller does not have permission", json!([])),
            Self::TooLong => (
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                json!([]),
            ),
            // It says so in an answer that is none.
            Self::Filtered => {
                let usage = json!({"promptTokenCount": 3, "totalTokenCount": 3});
                return (200, json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}));
            }
            Self::Prefilled => {
                (400, "INVALID_ARGUMENT", "Please ensure that the last turn has the role `user`.", json!([]))
            }
            Self::BadRequest => (400, "INVALID_ARGUMENT", "Invalid value at 'contents[0]'", json!([])),
            Self::Internal => (500, "INTERNAL", "An internal error has occurred.", json!([])),
            Self::Overloaded => (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", json!([])),
        };
        (code, json!({"error": {"code": code, "message": message, "status": status, "details": details}}))
    }
}

/// Gemini's way to say when to come back, as in `0.3s`: in the body. Its compatible API puts that into a list.
pub fn gemini_retry_info(dialect: DialectId, delay: &str) -> Reply {
    let (status, mut body) = Refusal::Throttled.form(Gemini);
    body["error"]["details"] = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
    Reply::json(status, &if dialect == Gemini { body } else { json!([body]) })
}

/// A good whole answer of `model`.
pub fn whole(dialect: DialectId, model: &str, text: &str) -> Reply {
    Reply::json(200, &whole_body(dialect, model, text))
}

/// The body of one.
pub fn whole_body(dialect: DialectId, model: &str, text: &str) -> Value {
    match dialect {
        OpenAiChat => json!({
            "id": "c1", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }),
        Anthropic => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 2},
        }),
        Gemini => json!({
            "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
            "modelVersion": model, "responseId": "r1",
        }),
    }
}

/// A good whole stream of `model`, one event for each piece.
pub fn streamed(dialect: DialectId, model: &str, pieces: &[&str]) -> Reply {
    let opened = Stream::of(dialect, model).opening();
    pieces.iter().fold(opened, |stream, piece| stream.text(piece)).stop().marker().reply()
}

/// A good answer, streamed or whole.
pub fn answer(dialect: DialectId, model: &str, stream: bool, text: &str) -> Reply {
    if stream { streamed(dialect, model, &[text]) } else { whole(dialect, model, text) }
}

/// A stream in pieces.
pub struct Stream {
    dialect: DialectId,
    model: String,
    reply: Reply,
}

impl Stream {
    /// The head, and nothing in it yet.
    pub fn of(dialect: DialectId, model: &str) -> Self {
        Self { dialect, model: model.to_owned(), reply: Reply::events() }
    }

    /// The frames that come before any content.
    pub fn opening(self) -> Self {
        match self.dialect {
            OpenAiChat => self.chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
            Anthropic => {
                let usage = json!({"input_tokens": 3, "output_tokens": 1});
                let message = json!({
                    "id": "msg_1", "type": "message", "role": "assistant", "model": self.model, "content": [],
                    "stop_reason": null, "stop_sequence": null, "usage": usage,
                });
                self.named("message_start", &json!({"message": message}))
                    .named("content_block_start", &json!({"index": 0, "content_block": {"type": "text", "text": ""}}))
            }
            Gemini => {
                let opening = json!({
                    "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
                    "modelVersion": self.model, "responseId": "r1",
                });
                self.data(&opening.to_string())
            }
        }
    }

    /// A sign of life without content.
    pub fn sign_of_life(self) -> Self {
        match self.dialect {
            Anthropic => self.named("ping", &json!({})),
            OpenAiChat | Gemini => self.raw(": heartbeat\n\n"),
        }
    }

    /// A piece of content.
    pub fn text(self, text: &str) -> Self {
        match self.dialect {
            OpenAiChat => self.chunk(&json!({"content": text}), &Value::Null),
            Anthropic => {
                self.named("content_block_delta", &json!({"index": 0, "delta": {"type": "text_delta", "text": text}}))
            }
            Gemini => {
                let content = json!({"role": "model", "parts": [{"text": text}]});
                self.candidate(&json!({"content": content, "index": 0}))
            }
        }
    }

    /// Why it ends.
    pub fn stop(self) -> Self {
        match self.dialect {
            OpenAiChat => self.chunk(&json!({}), &json!("stop")),
            Anthropic => {
                let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
                self.named("content_block_stop", &json!({"index": 0}))
                    .named("message_delta", &json!({"delta": delta, "usage": {"output_tokens": 2}}))
            }
            Gemini => {
                let content = json!({"role": "model", "parts": [{"text": ""}]});
                self.candidate(&json!({"content": content, "finishReason": "STOP", "index": 0}))
            }
        }
    }

    /// The mark of the end; Gemini has none.
    pub fn marker(self) -> Self {
        match self.dialect {
            OpenAiChat => self.data("[DONE]"),
            Anthropic => self.named("message_stop", &json!({})),
            Gemini => self,
        }
    }

    /// An error event.
    pub fn error(self, refusal: Refusal) -> Self {
        let (status, mut body) = refusal.form(self.dialect);
        match self.dialect {
            // Inside a 200 the status stands in the code, as OpenRouter and vLLM have it.
            OpenAiChat => {
                body["error"]["code"] = json!(status);
                self.data(&body.to_string())
            }
            Anthropic => self.raw(&format!("event: error\ndata: {body}\n\n")),
            Gemini => self.data(&body.to_string()),
        }
    }

    /// An event whose data is no JSON.
    pub fn malformed(self) -> Self {
        match self.dialect {
            Anthropic => self.raw("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"ind\n\n"),
            OpenAiChat | Gemini => self.data("{\"choices\":[{\"index\":0,\"del"),
        }
    }

    /// Another step in its middle.
    pub fn step(mut self, step: Step) -> Self {
        self.reply = self.reply.then(step);
        self
    }

    /// What was put together.
    pub fn reply(self) -> Reply {
        self.reply
    }

    fn chunk(self, delta: &Value, finish_reason: &Value) -> Self {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
        let chunk = json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": self.model, "choices": choices,
        });
        self.data(&chunk.to_string())
    }

    fn candidate(self, candidate: &Value) -> Self {
        let chunk = json!({
            "candidates": [candidate], "modelVersion": self.model, "responseId": "r1",
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        });
        self.data(&chunk.to_string())
    }

    fn named(self, name: &str, fields: &Value) -> Self {
        let mut data = json!({"type": name});
        for (field, value) in fields.as_object().into_iter().flatten() {
            data[field] = value.clone();
        }
        self.raw(&format!("event: {name}\ndata: {data}\n\n"))
    }

    fn data(self, data: &str) -> Self {
        self.raw(&format!("data: {data}\n\n"))
    }

    /// Text as it stands on the wire.
    pub fn raw(self, text: &str) -> Self {
        self.step(Step::Body(text.to_owned().into()))
    }
}
