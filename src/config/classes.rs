//! Task classes as data: selectors, needs, and the rules of `auto`.

use super::file::DeadlinesTable;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A name for a job, resolved to models at call time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Class {
    /// What it is for; shown by `listmodels`.
    pub description: String,
    /// May reach paid providers. Never true by accident: it must stand in words.
    pub cloud: bool,
    /// Tried in order; each gives zero or more targets.
    pub select: Vec<Selector>,
    /// Limits of time of its requests, before those of the providers.
    pub deadlines: DeadlinesTable,
    /// Who goes first where requests wait for a place; `x-bifrost-priority` goes before it.
    pub priority: Priority,
    /// Goes on to the next model at once where a request would have to wait for a place.
    pub spill: bool,
}

/// Who goes first where requests wait for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does: it goes after the interactive ones, until it has waited for half of the queue timeout.
    Batch,
}

impl Priority {
    /// Both, the one that goes first in front.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// The word in the config, in headers, records and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// Which models, and which of the matches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Only this provider; unset is every active one.
    pub provider: Option<String>,
    /// Glob on the model's id (`*coder*`; `*` is anything, `?` one letter), case ignored; unset is every id. An id without
    /// wildcards is a pin, and rots.
    pub model: Option<String>,
    /// What the model must be known to have.
    pub needs: Needs,
    /// Which of the matches come first.
    pub take: Take,
    /// How many of them at most; unset is 1.
    pub limit: Option<usize>,
    /// The matches are as good as each other: each request goes to the less busy and quicker of two picked at random.
    pub balance: bool,
}

/// What a model must be known to have; unknown does not count as having.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Can call tools.
    pub tools: bool,
    /// Takes images.
    pub vision: bool,
    /// Can reason.
    pub reasoning: bool,
    /// Context window of at least so many tokens.
    pub context: Option<u64>,
}

/// Which of several matching models comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The one in memory, then the local default, then as listed.
    #[default]
    Loaded,
    /// The most recently released.
    Newest,
    /// The lowest price; local ones cost nothing.
    Cheapest,
    /// The largest context window.
    LargestContext,
}

/// One rule of `auto`: the first whose every condition holds decides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutoRule {
    /// The class it chooses.
    pub class: String,
    /// The client's user agent holds one of these, case ignored.
    pub user_agent: Vec<String>,
    /// The request has (or has not) tools.
    pub tools: Option<bool>,
    /// The request has (or has not) images.
    pub images: Option<bool>,
    /// The request asks for reasoning.
    pub reasoning: Option<bool>,
    /// The prompt has at least so many tokens, estimated at four bytes each.
    pub min_tokens: Option<u64>,
    /// The prompt has at most so many.
    pub max_tokens: Option<u64>,
    /// The last user message holds one of these words, case ignored, at word borders.
    pub words: Vec<String>,
    /// The system prompt holds one of these words.
    pub system_words: Vec<String>,
}

/// How long a class waits for an empty catalogue at the very first start.
pub const FIRST_CATALOGUE_WAIT: Duration = Duration::from_secs(3);
