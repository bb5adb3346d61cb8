//! What a request asks, and what each dialect cannot say of it.

use bifrost::chat::{
    DialectId, Extras, MediaPart, MediaSource, Message, OutputFormat, Part, Request, Role, Signature, SignatureOrigin,
    Tool, ToolResult,
};
use serde_json::Value;
use std::collections::HashMap;

/// One thing that a dialect cannot say.
pub struct Projection {
    /// What it is about.
    pub field: &'static str,
    /// Why the dialect cannot say it.
    pub reason: &'static str,
    /// Takes away what cannot be said.
    pub apply: fn(&mut Request),
}

/// What is left of `request` in `dialect`, without what is only a matter of form.
pub fn project(request: &Request, dialect: DialectId) -> Request {
    let mut request = request.clone();
    for projection in projections(dialect) {
        assert!(!projection.field.is_empty() && !projection.reason.is_empty());
        (projection.apply)(&mut request);
    }
    tidy(&mut request);
    request
}

/// The first difference, in words.
pub fn difference(left: &Request, right: &Request) -> Option<String> {
    let fields: [(&str, fn(&Request) -> String); 9] = [
        ("stream", |it| format!("{:?}", it.stream)),
        ("tools", |it| format!("{:?}", it.tools)),
        ("tool_choice", |it| format!("{:?}", it.tool_choice)),
        ("parallel_tool_calls", |it| format!("{:?}", it.parallel_tool_calls)),
        ("sampling", |it| format!("{:?}", it.sampling)),
        ("reasoning", |it| format!("{:?}", it.reasoning)),
        ("output", |it| format!("{:?}", it.output)),
        ("user", |it| format!("{:?}", it.user)),
        ("messages", |it| format!("{:?}", it.messages.iter().map(|message| message.role).collect::<Vec<_>>())),
    ];
    for (name, show) in fields {
        let (left, right) = (show(left), show(right));
        if left != right {
            return Some(differing(name, &left, &right));
        }
    }
    let pairs = left.messages.iter().zip(&right.messages).enumerate();
    for (at, (left, right)) in pairs.filter(|(_, (left, right))| left != right) {
        return Some(differing(&format!("messages[{at}]"), &format!("{left:?}"), &format!("{right:?}")));
    }
    None
}

/// Both sides from a little before where they part.
fn differing(name: &str, left: &str, right: &str) -> String {
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    let cut = |text: &str| text.chars().skip(same.saturating_sub(60)).take(220).collect::<String>();
    format!("{name}: ..{} != ..{}", cut(left), cut(right))
}

/// Takes out what is only a matter of form: the model (it may stand in the path), the ids of calls, white space in
/// arguments, where one turn was cut in two, and what only one dialect knows.
fn tidy(request: &mut Request) {
    request.model.clear();
    request.include_usage = false;
    request.extras = Extras::default();
    request.tools.retain(|tool| matches!(tool, Tool::Function(_)));
    for tool in &mut request.tools {
        let Tool::Function(function) = tool else { continue };
        function.extras = Extras::default();
        function.description = function.description.take().filter(|text| !text.is_empty());
        function.parameters.get_or_insert_with(|| serde_json::json!({"type": "object", "properties": {}}));
    }
    let mut messages: Vec<Message> = Vec::new();
    for mut message in request.messages.drain(..) {
        message.extras = Extras::default();
        tidy_parts(&mut message.parts);
        if message.parts.is_empty() {
            continue;
        }
        match messages.last_mut() {
            Some(last) if last.role == message.role && last.name == message.name => last.parts.extend(message.parts),
            _ => messages.push(message),
        }
    }
    for message in &mut messages {
        join_texts(&mut message.parts);
    }
    request.messages = messages;
    number_calls(&mut request.messages);
}

