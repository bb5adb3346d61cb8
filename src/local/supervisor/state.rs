//! The states, and what is told of them.

use super::{Holder, SeenAgent};
use std::time::Instant;

/// What the local server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Nobody listens, and nothing is there that would start it.
    Absent,
    /// Its process runs, or it answers, and it has not proven yet that it serves.
    Starting,
    /// It loads a model: seconds to minutes.
    Loading,
    /// It is well and has no model in memory.
    Idle,
    /// A loaded model has given a token.
    Ready,
    /// It is well and has too much to do.
    Busy,
    /// It answers, and something is wrong with it.
    Degraded,
    /// It should serve and does not.
    Down,
    /// It does not serve, and nothing is done about it: it was stopped by its user, or the remedies are used up.
    Held,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Absent,
        Self::Starting,
        Self::Loading,
        Self::Idle,
        Self::Ready,
        Self::Busy,
        Self::Degraded,
        Self::Down,
        Self::Held,
    ];

    /// The name in reports, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Held => "held",
        }
    }

    /// Nothing is wrong with it.
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Idle | Self::Ready | Self::Busy)
    }

    /// A request would not be answered now.
    pub const fn refuses(self) -> bool {
        matches!(self, Self::Absent | Self::Down | Self::Held)
    }
}

/// What is known of the local server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Why it is thought so, in words for people.
    pub reason: String,
    /// Since when it is in this state.
    pub since: Instant,
    /// When it last gave a token; `None`: not since it came up.
    pub proven: Option<Instant>,
    /// Its LaunchAgent.
    pub agent: Option<SeenAgent>,
    /// Whose process listens on the port.
    pub holder: Option<Holder>,
}

impl Status {
    /// Before the first look.
    pub fn unknown(now: Instant) -> Self {
        Self {
            state: State::Absent,
            reason: "it has not been looked at yet".to_owned(),
            since: now,
            proven: None,
            agent: None,
            holder: None,
        }
    }

    /// What to do about it; empty when there is nothing to do.
    pub fn remedy(&self) -> String {
        let label = self.agent.as_ref().map(|agent| agent.label.as_str());
        match self.state {
            State::Starting | State::Loading | State::Busy => "Wait, and try again.".to_owned(),
            State::Idle | State::Ready => String::new(),
            State::Absent | State::Down | State::Held => match label {
                Some(label) => format!(
                    "Look into its log, then start it: `launchctl start {label}`, or `launchctl kickstart -k gui/$(id -u)/{label}`."
                ),
                None => "Start the local server (`bifrost service install --agent vllm-mlx`, or your own vllm-mlx or llama-swap) and try again.".to_owned(),
            },
            State::Degraded => match &self.holder {
                Some(holder) if !holder.of_agent => format!(
                    "The port is held by {} (pid {}): look into its log, or stop it and start the local server.",
                    holder.program, holder.pid
                ),
                _ => "Look into the server's log, restart it with a model (`vllm-mlx serve <HuggingFace id> --port 11434`), and try again.".to_owned(),
            },
        }
    }
}
