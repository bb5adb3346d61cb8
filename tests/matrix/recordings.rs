//! Recorded exchanges of real clients with real providers, one JSON object a line.

use bifrost::chat::DialectId;
use bifrost::dialect::UrlHints;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

/// One exchange.
#[derive(Debug, Clone, Deserialize)]
pub struct Recording {
    /// Unique among all.
    pub id: String,
    /// What it shows; only the project's own fixtures have names.
    #[serde(default)]
    pub name: String,
    /// Who answered.
    pub provider: String,
    /// Which API it was, as `openai.chat`.
    pub api: String,
    /// Where it went; empty where the request was not recorded.
    #[serde(default)]
    pub path: String,
    /// JSON, a text, or null where the request was not recorded.
    #[serde(default)]
    pub request_body: Value,
    /// The HTTP status.
    pub status: u16,
    framing: String,
    /// JSON or a text; null for a stream.
    #[serde(default)]
    pub response_body: Value,
    /// What a stream is made of; empty for a whole answer.
    #[serde(default)]
    pub response_chunks: Vec<String>,
}

/// The recorded APIs that have a dialect.
pub const APIS: [(&str, DialectId); 3] = [
    ("openai.chat", DialectId::OpenAiChat),
    ("anthropic.messages", DialectId::Anthropic),
    ("gemini.generate", DialectId::Gemini),
];

/// The recordings that came with the project: a small choice, always there.
pub fn fixtures() -> Vec<Recording> {
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden"))
}

/// The recordings of an API: of all, where `BIFROST_RECORDINGS` names their folder, else of those that came with the project.
pub fn of(api: &str) -> impl Iterator<Item = &'static Recording> {
    static ALL: LazyLock<Vec<Recording>> = LazyLock::new(|| match env::var_os("BIFROST_RECORDINGS") {
        Some(folder) => {
            let all = read_folder(&PathBuf::from(folder));
            for (api, least) in LEAST {
                let count = all.iter().filter(|recording| recording.api == api).count();
                assert!(count >= least, "only {count} recordings of {api}");
            }
            all
        }
        None => {
            println!("BIFROST_RECORDINGS is not set: only the fixtures of the project are tried");
            fixtures()
        }
    });
    ALL.iter().filter(move |recording| recording.api == api)
}

/// Fewer than these, and it is not the folder of recordings.
const LEAST: [(&str, usize); 5] = [
    ("openai.chat", 1_000),
    ("anthropic.messages", 600),
    ("gemini.generate", 600),
    ("gemini.count_tokens", 1),
    ("gemini.embed", 1),
];

fn read_folder(folder: &Path) -> Vec<Recording> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut recordings = Vec::new();
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let recording: Recording =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line:.80}", file.display()));
            recordings.push(recording);
        }
    }
    recordings
}

impl Recording {
    /// The dialect that it is written in.
    pub fn dialect(&self) -> DialectId {
        APIS.iter().find(|(api, _)| *api == self.api).map(|(_, dialect)| *dialect).unwrap()
    }

    /// The provider answered with success.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer is an event stream. (Gemini's JSON array is read whole: a provider is always asked for events.)
    pub fn is_stream(&self) -> bool {
        matches!(self.framing.as_str(), "sse" | "payloads")
    }

    /// The body of the answer as it was on the wire.
    pub fn response_bytes(&self) -> Vec<u8> {
        match self.framing.as_str() {
            "json" => serde_json::to_vec(&self.response_body).unwrap(),
            "text" => self.response_body.as_str().unwrap_or_default().as_bytes().to_vec(),
            "sse" => self.response_chunks.concat().into_bytes(),
            "payloads" => self.response_chunks.iter().map(|data| self.event(data)).collect::<String>().into_bytes(),
            other => panic!("{}: framing {other} is not known", self.id),
        }
    }

    fn event(&self, data: &str) -> String {
        let value: Value = serde_json::from_str(data).unwrap_or_default();
        match value["type"].as_str() {
            Some(kind) if self.dialect() == DialectId::Anthropic => format!("event: {kind}\ndata: {data}\n\n"),
            _ => format!("data: {data}\n\n"),
        }
    }

    /// The body of the request, where it was recorded as JSON.
    pub fn request_bytes(&self) -> Option<Vec<u8>> {
        self.request_body.is_object().then(|| serde_json::to_vec(&self.request_body).unwrap())
    }

    /// What the path says of the request.
    pub fn hints(&self) -> UrlHints {
        let called = self.path.rsplit_once("models/").and_then(|(_, rest)| rest.rsplit_once(':'));
        match called {
            Some((model, method)) if self.api.starts_with("gemini.") => {
                UrlHints { model: Some(model.to_owned()), stream: Some(method.starts_with("stream")) }
            }
            _ => UrlHints::default(),
        }
    }
}
