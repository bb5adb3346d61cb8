//! Who is to answer: model references, the live catalogue, task classes, `auto`, and the plan. Pure: the clock and all
//! state are parameters; only [`registry::Registry`] reads a file.

pub mod auto;
pub mod catalogue;
mod class;
mod plan;
mod reference;
pub mod registry;

pub use catalogue::Catalogue;
pub use plan::{Ask, Plan, PlanError, Target, View, plan};
pub use reference::Reference;
