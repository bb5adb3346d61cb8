//! Who is in flight at one provider, who waits, and who goes next: pure, the clock is a parameter.

use super::residency::Residency;
use crate::config::classes::Priority;
use crate::provider::Limits;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients may invent models: so many are remembered before those with nothing to do are forgotten.
const MAX_LANES: usize = 256;
/// The weight of the newest service time in the mean.
const NEWEST: f64 = 0.2;
/// How long a request takes while none has ended yet.
const UNMEASURED: Duration = Duration::from_secs(1);

/// All requests of one provider. `W` wakes one that waits.
#[derive(Debug)]
pub(super) struct Queue<W> {
    limits: Limits,
    lanes: HashMap<Arc<str>, Lane<W>>,
    residency: Residency,
    /// Requests that wait, in all lanes.
    waiting: usize,
    next_ticket: Ticket,
}

/// The number of a request that waits; later ones have higher numbers.
pub(super) type Ticket = u64;

/// A request that wants a place.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model, in the provider's naming.
    pub model: &'a str,
    /// Who goes first.
    pub priority: Priority,
    /// The model shares the server's memory with others: only those that are in it may be asked at the same time.
    pub swaps: bool,
}

/// What a request gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<R> {
    /// A place. The model is spelled as before.
    Admitted(Arc<str>),
    /// A place in the queue: 1 is the next of its model. `heard` is the other end of what wakes it.
    Waiting { model: Arc<str>, ticket: Ticket, position: usize, heard: R },
    /// The queue is full; `clears_in` is about the time until those that are in it now have gone.
    Full { waiting: usize, clears_in: Duration },
}

/// How many requests a model has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The provider.
    pub provider: Arc<str>,
    /// The model, in the provider's naming.
    pub model: Arc<str>,
    /// The most that may be in flight; `None`: as many as come.
    pub limit: Option<usize>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Interactive requests that wait.
    pub interactive: usize,
    /// Batch requests that wait.
    pub batch: usize,
}

/// The requests of one model.
#[derive(Debug)]
struct Lane<W> {
    model: Arc<str>,
    in_flight: usize,
    interactive: VecDeque<Waiter<W>>,
    batch: VecDeque<Waiter<W>>,
    /// The newest word on [`Ask::swaps`].
    swaps: bool,
    /// Mean time from admission to the end, in seconds.
    service: Option<f64>,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    since: Instant,
    wake: W,
}

