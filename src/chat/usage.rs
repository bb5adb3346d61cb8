//! Token counts.

/// Token counts of one exchange. Inclusive: `input` holds cached tokens, `output` holds reasoning tokens. A detail
/// that is `None` is unknown, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All tokens of the prompt, cached ones and cache writes included.
    pub input: u64,
    /// All generated tokens, reasoning included.
    pub output: u64,
    /// Tokens of the prompt read from the vendor's cache.
    pub cache_read: Option<u64>,
    /// Tokens of the prompt written to the vendor's cache.
    pub cache_write: Option<u64>,
    /// What of `cache_write` the vendor keeps for an hour, at a price of its own.
    pub cache_write_1h: Option<u64>,
    /// Generated tokens that were reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Takes over what `later` knows; a later report replaces an earlier one field by field, and a zero total never
    /// replaces a known one (Anthropic streams report the prompt at the start and only the output at the end).
    pub fn merge(&mut self, later: &Usage) {
        if later.input > 0 {
            self.input = later.input;
        }
        if later.output > 0 {
            self.output = later.output;
        }
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.cache_write_1h = later.cache_write_1h.or(self.cache_write_1h);
        self.reasoning = later.reasoning.or(self.reasoning);
    }
}
