//! What a request asks, and what each dialect cannot say of it.

use super::answer::differing;
use base64::{Engine, engine::general_purpose::STANDARD};
use bifrost::chat::{
    DialectId, Effort, Extras, MediaKind, MediaPart, MediaSource, Message, OutputFormat, Part, Reasoning,
    ReasoningMode, Request, Role, Signature, SignatureOrigin, Tool, ToolChoice, ToolResult,
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

/// All of `request` that must not change unsaid; what nobody misses is taken out: labels (the name of a schema, the kind
/// of a plain text), what is so anyway, and the limit that a dialect demands where there was none.
pub fn noticed(request: &Request, limited: bool) -> Request {
    let mut request = request.clone();
    if !limited {
        request.sampling.max_tokens = None;
    }
    request.sampling.candidates = request.sampling.candidates.filter(|count| *count > 1);
    request.sampling.logprobs = request.sampling.logprobs.filter(|asked| *asked);
    if let Some(OutputFormat::JsonSchema { name, description, schema, strict }) = &mut request.output {
        (*name, *description, *strict) = (None, None, None);
        if let Value::Object(members) = schema {
            members.shift_remove("description");
        }
    }
    for tool in &mut request.tools {
        if let Tool::Function(function) = tool {
            function.strict = function.strict.filter(|strict| *strict);
        }
    }
    for message in &mut request.messages {
        if message.role == Role::Developer {
            message.role = Role::System;
        }
    }
    each_part(&mut request, &mut text_document_to_text);
    tidy(&mut request);
    request
}

/// A document of plain text is text like any other.
fn text_document_to_text(part: &mut Part) {
    let Part::Media(media) = part else { return };
    let text = match &media.source {
        MediaSource::Text(text) => text.clone(),
        MediaSource::Base64(data) if media.media_type.as_deref().is_some_and(|kind| kind.starts_with("text/")) => {
            STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
        }
        _ => return,
    };
    *part = Part::Text { text, cache: media.cache.take(), signature: None, extras: Extras::default() };
}

/// The first difference, in words.
pub fn difference(left: &Request, right: &Request) -> Option<String> {
    type Field = (&'static str, fn(&Request) -> String);
    let fields: [Field; 9] = [
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
    let mut pairs = left.messages.iter().zip(&right.messages).enumerate();
    let (at, (left, right)) = pairs.find(|(_, (left, right))| left != right)?;
    Some(differing(&format!("messages[{at}]"), &format!("{left:?}"), &format!("{right:?}")))
}

/// Takes out what is only a matter of form: the model (it may stand in the path), the ids of calls, white space in
/// arguments, where one turn was cut in two, and what only one dialect knows.
fn tidy(request: &mut Request) {
    request.model.clear();
    request.include_usage = false;
    request.extras = Extras::default();
    request.tools.retain(|tool| matches!(tool, Tool::Function(_)));
    // What is so anyway need not be said.
    request.tool_choice = request.tool_choice.take().filter(|choice| *choice != ToolChoice::Auto);
    request.parallel_tool_calls = request.parallel_tool_calls.filter(|parallel| !parallel);
    if let Some(reasoning) = &mut request.reasoning {
        *reasoning = coarse(reasoning);
    }
    // What a schema is called where the dialect has no names.
    if let Some(OutputFormat::JsonSchema { name, .. }) = &mut request.output {
        name.get_or_insert_with(|| "response".to_owned());
    }
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

/// What is asked of the reasoning, in the steps that every model knows: models take an effort or a budget, and the wire says
/// the one that its model takes. What is shown where nothing is said differs by dialect.
fn coarse(reasoning: &Reasoning) -> Reasoning {
    let asked = reasoning.effort.or(reasoning.budget_tokens.map(Effort::from_budget)).unwrap_or(Effort::Medium);
    match reasoning.mode {
        ReasoningMode::Off => Reasoning { mode: ReasoningMode::Off, ..Reasoning::default() },
        ReasoningMode::Unsaid => Reasoning { mode: ReasoningMode::Unsaid, ..Reasoning::default() },
        ReasoningMode::On | ReasoningMode::Adaptive => {
            Reasoning { effort: Some(asked.clamp(Effort::Low, Effort::High)), ..Reasoning::default() }
        }
    }
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
                call.signature = call.signature.take().filter(|signature| signature.value != SKIP_VALIDATION);
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
    match &media.source {
        MediaSource::Text(text) => {
            media.source = MediaSource::Base64(STANDARD.encode(text));
            media.media_type.get_or_insert_with(|| "text/plain".to_owned());
        }
        // The type of what is behind a URL is a guess.
        MediaSource::Url(_) | MediaSource::FileId { .. } => media.media_type = None,
        MediaSource::Base64(_) if media.media_type.as_deref() == Some("audio/mp3") => {
            media.media_type = Some("audio/mpeg".to_owned());
        }
        MediaSource::Base64(_) => {}
    }
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

const OPENAI_CHAT: [Projection; 4] = [
    UNSAID_EFFORT,
    Projection {
        field: "document",
        reason: "a document of plain text is text like any other",
        apply: |request| {
            each_part(request, &mut |part| {
                if let Part::Media(MediaPart { source: MediaSource::Text(text), cache, .. }) = part {
                    let (text, cache) = (std::mem::take(text), cache.take());
                    *part = Part::Text { text, cache, signature: None, extras: Extras::default() };
                }
            });
        },
    },
    Projection {
        field: "tool_result.is_error",
        reason: "a tool message has no mark for it",
        apply: |request| {
            each_part(request, &mut |part| {
                if let Part::ToolResult(result) = part {
                    result.is_error = false;
                }
            });
        },
    },
    Projection {
        field: "file_id, input_audio.url",
        reason: "files of other vendors mean nothing, and sound from Google's storage is out of reach",
        apply: |request| {
            each_media(request, &mut |media| {
                let is_far = media.kind == MediaKind::Audio
                    && matches!(&media.source, MediaSource::Url(url) if !url.starts_with("http"));
                !is_far
                    && !matches!(media.source, MediaSource::FileId { dialect, .. } if dialect != DialectId::OpenAiChat)
            });
        },
    },
];

/// What Google's documentation gives to be sent in place of a signature that nobody has.
const SKIP_VALIDATION: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

const UNSAID_EFFORT: Projection = Projection {
    field: "reasoning.effort",
    reason: "an effort for the answer as a whole (Anthropic's) would switch reasoning on where it is asked for by effort",
    apply: |request| request.reasoning = request.reasoning.take().filter(|it| it.mode != ReasoningMode::Unsaid),
};

const ANTHROPIC: [Projection; 11] = [
    Projection {
        field: "max_tokens",
        reason: "a limit must be set; the one that stands for none is between 32,000 and 64,000",
        apply: |request| {
            request.sampling.max_tokens = request.sampling.max_tokens.filter(|most| !(32_000..=64_000).contains(most));
        },
    },
    Projection {
        field: "reasoning",
        reason: "no thinking with a forced call, in a turn that began without it, or without room for it in max_tokens",
        apply: reasoning_that_fits,
    },
    Projection {
        field: "response_format",
        reason: "a schema has no name and is always strict; there is no JSON without a schema",
        apply: |request| match &mut request.output {
            Some(OutputFormat::JsonSchema { name, description, strict, .. }) => {
                *name = None;
                *description = None;
                *strict = None;
            }
            _ => request.output = None,
        },
    },
    Projection {
        field: "seed, penalties, n, logprobs, stop",
        reason: "there are no such fields, and a stop sequence may not be blank",
        apply: |request| {
            let sampling = &mut request.sampling;
            sampling.seed = None;
            sampling.presence_penalty = None;
            sampling.frequency_penalty = None;
            sampling.candidates = None;
            sampling.logprobs = None;
            sampling.top_logprobs = None;
            sampling.stop.retain(|text| !text.trim().is_empty());
        },
    },
    Projection {
        field: "temperature, top_p, top_k",
        reason: "the temperature ends at 1, and with thinking nothing of these may be said",
        apply: |request| {
            let sampling = &mut request.sampling;
            sampling.temperature = sampling.temperature.map(|temperature| temperature.clamp(0.0, 1.0));
            if request.reasoning.as_ref().is_some_and(|reasoning| reasoning.mode != ReasoningMode::Off) {
                sampling.temperature = None;
                sampling.top_p = None;
                sampling.top_k = None;
            }
        },
    },
    Projection {
        field: "tool_choice",
        reason: "there is no list of allowed tools: the others are not sent",
        apply: |request| {
            if let Some(ToolChoice::Among { names, required }) =
                request.tool_choice.take_if(|choice| matches!(choice, ToolChoice::Among { .. }))
            {
                request.tools.retain(|tool| matches!(tool, Tool::Function(function) if names.contains(&function.name)));
                request.tool_choice = required.then_some(ToolChoice::Required);
            }
        },
    },
    Projection {
        field: "messages.role",
        reason: "instructions stand in front",
        apply: |request| {
            let mut messages = std::mem::take(&mut request.messages);
            messages
                .iter_mut()
                .filter(|message| message.role == Role::Developer)
                .for_each(|message| message.role = Role::System);
            messages.sort_by_key(|message| message.role != Role::System);
            // A conversation of instructions alone is no conversation.
            if messages.iter().all(|message| message.role == Role::System) {
                messages.iter_mut().for_each(|message| message.role = Role::User);
            }
            request.messages = messages;
        },
    },
    Projection {
        field: "messages.name",
        reason: "a message has a role and content, no name",
        apply: |request| request.messages.iter_mut().for_each(|message| message.name = None),
    },
    Projection {
        field: "content",
        reason: "blank text is refused",
        apply: |request| {
            for message in &mut request.messages {
                message.parts.retain(|part| !matches!(part, Part::Text { text, .. } if text.trim().is_empty()));
            }
        },
    },
    Projection {
        field: "signature",
        reason: "Anthropic refuses thinking that it has not signed, and signs nothing else",
        apply: |request| {
            only_signed_by(request, SignatureOrigin::Anthropic);
            for message in &mut request.messages {
                message.parts.retain(|part| {
                    !matches!(part, Part::Reasoning(part) if part.signature.is_none() && part.encrypted.is_none())
                });
            }
            each_part(request, &mut |part| {
                if let Part::ToolCall(call) = part {
                    call.signature = None;
                }
            });
        },
    },
    Projection {
        field: "input_audio, image_url.detail",
        reason: "images (without detail), PDFs and plain text are all that is taken",
        apply: |request| {
            each_media(request, &mut |media| {
                media.detail = None;
                media.signature = None;
                if media.kind == MediaKind::Document
                    && media.media_type.as_deref().is_some_and(|kind| kind.starts_with("text/"))
                {
                    media.media_type = Some("text/plain".to_owned());
                }
                let is_far = matches!(&media.source, MediaSource::Url(url) if !url.starts_with("http"));
                matches!(media.kind, MediaKind::Image | MediaKind::Document)
                    && !is_far
                    && !matches!(media.source, MediaSource::FileId { dialect, .. } if dialect != DialectId::Anthropic)
            });
        },
    },
];

const GEMINI: [Projection; 11] = [
    UNSAID_EFFORT,
    Projection {
        field: "reasoning",
        reason: "Gemini 3 and the Pro models cannot stop thinking",
        apply: |request| {
            let model = request.model.as_str();
            let never_stops = model.contains("-pro") || model.contains("gemini-3") || model.ends_with("-latest");
            if never_stops && request.reasoning.as_ref().is_some_and(|reasoning| reasoning.mode == ReasoningMode::Off) {
                request.reasoning = Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() });
            }
        },
    },
    Projection {
        field: "tool_result.media",
        reason: "before Gemini 3 a result holds no media: they follow behind the results",
        apply: media_behind_results,
    },
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

fn reasoning_that_fits(request: &mut Request) {
    let Some(reasoning) = &mut request.reasoning else { return };
    if request.sampling.max_tokens.is_some_and(|most| most < 32_768) {
        reasoning.effort = None;
        reasoning.budget_tokens = None;
    }
    let is_forced = matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { required: true, .. })
    );
    let is_open = request
        .messages
        .iter()
        .rev()
        .take_while(|message| message.role != Role::User)
        .any(|message| message.role == Role::Tool);
    if is_forced || is_open || request.sampling.max_tokens.is_some_and(|most| most <= 1_024) {
        request.reasoning = None;
    }
}

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

fn media_behind_results(request: &mut Request) {
    let mut messages = Vec::new();
    for mut message in request.messages.drain(..) {
        let mut behind = Vec::new();
        for part in &mut message.parts {
            if let Part::ToolResult(result) = part {
                let (media, rest) = result.content.drain(..).partition(|part| matches!(part, Part::Media(_)));
                result.content = rest;
                behind.extend::<Vec<Part>>(media);
            }
        }
        messages.push(message);
        if !behind.is_empty() {
            messages.push(Message::new(Role::User, behind));
        }
    }
    request.messages = messages;
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
