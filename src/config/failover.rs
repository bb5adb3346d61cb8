//! What happens when a target fails: retries, breakers, deadlines.

use super::build::{Findings, positive};
use super::file::{BreakerTable, DeadlinesTable, RetryTable};
use super::{Breaker, Retry};
use std::time::Duration;

const RETRY: Retry = Retry { attempts: 2, base: Duration::from_millis(250), cap: Duration::from_secs(8) };
const BREAKER: Breaker = Breaker {
    failures: 30,
    rate: 0.5,
    window: Duration::from_secs(30),
    open: Duration::from_secs(2),
    max_open: Duration::from_secs(60),
};

/// Checks `[retry]`.
pub(super) fn retry(table: &RetryTable, findings: &mut Findings<'_>) -> Retry {
    if table.attempts.is_some_and(|attempts| attempts > 10) {
        findings.wrong(&["retry", "attempts"], "expected a whole number from 0 to 10");
    }
    let base = positive(&["retry", "base"], table.base, RETRY.base, findings);
    let cap = positive(&["retry", "cap"], table.cap, RETRY.cap.max(base), findings);
    if cap < base {
        findings.wrong(&["retry", "cap"], "is less than `base`");
    }
    Retry { attempts: table.attempts.unwrap_or(RETRY.attempts), base, cap }
}

/// Checks `[breaker]`.
pub(super) fn breaker(table: &BreakerTable, findings: &mut Findings<'_>) -> Breaker {
    if table.failures == Some(0) {
        findings.wrong(&["breaker", "failures"], "expected 1 or more");
    }
    let rate = table.rate.unwrap_or(BREAKER.rate);
    if !(0.01..=1.0).contains(&rate) {
        findings.wrong(&["breaker", "rate"], "expected a share from 0.01 to 1");
    }
    let window = positive(&["breaker", "window"], table.window, BREAKER.window, findings);
    let open = positive(&["breaker", "open"], table.open, BREAKER.open, findings);
    let max_open = positive(&["breaker", "max_open"], table.max_open, BREAKER.max_open.max(open), findings);
    if max_open < open {
        findings.wrong(&["breaker", "max_open"], "is less than `open`");
    }
    Breaker { failures: table.failures.unwrap_or(BREAKER.failures), rate, window, open, max_open }
}

/// The limits that are set, none of which may be 0.
pub(super) fn check_deadlines(path: &[&str], table: &DeadlinesTable, findings: &mut Findings<'_>) {
    let all = [
        ("connect", table.connect),
        ("first_token", table.first_token),
        ("first_token_reasoning", table.first_token_reasoning),
        ("idle", table.idle),
        ("whole_answer", table.whole_answer),
        ("budget", table.budget),
    ];
    for (key, value) in all {
        if value.is_some_and(|span| span.0.is_zero()) {
            findings.wrong(&[path, &[key]].concat(), "0 would leave no time at all; leave the key out for the default");
        }
    }
}
