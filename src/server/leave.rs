//! Leave to call a target: a key of its provider's, and the word of its breaker.

use super::Gateway;
use super::exchange::Exchange;
use crate::chat::{ChatError, ErrorKind};
use crate::observe::Event;
use crate::provider::{MLX_LOCAL, Provider, ProviderKey};
use crate::route::key_pool::{Choice, FORBIDDEN, THROTTLED, USED_UP};
use crate::route::{Admitted, Change, Rest, Target};
use crate::secret::{FAILURE_KEPT, Secret, SecretError};
use crate::upstream::auth::{self, Credential};
use crate::upstream::{Failure, KeyFate, Outcome};
use std::fmt;
use std::pin::pin;
use std::time::Instant;
use tokio::time::timeout_at;

/// Leave to call a target.
pub struct Leave {
    /// What it is called with.
    pub credential: Credential,
    /// Which of the provider's keys that is; `None` for a client's own and for none.
    pub key: Option<usize>,
    /// The breaker's word.
    pub admitted: Admitted,
}

/// Why there is no leave.
pub enum NoLeave {
    /// The target, or every key of it that is good, rests.
    Resting(Rest),
    /// No key is thought to be good.
    ShutOut(Failure),
    /// The key could not be had.
    Failed(Failure),
}

impl Leave {
    /// Asks for leave; `regardless` of what is held against the keys. A key is looked up until `until`.
    ///
    /// # Errors
    /// There is none now.
    pub async fn of(
        exchange: &Exchange,
        target: &Target,
        regardless: bool,
        until: tokio::time::Instant,
    ) -> Result<Self, NoLeave> {
        let (credential, key) = credential(exchange, target, regardless, until).await?;
        let condition = exchange.gateway.conditions.of(&target.provider.name, &target.model);
        let admitted = condition.admit(Instant::now(), exchange.snapshot.breaker);
        let (admitted, change) = admitted.map_err(NoLeave::Resting)?;
        tell(exchange, target, change);
        Ok(Self { credential, key, admitted })
    }
}

/// The rest that a target has now, by its breaker or because all its good keys are throttled; looked at only.
pub fn rest_of(exchange: &Exchange, target: &Target) -> Option<Rest> {
    let (provider, model, now) = (&target.provider.name, &target.model, Instant::now());
    let condition = exchange.gateway.conditions.of(provider, model);
    let of_keys = || exchange.keys.all_rest(provider, model, now).filter(|rest| rest.asked_for);
    condition.refuses(now, exchange.snapshot.breaker).or_else(of_keys)
}

/// Tells of a breaker that changed its state.
pub fn tell(exchange: &Exchange, target: &Target, change: Option<Change>) {
    if let Some(change) = change {
        exchange.gateway.tell_breaker(&target.provider.name, &target.model, change);
    }
}

impl Gateway {
    /// The local server is well again, as the supervisor has seen: what was held against it is forgotten.
    pub fn forgive_local(&self) {
        for (model, change) in self.conditions.forgive(MLX_LOCAL, Instant::now()) {
            self.tell_breaker(MLX_LOCAL, &model, change);
        }
    }

    fn tell_breaker(&self, provider: &str, model: &str, Change { from, to, rest }: Change) {
        self.observer.tell(Event::Breaker { provider, model, from, to, rest });
    }
}

/// What a failure means for the key that was used.
pub fn keep_key(exchange: &Exchange, target: &Target, key: usize, failure: &Failure) {
    let (model, rest, asked_for) = match failure.outcome.key_fate() {
        KeyFate::Stays => return,
        KeyFate::Dropped => (None, None, false),
        KeyFate::Rests => (None, Some(USED_UP), false),
        KeyFate::RestsForModel if failure.outcome == Outcome::RateLimited => {
            (Some(&*target.model), Some(failure.rest().unwrap_or(THROTTLED)), true)
        }
        KeyFate::RestsForModel if failure.outcome == Outcome::ModelQuota => {
            (Some(&*target.model), Some(USED_UP), false)
        }
        KeyFate::RestsForModel => (Some(&*target.model), Some(FORBIDDEN), false),
    };
    let provider = &*target.provider.name;
    let now = Instant::now();
    match rest {
        Some(rest) => exchange.keys.rest(provider, key, model, Rest { until: now + rest, asked_for }, now),
        None => exchange.keys.drop_key(provider, key),
    }
    let reason = failure.outcome.label();
    exchange.gateway.observer.tell(Event::KeyRested { provider, model, key, reason, rest });
}

