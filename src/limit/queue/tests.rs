use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: Limits =
    Limits { in_flight: Some(2), queue: 5, queue_timeout: Duration::from_secs(60), residency: Duration::from_secs(10) };
const MODELS: [&str; 3] = ["a", "b", "c"];

/// A request, numbered in the order of their coming.
type Id = u64;

#[derive(Debug, Clone)]
struct Request {
    model: &'static str,
    priority: Priority,
    came: Instant,
    ticket: Ticket,
}

/// What a queue is compared with.
struct World {
    queue: Queue<Id>,
    limits: Limits,
    swaps: bool,
    now: Instant,
    next: Id,
    in_flight: BTreeMap<Id, &'static str>,
    waiting: BTreeMap<Id, Request>,
    /// The models in the order in which their requests were admitted.
    admitted: Vec<&'static str>,
    /// The model that has the memory, since when its time counts, and when its last request ended.
    turn: Option<(&'static str, Option<Instant>, Option<Instant>)>,
}

impl World {
    fn new(limits: Limits, swaps: bool) -> Self {
        Self {
            queue: Queue::new(limits),
            limits,
            swaps,
            now: Instant::now(),
            next: 0,
            in_flight: BTreeMap::new(),
            waiting: BTreeMap::new(),
            admitted: Vec::new(),
            turn: None,
        }
    }

    fn enter(&mut self, model: &'static str, priority: Priority) -> Entry<()> {
        let id = self.next;
        self.next += 1;
        let ask = Ask { model, priority, swaps: self.swaps };
        let (entry, woken) = self.queue.enter(ask, self.now, || (id, ()));
        if let Entry::Waiting { ticket, .. } = &entry {
            let (ticket, came) = (*ticket, self.now);
            self.waiting.insert(id, Request { model, priority, came, ticket });
        }
        self.wake(woken);
        match &entry {
            Entry::Admitted(spelled) => {
                assert_eq!(&**spelled, model);
                self.start(id, model);
            }
            Entry::Waiting { .. } => {}
            Entry::Full { waiting, .. } => assert_eq!(*waiting, self.limits.queue),
        }
        self.check();
        entry
    }

    fn leave(&mut self, id: Id) {
        let model = self.in_flight.remove(&id).unwrap();
        if self.swaps
            && let Some((resident, since, idle)) = &mut self.turn
            && *resident == model
        {
            since.get_or_insert(self.now);
            if self.in_flight.is_empty() {
                *idle = Some(self.now);
            }
        }
        let woken = self.queue.leave(model, Duration::from_secs(1), self.now);
        self.wake(woken);
        self.check();
    }

    fn give_up(&mut self, id: Id) {
        let request = self.waiting.remove(&id).unwrap();
        let (has_left, woken) = self.queue.give_up(request.model, request.ticket, self.now);
        assert!(has_left, "it was waiting");
        self.wake(woken);
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let woken = self.queue.advance(self.now);
        self.wake(woken);
        self.check();
    }

    fn wake(&mut self, woken: Vec<Id>) {
        for id in woken {
            let request = self.waiting.remove(&id).expect("only who waits is admitted, and only once");
            self.check_order(id, &request);
            self.start(id, request.model);
        }
    }

    fn start(&mut self, id: Id, model: &'static str) {
        if self.swaps {
            self.check_turn(model);
        }
        self.in_flight.insert(id, model);
        self.admitted.push(model);
    }

    /// Nobody was overtaken who should not be.
    fn check_order(&self, id: Id, request: &Request) {
        let aged = |request: &Request| self.now - request.came >= self.limits.queue_timeout / 2;
        for (other, left) in self.waiting.iter().filter(|(_, left)| left.model == request.model) {
            if left.priority == request.priority {
                assert!(*other > id, "first come, first served within a priority");
            }
            if aged(left) {
                assert!(*other > id, "who has waited long enough is not overtaken any more");
            }
            if left.priority == Priority::Interactive && request.priority == Priority::Batch {
                assert!(aged(request) && *other > id, "interactive goes before batch");
            }
        }
    }

    /// A swap is for those who have no work, or have had their time.
    fn check_turn(&mut self, model: &'static str) {
        if let Some((resident, since, idle)) = self.turn {
            if resident == model {
                return;
            }
            assert!(self.in_flight.is_empty(), "{resident} still works");
            let least = self.limits.residency;
            let is_over = since.is_none_or(|since| self.now - since >= least);
            let has_work = self.waiting.values().any(|request| request.model == resident);
            let is_left = idle.is_none_or(|idle| self.now - idle >= least.min(Duration::from_secs(2)));
            assert!(is_over || (is_left && !has_work), "{resident} was swapped out before its time");
        }
        self.turn = Some((model, None, None));
    }

