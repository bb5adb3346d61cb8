//! Sockets, connections and the end of the process.

use super::gate;
use super::routes::Routes;
use crate::config::Server;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long the listener rests when the system has no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

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

    /// Serves until `stop` ends, then lets what runs finish for the grace and returns.
    pub async fn serve(self, routes: Routes, server: &Server, stop: impl Future<Output = ()>) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(server.header_timeout)
            // Twice the limit, so that a head somewhat too large gets an answer with words in it, from the gate.
            .max_buf_size(2 * server.max_header.max(8 * 1024))
            .keep_alive(true);
        let connections = Arc::new(Semaphore::new(server.max_connections));
        let graceful = Arc::new(GracefulShutdown::new());
        let closing = CancellationToken::new();
        let mut accepting = tokio::task::JoinSet::new();
        let routes = Arc::new(routes);
        for listener in self.0 {
            let (http, routes, connections) = (http.clone(), Arc::clone(&routes), Arc::clone(&connections));
            let (graceful, closing) = (Arc::clone(&graceful), closing.clone());
            accepting.spawn(async move {
                loop {
                    // Beyond the limit new connections wait in the system's backlog.
                    let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
                    let Some(stream) = accept(&listener).await else { continue };
                    let routes = Arc::clone(&routes);
                    let answer = service_fn(move |request| {
                        let routes = Arc::clone(&routes);
                        async move { Ok::<_, Infallible>(gate::pass(&routes, request).await) }
                    });
                    let connection = http.serve_connection(TokioIo::new(stream), answer);
                    let connection = graceful.watcher().watch(connection);
                    let closing = closing.clone();
                    tokio::spawn(async move {
                        if let Some(Err(error)) = closing.run_until_cancelled(connection).await {
                            debug!(%error, "a connection ended early");
                        }
                        drop(permit);
                    });
                }
            });
        }
        stop.await;
        accepting.shutdown().await;
        // The tasks that accept hold the only other references, and they have ended.
        let Some(graceful) = Arc::into_inner(graceful) else { return };
        if tokio::time::timeout(server.shutdown_grace, graceful.shutdown()).await.is_err() {
            warn!("some exchanges did not finish within the grace and were ended");
            closing.cancel();
            // Each connection gives its permit back at its end, and the log is there to hear of it.
            drop(connections.acquire_many(u32::try_from(server.max_connections).unwrap_or(u32::MAX)).await);
        }
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
