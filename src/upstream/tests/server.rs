//! A server that speaks TLS as those of the cloud do, on this machine, and does what a test says.

use super::certificate;
use crate::upstream::Clients;
use crate::upstream::connect::{CloudConnector, Connecting, Connector};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use h2::server::SendResponse;
use h2::{Ping, PingPong};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Version};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The provider that every test asks.
pub const PROVIDER: &str = "api.example.com";

/// Generous: how long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never comes")
}

/// A server with a certificate for [`PROVIDER`].
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    trusting: ClientConfig,
}

impl Server {
    /// Starts it; it speaks `protocols`, the first best.
    pub async fn start(protocols: &[&str]) -> Self {
        // A second call in one process finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (certificate, key) = certificate::for_names(&["localhost", PROVIDER]);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), trusting }
    }

    /// Where it listens.
    pub fn authority(&self) -> Authority {
        format!("localhost:{}", self.listener.local_addr().unwrap().port()).parse().unwrap()
    }

    /// Clients that trust it and find it wherever they go.
    pub fn clients(&self) -> Arc<Clients> {
        let cloud = CloudConnector::with(self.trusting.clone(), Matcher::builder().build());
        Arc::new(Clients::through(Arc::new(Rerouted { cloud, to: self.authority() })))
    }

    /// Clients that trust it and go to everybody through a proxy.
    pub fn clients_behind(&self, proxy: &str) -> Arc<Clients> {
        let cloud = CloudConnector::with(self.trusting.clone(), Matcher::builder().all(proxy).build());
        Arc::new(Clients::through(Arc::new(cloud)))
    }

    /// The next connection.
    pub async fn accept(&self) -> TlsStream<TcpStream> {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        soon(self.acceptor.accept(stream)).await.unwrap()
    }

    /// The next connection, over which HTTP/2 was agreed on.
    pub async fn http2(&self) -> Http2 {
        let stream = self.accept().await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Http2::over(stream).await
    }

    /// Nobody has made a connection that was not accepted.
    pub fn is_left_alone(&self) -> bool {
        self.listener.accept().now_or_never().is_none()
    }
}

/// The connector of the cloud, except that every origin is at one address.
#[derive(Debug)]
struct Rerouted {
    cloud: CloudConnector,
    to: Authority,
}

impl Connector for Rerouted {
    fn connect(&self, scheme: &Scheme, _: &Authority) -> Connecting<'_> {
        self.cloud.connect(scheme, &self.to)
    }
}

type Asked = (Request<Bytes>, SendResponse<Bytes>);

/// The server's end of a connection that carries requests side by side.
pub struct Http2 {
    asked: mpsc::UnboundedReceiver<Asked>,
    leaving: mpsc::UnboundedSender<oneshot::Sender<()>>,
    pings: PingPong,
    /// Ends with the connection.
    pub serving: JoinHandle<()>,
}

impl Http2 {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        let mut connection = soon(h2::server::handshake(stream)).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        let (leaving, mut left) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        let serving = tokio::spawn(async move {
            loop {
                tokio::select! {
                    accepted = connection.accept() => match accepted {
                        Some(Ok((request, respond))) => drop(tokio::spawn(receive(request, respond, sender.clone()))),
                        Some(Err(_)) | None => return,
                    },
                    Some(done) = left.recv() => {
                        connection.graceful_shutdown();
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { asked, leaving, pings, serving }
    }

    /// The next request, and the way to answer it.
    pub async fn next(&mut self) -> Asked {
        let (request, respond) = soon(self.asked.recv()).await.expect("the connection has ended");
        assert_eq!(request.version(), Version::HTTP_2);
        (request, respond)
    }

    /// Nothing has been asked that was not looked at.
    pub fn is_left_alone(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }

    /// Says GOAWAY, and waits until the client has heard it.
    pub async fn go_away(&mut self) {
        let (done, said) = oneshot::channel();
        self.leaving.send(done).unwrap();
        soon(said).await.unwrap();
        soon(self.pings.ping(Ping::opaque())).await.unwrap();
    }
}

async fn receive(request: Request<h2::RecvStream>, respond: SendResponse<Bytes>, to: mpsc::UnboundedSender<Asked>) {
    let (head, mut incoming) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(Ok(bytes)) = incoming.data().await {
        body.extend_from_slice(&bytes);
        let _ = incoming.flow_control().release_capacity(bytes.len());
    }
    // A test that is over looks at nothing more.
    let _ = to.send((Request::from_parts(head, body.freeze()), respond));
}

/// Answers all at once.
pub fn answer(mut respond: SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

/// The head of a request as it stands on an HTTP/1 connection, in lower case, and its body.
pub async fn read_http1(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("no length");
    let mut body = vec![0; length.parse().unwrap()];
    soon(stream.read_exact(&mut body)).await.unwrap();
    (head, body)
}
