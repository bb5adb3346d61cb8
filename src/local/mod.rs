//! The local MLX server on port 11434: what it says of itself, what is done about it, and whether local-only mode is on.

pub mod agents;
pub mod health;
pub mod launchctl;
pub mod llama_swap;
mod mode;
pub mod model_files;
pub mod process;
pub mod process_group;
pub mod proof;
pub mod rotation;
pub mod service;
pub mod supervise;
pub mod supervisor;

pub use health::{LocalServer, ServerKind};
pub use mode::LocalMode;
