//! The socket of one client, which sees what hyper does not look for: that the client has stopped reading, and that it has
//! gone while bytes of it lie unread.

use super::header_timer::HeaderTimer;
use crate::upstream::Alarm;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A client that takes nothing for so long is gone: a stopped program holds a place at a model and the model's work, and
/// one that is only slow makes room in far less.
const WRITE_LIMIT: Duration = Duration::from_secs(120);

/// The socket of one client.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    timer: HeaderTimer,
    /// By when the write that waits must get on; `None` while none waits, so that the usual one sets no timer.
    write_ends: Option<Instant>,
    alarm: Alarm,
}

impl ClientSocket {
    /// The socket of a client that has just come; `timer` hears of all that it sends.
    pub fn new(stream: TcpStream, timer: HeaderTimer) -> Self {
        Self { stream, timer, write_ends: None, alarm: Alarm::default() }
    }

    /// A write as it stands, unless it has waited for too long.
    fn within_limit(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_ends = None;
            return written;
        }
        let ends = *self.write_ends.get_or_insert_with(|| Instant::now() + WRITE_LIMIT);
        self.alarm.poll(cx, ends).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads no more")))
    }

    /// Whether the client has closed the connection; if not, and nothing of it lies unread, its next sign wakes the task. Of
    /// one that sends still more bytes it is seen when the answer is written.
    fn has_gone(&self, cx: &mut Context<'_>) -> bool {
        if self.stream.poll_read_ready(cx).is_pending() {
            return false;
        }
        let ready = pin!(self.stream.ready(Interest::READABLE)).poll(cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.timer.looked(buffer.filled().len() > before);
        read
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_limit(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.within_limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper comes here at the end of each turn in which nothing waits to be written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.timer.is_unwatched() && self.has_gone(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client has gone")));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Response;
    use http_body::{Body, Frame};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::sync::{Semaphore, oneshot};

    /// A body without an end, which tells when it is dropped.
    struct Endless {
        _held: oneshot::Sender<()>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 65_536])))))
        }
    }

    /// A client's end, and the server's.
    pub async fn connected() -> (TcpStream, TcpStream) {
        let (taking, coming) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
        // Small ones are full soon, and tell soon that there is room again.
        taking.set_send_buffer_size(65_536).unwrap();
        coming.set_recv_buffer_size(65_536).unwrap();
        taking.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = taking.listen(1).unwrap();
        let client = coming.connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn socket_of(stream: TcpStream) -> ClientSocket {
        ClientSocket::new(stream, HeaderTimer::new(WRITE_LIMIT, Arc::new(Semaphore::new(1))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_does_not_hold_its_answer_for_ever() {
        let (mut client, stream) = connected().await;
        let (held, dropped) = oneshot::channel();
        let held = Cell::new(Some(held));
        let answer = service_fn(move |_| {
            let body = Endless { _held: held.take().unwrap() };
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let socket = TokioIo::new(socket_of(stream));
        let serving = tokio::spawn(http1::Builder::new().serve_connection(socket, answer));
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        client.read_exact(&mut [0; 12]).await.unwrap();
        let stopped = Instant::now();
        let freed = tokio::time::timeout(10 * WRITE_LIMIT, dropped).await;
        assert!(freed.expect("the answer is held for ever").is_err());
        assert!(stopped.elapsed() >= WRITE_LIMIT, "{:?}", stopped.elapsed());
        assert!(serving.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_only_slow_keeps_its_answer() {
        let (mut client, stream) = connected().await;
        let mut socket = socket_of(stream);
        let began = Instant::now();
        let reading = tokio::spawn(async move {
            let mut taken = vec![0; 500_000];
            while client.read_exact(&mut taken).await.is_ok() {
                tokio::time::sleep(WRITE_LIMIT * 2 / 3).await;
            }
        });
        socket.write_all(&vec![b'x'; 5_000_000]).await.unwrap();
        assert!(began.elapsed() > 2 * WRITE_LIMIT, "it was never slow: {:?}", began.elapsed());
        drop(socket);
        reading.await.unwrap();
    }
}
