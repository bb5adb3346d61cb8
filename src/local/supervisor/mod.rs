//! What the local server is doing, and what is to be done about it: one state machine with one writer. No IO and no
//! clock: observations go in with the moment at which they were made, wanted actions come out.

mod evidence;
mod ladder;
mod pace;
mod state;
#[cfg(test)]
mod tests;

pub use ladder::Step;
pub use pace::Pace;
pub use state::{State, Status};

use super::health::LocalServer;
use super::launchctl::AgentState;
use evidence::Evidence;
use ladder::Ladder;
use std::time::Instant;

/// What answered when the server was looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// Nobody listens on the port.
    Closed,
    /// The connection is taken and nothing comes back in time.
    Silent,
    /// It answered something that is no list of models; the text says what.
    Foreign(String),
    /// It says 429, or that it has too much to do.
    Busy,
    /// It says 503: most servers do while a model is loaded.
    Loading,
    /// A model server.
    Server(LocalServer),
}

/// The LaunchAgent of the local server, as launchd tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAgent {
    /// Its label.
    pub label: String,
    /// It is Bifrost's own: only this one is ever touched.
    pub ours: bool,
    /// What launchd says of it.
    pub state: AgentState,
}

/// Whose process listens on the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its program's name.
    pub program: String,
    /// It belongs to the agent.
    pub of_agent: bool,
}

/// One look at everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The port.
    pub look: Look,
    /// The agent; `None` where there is none, or no launchd.
    pub agent: Option<SeenAgent>,
    /// Who listens, where that could be found out.
    pub holder: Option<Holder>,
    /// Requests that the gateway has running on the server.
    pub in_flight: usize,
}

/// What became of a request to the server: the gateway's own proof, or one of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It gave at least one token.
    Served,
    /// It has too much to do.
    Busy,
    /// Nothing came in time.
    TimedOut,
    /// The model does something else; this says nothing of the server.
    NotForChat,
    /// It failed; the text says how.
    Failed(String),
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The server was looked at.
    Looked(Observation),
    /// The completion that was asked for came, or did not. `None`: it could not be asked.
    Proved(Option<Trial>),
    /// A client's request ended.
    Traffic(Trial),
    /// A remedy was applied, or could not be.
    Remedied(Step, Result<(), String>),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look at everything.
    Look,
    /// Ask this loaded model for one token; the outcome is [`Input::Proved`].
    Prove {
        /// The model, as the server names it.
        model: String,
    },
    /// Apply this to Bifrost's own agent; the outcome is [`Input::Remedied`].
    Remedy(Step),
}

/// A state that was left for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why, in words for people.
    pub reason: String,
}

/// The machine.
#[derive(Debug)]
pub struct Supervisor {
    pace: Pace,
    evidence: Evidence,
    ladder: Ladder,
    status: Status,
    next_look: Instant,
    looking: bool,
    /// A look has just come: only then it is known what is in memory, and asking loads nothing.
    has_looked: bool,
    proving: bool,
    remedying: bool,
}

impl Supervisor {
    /// A machine that knows nothing yet and wants to look.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            evidence: Evidence::default(),
            ladder: Ladder::default(),
            status: Status::unknown(now),
            next_look: now,
            looking: false,
            has_looked: false,
            proving: false,
            remedying: false,
        }
    }

    /// The state, why, since when.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Other limits from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Takes what was learned. Gives the change of state that follows, if one does.
    pub fn observe(&mut self, input: Input, now: Instant) -> Option<Change> {
        match input {
            Input::Looked(observation) => {
                self.looking = false;
                self.has_looked = true;
                let up = matches!(observation.look, Look::Server(_));
                self.next_look = now + if up { self.pace.look_up } else { self.pace.look_down };
                self.evidence.looked(observation, now);
            }
            Input::Proved(trial) => {
                self.proving = false;
                if let Some(trial) = trial {
                    self.evidence.proved(&trial, &self.pace, now);
                }
            }
            Input::Traffic(trial) => {
                self.evidence.served_traffic(&trial, now);
                if trial != Trial::Served {
                    // What a client saw is looked into at once.
                    self.next_look = now;
                }
            }
            Input::Remedied(step, done) => {
                self.remedying = false;
                self.next_look = now;
                self.ladder.applied(now);
                match done {
                    Ok(()) => self.evidence.restarted(now),
                    Err(reason) => self.ladder.failed(step, reason),
                }
            }
        }
        self.settle(now)
    }

    /// What is to be done now. Each action is given once, and again only after its outcome was told.
    pub fn wanted(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.looking && now >= self.next_look {
            self.looking = true;
            actions.push(Action::Look);
        }
        let has_looked = std::mem::take(&mut self.has_looked);
        if let Some(model) = self.model_to_prove(now).filter(|_| has_looked && !self.proving) {
            self.proving = true;
            actions.push(Action::Prove { model });
        }
        if let Some(step) = self.remedy(now) {
            self.remedying = true;
            self.ladder.climb(now);
            actions.push(Action::Remedy(step));
        }
        actions
    }

    /// When [`Supervisor::wanted`] may want something without anything being observed before.
    pub fn next_look(&self, now: Instant) -> Instant {
        // While a look is under way its outcome comes first.
        if self.looking { now + self.pace.look_up } else { self.next_look }
    }

    fn settle(&mut self, now: Instant) -> Option<Change> {
        let (mut state, mut reason) = self.evidence.verdict(&self.pace, now);
        self.ladder.judged(state.is_well(), now, self.pace.settle);
        if state == State::Down && self.ladder.is_spent(now, self.pace.cooldown) {
            state = State::Held;
            reason = format!("{reason}; {}", self.ladder.exhausted());
        }
        self.evidence.fill(&mut self.status);
        if (state, &reason) == (self.status.state, &self.status.reason) {
            return None;
        }
        let from = std::mem::replace(&mut self.status.state, state);
        self.status.reason.clone_from(&reason);
        if from == state {
            return None;
        }
        self.status.since = now;
        Some(Change { from, to: state, reason })
    }

    /// The loaded model that should give a token now, as a proof or to stay warm.
    fn model_to_prove(&self, now: Instant) -> Option<String> {
        let may = matches!(self.status.state, State::Starting | State::Ready | State::Degraded | State::Down);
        let due = self.evidence.proof_is_due(&self.pace, now) || self.evidence.keep_warm_is_due(&self.pace, now);
        self.evidence.loaded_model().filter(|_| may && due && !self.remedying).map(str::to_owned)
    }

    fn remedy(&self, now: Instant) -> Option<Step> {
        let down_long = self.status.state == State::Down && now >= self.status.since + self.pace.down_grace;
        if !down_long || self.remedying || self.proving || !self.evidence.may_be_remedied() {
            return None;
        }
        self.ladder.next(now, self.pace.cooldown)
    }
}

impl Look {
    /// The model server, if one answered.
    pub fn server(&self) -> Option<&LocalServer> {
        match self {
            Self::Server(server) => Some(server),
            Self::Closed | Self::Silent | Self::Foreign(_) | Self::Busy | Self::Loading => None,
        }
    }
}
