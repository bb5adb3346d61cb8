//! How many requests a provider gets at a time, and how the others wait.

use super::build::{Findings, positive};
use super::file::LimitsTable;
use crate::provider::{Limits, MLX_LOCAL};

/// Each waiting request holds its body.
const LONGEST_QUEUE: u64 = 10_000;

/// Checks `[providers.NAME.limits]`; what it does not say stays as in `others`.
pub(super) fn limits(name: &str, table: &LimitsTable, others: Limits, findings: &mut Findings<'_>) -> Limits {
    let path = |key| ["providers", name, "limits", key];
    if table.in_flight == Some(0) {
        findings.wrong(&path("in_flight"), "0 would let nothing through; leave the key out for the default");
    }
    if table.queue.is_some_and(|queue| queue > LONGEST_QUEUE) {
        findings.wrong(&path("queue"), format!("expected a whole number from 0 to {LONGEST_QUEUE}"));
    }
    if table.residency.is_some() && name != MLX_LOCAL {
        findings.wrong(&path("residency"), format!("only of `{MLX_LOCAL}` is it known which models are in memory"));
    }
    let in_flight_is_known = table.in_flight.is_some() || others.in_flight.is_some();
    if !in_flight_is_known && (table.queue.is_some() || table.queue_timeout.is_some()) {
        findings.odd(&["providers", name, "limits"], "says nothing without `in_flight`: nobody ever waits");
    }
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Limits {
        in_flight: table.in_flight.map(count).or(others.in_flight),
        queue: table.queue.map_or(others.queue, count),
        queue_timeout: positive(&path("queue_timeout"), table.queue_timeout, others.queue_timeout, findings),
        residency: table.residency.map_or(others.residency, |span| span.0),
    }
}