    fn check(&mut self) {
        assert_eq!(self.queue.advance(self.now), Vec::<Id>::new(), "these could have gone");
        let depths: Vec<Depth> = self.queue.depths(&Arc::from("p")).collect();
        for model in MODELS {
            let depth = depths.iter().find(|depth| &*depth.model == model);
            let in_flight = self.in_flight.values().filter(|other| **other == model).count();
            let of = |priority| self.waiting.values().filter(|it| it.model == model && it.priority == priority).count();
            let (interactive, batch) = (of(Priority::Interactive), of(Priority::Batch));
            let told = depth.map_or((0, 0, 0), |depth| (depth.in_flight, depth.interactive, depth.batch));
            assert_eq!(told, (in_flight, interactive, batch), "{model}: no place is lost or made up");
            let limit = self.limits.in_flight.unwrap_or(usize::MAX);
            assert!(in_flight <= limit && interactive + batch <= self.limits.queue);
            if !self.swaps && interactive + batch > 0 {
                assert_eq!(in_flight, limit, "{model}: nobody waits while a place is free");
            }
        }
        if !self.waiting.is_empty() && self.in_flight.is_empty() {
            assert!(self.queue.next_change(self.now).is_some(), "all wait, and for nothing");
        }
    }

    /// Everybody in flight ends, one a second, and time passes, until nobody waits.
    fn drain(&mut self) {
        let steps = 20 + 20 * self.waiting.len();
        for _ in 0..steps {
            if self.waiting.is_empty() {
                return;
            }
            match self.in_flight.keys().next().copied() {
                Some(id) => {
                    self.pass(Duration::from_secs(1));
                    self.leave(id);
                }
                None => {
                    let next = self.queue.next_change(self.now).unwrap();
                    self.pass(next - self.now);
                }
            }
        }
        panic!("somebody starves: {:?}", self.waiting);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Enter(&'static str, Priority),
    Leave(prop::sample::Index),
    GiveUp(prop::sample::Index),
    Pass(Duration),
    Loosen(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::sample::select(&MODELS[..]), prop::sample::select(&Priority::ALL[..]))
            .prop_map(|(model, priority)| Step::Enter(model, priority)),
        4 => any::<prop::sample::Index>().prop_map(Step::Leave),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveUp),
        3 => (0u64..20_000).prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => (2usize..5).prop_map(Step::Loosen),
    ];
    prop::collection::vec(step, 1..80)
}

fn run(world: &mut World, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Enter(model, priority) => drop(world.enter(model, priority)),
            Step::Leave(index) if !world.in_flight.is_empty() => {
                let id = *index.get(&world.in_flight.keys().copied().collect::<Vec<_>>());
                world.leave(id);
            }
            Step::GiveUp(index) if !world.waiting.is_empty() => {
                let id = *index.get(&world.waiting.keys().copied().collect::<Vec<_>>());
                world.give_up(id);
            }
            Step::Pass(time) => world.pass(time),
            // Another configuration.
            Step::Loosen(limit) => {
                let busiest = MODELS.map(|model| world.in_flight.values().filter(|it| **it == model).count());
                world.limits.in_flight = Some(limit.max(busiest.into_iter().max().unwrap_or(0)));
                let woken = world.queue.limit(world.limits, world.now);
                world.wake(woken);
                world.check();
            }
            Step::Leave(_) | Step::GiveUp(_) => {}
        }
    }
    world.drain();
}

proptest! {
    #[test]
    fn whatever_happens_limits_hold_order_holds_and_everybody_gets_a_turn(steps in steps()) {
        run(&mut World::new(LIMITS, false), steps);
    }

    #[test]
    fn models_that_share_a_memory_take_turns_and_nobody_starves(steps in steps()) {
        run(&mut World::new(LIMITS, true), steps);
    }

    #[test]
    fn without_a_residency_they_still_take_turns(steps in steps()) {
        run(&mut World::new(Limits { residency: Duration::ZERO, ..LIMITS }, true), steps);
    }

    #[test]
    fn a_steady_stream_for_one_model_keeps_another_waiting_for_a_bounded_time(
        service in 1u64..20, late in 0u64..30, priority in prop::sample::select(&Priority::ALL[..]),
    ) {
        let mut world = World::new(LIMITS, true);
        let second = Duration::from_secs(1);
        let mut asked = None;
        let mut began = BTreeMap::new();
        for at in 0..200 {
            if at == late {
                asked = Some(world.next);
                world.enter("b", priority);
            }
            // Always one more than there are places for.
            while world.in_flight.len() + world.waiting.len() < 4 {
                world.enter("a", Priority::Interactive);
            }
            for id in world.in_flight.keys() {
                began.entry(*id).or_insert(at);
            }
            let done: Vec<Id> = world.in_flight.keys().copied().filter(|id| at - began[id] >= service).collect();
            done.into_iter().for_each(|id| world.leave(id));
            if asked.is_some_and(|id| world.in_flight.contains_key(&id)) {
                // The first answer, the residency, then what was in flight; a batch request waits until it counts.
                let patience = if priority == Priority::Batch { 30 } else { 0 };
                let most = (service + 10).max(patience) + 2 * service + 2;
                prop_assert!(at - late <= most, "waited {} s, at most {most} s", at - late);
                return Ok(());
            }
            world.pass(second);
        }
        prop_assert!(false, "never");
    }
}