async fn credential(
    exchange: &Exchange,
    target: &Target,
    regardless: bool,
    until: tokio::time::Instant,
) -> Result<(Credential, Option<usize>), NoLeave> {
    let provider = &*target.provider;
    // In local-only mode no secret of the cloud is looked at.
    if provider.keys.is_empty() || (exchange.gateway.mode.is_on() && !provider.is_local()) {
        return Ok((of_client(exchange, provider), None));
    }
    let mut unavailable = None;
    let mut regardless = regardless.then_some(0..provider.keys.len());
    // Each turn takes one key out of the choice.
    for _ in 0..=provider.keys.len() {
        let now = Instant::now();
        let place = match (exchange.keys.choose(&provider.name, &target.model, now), &mut regardless) {
            (Some(Choice::Use(place)), _) => place,
            (None, _) => return Ok((of_client(exchange, provider), None)),
            // One after the other: the first may be a key that cannot be had.
            (Some(_), Some(places)) => match places.next() {
                Some(place) => place,
                None => break,
            },
            (Some(Choice::Rest(rest)), None) if rest.asked_for => return Err(NoLeave::Resting(rest)),
            (Some(Choice::Rest(_) | Choice::Dead), None) => break,
        };
        let Some(key) = provider.keys.get(place) else { break };
        // Large; only who has keys carries it along.
        let Some(resolved) = Box::pin(resolve(exchange, key, until)).await else {
            // Nothing is held against it: others may have more time.
            return Err(NoLeave::Failed(key_unavailable(provider, &"looking it up took longer than the request may")));
        };
        match resolved {
            Ok(Some(secret)) => return Ok((Credential::Own(secret), Some(place))),
            Ok(None) if provider.keys.len() == 1 => return Ok((of_client(exchange, provider), None)),
            // A variable stays unset until the process ends.
            Ok(None) => exchange.keys.drop_key(&provider.name, place),
            Err(error) => {
                let failure = key_unavailable(provider, &error);
                if provider.keys.len() == 1 {
                    return Err(NoLeave::Failed(failure));
                }
                let rest = Rest { until: now + FAILURE_KEPT, asked_for: false };
                exchange.keys.rest(&provider.name, place, None, rest, now);
                unavailable = Some(failure);
            }
        }
    }
    Err(NoLeave::ShutOut(unavailable.unwrap_or_else(|| shut_out(target))))
}

/// What a key's sources give; `None` when that was not known by `until`. A program may take its time.
async fn resolve(
    exchange: &Exchange,
    key: &ProviderKey,
    until: tokio::time::Instant,
) -> Option<Result<Option<Secret>, SecretError>> {
    exchange.away(pin!(timeout_at(until, exchange.snapshot.secrets.first(&key.sources)))).await.ok()
}

/// The client's own credential, if it is this vendor's.
fn of_client(exchange: &Exchange, provider: &Provider) -> Credential {
    let speaks_it = provider.endpoint_for(exchange.ingress).dialect == exchange.ingress;
    let own = (speaks_it && auth::is_vendor_of(provider, exchange.ingress)).then(|| exchange.client_credential());
    own.flatten().unwrap_or(Credential::None)
}

fn key_unavailable(provider: &Provider, error: &dyn fmt::Display) -> Failure {
    let message = format!("The key of {} could not be had: {error}.", provider.name);
    let error = ChatError::new(ErrorKind::Unavailable, message).with_code("key_unavailable");
    Failure::new(Outcome::Auth, error)
}

fn shut_out(target: &Target) -> Failure {
    let provider = &target.provider.name;
    let message = format!(
        "{target} was not asked: {provider} has refused every key of it. Mend `key` or `keys` in [providers.{provider}]; after a change that the file does not show, send the gateway a SIGHUP."
    );
    let error = ChatError::new(ErrorKind::Authentication, message).with_code("keys_refused");
    Failure::new(Outcome::Auth, error)
}
