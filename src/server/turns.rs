//! Whose turn it is: each target of a plan once, then those that may answer later, then those whose keys are thought bad.

use super::exchange::Exchange;
use crate::chat::{ChatError, ErrorKind};
use crate::route::Target;
use crate::upstream::{Disposition, Failure, Outcome};
use std::time::Duration;
use tokio::time::Instant;

/// One target's turn to answer.
pub struct Turn<'a> {
    /// The target.
    pub target: &'a Target,
    /// All others have had a turn.
    pub is_last: bool,
    /// It rests until then.
    pub from: Option<Instant>,
    /// Another one is back then.
    pub until: Option<Instant>,
    /// With a key that is thought to be bad.
    pub regardless: bool,
    /// What was tried before.
    pub tried: Tried,
}

impl Turn<'_> {
    /// The time of all attempts is over before the target could be called; what it said before tells more than that.
    pub fn out_of_time(&mut self) -> Unanswered {
        Unanswered::OutOfTime(self.tried.said.take().unwrap_or_else(|| out_of_time(self.target)))
    }
}

/// What a request has tried at a target, in all of its turns.
#[derive(Default)]
pub struct Tried {
    /// It was called.
    pub was_asked: bool,
    /// How often it was called again.
    pub retries: u32,
    /// Keys that were refused.
    pub rotations: u32,
    /// The most useful of what it said.
    pub said: Option<Failure>,
    /// It ran into a limit of time, after which nobody calls it again: it still works on what nobody waits for any more.
    pub is_left_working: bool,
}

impl Tried {
    /// What it said, with what it says now.
    pub fn says(&mut self, failure: Failure) -> Failure {
        more_useful(self.said.take(), failure)
    }
}

/// Why a target gave no answer.
pub enum Unanswered {
    /// It was asked, or rests because it failed or asked for it.
    Failed(Failure),
    /// It may answer later.
    Later(Back, Failure),
    /// The time of all attempts ran out while it was asked, or before it could be; what it said before that, if it did.
    OutOfTime(Failure),
    /// It was not asked, because none of its keys is thought to be good.
    ShutOut(Failure),
}

/// When a target may answer.
#[derive(Clone, Copy)]
pub enum Back {
    /// When a place comes free.
    Busy,
    /// After a rest that it asked for itself.
    At(Instant),
    /// After a rest that follows from its failures; it is waited for only while another one is.
    Perhaps(Instant),
}

impl Back {
    /// The end of a rest.
    fn at(self) -> Option<Instant> {
        match self {
            Self::Busy => None,
            Self::At(at) | Self::Perhaps(at) => Some(at),
        }
    }
}