#[test]
fn an_uncontended_request_goes_at_once_and_its_place_is_free_again() {
    let mut world = World::new(LIMITS, false);
    for _ in 0..100 {
        assert!(matches!(world.enter("a", Priority::Interactive), Entry::Admitted(_)));
        world.leave(world.next - 1);
    }
}

#[test]
fn positions_count_those_that_go_before() {
    let mut world = World::new(Limits { in_flight: Some(1), ..LIMITS }, false);
    let mut position = |priority| match world.enter("a", priority) {
        Entry::Waiting { position, .. } => position,
        _ => 0,
    };
    assert_eq!(position(Priority::Batch), 0, "at once");
    assert_eq!(position(Priority::Batch), 1);
    assert_eq!(position(Priority::Batch), 2);
    assert_eq!(position(Priority::Interactive), 1, "before both batch requests");
    assert_eq!(position(Priority::Interactive), 2);
    assert_eq!(position(Priority::Batch), 5);
    assert!(matches!(world.enter("a", Priority::Interactive), Entry::Full { waiting: 5, .. }));
    assert!(matches!(world.enter("b", Priority::Interactive), Entry::Admitted(_)), "each model has its own places");
}

#[test]
fn a_full_queue_tells_when_it_will_have_cleared() {
    let mut world = World::new(LIMITS, false);
    let clears_in = |world: &mut World| match world.enter("a", Priority::Interactive) {
        Entry::Full { clears_in, .. } => clears_in,
        entry => panic!("{entry:?}"),
    };
    for _ in 0..7 {
        world.enter("a", Priority::Interactive);
    }
    assert_eq!(clears_in(&mut world), Duration::from_millis(2_500), "a guess of 1 s each, two at a time, five wait");
    let woken = world.queue.leave("a", Duration::from_secs(4), world.now);
    assert_eq!(woken.len(), 1);
    world.queue.enter(Ask { model: "a", priority: Priority::Batch, swaps: false }, world.now, || (99, ()));
    let ask = Ask { model: "a", priority: Priority::Batch, swaps: false };
    let (entry, _) = world.queue.enter(ask, world.now, || (99, ()));
    assert_eq!(entry, Entry::Full { waiting: 5, clears_in: Duration::from_secs(10) });
    world.queue.leave("a", Duration::from_secs(100_000), world.now);
    world.queue.enter(ask, world.now, || (99, ()));
    let (entry, _) = world.queue.enter(ask, world.now, || (99, ()));
    assert_eq!(entry, Entry::Full { waiting: 5, clears_in: LIMITS.queue_timeout }, "nobody waits longer than that");
}

#[test]
fn requests_for_another_model_go_as_a_batch() {
    let mut world = World::new(Limits { in_flight: Some(1), ..LIMITS }, true);
    for model in ["a", "b", "a", "b", "c", "a", "b"] {
        world.enter(model, Priority::Interactive);
    }
    world.drain();
    assert_eq!(world.admitted.concat(), "aaabbbc");
}

#[test]
fn the_memory_waits_a_moment_for_the_client_that_was_just_answered() {
    let mut world = World::new(LIMITS, true);
    world.enter("a", Priority::Interactive);
    world.enter("b", Priority::Interactive);
    world.leave(0);
    world.pass(Duration::from_millis(1_900));
    assert_eq!(world.admitted, ["a"]);
    world.enter("a", Priority::Interactive);
    assert_eq!(world.admitted, ["a", "a"]);
    world.leave(2);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.admitted, ["a", "a", "b"]);
}

#[test]
fn a_batch_request_for_another_model_lets_interactive_ones_go_on_until_it_has_waited_long_enough() {
    let mut world = World::new(LIMITS, true);
    world.enter("a", Priority::Interactive);
    world.enter("b", Priority::Batch);
    world.leave(0);
    for id in 2..16 {
        world.enter("a", Priority::Interactive);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.admitted.last(), Some(&"a"));
        world.leave(id);
    }
    world.enter("a", Priority::Interactive);
    world.pass(Duration::from_secs(2));
    world.enter("a", Priority::Interactive);
    world.leave(16);
    assert_eq!(world.admitted.last(), Some(&"b"), "half of the queue timeout is over");
}