impl<W> Queue<W> {
    /// A queue without requests.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, lanes: HashMap::new(), residency: Residency::default(), waiting: 0, next_ticket: 0 }
    }

    /// Other limits hold from now on.
    pub(super) fn limit(&mut self, limits: Limits, now: Instant) -> Vec<W> {
        self.limits = limits;
        self.advance(now)
    }

    /// A request comes. Both ends of what wakes it are made only where it has to wait.
    pub(super) fn enter<R>(&mut self, ask: Ask<'_>, now: Instant, wake: impl FnOnce() -> (W, R)) -> (Entry<R>, Vec<W>) {
        let limits = self.limits;
        if self.waiting == 0
            && (!ask.swaps || self.residency.holds(ask.model))
            && let Some(lane) = self.lanes.get_mut(ask.model).filter(|lane| lane.has_place(&limits))
        {
            lane.swaps = ask.swaps;
            lane.in_flight += 1;
            return (Entry::Admitted(Arc::clone(&lane.model)), Vec::new());
        }
        let model: Arc<str> = Arc::from(ask.model);
        self.lane(&model).swaps = ask.swaps;
        // Those before it that time has made free go first.
        let mut woken = self.advance(now);
        if self.starts_at_once(&model, ask.priority, now) {
            return (Entry::Admitted(model), woken);
        }
        let lane = self.lane(&model);
        let waiting = lane.waiting();
        if waiting >= limits.queue {
            return (Entry::Full { waiting, clears_in: lane.clears_in(&limits) }, woken);
        }
        let patience = patience(&limits);
        let overtaken = match ask.priority {
            Priority::Interactive => lane.batch.iter().filter(|waiter| !waiter.is_urgent(patience, now)).count(),
            Priority::Batch => 0,
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (wake, heard) = wake();
        self.lane(&model).queue(ask.priority).push_back(Waiter { ticket, since: now, wake });
        self.waiting += 1;
        // It may be the one for which the memory is freed.
        woken.extend(self.advance(now));
        (Entry::Waiting { model, ticket, heard, position: waiting - overtaken + 1 }, woken)
    }

    /// A request that was in flight has ended, `service` after it was admitted; gives those that go in its place.
    pub(super) fn leave(&mut self, model: &str, service: Duration, now: Instant) -> Vec<W> {
        let Some(lane) = self.lanes.get_mut(model) else { return Vec::new() };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        let newest = service.as_secs_f64();
        lane.service = Some(lane.service.map_or(newest, |mean| mean + NEWEST * (newest - mean)));
        if lane.swaps {
            let is_idle = lane.in_flight == 0 && self.memory_is_idle();
            self.residency.ended(is_idle, now);
        }
        self.advance(now)
    }

    /// A request waits no longer. False if it does not wait: it was admitted before.
    pub(super) fn give_up(&mut self, model: &str, ticket: Ticket, now: Instant) -> (bool, Vec<W>) {
        let Some(lane) = self.lanes.get_mut(model) else { return (false, Vec::new()) };
        let before = lane.waiting();
        for queue in [&mut lane.interactive, &mut lane.batch] {
            queue.retain(|waiter| waiter.ticket != ticket);
        }
        let has_left = lane.waiting() < before;
        self.waiting -= usize::from(has_left);
        (has_left, self.advance(now))
    }

    /// The server says which models are in its memory, and which it loads.
    pub(super) fn observed(&mut self, loaded: &[String], starting: &[String], now: Instant) -> Vec<W> {
        let is_idle = self.memory_is_idle();
        self.residency.observed(loaded, starting, is_idle, now);
        self.advance(now)
    }

    /// Admits everybody who may go now.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<W> {
        let mut woken = Vec::new();
        while self.waiting > 0 {
            let Some(model) = self.next_lane(now) else { break };
            let patience = patience(&self.limits);
            let lane = self.lane(&model);
            let Some(waiter) = lane.pop(patience, now) else { break };
            lane.in_flight += 1;
            let swaps = lane.swaps;
            self.waiting -= 1;
            if swaps && !self.residency.holds(&model) {
                self.residency.swap_to(model, now);
            }
            woken.push(waiter.wake);
        }
        woken
    }

    /// The model is in the shared memory, or on its way into it, and stays for now.
    pub(super) fn holds(&self, model: &str) -> bool {
        self.residency.holds(model)
    }

    /// Only so many may be in flight.
    pub(super) fn has_limit(&self) -> bool {
        self.limits.in_flight.is_some()
    }

    /// Somebody waits.
    pub(super) fn has_waiters(&self) -> bool {
        self.waiting > 0
    }

    /// How many requests wait for a model; `None` where the next one has a place.
    pub(super) fn queued(&self, model: &str) -> Option<usize> {
        let lane = self.lanes.get(model)?;
        (lane.waiting() > 0 || !lane.has_place(&self.limits)).then(|| lane.waiting())
    }

    /// When somebody may go though nobody has left; `None` if time alone changes nothing.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let wants_memory = |lane: &&Lane<W>| lane.waiting() > 0 && lane.swaps && !self.residency.holds(&lane.model);
        let mut lanes = self.lanes.values().filter(wants_memory).peekable();
        lanes.peek()?;
        let patience = patience(&self.limits);
        let ageing = lanes.filter_map(|lane| lane.batch.front()).map(|waiter| waiter.since + patience);
        let least = self.limits.residency;
        let ends = [self.residency.over_at(least), self.residency.left_at(least)].into_iter().flatten();
        ageing.chain(ends).filter(|at| *at > now).min()
    }

    /// About how long it takes until everybody who waits for a model now has gone.
    pub(super) fn clears_in(&self, model: &str) -> Duration {
        self.lanes.get(model).map_or(Duration::ZERO, |lane| lane.clears_in(&self.limits))
    }

    /// How many requests each model has.
    pub(super) fn depths(&self, provider: &Arc<str>) -> impl Iterator<Item = Depth> {
        self.lanes.values().map(|lane| Depth {
            provider: Arc::clone(provider),
            model: Arc::clone(&lane.model),
            limit: self.limits.in_flight,
            in_flight: lane.in_flight,
            interactive: lane.interactive.len(),
            batch: lane.batch.len(),
        })
    }

    /// Admits a request that comes now, if nobody is before it.
    fn starts_at_once(&mut self, model: &Arc<str>, priority: Priority, now: Instant) -> bool {
        let limits = self.limits;
        let lane = self.lane(model);
        let (swaps, is_first) = (lane.swaps, lane.waiting() == 0 && lane.has_place(&limits));
        let needs_swap = swaps && !self.residency.holds(model);
        let is_due = priority == Priority::Interactive;
        let waits_for_memory =
            if needs_swap { !self.memory_is_free(is_due, now) } else { swaps && self.makes_room(now) };
        if !is_first || waits_for_memory {
            return false;
        }
        if needs_swap {
            self.residency.swap_to(Arc::clone(model), now);
        }
        self.lane(model).in_flight += 1;
        true
    }

    /// The model whose next request goes now: one that needs no swap, else, when the memory is free, the one that is
    /// wanted most.
    fn next_lane(&self, now: Instant) -> Option<Arc<str>> {
        let patience = patience(&self.limits);
        let makes_room = self.makes_room(now);
        let is_free = self.memory_is_free(makes_room, now);
        let goes = |lane: &Lane<W>| {
            let next = lane.next(patience, now).filter(|_| lane.has_place(&self.limits))?;
            let needs_swap = lane.swaps && !self.residency.holds(&lane.model);
            let may_go = !lane.swaps || if needs_swap { is_free } else { !makes_room };
            may_go.then(|| (needs_swap, next.rank(), Arc::clone(&lane.model)))
        };
        self.lanes
            .values()
            .filter_map(goes)
            .min_by_key(|(needs_swap, rank, _)| (*needs_swap, *rank))
            .map(|(.., model)| model)
    }

    /// The models in memory have had their time, and somebody who should not wait any longer wants another one: they get
    /// nothing new until what is in flight has ended.
    fn makes_room(&self, now: Instant) -> bool {
        if self.waiting == 0 || !self.residency.is_over(self.limits.residency, now) {
            return false;
        }
        let patience = patience(&self.limits);
        let is_due = |lane: &Lane<W>| lane.next(patience, now).is_some_and(|next| next.is_urgent);
        self.lanes.values().any(|lane| lane.swaps && !self.residency.holds(&lane.model) && is_due(lane))
    }

    /// Another model may be brought into memory: the models in it have nothing to do for a while, or have had their time.
    /// Only who is due goes by the latter; batch requests do not use a short pause of interactive ones.
    fn memory_is_free(&self, is_due: bool, now: Instant) -> bool {
        let least = self.limits.residency;
        let is_wanted = |lane: &Lane<W>| lane.waiting() > 0 && self.residency.holds(&lane.model);
        let is_left = || self.residency.is_left(least, now) && !self.lanes.values().any(is_wanted);
        self.memory_is_idle() && (is_due && self.residency.is_over(least, now) || is_left())
    }

    /// No request is in flight that the memory has to be kept for.
    fn memory_is_idle(&self) -> bool {
        self.lanes.values().all(|lane| !lane.swaps || lane.in_flight == 0)
    }

    /// The requests of a model. Models that have none are forgotten when there are too many.
    fn lane(&mut self, model: &Arc<str>) -> &mut Lane<W> {
        if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(model) {
            self.lanes.retain(|_, lane| lane.in_flight > 0 || lane.waiting() > 0);
        }
        self.lanes.entry(Arc::clone(model)).or_insert_with_key(|model| Lane::new(Arc::clone(model)))
    }
}

