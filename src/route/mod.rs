//! Who is to answer: model references, the live catalogue, task classes, `auto`, and the plan. Pure: the clock and all
//! state are parameters; only [`registry::Registry`] reads a file.

pub mod auto;
pub mod balance;
mod breaker;
pub mod catalogue;
mod class;
mod condition;
pub mod key_pool;
mod plan;
mod reference;
pub mod registry;

pub use breaker::Rest;
pub use catalogue::Catalogue;
pub use condition::{Admitted, Change, Condition, Conditions};
pub use key_pool::KeyPool;
pub use plan::{Ask, LocalOnly, Plan, PlanError, Target, View, plan, without_forbidden_fallbacks};
pub use reference::Reference;
