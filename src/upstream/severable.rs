//! A socket that closes when the cloud is forbidden, whoever still holds its connection.

use super::connect::Duplex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

type Socket = Mutex<Option<Box<dyn Duplex>>>;

/// A socket that is there until it is severed.
pub struct Severable {
    socket: Arc<Socket>,
    /// Ends the task that waits for the end.
    _watch: DropGuard,
}

impl Severable {
    /// Severs `socket` when `revoked` ends. A client that reads slowly leaves an answer unread for long, and nobody else
    /// would close its connection.
    pub fn new(socket: Box<dyn Duplex>, revoked: &CancellationToken) -> Self {
        let socket = Arc::new(Mutex::new(Some(socket)));
        let (severed, ended) = (Arc::downgrade(&socket), revoked.child_token());
        let watch = ended.clone().drop_guard();
        tokio::spawn(async move {
            ended.cancelled().await;
            if let Some(socket) = severed.upgrade() {
                drop(open(&socket).take());
            }
        });
        Self { socket, _watch: watch }
    }

    fn poll<T>(&self, work: impl FnOnce(Pin<&mut dyn Duplex>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *open(&self.socket) {
            Some(socket) => work(Pin::new(&mut **socket)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

fn open(socket: &Socket) -> MutexGuard<'_, Option<Box<dyn Duplex>>> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Severable {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Severable {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|socket| socket.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        open(&self.socket).as_ref().is_some_and(|socket| socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|socket| socket.poll_shutdown(cx))
    }
}