fn tidy_parts(parts: &mut Vec<Part>) {
    parts.retain(|part| match part {
        Part::Foreign { .. } => false,
        Part::Text { text, signature, .. } => !text.is_empty() || signature.is_some(),
        Part::Refusal(text) => !text.is_empty(),
        Part::Reasoning(part) => !part.text.is_empty() || part.signature.is_some() || part.encrypted.is_some(),
        Part::Media(_) | Part::ToolCall(_) | Part::ToolResult(_) => true,
    });
    for part in parts {
        match part {
            Part::Text { extras, .. } => *extras = Extras::default(),
            Part::Media(media) => tidy_media(media),
            Part::ToolCall(call) => {
                call.extras = Extras::default();
                call.arguments = call.parsed_arguments().unwrap_or_else(|| call.arguments.clone().into()).to_string();
            }
            Part::ToolResult(result) => tidy_result(result),
            Part::Reasoning(reasoning) => {
                reasoning.id = None;
                reasoning.summary = false;
            }
            Part::Refusal(_) | Part::Foreign { .. } => {}
        }
    }
}

fn tidy_media(media: &mut MediaPart) {
    media.extras = Extras::default();
    media.detail = media.detail.take().filter(|detail| detail != "auto");
}

/// A result that is JSON is told by its text.
fn tidy_result(result: &mut ToolResult) {
    result.extras = Extras::default();
    tidy_parts(&mut result.content);
    join_texts(&mut result.content);
    let text_of = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if let Some(json) = result.json.take()
        && result.content.is_empty()
    {
        result.content.push(Part::text(text_of(json)));
    }
    if let Some(Part::Text { text, .. }) = result.content.first_mut()
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        *text = sorted(value).to_string();
    }
}

/// Objects with their members in the order of the alphabet.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(String, Value)> =
                map.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_by(|left, right| left.0.cmp(&right.0));
            members.into_iter().collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Texts that follow each other are one; how a dialect joins them (with a line break or without) is its own matter.
fn join_texts(parts: &mut Vec<Part>) {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts.drain(..) {
        match (joined.last_mut(), part) {
            (
                Some(Part::Text { text, cache: before @ None, signature: None, .. }),
                Part::Text { text: more, cache, signature: None, .. },
            ) => {
                text.push_str(&more);
                *before = cache;
            }
            (_, part) => joined.push(part),
        }
    }
    for part in &mut joined {
        if let Part::Text { text, .. } = part {
            text.retain(|letter| letter != '\n');
        }
    }
    *parts = joined;
}

/// Ids of calls become numbers in the order of their appearance.
fn number_calls(messages: &mut [Message]) {
    let mut numbers: HashMap<String, String> = HashMap::new();
    let mut names: HashMap<String, String> = HashMap::new();
    for part in messages.iter_mut().flat_map(|message| &mut message.parts) {
        match part {
            Part::ToolCall(call) => {
                let number = format!("#{}", numbers.len());
                numbers.insert(call.id.clone(), number.clone());
                names.insert(number.clone(), call.name.clone());
                call.id = number;
            }
            Part::ToolResult(result) => {
                result.call_id = numbers.get(&result.call_id).cloned().unwrap_or_else(|| "unanswered".to_owned());
                if let Some(name) = names.get(&result.call_id) {
                    result.name = Some(name.clone());
                }
            }
            _ => {}
        }
    }
}

fn projections(dialect: DialectId) -> &'static [Projection] {
    match dialect {
        DialectId::OpenAiChat => &OPENAI_CHAT,
        DialectId::Anthropic => &ANTHROPIC,
        DialectId::Gemini => &GEMINI,
    }
}

const OPENAI_CHAT: [Projection; 0] = [];

const ANTHROPIC: [Projection; 0] = [];

