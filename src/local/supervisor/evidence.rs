//! What was seen of the server, and what it amounts to.

use super::{Holder, Look, Observation, Pace, SeenAgent, State, Status, Trial};
use crate::local::health::{LocalServer, ServerKind};
use crate::local::launchctl::AgentState;
use std::time::Instant;

/// What was seen so far, as much of it as something may follow from.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    latest: Option<Observation>,
    /// When that was.
    looked: Option<Instant>,
    /// It has answered since the gateway started.
    was_up: bool,
    /// The agent's process, and since when it is known; a remedy counts as a new one.
    process: Option<(u32, Instant)>,
    /// Since when looks have brought nothing but silence.
    silent_since: Option<Instant>,
    /// It gave a token; gone when it goes away or loads another model.
    proven: Option<Instant>,
    /// The last request that it answered, or a sign that it has too much to do.
    active: Option<Instant>,
    /// It said that it has too much to do, and has served nothing since.
    busy_since: Option<Instant>,
    /// When the last proof came, or did not.
    asked: Option<Instant>,
    /// Proofs that failed in a row.
    failed_proofs: u32,
    /// What failed last, a proof or a client's request; gone with the next token.
    doubt: Option<String>,
}

impl Evidence {
    pub(super) fn looked(&mut self, observation: Observation, now: Instant) {
        let pid = observation.agent.as_ref().and_then(|agent| agent.state.pid());
        if self.process.map(|(pid, _)| pid) != pid {
            self.process = pid.map(|pid| (pid, now));
            self.forget();
        }
        match &observation.look {
            Look::Closed => self.forget(),
            Look::Server(server) => {
                self.was_up = true;
                self.silent_since = None;
                let before = self.latest.as_ref().and_then(|latest| latest.look.server());
                let has_new = |before: &LocalServer| server.loaded.iter().any(|model| !before.loaded.contains(model));
                // What has served since the last look may be the new one.
                let is_new = before.is_some_and(has_new) && !self.has_served_since_look();
                if server.loaded.is_empty() && server.kind != ServerKind::Other || is_new {
                    self.proven = None;
                }
                if is_new && self.failed_proofs == 0 {
                    // What was asked of another model says nothing of whether this one chats.
                    self.asked = None;
                }
            }
            Look::Silent => drop(self.silent_since.get_or_insert(now)),
            Look::Busy => self.is_busy(now),
            Look::Foreign(_) | Look::Loading => self.silent_since = None,
        }
        self.latest = Some(observation);
        self.looked = Some(now);
    }

    /// It gave a token after it was looked at last.
    fn has_served_since_look(&self) -> bool {
        self.proven.is_some_and(|proven| self.looked.is_none_or(|looked| proven > looked))
    }

    pub(super) fn proved(&mut self, trial: &Trial, pace: &Pace, now: Instant) {
        // After a model that does not chat, another one is asked as soon as it is seen.
        self.asked = Some(now).filter(|_| *trial != Trial::NotForChat).or(self.asked);
        match trial {
            Trial::Served => self.served(now),
            Trial::Busy => self.is_busy(now),
            Trial::TimedOut if self.under_load(pace, now) => self.is_busy(now),
            Trial::TimedOut => self.failed_proof("a completion of one token did not come in time"),
            Trial::NotForChat => {}
            Trial::Failed(reason) => self.failed_proof(reason),
        }
    }

    pub(super) fn served_traffic(&mut self, trial: &Trial, now: Instant) {
        match trial {
            Trial::Served => self.served(now),
            Trial::Busy => self.is_busy(now),
            Trial::NotForChat => {}
            // A client's failure is a reason to look and to ask for a proof, no verdict.
            Trial::TimedOut => self.doubt = Some("a client's request got no answer in time".to_owned()),
            Trial::Failed(reason) => self.doubt = Some(format!("a client's request failed: {reason}")),
        }
    }

