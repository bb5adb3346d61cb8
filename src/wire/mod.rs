//! Framing: how messages are laid on a byte stream, and edits of a JSON body that keep every other byte.

pub mod buffer;
pub mod cuts;
pub mod json;
pub mod json_tree;
pub mod sse;
pub mod timestamp;
