//! The timer of one connection's limit for request heads: set anew before each request, and hardly ever needed. hyper makes
//! and drops one each time; here they share an alarm, which stays set. hyper's limit runs from the end of the answer before;
//! here it runs from the head's first byte, and a client that keeps its connection for the next request may be idle for long.

use crate::upstream::Alarm;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A connection is kept for so long without a request, longer than the pools of clients do: if the gateway closed first, it
/// might do so while the next request is on its way.
const IDLE: Duration = Duration::from_secs(600);

/// The timer of one connection.
#[derive(Debug, Clone)]
pub struct HeaderTimer(Arc<Waiting>);

/// A connection's wait for a request head.
#[derive(Debug)]
struct Waiting {
    limit: Duration,
    /// Those for connections; without a free one nobody may be idle for long.
    places: Arc<Semaphore>,
    alarm: Mutex<Alarm>,
    /// There was a wait before this one. A new connection is there to ask at once.
    is_kept: AtomicBool,
    /// The client has sent something of the head that is waited for.
    has_begun: AtomicBool,
    /// Bytes came, and hyper has not waited for more since: it reads no further while some of them are left over.
    is_unwatched: AtomicBool,
}

#[derive(Debug)]
struct Limit {
    waiting: Arc<Waiting>,
    deadline: Instant,
    /// The end of the time in which a kept connection may send nothing.
    idle_ends: Option<Instant>,
}

impl HeaderTimer {
    /// The timer of a new connection, which holds one of `places`, with a limit for each request head.
    pub fn new(limit: Duration, places: Arc<Semaphore>) -> Self {
        let no = || AtomicBool::new(false);
        let (is_kept, has_begun, is_unwatched) = (no(), no(), no());
        Self(Arc::new(Waiting { limit, places, alarm: Mutex::default(), is_kept, has_begun, is_unwatched }))
    }

    /// hyper has looked for bytes of the client's; `came`: there were some.
    pub fn looked(&self, came: bool) {
        self.0.is_unwatched.store(came, Ordering::Relaxed);
        if came {
            self.0.has_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes came, and hyper has not waited for more since.
    pub fn is_unwatched(&self) -> bool {
        self.0.is_unwatched.load(Ordering::Relaxed)
    }
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        // What is left over of the bytes before is the beginning of this head.
        self.0.has_begun.store(self.is_unwatched(), Ordering::Relaxed);
        let idle_ends = self.0.is_kept.swap(true, Ordering::Relaxed).then(|| deadline + IDLE);
        Box::pin(Limit { waiting: Arc::clone(&self.0), deadline, idle_ends })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Sleep for Limit {}

impl Future for Limit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { waiting, deadline, idle_ends } = &mut *self;
        let later = || tokio::time::Instant::now().into_std() + waiting.limit;
        if waiting.has_begun.load(Ordering::Relaxed) && idle_ends.take().is_some() {
            *deadline = later();
        }
        let mut alarm = waiting.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            ready!(alarm.poll(cx, (*deadline).into()));
            // Looked at each time the limit is over, so that a client without a place waits no longer than that.
            match *idle_ends {
                Some(ends) if *deadline < ends && waiting.places.available_permits() > 0 => *deadline = later(),
                _ => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_socket::ClientSocket;
    use super::super::client_socket::tests::connected;
    use super::*;
    use http::Response;
    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::{self, sleep};

    const LIMIT: Duration = Duration::from_secs(10);

    /// A client of a server that answers everything, and how many connections more it would take.
    async fn client(free: usize) -> TcpStream {
        let (client, stream) = connected().await;
        let timer = HeaderTimer::new(LIMIT, Arc::new(Semaphore::new(free)));
        let socket = TokioIo::new(ClientSocket::new(stream, timer.clone()));
        let answer = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())) });
        tokio::spawn(http1::Builder::new().header_read_timeout(LIMIT).timer(timer).serve_connection(socket, answer));
        client
    }

    async fn ask(client: &mut TcpStream) {
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        hear(client).await;
    }

    /// Reads one answer.
    async fn hear(client: &mut TcpStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.expect("the connection was closed"));
        }
    }

    /// How long until the server closes, in seconds.
    async fn closes(client: &mut TcpStream) -> u64 {
        let began = time::Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_may_be_idle_between_two_requests() {
        let mut client = client(1).await;
        for _ in 0..3 {
            ask(&mut client).await;
            sleep(IDLE - LIMIT).await;
        }
        ask(&mut client).await;
        assert!((600..=640).contains(&closes(&mut client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_makes_room_when_there_is_none() {
        let mut client = client(0).await;
        ask(&mut client).await;
        assert!((9..=20).contains(&closes(&mut client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_and_a_head_that_has_begun_are_not_idle() {
        let mut client = client(1).await;
        assert!((9..=20).contains(&closes(&mut client).await));
        let mut client = self::client(1).await;
        ask(&mut client).await;
        sleep(Duration::from_secs(100)).await;
        client.write_all(b"GET / HT").await.unwrap();
        assert!((9..=20).contains(&closes(&mut client).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_behind_the_request_before_is_not_idle() {
        let mut client = client(1).await;
        for _ in 0..2 {
            ask(&mut client).await;
        }
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HT").await.unwrap();
        hear(&mut client).await;
        assert!((9..=20).contains(&closes(&mut client).await));
    }
}
