//! The one TOML file: its types, loading with field paths in errors, and the validated [`Snapshot`].

pub mod classes;
mod snapshot;

pub use snapshot::{Local, LogSettings, OnCloudModel, Server, Snapshot};
