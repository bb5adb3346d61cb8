//! Admission: how many requests a provider's model gets at a time, and how the others wait. Who goes next is decided in
//! `queue`; this is its face for tasks.

mod queue;
mod residency;

pub use queue::{Ask, Depth};

use crate::provider::Provider;
use queue::{Entry, Queue, Ticket};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// A provider that counts its requests learns of a closed connection some milliseconds later, and answers 429 to a request
/// that comes before that. Its end is not seen: this leaves a busy machine room, and no client feels it.
const LINGER: Duration = Duration::from_millis(150);

/// The queues of all providers. They outlive a change of the configuration.
#[derive(Debug, Default)]
pub struct Admission {
    doors: RwLock<HashMap<Arc<str>, Arc<Door>>>,
}

/// What every request of one provider goes through.
#[derive(Debug)]
struct Door {
    provider: Arc<str>,
    queue: Mutex<Queue<oneshot::Sender<()>>>,
    /// When somebody may go without anybody leaving; whoever waits looks then.
    next_change: watch::Sender<Option<Instant>>,
}

/// What a request gets that asks for a place.
#[derive(Debug)]
pub enum Admitted {
    /// A place.
    Now(Permit),
    /// A place in the queue.
    Later(Waiting),
    /// None: the queue is full.
    Not(Full),
}

/// A place. Dropped, it is free for the next request.
#[derive(Debug)]
pub struct Permit {
    door: Arc<Door>,
    model: Arc<str>,
    since: Instant,
}

/// A place in the queue. Dropped, it is given up.
#[derive(Debug)]
pub struct Waiting {
    door: Arc<Door>,
    model: Arc<str>,
    ticket: Ticket,
    position: usize,
    admitted: oneshot::Receiver<()>,
    is_settled: bool,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Requests that wait.
    pub waiting: usize,
    /// About the time until those have gone.
    pub clears_in: Duration,
}

/// No place came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut {
    /// About the time until those that wait now have gone.
    pub clears_in: Duration,
}

impl Admission {
    /// Asks for a place. Where one is free this is a few dozen instructions under a lock, and allocates nothing.
    pub fn enter(&self, provider: &Provider, ask: Ask<'_>) -> Admitted {
        let door = self.door(provider);
        let since = Instant::now();
        let entry = door.change(since, |queue, now| queue.enter(ask, now, oneshot::channel));
        match entry {
            Entry::Admitted(model) => Admitted::Now(Permit { door, model, since }),
            Entry::Waiting { model, ticket, position, heard } => {
                Admitted::Later(Waiting { door, model, ticket, position, admitted: heard, is_settled: false })
            }
            Entry::Full { waiting, clears_in } => Admitted::Not(Full { waiting, clears_in }),
        }
    }

    /// The limits of these providers hold from now on, for those who wait too.
    pub fn limit(&self, providers: &[Arc<Provider>]) {
        for provider in providers {
            self.door(provider).change(Instant::now(), |queue, now| ((), queue.limit(provider.limits, now)));
        }
    }

    /// The server says which models are in its memory, and which it loads.
    pub fn observed(&self, provider: &Provider, loaded: &[String], starting: &[String]) {
        self.door(provider).change(Instant::now(), |queue, now| ((), queue.observed(loaded, starting, now)));
    }

    /// The model of a provider whose models share a memory may be asked without a swap.
    pub fn holds(&self, provider: &str, model: &str) -> bool {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        doors.get(provider).is_some_and(|door| door.queue().holds(model))
    }

    /// How many requests each model has that was asked lately, in the order of their names.
    pub fn depths(&self) -> Vec<Depth> {
        let doors: Vec<Arc<Door>> =
            self.doors.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        let of = |door: &Arc<Door>| door.queue().depths(&door.provider).collect::<Vec<_>>();
        let mut depths: Vec<Depth> = doors.iter().flat_map(of).collect();
        depths.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        depths
    }

    /// How many requests wait for a place at a target; `None` where one is free.
    pub fn queued(&self, provider: &str, model: &str) -> Option<usize> {
        let door = self.doors.read().unwrap_or_else(PoisonError::into_inner).get(provider).map(Arc::clone);
        door?.queue().queued(model)
    }

    fn door(&self, provider: &Provider) -> Arc<Door> {
        if let Some(door) = self.doors.read().unwrap_or_else(PoisonError::into_inner).get(&provider.name) {
            return Arc::clone(door);
        }
        let mut doors = self.doors.write().unwrap_or_else(PoisonError::into_inner);
        let door = doors.entry(Arc::clone(&provider.name)).or_insert_with(|| {
            let (queue, next_change) = (Mutex::new(Queue::new(provider.limits)), watch::Sender::new(None));
            Arc::new(Door { provider: Arc::clone(&provider.name), queue, next_change })
        });
        Arc::clone(door)
    }
}

impl Door {
    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<()>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and wakes whoever goes because of that.
    fn change<T>(
        &self,
        now: Instant,
        change: impl FnOnce(&mut Queue<oneshot::Sender<()>>, std::time::Instant) -> (T, Vec<oneshot::Sender<()>>),
    ) -> T {
        let mut queue = self.queue();
        let now = now.into_std();
        let (result, woken) = change(&mut queue, now);
        for waiter in woken {
            // One that left at this moment gives its place back itself.
            let _ = waiter.send(());
        }
        if queue.has_waiters() {
            let next = queue.next_change(now).map(Instant::from_std);
            self.next_change.send_if_modified(|known| std::mem::replace(known, next) != next);
        }
        result
    }

    fn look_again(&self) {
        self.change(Instant::now(), |queue, now| ((), queue.advance(now)));
    }
}

impl Permit {
    /// Gives the place back after its request was broken off, when the provider has noticed. Where any number may be in
    /// flight, that is at once.
    pub fn broken_off(self) {
        if self.door.queue().has_limit()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                sleep(LINGER).await;
                drop(self);
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        let service = now.duration_since(self.since);
        self.door.change(now, |queue, now| ((), queue.leave(&self.model, service, now)));
    }
}

impl Waiting {
    /// The place in the queue when it came: 1 is the next of its model.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// None came free until then.
    pub async fn admitted(mut self, until: Instant) -> Result<Permit, TimedOut> {
        let mut changes = self.door.next_change.subscribe();
        loop {
            let next_change = *changes.borrow_and_update();
            let look = async {
                match next_change {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = &mut self.admitted => return Ok(self.into_permit()),
                () = sleep_until(until) => break,
                // The sender lives as long as the door, which this holds.
                _ = changes.changed() => {}
                () = look => self.door.look_again(),
            }
        }
        // It may have come free in the last moment.
        if self.give_up() {
            Err(TimedOut { clears_in: self.door.queue().clears_in(&self.model) })
        } else {
            Ok(self.into_permit())
        }
    }

    fn into_permit(mut self) -> Permit {
        self.is_settled = true;
        Permit { door: Arc::clone(&self.door), model: Arc::clone(&self.model), since: Instant::now() }
    }

    /// Leaves the queue; false if it has a place already.
    fn give_up(&mut self) -> bool {
        let has_left = self.door.change(Instant::now(), |queue, now| queue.give_up(&self.model, self.ticket, now));
        self.is_settled |= has_left;
        has_left
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_settled && !self.give_up() {
            // It was admitted and nobody was there to hear: the place goes to the next.
            drop(Permit { door: Arc::clone(&self.door), model: Arc::clone(&self.model), since: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests;
