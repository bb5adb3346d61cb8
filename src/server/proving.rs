//! May local-only mode be switched on by hand? Only if the local server gives a token.

use super::Gateway;
use crate::local::launchctl::AgentState;
use crate::local::supervisor::{Input, Look, Observation, State, Status, Trial};
use crate::provider::MLX_LOCAL;
use crate::route::auto::Features;
use crate::route::{Ask, LocalOnly, View, plan};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::info;

/// A cold model of 120B needs a minute or two, one on a slow disk more.
const PATIENCE: Duration = Duration::from_secs(300);
/// A server with too much to do is asked again for so long.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const REST: Duration = Duration::from_secs(1);
/// A token that a busy server gave so long ago still proves that it serves.
const FRESH: Duration = Duration::from_secs(300);

/// Why local-only mode stays off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was found.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// What one look means for the switch.
enum Next {
    /// Ask this model.
    Ask(String),
    /// It is on its way.
    Wait,
    /// There is nothing to wait for.
    Refuse(Refusal),
}

impl Gateway {
    /// Has the local server prove that it serves; may bring the local default into memory, and waits minutes for it.
    ///
    /// # Errors
    /// It did not prove it.
    pub async fn prove_local(&self) -> Result<(), Refusal> {
        let proven = self.prove_local_within(Instant::now() + PATIENCE).await;
        self.supervision.set_proving(None);
        proven
    }

    async fn prove_local_within(&self, deadline: Instant) -> Result<(), Refusal> {
        let busy_deadline = Instant::now() + BUSY_PATIENCE;
        loop {
            let seen = self.look_at_local().await;
            self.supervision.tell(Input::Looked(seen.clone()));
            let model = match self.next(&seen) {
                Next::Refuse(refusal) => return Err(refusal),
                Next::Wait if Instant::now() + REST < deadline => {
                    sleep(REST).await;
                    continue;
                }
                Next::Wait => {
                    return Err(self.refusal(&seen, "it is still not ready after five minutes".to_owned()));
                }
                Next::Ask(model) => model,
            };
            self.supervision.set_proving(Some(&model));
            info!(model, "the local server is asked for a token, so that local-only mode may be switched on");
            let was_mute = self.directory.mute().contains(&model);
            let trial = self.ask_for_a_token(&model, deadline).await;
            let trial = trial.unwrap_or_else(|| Trial::Failed("it is not in the configuration".to_owned()));
            self.supervision.tell(Input::Proved(Some(trial.clone())));
            match trial {
                Trial::Served => return Ok(()),
                Trial::Busy if self.has_served_lately() => return Ok(()),
                Trial::Busy if Instant::now() + REST < busy_deadline => sleep(REST).await,
                Trial::Busy => {
                    let reason = "it has too much to do to give one token".to_owned();
                    return Err(Refusal {
                        reason,
                        remedy: "Wait until it has done its work, and try again.".to_owned(),
                    });
                }
                Trial::TimedOut => {
                    return Err(self.refusal(&seen, format!("{model} did not give a token in time")));
                }
                // The next look leaves it out.
                Trial::NotForChat if !was_mute => {}
                Trial::NotForChat => return Err(self.refusal(&seen, format!("{model} is no model for chat"))),
                Trial::Failed(reason) => return Err(self.refusal(&seen, reason)),
            }
        }
    }

    fn next(&self, seen: &Observation) -> Next {
        let refuse = |reason: &str| Next::Refuse(self.refusal(seen, reason.to_owned()));
        match &seen.look {
            Look::Loading | Look::Busy => Next::Wait,
            Look::Closed => match seen.agent.as_ref().map(|agent| &agent.state) {
                Some(AgentState::Running { .. }) => Next::Wait,
                Some(state) => refuse(&format!("nothing answers there; its agent is {state}")),
                None => refuse("nothing answers there"),
            },
            Look::Silent => refuse("it takes connections and does not answer"),
            Look::Foreign(what) => refuse(what),
            Look::Server(server) if !server.healthy => refuse("its /health does not say that it is well"),
            Look::Server(server) if server.own_ids().next().is_none() => refuse("it lists no model"),
            Look::Server(server) if server.loading => Next::Wait,
            Look::Server(server) => {
                match server.loaded_for_chat().next().map(str::to_owned).or_else(|| self.local_default()) {
                    Some(model) => Next::Ask(model),
                    None => refuse("there is no local default to ask"),
                }
            }
        }
    }

    /// The model that would answer in local-only mode for whoever names none.
    fn local_default(&self) -> Option<String> {
        let snapshot = self.snapshot();
        let active = self.directory.active();
        let catalogue = self.directory.catalogue();
        let view = View {
            snapshot: &snapshot,
            catalogue: &catalogue,
            roles: &self.roles(),
            is_active: &|provider| active.contains(&*provider.name),
            local_only: Some(LocalOnly::Mode),
        };
        let ask = Ask { model: "default", class: None, features: &Features::default };
        let plan = plan(&ask, &view).ok()?;
        plan.targets
            .into_iter()
            .find(|target| &*target.provider.name == MLX_LOCAL)
            .map(|target| target.model.to_string())
    }

    fn has_served_lately(&self) -> bool {
        self.supervision.report().status.proven.is_some_and(|proven| proven.elapsed() < FRESH)
    }

    /// A refusal with the remedy for what was seen.
    fn refusal(&self, seen: &Observation, reason: String) -> Refusal {
        let state = match seen.look {
            Look::Closed => State::Absent,
            Look::Loading => State::Loading,
            Look::Busy => State::Busy,
            Look::Silent | Look::Foreign(_) | Look::Server(_) => State::Degraded,
        };
        let status = Status {
            state,
            agent: seen.agent.clone(),
            holder: seen.holder.clone(),
            ..self.supervision.report().status
        };
        Refusal { reason: format!("the local server at {}: {reason}", self.local_url()), remedy: status.remedy() }
    }
}
