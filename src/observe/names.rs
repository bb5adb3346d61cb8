//! Names that may become labels: a bounded set, each kept in memory once.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// Stands for every name that may not become a label.
const OTHER: &str = "other";

/// A name longer than this is no model's; in bytes.
const MAX_LENGTH: usize = 200;

/// `gen_ai.provider.name` of a provider of ours: the conventions' own word where they have one, else the name itself.
pub(super) fn well_known(provider: &str) -> &str {
    match provider {
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "moonshot" => "moonshot_ai",
        "xai" => "x_ai",
        other => other,
    }
}

/// A bounded set of names. Asking for one that is in it allocates nothing.
#[derive(Debug)]
pub(super) struct Names {
    limit: usize,
    other: Arc<str>,
    known: RwLock<HashSet<Arc<str>>>,
}

impl Names {
    /// A set of at most `limit` names; those that come later are all `other`.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, other: Arc::from(OTHER), known: RwLock::default() }
    }

    /// The label that stands for all the rest.
    pub(super) fn other(&self) -> Arc<str> {
        Arc::clone(&self.other)
    }

    /// True for the label that stands for all the rest.
    pub(super) fn is_other(&self, label: &Arc<str>) -> bool {
        Arc::ptr_eq(label, &self.other)
    }

    /// The label of `name`.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        if let Some(label) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(label);
        }
        if name.is_empty() || name.len() > MAX_LENGTH {
            return self.other();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.limit {
            return self.other();
        }
        let label: Arc<str> = Arc::from(name);
        known.insert(Arc::clone(&label));
        label
    }
}
