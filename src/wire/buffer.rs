//! Bodies and the buffers of connections.

use bytes::{Bytes, BytesMut};

/// Bytes up to this size are copied out of a connection's buffer.
const SMALL: usize = 4 * 1024;

/// A body that comes in pieces. One that comes in a single piece is not copied, unless it is small.
#[derive(Debug, Default)]
pub struct Pieces {
    first: Bytes,
    /// Everything, from the second piece on.
    all: BytesMut,
}

impl Pieces {
    /// So many bytes have come.
    pub fn bytes(&self) -> usize {
        self.first.len() + self.all.len()
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.bytes() == 0 {
            self.first = piece;
            return;
        }
        if !self.first.is_empty() {
            self.all.reserve(self.first.len() + piece.len());
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&piece);
    }

    /// All of it. A small body is apart from the connection's buffer that it came in: while somebody holds a piece of that
    /// buffer, the connection needs another one of 8 KiB for the next message.
    pub fn join(self) -> Bytes {
        if !self.all.is_empty() {
            return self.all.freeze();
        }
        if self.first.len() <= SMALL { Bytes::copy_from_slice(&self.first) } else { self.first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_cut_is_whole_again(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6000), 0..5)) {
            let mut joined = Pieces::default();
            for piece in &pieces {
                joined.push(Bytes::from(piece.clone()));
            }
            let whole = pieces.concat();
            prop_assert_eq!(joined.bytes(), whole.len());
            prop_assert_eq!(joined.join(), whole);
        }
    }
}
