//! Embeddings: texts in, vectors out.

use super::{Extras, Usage};

/// One request for embeddings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmbeddingRequest {
    /// The model string as the client wrote it (or, towards a provider, that provider's own model name).
    pub model: String,
    /// What is to be embedded; one vector comes back for each, in this order.
    pub inputs: Vec<EmbeddingInput>,
    /// True when the client wrote one bare input and no list of them (Gemini `embedContent` against `batchEmbedContents`).
    pub single: bool,
    /// How long the vectors shall be; `None` is the model's own length.
    pub dimensions: Option<u32>,
    /// How the vectors are to be written; `None` is the dialect's default (a list of numbers).
    pub encoding: Option<VectorEncoding>,
    /// What the vectors are for, in Gemini's words (`RETRIEVAL_QUERY`, `RETRIEVAL_DOCUMENT`, ...).
    pub task: Option<String>,
    /// The title of the document (Gemini, with the task `RETRIEVAL_DOCUMENT`).
    pub title: Option<String>,
    /// An opaque id of the end user.
    pub user: Option<String>,
    /// Top-level fields that only the client's dialect knows.
    pub extras: Extras,
}

/// One thing to be embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// Text.
    Text(String),
    /// Text already cut into tokens of that model's own tokenizer (OpenAI only).
    Tokens(Vec<u32>),
}

/// How vectors are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorEncoding {
    /// A list of numbers.
    Float,
    /// Little-endian 32-bit floats in base64 (the official OpenAI SDKs ask for it).
    Base64,
}

/// The answer to an [`EmbeddingRequest`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmbeddingResponse {
    /// The model that answered, in the provider's own naming; `None` where the dialect does not say it.
    pub model: Option<String>,
    /// One vector for each input, in the order of the inputs.
    pub vectors: Vec<Vec<f32>>,
    /// What it cost in tokens; `None` is unknown, not zero. `output` is always 0.
    pub usage: Option<Usage>,
    /// Top-level fields that only the provider's dialect knows.
    pub extras: Extras,
}