const GEMINI: [Projection; 8] = [
    Projection {
        field: "messages.role",
        reason: "there is one system prompt, in front; a later one is said by the user",
        apply: |request| system_in_front(request),
    },
    Projection {
        field: "messages.name",
        reason: "a content has a role and parts, no name",
        apply: |request| request.messages.iter_mut().for_each(|message| message.name = None),
    },
    Projection {
        field: "cache_control",
        reason: "caching has no markers: contexts are cached by name",
        apply: drop_cache,
    },
    Projection {
        field: "user, parallel_tool_calls, strict",
        reason: "there are no such fields",
        apply: |request| {
            request.user = None;
            request.parallel_tool_calls = None;
            for tool in &mut request.tools {
                if let Tool::Function(function) = tool {
                    function.strict = None;
                }
            }
        },
    },
    Projection {
        field: "response_format",
        reason: "a schema has no name, no description of its own and is always strict",
        apply: |request| {
            if let Some(OutputFormat::JsonSchema { name, description, schema, strict }) = &mut request.output {
                *name = None;
                *strict = None;
                if let (Some(text), Value::Object(members)) = (description.take(), schema) {
                    members.entry("description").or_insert_with(|| text.into());
                }
            }
        },
    },
    Projection {
        field: "signature",
        reason: "Google refuses proofs of other vendors",
        apply: |request| only_signed_by(request, SignatureOrigin::Gemini),
    },
    Projection {
        field: "image_url.detail, file.name",
        reason: "blobs have no names and no detail",
        apply: |request| {
            each_media(request, &mut |media| {
                media.detail = None;
                media.name = None;
                !matches!(media.source, MediaSource::FileId { dialect, .. } if dialect != DialectId::Gemini)
            });
        },
    },
    Projection {
        field: "stop",
        reason: "at most five sequences are taken",
        apply: |request| request.sampling.stop.truncate(5),
    },
];

/// System messages behind the first turn are said by the user.
fn system_in_front(request: &mut Request) {
    let mut in_front = true;
    for message in &mut request.messages {
        let system = matches!(message.role, Role::System | Role::Developer);
        in_front &= system;
        if system {
            message.role = if in_front { Role::System } else { Role::User };
        }
    }
}

fn drop_cache(request: &mut Request) {
    for tool in &mut request.tools {
        if let Tool::Function(function) = tool {
            function.cache = None;
        }
    }
    each_part(request, &mut |part| match part {
        Part::Text { cache, .. } => *cache = None,
        Part::Media(media) => media.cache = None,
        Part::ToolCall(call) => call.cache = None,
        Part::ToolResult(result) => result.cache = None,
        _ => {}
    });
}

/// Drops the proofs of other vendors than `origin`; reasoning that is proven by another goes whole.
fn only_signed_by(request: &mut Request, origin: SignatureOrigin) {
    let foreign =
        |signature: &Option<Signature>| signature.as_ref().is_some_and(|signature| signature.origin != origin);
    for message in &mut request.messages {
        message.parts.retain(
            |part| !matches!(part, Part::Reasoning(part) if foreign(&part.signature) || foreign(&part.encrypted)),
        );
    }
    each_part(request, &mut |part| {
        let signature = match part {
            Part::Text { signature, .. } => signature,
            Part::ToolCall(call) => &mut call.signature,
            Part::Media(media) => &mut media.signature,
            _ => return,
        };
        if foreign(signature) {
            *signature = None;
        }
    });
}

fn each_part(request: &mut Request, change: &mut dyn FnMut(&mut Part)) {
    for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
        change(part);
        if let Part::ToolResult(result) = part {
            result.content.iter_mut().for_each(&mut *change);
        }
    }
}

/// Changes media; those for which `keep` says false are taken out.
fn each_media(request: &mut Request, keep: &mut dyn FnMut(&mut MediaPart) -> bool) {
    let mut kept = |part: &mut Part| match part {
        Part::Media(media) => keep(media),
        _ => true,
    };
    for message in &mut request.messages {
        message.parts.retain_mut(&mut kept);
        for part in &mut message.parts {
            if let Part::ToolResult(result) = part {
                result.content.retain_mut(&mut kept);
            }
        }
    }
}
