//! The client's side of a case: a config in few words, requests in each dialect, and what came back.

use super::fault_server::FaultServer;
use super::gateway::Gateway;
use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use bytes::{Bytes, BytesMut};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Every dialect that a client or a provider may speak.
pub const DIALECTS: [DialectId; 3] = [OpenAiChat, Anthropic, Gemini];

/// A retry follows at once: no case waits for more than it is about.
pub const QUICK: &str = "[retry]\nbase = \"5ms\"\ncap = \"10ms\"\n";

/// Two targets of a class: `first/m`, then `second/n`.
pub const PAIR: &str = "[classes.pair]\ncloud = true\nselect = [{ provider = \"first\", model = \"m\" }, \
                        { provider = \"second\", model = \"n\" }]\n";

/// Limits that only a failure of the test itself reaches; a case shortens what it is about.
pub const LONG: Duration = Duration::from_secs(30);

/// The table of a provider; what follows it in the config still belongs to it.
pub fn provider(name: &str, dialect: DialectId, server: &FaultServer) -> String {
    provider_at(name, dialect, &server.url())
}

/// The same at a URL.
pub fn provider_at(name: &str, dialect: DialectId, url: &str) -> String {
    let dialect = dialect.name();
    format!("[providers.{name}]\nbase_url = \"{url}\"\ndialect = \"{dialect}\"\nkind = \"vendor\"\nmodels = \"none\"\n")
}

/// The limits of a provider, as in `first_token = "200ms"`.
pub fn deadlines(name: &str, limits: &str) -> String {
    format!("[providers.{name}.deadlines]\n{limits}\n")
}

/// A gateway with one provider, `first`.
pub fn with_one(dialect: DialectId, first: &FaultServer, more: &str) -> Gateway {
    Gateway::start(&format!("{QUICK}{}{more}", provider("first", dialect, first)))
}

/// A gateway with two providers of a dialect, `first` and `second`, and the class `pair` over both.
pub fn with_two(dialect: DialectId, first: &FaultServer, second: &FaultServer, more: &str) -> Gateway {
    let (first, second) = (provider("first", dialect, first), provider("second", dialect, second));
    Gateway::start(&format!("{QUICK}{PAIR}{second}{first}{more}"))
}

/// A request of a client.
pub fn request(gateway: &Gateway, dialect: DialectId, model: &str, stream: bool) -> RequestBuilder {
    let (path, body) = question(dialect, model, stream);
    gateway.post(&path, &body)
}

/// The path and the body of a question.
pub fn question(dialect: DialectId, model: &str, stream: bool) -> (String, Value) {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    match dialect {
        OpenAiChat => ("/v1/chat/completions".into(), json!({"model": model, "messages": messages, "stream": stream})),
        Anthropic => {
            ("/v1/messages".into(), json!({"model": model, "max_tokens": 99, "messages": messages, "stream": stream}))
        }
        Gemini => {
            let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let contents = json!([{"role": "user", "parts": [{"text": "Hello"}]}]);
            (format!("/v1beta/models/{model}:{verb}"), json!({"contents": contents}))
        }
    }
}

/// Asks, and reads to the end.
pub async fn ask(gateway: &Gateway, dialect: DialectId, model: &str, stream: bool) -> Told {
    told(dialect, request(gateway, dialect, model, stream)).await
}

/// Sends a request, and reads its answer to the end.
pub async fn told(dialect: DialectId, request: RequestBuilder) -> Told {
    let began = Instant::now();
    heard(dialect, request.send().await.expect("the gateway answers"), began).await
}

/// Reads an answer to the end whose head has come. `began`: when it was asked for.
pub async fn heard(dialect: DialectId, mut answer: reqwest::Response, began: Instant) -> Told {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = BytesMut::new();
    let whole = loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Told { dialect, status, headers, body: body.freeze(), whole, took: began.elapsed() }
}

/// What a client was told.
#[derive(Debug)]
pub struct Told {
    dialect: DialectId,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
    /// It ended in good order.
    pub whole: bool,
    /// From the request to the last byte.
    pub took: Duration,
}

