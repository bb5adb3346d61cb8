//! Sockets, connections and the end of the process.

use super::client_socket::ClientSocket;
use super::gate;
use super::header_timer::HeaderTimer;
use super::routes::Routes;
use crate::config::Server;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long the listener rests when the system has no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// So long is left for the last words of what the grace cuts off. With the default grace launchd, which kills after 1 s,
/// still waits for them.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The sockets, bound.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("{0} is taken by another process. Stop it (`lsof -nP -iTCP:{port} -sTCP:LISTEN` names it), or choose another port: `[server] port` in the config, BIFROST_PORT or --port.", port = .0.port())]
    Taken(SocketAddr),
    /// The system refused.
    #[error("{address} could not be bound: {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Listeners {
    /// Binds every address. A machine without IPv6 goes without `::1`, and the log says so.
    ///
    /// # Errors
    /// A port is taken or refused.
    pub async fn bind(hosts: &[IpAddr], port: u16) -> Result<Self, BindError> {
        let mut listeners: Vec<TcpListener> = Vec::with_capacity(hosts.len());
        for host in hosts {
            // Port 0 lets the system choose once; the other addresses then take the same one.
            let port = match listeners.first().map(TcpListener::local_addr) {
                Some(Ok(first)) => first.port(),
                _ => port,
            };
            let address = SocketAddr::new(*host, port);
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(BindError::Taken(address)),
                Err(error) if host.is_ipv6() && !listeners.is_empty() && is_missing(&error) => {
                    warn!(%address, %error, "no IPv6 on this machine; listening on IPv4 only");
                }
                Err(source) => return Err(BindError::Refused { address, source }),
            }
        }
        Ok(Self(listeners))
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until `stop` ends, then lets what runs finish for the grace, tells the rest that it ends and returns.
    pub async fn serve(self, routes: Routes, server: &Server, stop: impl Future<Output = ()>) {
        let header_timeout = server.header_timeout;
        let mut http = http1::Builder::new();
        http.header_read_timeout(header_timeout)
            // Twice the limit, so that a head somewhat too large gets an answer with words in it, from the gate.
            .max_buf_size(2 * server.max_header.max(8 * 1024))
            .keep_alive(true);
        let routes = Arc::new(routes);
        let places = Arc::new(Semaphore::new(server.max_connections));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let end = End::default();
        let mut accepting = JoinSet::new();
        for listener in self.0 {
            let (http, routes, end) = (http.clone(), Arc::clone(&routes), end.clone());
            let (places, connections) = (Arc::clone(&places), Arc::clone(&connections));
            accepting.spawn(async move {
                loop {
                    let Some(stream) = accept(&listener).await else { continue };
                    // Only who has come takes a place; beyond the limit one waits here, the others in the system's backlog.
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    let timer = HeaderTimer::new(header_timeout, Arc::clone(&places));
                    let connection = converse(http.clone(), timer, Arc::clone(&routes), stream, end.clone());
                    let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                    // Those that have ended.
                    while connections.try_join_next().is_some() {}
                }
            });
        }
        stop.await;
        accepting.shutdown().await;
        end.begun.cancel();
        // Nobody adds to them any more.
        let mut connections = std::mem::take(&mut *connections.lock().unwrap_or_else(PoisonError::into_inner));
        if finish(&mut connections, server.shutdown_grace).await {
            return;
        }
        warn!("some exchanges did not finish within the grace and were ended");
        routes.gateway().stop();
        end.grace_over.cancel();
        if !finish(&mut connections, LAST_WORDS).await {
            // The log is there to hear of each end.
            connections.shutdown().await;
        }
    }
}

/// The end of the process, as each connection hears of it.
#[derive(Clone, Default)]
struct End {
    /// Only what runs is finished.
    begun: CancellationToken,
    /// Nothing more is waited for. The gateway knows it before the connections do.
    grace_over: CancellationToken,
}

/// True when all `connections` ended within `limit`.
async fn finish(connections: &mut JoinSet<()>, limit: Duration) -> bool {
    let finished = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(limit, finished).await.is_ok()
}

/// One connection, until it ends; when the gateway stops, until the end of the exchange that is under way.
async fn converse(mut http: http1::Builder, timer: HeaderTimer, routes: Arc<Routes>, stream: TcpStream, end: End) {
    let answer = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(gate::pass(&routes, request).await) }
    });
    let socket = TokioIo::new(ClientSocket::new(stream, timer.clone()));
    let mut connection = pin!(http.timer(timer).serve_connection(socket, answer));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = end.begun.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                // Woken, its exchange looks at the gateway and says its last word.
                () = end.grace_over.cancelled() => connection.await,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Without it small writes wait for the client's delayed acknowledgement, 40 ms.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY could not be set");
            }
            Some(stream)
        }
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_REST).await;
            None
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97) // EAFNOSUPPORT on Linux
        || error.raw_os_error() == Some(47) // EAFNOSUPPORT on macOS
}
