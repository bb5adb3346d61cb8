//! A place at a target: asked for before its attempts, and waited for in its queue.

use super::exchange::Exchange;
use super::leave;
use crate::chat::{ChatError, ErrorKind};
use crate::config::classes::{Class, Priority};
use crate::limit::{Admitted, Ask, Depth, Full, Permit, TimedOut, Waiting};
use crate::local::LocalServer;
use crate::observe::{Event, Load, QueueRecord, WaitEnd};
use crate::provider::MLX_LOCAL;
use crate::route::{Rest, Target};
use crate::upstream::{Failure, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A place at a target, and what it took to get it.
pub struct Place {
    /// The place itself.
    pub permit: Permit,
    /// How long it was waited for.
    pub waited: Duration,
}

/// Why there is no place.
pub enum NoPlace {
    /// None is free, and the class goes on then; it may be waited for when nobody else answers.
    Spilled(Failure),
    /// None is free, and the target rests anyway.
    Resting(Rest),
    /// The queue is full, or none came free in time.
    Failed(Failure),
}

/// The place of a request that is asking its target. Dropped, the request was broken off.
pub struct Held(Option<Permit>);

impl Held {
    /// Holds a place while its target is asked.
    pub fn new(permit: Permit) -> Self {
        Self(Some(permit))
    }

    /// The target answers: the place is free when the answer has ended.
    pub fn keep(mut self, exchange: &Exchange) {
        if let Some(permit) = self.0.take() {
            exchange.keep_place(permit);
        }
    }

    /// The target has done with the request: the place is free at once.
    pub fn free(mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.broken_off();
        }
    }
}

/// Asks for a place at a target. Where none is free, the request goes on if there is another target and the class says so
/// (`spill`) or this one rests; all others wait: no longer than the queue's limit, the client's own, and until `budget_ends`.
///
/// # Errors
/// The request goes on, the queue is full, or no place came free in time.
pub async fn enter(
    exchange: &Exchange,
    target: &Target,
    class: Option<&Class>,
    is_last: bool,
    budget_ends: Instant,
) -> Result<Place, NoPlace> {
    let priority = exchange.priority.or(class.map(|class| class.priority)).unwrap_or_default();
    let limits = &target.provider.limits;
    let server = local_server(exchange, target);
    let model = meant(server.as_deref(), target);
    let swaps = !limits.residency.is_zero() && server.as_deref().is_some_and(|server| server.swaps(model));
    let ask = Ask { model, priority, swaps };
    let began = Instant::now();
    let error = match exchange.gateway.admission.enter(&target.provider, ask) {
        Admitted::Now(permit) => return Ok(Place { permit, waited: Duration::ZERO }),
        Admitted::Later(_) | Admitted::Not(_) if !is_last && class.is_some_and(|class| class.spill) => {
            let error = spilled(exchange, target, priority);
            exchange.not_asked(target, Outcome::Busy, began.elapsed(), &error);
            return Err(NoPlace::Spilled(Failure::new(Outcome::Busy, error)));
        }
        Admitted::Later(waiting) => {
            if let Some(rest) = (!is_last).then(|| leave::rest_of(exchange, target)).flatten() {
                return Err(NoPlace::Resting(rest));
            }
            let longest = exchange.timeout.map_or(limits.queue_timeout, |timeout| timeout.min(limits.queue_timeout));
            let until = budget_ends.min(began + longest);
            match Box::pin(wait(exchange, target, priority, waiting, until)).await {
                Ok(place) => return Ok(place),
                Err(error) => error,
            }
        }
        Admitted::Not(full) => queue_full(target, full),
    };
    exchange.not_asked(target, Outcome::Busy, began.elapsed(), &error);
    Err(NoPlace::Failed(Failure::new(Outcome::Busy, error)))
}

/// How many requests wait for a place at a target; `None` where one is free.
pub fn queued(exchange: &Exchange, target: &Target) -> Option<usize> {
    let server = local_server(exchange, target);
    exchange.gateway.admission.queued(&target.provider.name, meant(server.as_deref(), target))
}

/// The local server, if the target is there.
fn local_server(exchange: &Exchange, target: &Target) -> Option<Arc<LocalServer>> {
    if &*target.provider.name == MLX_LOCAL { exchange.gateway.directory.local_server() } else { None }
}

