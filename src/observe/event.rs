//! What happens beside finished exchanges: each is told once, and its log line and its metrics are made from that.

use crate::config::classes::Priority;
use std::fmt;
use std::time::Duration;
use tracing::{Level, debug, error, info, warn};

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The circuit breaker of a target went from one state to another.
    Breaker {
        /// The provider.
        provider: &'a str,
        /// The model, in the provider's naming.
        model: &'a str,
        /// The state before.
        from: BreakerState,
        /// The state now.
        to: BreakerState,
        /// How long it stays open, where that is known.
        rest: Option<Duration>,
    },
    /// A key of a provider is not used for a while, or not at all until the configuration is read again.
    KeyRested {
        /// The provider.
        provider: &'a str,
        /// The model, if the key rests for that one only.
        model: Option<&'a str>,
        /// Which of the provider's keys, counted from 0; never the key.
        key: usize,
        /// Why: the label of an outcome.
        reason: &'static str,
        /// For how long; `None` until the configuration is read again.
        rest: Option<Duration>,
    },
    /// A request waited for a place at a busy target, and that has ended.
    Waited {
        /// The provider.
        provider: &'a str,
        /// The model, in the provider's naming.
        model: &'a str,
        /// Who goes first.
        priority: Priority,
        /// How long.
        waited: Duration,
        /// How it ended.
        end: WaitEnd,
    },
    /// A kept connection turned out to be closed, and the call was sent again at once on a fresh one.
    Reconnected {
        /// The provider.
        provider: &'a str,
    },
    /// The local server went from one state to another.
    LocalState {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Why, and what to do about it.
        reason: &'a str,
        /// Where the server is expected.
        url: &'a str,
        /// How bad the state is: error, warn or info.
        level: Level,
    },
    /// The configuration was read again.
    ConfigReloaded {
        /// Why it is not in force; the last good one still is.
        error: Option<&'a str>,
    },
    /// The collector took spans.
    SpansSent {
        /// How many.
        spans: u64,
    },
    /// Spans are lost.
    SpansDropped {
        /// How many.
        spans: u64,
        /// Why.
        reason: &'a str,
        /// The same was told before, and nothing was sent since.
        again: bool,
    },
}

/// How a wait for a place ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitEnd {
    /// With a place.
    Admitted,
    /// None came free in time.
    TimedOut,
    /// The client left.
    ClientLeft,
}

impl WaitEnd {
    /// The name in the log and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::TimedOut => "timed_out",
            Self::ClientLeft => "client_left",
        }
    }
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// One request passes, to see whether it is well again.
    HalfOpen,
    /// No request passes.
    Open,
}

impl BreakerState {
    /// The name in the log and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The value of the gauge.
    pub(super) const fn level(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Event<'_> {
    /// The log line.
    pub(super) fn log(&self) {
        match *self {
            Self::Breaker { provider, model, to: BreakerState::Open, from, rest, .. } => {
                warn!(provider, model, %from, rest_ms = rest.map(millis), "the circuit breaker opened: the target is not asked");
            }
            Self::Breaker { provider, model, to: BreakerState::HalfOpen, from, .. } => {
                info!(provider, model, %from, "the circuit breaker lets one request through, to see whether the target is well again");
            }
            Self::Breaker { provider, model, to: BreakerState::Closed, from, .. } => {
                info!(provider, model, %from, "the circuit breaker closed: the target is asked again");
            }
            Self::KeyRested { provider, model, key, reason, rest: Some(rest) } => {
                warn!(provider, model, key, reason, rest_ms = millis(rest), "a key rests");
            }
            Self::KeyRested { provider, model, key, reason, rest: None } => {
                warn!(provider, model, key, reason, "a key is not used until the configuration is read again");
            }
            Self::Waited { provider, model, priority, waited, end } => {
                let (priority, end) = (priority.name(), end.name());
                debug!(provider, model, priority, waited_ms = millis(waited), end, "a request waited for a place");
            }
            Self::Reconnected { provider } => {
                debug!(provider, "a kept connection was closed; the call is sent again on a fresh one");
            }
            Self::LocalState { from, to, reason, url, level: Level::ERROR } => {
                error!(from, to, url, "the local server: {reason}");
            }
            Self::LocalState { from, to, reason, url, level: Level::WARN } => {
                warn!(from, to, url, "the local server: {reason}");
            }
            Self::LocalState { from, to, reason, url, .. } => info!(from, to, url, "the local server: {reason}"),
            Self::ConfigReloaded { error: None } => info!("the changed configuration is in force"),
            Self::ConfigReloaded { error: Some(error) } => error!("the changed configuration is not in force: {error}"),
            Self::SpansSent { spans } => debug!(spans, "spans were sent"),
            Self::SpansDropped { spans, reason, again: false } => {
                warn!(spans, "traces are incomplete: {reason}; bifrost_trace_spans_dropped counts on");
            }
            Self::SpansDropped { spans, reason, again: true } => debug!(spans, "traces are incomplete: {reason}"),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
