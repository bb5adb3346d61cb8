//! The one TOML file: its types, loading with field paths in errors, and the validated [`Snapshot`].

mod build;
pub mod classes;
pub mod env;
mod error;
mod failover;
mod file;
mod limits;
mod load;
mod named_models;
mod parse;
mod paths;
pub mod private_file;
mod providers;
mod show;
mod snapshot;
pub mod state;
mod traces;
mod values;
mod watch;

pub use error::{ConfigError, Problem};
pub use file::DeadlinesTable;
pub use file::File;
pub use load::{Flags, Inputs};
pub use named_models::NamedModels;
pub use paths::Paths;
pub use snapshot::{Breaker, Local, LogSettings, OnCloudModel, Retry, Server, Snapshot, Traces};
pub use watch::Watch;