/// The model that a target's name means: all names of a model have the same places, and the same memory.
fn meant<'a>(server: Option<&'a LocalServer>, target: &'a Target) -> &'a str {
    server.map_or(&*target.model, |server| server.meant_by(&target.model))
}

async fn wait(
    exchange: &Exchange,
    target: &Target,
    priority: Priority,
    waiting: Waiting,
    until: Instant,
) -> Result<Place, ChatError> {
    let position = waiting.position();
    let mut wait = Wait::begin(exchange, target, priority, position);
    match waiting.admitted(until).await {
        Ok(permit) => {
            wait.end = WaitEnd::Admitted;
            Ok(Place { permit, waited: wait.began.elapsed() })
        }
        Err(timed_out) => {
            wait.end = WaitEnd::TimedOut;
            Err(queue_timeout(target, position, wait.began.elapsed(), timed_out))
        }
    }
}

/// A wait for a place. Its end is told once, also when the client leaves.
struct Wait<'a> {
    exchange: &'a Exchange,
    target: &'a Target,
    priority: Priority,
    began: Instant,
    end: WaitEnd,
}

impl<'a> Wait<'a> {
    fn begin(exchange: &'a Exchange, target: &'a Target, priority: Priority, position: usize) -> Self {
        let mut record = exchange.record();
        let queue = record.queue.get_or_insert_with(|| QueueRecord::of(priority));
        queue.position = Some(position);
        drop(record);
        Self { exchange, target, priority, began: Instant::now(), end: WaitEnd::ClientLeft }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.exchange.was_away(waited);
        if let Some(queue) = &mut self.exchange.record().queue {
            queue.waited += waited;
        }
        let (provider, model) = (&*self.target.provider.name, &*self.target.model);
        let (priority, end) = (self.priority, self.end);
        self.exchange.gateway.observer.tell(Event::Waited { provider, model, priority, waited, end });
    }
}

/// The request goes on to the next target without waiting.
fn spilled(exchange: &Exchange, target: &Target, priority: Priority) -> ChatError {
    exchange.record().queue.get_or_insert_with(|| QueueRecord::of(priority)).spilled = true;
    let message = format!("{target} has no place free, and the class goes on then (`spill`).");
    ChatError::new(ErrorKind::Overloaded, message).with_code("target_busy")
}

fn queue_full(target: &Target, full: Full) -> ChatError {
    let wait = full.clears_in.max(Duration::from_secs(1));
    let message = format!(
        "{target} is busy and its queue is full: {} requests wait. Ask again in about {} s, {}.",
        full.waiting,
        wait.as_secs_f64().ceil(),
        remedies(target)
    );
    let error = ChatError::new(ErrorKind::RateLimited, message).with_code("queue_full");
    ChatError { retry_after: Some(wait), ..error }
}

fn queue_timeout(target: &Target, position: usize, waited: Duration, timed_out: TimedOut) -> ChatError {
    let message = format!(
        "{target} is busy: no place came free in {:.1} s, at position {position} of its queue when the request came. Ask again later, {}.",
        waited.as_secs_f64(),
        remedies(target)
    );
    let error = ChatError::new(ErrorKind::Overloaded, message).with_code("queue_timeout");
    ChatError { retry_after: Some(timed_out.clears_in.max(Duration::from_secs(1))), ..error }
}

fn remedies(target: &Target) -> String {
    format!(
        "name `fallbacks`, set `spill = true` in the task class, or raise the numbers in [providers.{}.limits]",
        target.provider.name
    )
}

/// How many requests every target has that has some now, for people and scripts.
pub fn report(depths: &[Depth]) -> Vec<Value> {
    let has_some = |depth: &&Depth| depth.in_flight + depth.interactive + depth.batch > 0;
    let one = |depth: &Depth| {
        json!({
            "provider": *depth.provider,
            "model": *depth.model,
            "limit": depth.limit,
            "in_flight": depth.in_flight,
            "waiting": { Priority::Interactive.name(): depth.interactive, Priority::Batch.name(): depth.batch },
        })
    };
    depths.iter().filter(has_some).map(one).collect()
}

/// The same for the metrics.
pub fn load(depth: &Depth, known_model: bool) -> Load<'_> {
    Load {
        provider: &depth.provider,
        model: known_model.then_some(&*depth.model),
        in_flight: depth.in_flight,
        interactive: depth.interactive,
        batch: depth.batch,
    }
}
