//! The local MLX server on port 11434: what it says of itself, and what is done about it, and
//! whether local-only mode is on.

pub mod health;
pub mod launchctl;
mod mode;
pub mod process;
pub mod proof;
pub mod supervisor;

pub use health::{LocalServer, ServerKind};
pub use mode::LocalMode;