impl Told {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The attempts as the header tells them: `provider/model outcome`, without the time.
    pub fn attempts(&self) -> Vec<String> {
        let all = self.header("x-bifrost-attempts").split(", ").filter(|attempt| !attempt.is_empty());
        all.map(|attempt| attempt.rsplit_once(' ').unwrap_or((attempt, "")).0.to_owned()).collect()
    }

    /// The events of a stream; each must be well-formed in the client's dialect.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        assert!(self.whole && text.ends_with("\n\n") || text.is_empty(), "the stream ends within an event: {self:?}");
        let mut events = Vec::new();
        for block in text.split("\n\n").filter(|block| !block.is_empty()) {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            let Some(data) = field("data:") else { continue };
            if data == "[DONE]" {
                events.push(json!("[DONE]"));
                continue;
            }
            let event: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {block}"));
            assert!(event.is_object(), "an SDK reads an object in each event: {block}");
            if self.dialect == Anthropic {
                assert_eq!(event["type"].as_str(), field("event:"), "{block}");
            }
            events.push(event);
        }
        events
    }

    /// The content of an answer put together, streamed or whole.
    pub fn content(&self) -> String {
        self.parts().iter().map(|part| self.content_of(part)).collect()
    }

    /// The events of a stream, or the one value of a whole answer.
    fn parts(&self) -> Vec<Value> {
        let whole = self.header("content-type").starts_with("application/json");
        if whole { vec![self.json()] } else { self.events() }
    }

    fn content_of(&self, value: &Value) -> String {
        let text = match self.dialect {
            OpenAiChat => {
                let choice = &value["choices"][0];
                choice["message"]["content"].as_str().or(choice["delta"]["content"].as_str())
            }
            Anthropic => value["content"][0]["text"].as_str().or(value["delta"]["text"].as_str()),
            Gemini => value["candidates"][0]["content"]["parts"][0]["text"].as_str(),
        };
        text.unwrap_or_default().to_owned()
    }

    /// The stop reason, and with it a complete answer.
    pub fn is_complete(&self) -> bool {
        let reason = |event: &Value| match self.dialect {
            OpenAiChat => event["choices"][0]["finish_reason"].is_string(),
            Anthropic => event["stop_reason"].is_string() || event["delta"]["stop_reason"].is_string(),
            Gemini => event["candidates"][0]["finishReason"].is_string(),
        };
        self.whole && self.stream_error().is_none() && self.parts().iter().any(reason)
    }

    /// The error that ends a stream, in the client's dialect and as its last word.
    pub fn stream_error(&self) -> Option<Value> {
        let events = self.parts();
        let at = events.iter().position(|event| !event["error"].is_null())?;
        assert_eq!(at, events.len() - 1, "something follows the error: {self:?}");
        let error = &events[at]["error"];
        check_error(self.dialect, &events[at]);
        Some(error.clone())
    }

    /// The error of an answer that is one; checks that it is in the client's dialect.
    pub fn error(&self) -> Value {
        assert!(self.status >= 400, "{self:?}");
        assert!(self.header("content-type").starts_with("application/json"), "{self:?}");
        let body = self.json();
        check_error(self.dialect, &body);
        body["error"].clone()
    }

    /// Checks that the target answered, and completely.
    #[track_caller]
    pub fn answered_by(&self, target: &str) {
        assert_eq!(self.status, 200, "{self:?}");
        let (provider, model) = target.split_once('/').unwrap();
        assert_eq!((self.header("x-bifrost-provider"), self.header("x-bifrost-model")), (provider, model), "{self:?}");
        assert!(self.is_complete(), "{self:?}");
    }
}

/// Strict clients parse errors too.
fn check_error(dialect: DialectId, body: &Value) {
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    match dialect {
        OpenAiChat => assert!(error["type"].is_string() && error.get("code").is_some(), "{body}"),
        Anthropic => assert!(body["type"] == "error" && error["type"].is_string(), "{body}"),
        Gemini => assert!(error["code"].is_u64() && error["status"].is_string(), "{body}"),
    }
}
