//! What an answer cost.

use super::facts::Facts;
use crate::chat::Usage;

/// What tokens of one model cost, in US dollars per million; a price that is `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prices {
    /// Tokens of the prompt.
    pub input: Option<f64>,
    /// Generated tokens.
    pub output: Option<f64>,
    /// Tokens of the prompt read from the vendor's cache.
    pub cache_read: Option<f64>,
    /// Tokens of the prompt written to the vendor's cache.
    pub cache_write: Option<f64>,
    /// Those of them that the vendor keeps for an hour.
    pub cache_write_1h: Option<f64>,
}

impl From<&Facts> for Prices {
    fn from(facts: &Facts) -> Self {
        Self {
            input: facts.input_price,
            output: facts.output_price,
            cache_read: facts.cache_read_price,
            cache_write: facts.cache_write_price,
            cache_write_1h: facts.cache_write_1h_price,
        }
    }
}

impl Prices {
    /// What `usage` cost, in US dollars. `None` if the price of any token in it is unknown, or the usage itself; what is
    /// free costs nothing whatever the usage.
    pub fn cost(&self, usage: Option<&Usage>) -> Option<f64> {
        if self.input == Some(0.0) && self.output == Some(0.0) {
            return Some(0.0);
        }
        let usage = usage?;
        let (read, written) = (usage.cache_read.unwrap_or(0), usage.cache_write.unwrap_or(0));
        let for_an_hour = usage.cache_write_1h.unwrap_or(0);
        let parts = [
            (usage.input.saturating_sub(read).saturating_sub(written), self.input),
            (read, self.cache_read),
            (written.saturating_sub(for_an_hour), self.cache_write),
            (for_an_hour, self.cache_write_1h),
            (usage.output, self.output),
        ];
        let millionths: Option<f64> = parts.into_iter().map(|(tokens, price)| cost_of(tokens, price)).sum();
        millionths.map(|millionths| millionths / 1e6)
    }
}

fn cost_of(tokens: u64, price: Option<f64>) -> Option<f64> {
    if tokens == 0 { Some(0.0) } else { price.map(|price| tokens as f64 * price) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices {
        input: Some(3.0),
        output: Some(15.0),
        cache_read: Some(0.3),
        cache_write: Some(3.75),
        cache_write_1h: Some(6.0),
    };

    #[test]
    fn cached_tokens_have_their_own_prices() {
        let usage = Usage { input: 1_000_000, output: 100_000, ..Usage::default() };
        assert_eq!(PRICES.cost(Some(&usage)), Some(4.5));
        let cached = Usage { cache_read: Some(500_000), cache_write: Some(400_000), ..usage };
        assert_eq!(PRICES.cost(Some(&cached)), Some(0.3 + 0.15 + 1.5 + 1.5));
        let for_an_hour = Usage { cache_write_1h: Some(300_000), ..cached };
        assert_eq!(PRICES.cost(Some(&for_an_hour)), Some(0.3 + 0.15 + 0.375 + 1.8 + 1.5));
    }

    #[test]
    fn a_cost_with_an_unknown_part_is_unknown() {
        let usage = Usage { input: 10, output: 5, cache_read: Some(4), ..Usage::default() };
        assert_eq!(Prices::default().cost(Some(&usage)), None);
        assert_eq!(Prices { cache_read: None, ..PRICES }.cost(Some(&usage)), None);
        assert!(Prices { cache_write: None, ..PRICES }.cost(Some(&usage)).is_some(), "nothing was written");
        let for_an_hour = Usage { cache_write: Some(2), cache_write_1h: Some(1), ..usage };
        assert_eq!(Prices { cache_write_1h: None, ..PRICES }.cost(Some(&for_an_hour)), None);
        assert_eq!(PRICES.cost(None), None);
    }

    #[test]
    fn what_is_free_costs_nothing_whatever_was_counted() {
        let free = Prices { input: Some(0.0), output: Some(0.0), ..Prices::default() };
        let usage = Usage { input: 10, output: 5, cache_read: Some(4), ..Usage::default() };
        assert_eq!((free.cost(None), free.cost(Some(&usage))), (Some(0.0), Some(0.0)));
    }
}