#[test]
fn an_interactive_request_takes_the_batch_requests_for_its_model_along() {
    let mut world = World::new(LIMITS, true);
    world.enter("a", Priority::Interactive);
    world.leave(0);
    world.enter("a", Priority::Interactive);
    world.enter("b", Priority::Batch);
    world.pass(LIMITS.residency);
    world.leave(1);
    assert!(world.in_flight.is_empty(), "a pause of interactive requests is not for batch requests");
    world.enter("b", Priority::Interactive);
    assert_eq!(world.in_flight.keys().copied().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn who_was_held_back_for_another_that_has_left_goes_at_once() {
    let mut world = World::new(LIMITS, true);
    world.enter("a", Priority::Interactive);
    world.leave(0);
    world.enter("a", Priority::Interactive);
    world.enter("b", Priority::Interactive);
    world.pass(LIMITS.residency);
    assert!(matches!(world.enter("a", Priority::Interactive), Entry::Waiting { .. }), "room is made for the other one");
    world.give_up(2);
    assert_eq!(world.in_flight.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn models_that_are_in_memory_together_are_asked_together() {
    let mut world = World::new(LIMITS, true);
    let loaded = ["a".to_owned(), "b".to_owned()];
    world.queue.observed(&loaded, &[], world.now);
    let enter = |world: &mut World, model| {
        let ask = Ask { model, priority: Priority::Interactive, swaps: true };
        world.queue.enter(ask, world.now, || (0, ())).0
    };
    assert!(matches!(enter(&mut world, "a"), Entry::Admitted(_)));
    assert!(matches!(enter(&mut world, "b"), Entry::Admitted(_)));
    assert!(matches!(enter(&mut world, "c"), Entry::Waiting { .. }));
    // Somebody else has brought it in beside the others.
    let woken = world.queue.observed(&["c".to_owned(), "b".to_owned(), "a".to_owned()], &[], world.now);
    assert_eq!(woken, [0]);
}

#[test]
fn a_model_that_stays_beside_the_one_that_is_loaded_is_asked_meanwhile() {
    let mut world = World::new(LIMITS, true);
    let (stays, comes) = (["stays".to_owned()], ["comes".to_owned()]);
    let enter = |world: &mut World, model| {
        let ask = Ask { model, priority: Priority::Interactive, swaps: true };
        world.queue.enter(ask, world.now, || (7, ())).0
    };
    world.queue.observed(&stays, &[], world.now);
    assert!(matches!(enter(&mut world, "comes"), Entry::Admitted(_)));
    assert!(matches!(enter(&mut world, "stays"), Entry::Waiting { .. }), "the server may have thrown it out");
    assert!(world.queue.observed(&stays, &[], world.now).is_empty(), "the swap has not begun");
    assert_eq!(world.queue.observed(&stays, &comes, world.now), [7]);
    assert!(world.queue.observed(&["stays".to_owned(), "comes".to_owned()], &[], world.now).is_empty());
    assert!(matches!(enter(&mut world, "stays"), Entry::Admitted(_)));
}

#[test]
fn what_the_server_says_counts_when_nothing_is_in_flight() {
    let mut world = World::new(LIMITS, true);
    world.enter("a", Priority::Interactive);
    world.enter("b", Priority::Interactive);
    // The model is on its way: that it is not there yet says nothing.
    assert!(world.queue.observed(&[], &[], world.now).is_empty());
    world.leave(0);
    // It was thrown out: there is nothing to wait for.
    let woken = world.queue.observed(&[], &[], world.now);
    assert_eq!(woken, [1]);
}

#[test]
fn models_that_clients_invent_are_forgotten() {
    let mut queue = Queue::<()>::new(Limits::NONE);
    let now = Instant::now();
    let enter = |queue: &mut Queue<()>, model: &str| {
        let ask = Ask { model, priority: Priority::Interactive, swaps: false };
        assert!(matches!(queue.enter(ask, now, || ((), ())).0, Entry::Admitted(_)));
    };
    enter(&mut queue, "busy");
    for number in 0..10 * MAX_LANES {
        let model = format!("invented-{number}");
        enter(&mut queue, &model);
        queue.leave(&model, Duration::ZERO, now);
        assert!(queue.lanes.len() <= MAX_LANES);
    }
    assert_eq!(queue.lanes["busy"].in_flight, 1);
}
