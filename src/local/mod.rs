//! The local MLX server on port 11434: what it says of itself, and whether local-only mode is on.

pub mod agents;
pub mod health;
pub mod launchctl;
mod mode;
pub mod model_files;
pub mod process_group;
pub mod rotation;
pub mod service;
pub mod supervise;

pub use health::{LocalServer, ServerKind, Verdict};
pub use mode::LocalMode;