/// The targets of one request, and what is known of those that gave no answer.
pub struct Turns<'a> {
    exchange: &'a Exchange,
    /// Those that have not had their turn.
    targets: std::slice::Iter<'a, Target>,
    /// Those that may answer later, and what is told of them if they get no other turn.
    later: Vec<(Back, Turn<'a>, Failure)>,
    /// Those that were not asked because of their keys.
    shut_out: Vec<(&'a Target, Failure)>,
    /// The most useful failure of the others.
    told: Option<Failure>,
    /// Somebody has been asked whose key is not thought to be bad.
    has_asked: bool,
    /// The prompt does not fit into so many tokens; 0 when that window is not known.
    too_small: Option<u64>,
}

impl<'a> Turns<'a> {
    /// All targets, of which none was asked.
    pub fn new(exchange: &'a Exchange, targets: &'a [Target]) -> Self {
        Self {
            exchange,
            targets: targets.iter(),
            later: Vec::new(),
            shut_out: Vec::new(),
            told: None,
            has_asked: false,
            too_small: None,
        }
    }

    /// Whose turn it is: each target once in the order of the plan, then those that may answer later, then, if nobody has been
    /// asked, those whose keys are thought to be bad.
    pub fn next(&mut self) -> Option<Turn<'a>> {
        let turn = |target, is_last, until, regardless| {
            let tried = Tried::default();
            Some(Turn { target, is_last, from: None, until, regardless, tried })
        };
        while let Some(target) = self.targets.next() {
            if self.is_large_enough(target) {
                let is_last = self.targets.len() == 0;
                return turn(target, is_last, self.first_back().filter(|_| is_last), false);
            }
        }
        if let Some(turn) = self.next_later() {
            return Some(turn);
        }
        // Nobody is turned away on memory alone: a key may be good again.
        while !self.has_asked && !self.shut_out.is_empty() {
            let (target, failure) = self.shut_out.remove(0);
            if self.is_large_enough(target) {
                return turn(target, true, None, true);
            }
            self.tell(failure);
        }
        None
    }

    /// Who is back first; a place may come free at any moment.
    fn next_later(&mut self) -> Option<Turn<'a>> {
        while self.later.iter().any(|(back, ..)| !matches!(back, Back::Perhaps(_))) {
            let now = Instant::now();
            let first = (0..self.later.len()).min_by_key(|place| self.later[*place].0.at().unwrap_or(now))?;
            let (back, mut turn, failure) = self.later.remove(first);
            if self.is_large_enough(turn.target) {
                // That it rested or was busy is nothing to tell any more.
                turn.tried.said = turn.tried.was_asked.then_some(failure);
                return Some(Turn { is_last: true, from: back.at(), until: self.first_back(), ..turn });
            }
            self.tell(failure);
        }
        None
    }

    /// When the first of those is back that rest.
    pub fn first_back(&self) -> Option<Instant> {
        self.later.iter().filter_map(|(back, ..)| back.at()).min()
    }

    /// Keeps in mind why a target gave no answer; false if no other is to be asked.
    pub fn goes_on(&mut self, turn: Turn<'a>, unanswered: Unanswered) -> bool {
        let Turn { target, is_last, regardless, .. } = turn;
        match unanswered {
            Unanswered::Failed(failure) if failure.outcome.disposition() == Disposition::Return => {
                self.told = Some(failure);
                self.later.clear();
                self.shut_out.clear();
                return false;
            }
            Unanswered::Failed(failure) => self.tell(failure),
            Unanswered::Later(back, failure) => self.later.push((back, turn, failure)),
            Unanswered::OutOfTime(failure) => {
                self.tell(failure);
                return false;
            }
            Unanswered::ShutOut(failure) if regardless => self.tell(failure),
            Unanswered::ShutOut(failure) => {
                if !is_last || self.has_asked {
                    self.exchange.not_asked(target, Outcome::Resting, Duration::ZERO, &failure.error);
                }
                self.shut_out.push((target, failure));
            }
        }
        true
    }

    /// A target is called; `regardless` of what is thought of its key.
    pub fn asked(&mut self, regardless: bool) {
        self.has_asked |= !regardless;
    }

    /// The prompt did not fit into the window of this target: only larger ones get a turn from now on.
    pub fn does_not_fit(&mut self, target: &Target) {
        let window = self.exchange.gateway.window(self.exchange, target).unwrap_or(0);
        self.too_small = self.too_small.max(Some(window));
    }

    fn tell(&mut self, failure: Failure) {
        self.told = Some(more_useful(self.told.take(), failure));
    }

    /// What the client is to hear when nobody has answered.
    pub fn told(mut self) -> Option<Failure> {
        let unasked = std::mem::take(&mut self.later).into_iter().map(|(_, _, failure)| failure);
        let shut_out = std::mem::take(&mut self.shut_out).into_iter().map(|(_, failure)| failure);
        unasked.chain(shut_out).for_each(|failure| self.tell(failure));
        self.told
    }

    /// A prompt that was too long for another target may fit into this one.
    fn is_large_enough(&self, target: &Target) -> bool {
        let Some(too_small) = self.too_small else { return true };
        self.exchange.gateway.window(self.exchange, target).is_some_and(|window| window > too_small)
    }
}

/// Of two failures the one that helps the client more; of equal ones the first.
fn more_useful(told: Option<Failure>, failure: Failure) -> Failure {
    match told {
        Some(told) if told.usefulness() >= failure.usefulness() => told,
        _ => failure,
    }
}

/// The failure of a target for which no time was left. It tells less than any other.
fn out_of_time(target: &Target) -> Failure {
    let message = format!(
        "{target} was not asked: the time of all attempts was used up before. Ask again with more time: `budget` in [providers.{}.deadlines] or in the task class, and `x-bifrost-timeout-ms` where the request has it.",
        target.provider.name
    );
    Failure::new(Outcome::Busy, ChatError::new(ErrorKind::Timeout, message).with_code("budget_used_up"))
}