    /// A remedy ended its process.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.forget();
        // Launchd may name the new process only at the next look; its grace begins here either way.
        self.process = self.process.map(|(pid, _)| (pid, now));
    }

    fn served(&mut self, now: Instant) {
        self.proven = Some(now);
        self.active = Some(now);
        self.busy_since = None;
        self.silent_since = None;
        self.failed_proofs = 0;
        self.doubt = None;
    }

    fn is_busy(&mut self, now: Instant) {
        self.active = Some(now);
        self.busy_since = Some(now);
        self.failed_proofs = 0;
    }

    fn failed_proof(&mut self, reason: &str) {
        self.failed_proofs = self.failed_proofs.saturating_add(1);
        self.doubt = Some(reason.to_owned());
        self.busy_since = None;
    }

    /// What was learned of a process that is gone.
    fn forget(&mut self) {
        self.proven = None;
        self.active = None;
        self.busy_since = None;
        self.silent_since = None;
        self.asked = None;
        self.failed_proofs = 0;
        self.doubt = None;
    }

    /// It was at work not long ago, or is: then silence means little.
    fn under_load(&self, pace: &Pace, now: Instant) -> bool {
        let recently = self.active.is_some_and(|active| now < active + pace.busy_grace);
        recently || self.latest.as_ref().is_some_and(|latest| latest.in_flight > 0)
    }

    pub(super) fn verdict(&self, pace: &Pace, now: Instant) -> (State, String) {
        let Some(latest) = &self.latest else {
            return (State::Absent, "it has not been looked at yet".to_owned());
        };
        match &latest.look {
            Look::Closed => self.closed(latest.agent.as_ref(), pace, now),
            Look::Silent => self.silent(pace, now),
            Look::Foreign(what) => (State::Degraded, what.clone()),
            Look::Busy => (State::Busy, "it says that it has too much to do".to_owned()),
            Look::Loading => (State::Loading, "it says that it is not ready yet".to_owned()),
            Look::Server(server) => self.serving(server, pace, now),
        }
    }

    fn closed(&self, agent: Option<&SeenAgent>, pace: &Pace, now: Instant) -> (State, String) {
        let Some(agent) = agent else {
            return match self.was_up {
                true => (State::Down, "it is gone: nobody listens on its port any more".to_owned()),
                false => (State::Absent, "nobody listens on its port".to_owned()),
            };
        };
        let about = format!("agent {}: {}", agent.label, agent.state);
        match agent.state {
            AgentState::Running { .. } => match self.process {
                Some((_, since)) if now < since + pace.start_grace => {
                    (State::Starting, format!("its process runs and has not opened the port yet ({about})"))
                }
                Some(_) | None => (State::Down, format!("its process runs and does not open the port ({about})")),
            },
            AgentState::NotLoaded if !self.was_up => (State::Absent, format!("nobody listens on its port ({about})")),
            state if state.is_stopped_by_wish() => (State::Held, format!("stopped by user ({about})")),
            AgentState::NotLoaded
            | AgentState::Stopping { .. }
            | AgentState::Throttled { .. }
            | AgentState::NotRunning { .. } => (State::Down, format!("nobody listens on its port ({about})")),
        }
    }

    fn silent(&self, pace: &Pace, now: Instant) -> (State, String) {
        let since = self.silent_since.unwrap_or(now);
        if self.under_load(pace, now) && now < since + pace.busy_grace {
            return (State::Busy, "it is slow to answer while it is at work".to_owned());
        }
        if now < since + pace.silence_grace {
            return (State::Degraded, "it takes connections and does not answer".to_owned());
        }
        (State::Down, "wedged: it takes connections and has answered nothing for too long".to_owned())
    }

    fn serving(&self, server: &LocalServer, pace: &Pace, now: Instant) -> (State, String) {
        if !server.healthy {
            return (State::Degraded, "it answers, and its /health does not say that it is well".to_owned());
        }
        if server.own_ids().next().is_none() {
            return (State::Degraded, "it lists no model".to_owned());
        }
        let doubt = self.doubt.as_deref().unwrap_or("it does not serve");
        if self.failed_proofs >= pace.proof_failures {
            let times = self.failed_proofs;
            return (State::Down, format!("it answers, but {times} proofs in a row failed: {doubt}"));
        }
        if self.busy_since.is_some_and(|since| now < since + pace.proof_interval) {
            return (State::Busy, "it has too much to do".to_owned());
        }
        if self.doubt.is_some() && !server.loaded.is_empty() {
            return (State::Degraded, doubt.to_owned());
        }
        if server.loading && !self.has_served_since_look() {
            return (State::Loading, "it loads a model".to_owned());
        }
        if self.proven.is_some() {
            return (State::Ready, "it has given a token".to_owned());
        }
        match (server.loaded_for_chat().next(), server.loaded.first()) {
            (Some(model), _) => (State::Starting, format!("{model} is in memory and has not given a token yet")),
            (None, Some(model)) => (State::Idle, format!("it is well, and {model} in its memory is no model for chat")),
            (None, None) => (State::Idle, "it is well and tells of no model in memory".to_owned()),
        }
    }

    /// A model that is in memory for certain and can give a token, as far as that is known.
    pub(super) fn loaded_model(&self) -> Option<&str> {
        self.latest.as_ref()?.look.server()?.loaded_for_chat().next()
    }

    /// Something must be found out: it never served since it came up, or something failed. Never while it is at work:
    /// that will tell.
    pub(super) fn proof_is_due(&self, pace: &Pace, now: Instant) -> bool {
        let asked_long_ago = self.asked.is_none_or(|asked| now >= asked + pace.proof_interval);
        let unknown = self.proven.is_none() || self.doubt.is_some();
        unknown && asked_long_ago && self.is_quiet()
    }

    /// The loaded model has had nothing to do for as long as the configuration lets it.
    pub(super) fn keep_warm_is_due(&self, pace: &Pace, now: Instant) -> bool {
        let (Some(every), Some(active)) = (pace.keep_warm, self.active) else { return false };
        let asked_long_ago = self.asked.is_none_or(|asked| now >= asked + every);
        now >= active + every && asked_long_ago && self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        self.busy_since.is_none()
            && self.latest.as_ref().is_some_and(|latest| {
                latest.in_flight == 0 && latest.look.server().is_some_and(|server| !server.loading)
            })
    }

    /// Only Bifrost's own agent, loaded, and not in the way of a process that is not its own.
    pub(super) fn may_be_remedied(&self) -> bool {
        let Some(latest) = &self.latest else { return false };
        let ours = latest.agent.as_ref().is_some_and(|agent| {
            agent.ours && !matches!(agent.state, AgentState::NotLoaded | AgentState::Stopping { .. })
        });
        ours && latest.holder.as_ref().is_none_or(|holder| holder.of_agent)
    }

    /// Copies what people are told.
    pub(super) fn fill(&self, status: &mut Status) {
        let agent = self.latest.as_ref().and_then(|latest| latest.agent.clone());
        let holder: Option<Holder> = self.latest.as_ref().and_then(|latest| latest.holder.clone());
        status.proven = self.proven;
        status.agent = agent;
        status.holder = holder;
    }
}
