//! Bodies and the buffers of connections.

use bytes::Bytes;

/// Bytes up to this size are copied out of a connection's buffer.
const SMALL: usize = 4 * 1024;

/// A small body apart from the connection's buffer that it came in: while somebody holds a piece of that buffer, the
/// connection needs another one of 8 KiB for the next message.
pub fn detached(body: Bytes) -> Bytes {
    if body.len() <= SMALL { Bytes::copy_from_slice(&body) } else { body }
}
