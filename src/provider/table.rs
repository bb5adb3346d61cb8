//! The providers that the project ships: one row each.

use super::ProviderRow;

/// Every provider known without config.
pub const ROWS: &[ProviderRow] = &[];