/// How long a batch request lets others go before it.
fn patience(limits: &Limits) -> Duration {
    limits.queue_timeout / 2
}

/// The request that goes next in its lane.
#[derive(Debug, Clone, Copy)]
struct Next {
    priority: Priority,
    is_urgent: bool,
    ticket: Ticket,
}

impl Next {
    /// The lower, the sooner it goes.
    fn rank(self) -> (bool, Ticket) {
        (!self.is_urgent, self.ticket)
    }
}

impl<W> Lane<W> {
    fn new(model: Arc<str>) -> Self {
        let (interactive, batch) = (VecDeque::new(), VecDeque::new());
        Self { model, in_flight: 0, interactive, batch, swaps: false, service: None }
    }

    fn waiting(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    fn has_place(&self, limits: &Limits) -> bool {
        limits.in_flight.is_none_or(|limit| self.in_flight < limit)
    }

    fn queue(&mut self, priority: Priority) -> &mut VecDeque<Waiter<W>> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }

    /// Who goes next: the first of the interactive ones, and of batch ones that have waited long enough to count as such.
    fn next(&self, patience: Duration, now: Instant) -> Option<Next> {
        let interactive = self.interactive.front().map(|waiter| Next {
            priority: Priority::Interactive,
            is_urgent: true,
            ticket: waiter.ticket,
        });
        let batch = self.batch.front().map(|waiter| Next {
            priority: Priority::Batch,
            is_urgent: waiter.is_urgent(patience, now),
            ticket: waiter.ticket,
        });
        interactive.into_iter().chain(batch).min_by_key(|next| next.rank())
    }

    fn pop(&mut self, patience: Duration, now: Instant) -> Option<Waiter<W>> {
        let next = self.next(patience, now)?;
        self.queue(next.priority).pop_front()
    }

    /// About how long it takes until everybody who waits now has gone; nobody waits longer than the queue's limit.
    fn clears_in(&self, limits: &Limits) -> Duration {
        let service = self.service.unwrap_or(UNMEASURED.as_secs_f64());
        let rounds = self.waiting().max(1) as f64 / limits.in_flight.unwrap_or(1) as f64;
        Duration::try_from_secs_f64(service * rounds).unwrap_or(limits.queue_timeout).min(limits.queue_timeout)
    }
}

impl<W> Waiter<W> {
    /// A batch request has let others go before it for long enough.
    fn is_urgent(&self, patience: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= patience
    }
}

#[cfg(test)]
mod tests;
