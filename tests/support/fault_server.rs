//! A provider that misbehaves on purpose: HTTP/1.1 by hand over real sockets, so that it can break where a library would not.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Generous: how long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// When its last byte was there.
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The path without the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    fate: watch::Receiver<Fate>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is being answered, or kept waiting.
    Open,
    /// The server did all that it meant to do.
    Done,
    /// The client closed the connection before that.
    Left(Instant),
}

impl Asked {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What became of it so far.
    pub fn fate(&self) -> Fate {
        *self.fate.borrow()
    }

    /// Waits until the client has closed the connection; when that was.
    pub async fn left(&self) -> Instant {
        let mut fate = self.fate.clone();
        let ended = tokio::time::timeout(PATIENCE, fate.wait_for(|fate| *fate != Fate::Open)).await;
        match *ended.expect("the connection is still held").expect("the server has gone") {
            Fate::Left(at) => at,
            other => panic!("the client did not leave: {other:?}"),
        }
    }
}

/// One thing that the server does on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends a part of the body, framed as the head says.
    Body(Bytes),
    /// Sends bytes that no framing is put around.
    Raw(Bytes),
    /// Does nothing for so long.
    Pause(Duration),
    /// Does nothing until the test opens the [`Gate`].
    Wait(watch::Receiver<bool>),
    /// Does nothing more until the client leaves.
    Silence,
    /// Sends the same part of the body again and again, as fast as it is taken, until the client leaves.
    Flood(Bytes),
    /// Closes the connection in good order.
    Close,
    /// Breaks the connection: the client gets an RST.
    Reset,
}

/// Keeps replies waiting until a test opens it.
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate, and the step that waits before it.
    pub fn closed() -> (Self, Step) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Step::Wait(receiver))
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status line and headers; none where the connection breaks before them.
    head: Option<(u16, Vec<(&'static str, String)>)>,
    /// The body goes out in HTTP's chunks, else with its length.
    chunked: bool,
    steps: Vec<Step>,
    /// Everything goes out one byte at a time with this pause between.
    trickle: Option<Duration>,
}

impl Reply {
    /// A whole answer.
    pub fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let head = Some((status, vec![("content-type", content_type.to_owned())]));
        Self { head, chunked: false, steps: vec![Step::Body(body.into())], trickle: None }
    }

    /// A whole JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, "application/json", body.to_string())
    }

    /// The head of an event stream with nothing in it yet.
    pub fn events() -> Self {
        let head = Some((200, vec![("content-type", "text/event-stream".to_owned())]));
        Self { head, chunked: true, steps: Vec::new(), trickle: None }
    }

    /// No word of HTTP: only these steps.
    pub fn nothing_but(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { head: None, chunked: false, steps: steps.into_iter().collect(), trickle: None }
    }

    /// Takes the request and never answers.
    pub fn silence() -> Self {
        Self::nothing_but([Step::Silence])
    }

    /// Breaks the connection at once.
    pub fn reset() -> Self {
        Self::nothing_but([Step::Reset])
    }

    /// The same with another header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Some((_, headers)) = &mut self.head {
            headers.push((name, value.into()));
        }
        self
    }

    /// The same with something more at its end.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The same after something else.
    pub fn after(mut self, step: Step) -> Self {
        if let Some((status, headers)) = self.head.take() {
            let head = self.head_bytes(status, &headers);
            self.steps.insert(0, Step::Raw(head));
        }
        self.steps.insert(0, step);
        self
    }

    /// The same, one byte at a time.
    pub fn trickled(mut self, pause: Duration) -> Self {
        self.trickle = Some(pause);
        self
    }

    fn head_bytes(&self, status: u16, headers: &[(&str, String)]) -> Bytes {
        let mut text = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            text.push_str("transfer-encoding: chunked\r\n\r\n");
        } else {
            let length: usize =
                self.steps.iter().map(|step| if let Step::Body(bytes) = step { bytes.len() } else { 0 }).sum();
            text.push_str(&format!("content-length: {length}\r\n\r\n"));
        }
        text.into()
    }

    /// The steps with all framing put in.
    fn on_the_wire(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some((status, headers)) = &self.head {
            steps.push(Step::Raw(self.head_bytes(*status, headers)));
        }
        let mut ends = self.chunked;
        for step in &self.steps {
            match step {
                // With the head such a body is whole, and the client may speak again.
                Step::Body(bytes) if bytes.is_empty() => {}
                Step::Body(bytes) if self.chunked => steps.push(Step::Raw(chunk(bytes))),
                Step::Body(bytes) => steps.push(Step::Raw(bytes.clone())),
                Step::Flood(bytes) if self.chunked => {
                    ends = false;
                    steps.push(Step::Flood(chunk(bytes)));
                }
                other => {
                    ends &= !matches!(other, Step::Silence | Step::Flood(_) | Step::Close | Step::Reset);
                    steps.push(other.clone());
                }
            }
        }
        if ends {
            steps.push(Step::Raw(Bytes::from_static(b"0\r\n\r\n")));
        }
        if let Some(pause) = self.trickle {
            steps = steps.into_iter().flat_map(|step| trickled(step, pause)).collect();
        }
        steps
    }
}

/// A part of a body in HTTP's framing.
fn chunk(bytes: &Bytes) -> Bytes {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat().into()
}

fn trickled(step: Step, pause: Duration) -> Vec<Step> {
    let Step::Raw(bytes) = step else { return vec![step] };
    // The pause comes first: after the last byte the client may ask again at once.
    bytes.iter().flat_map(|byte| [Step::Pause(pause), Step::Raw(Bytes::copy_from_slice(&[*byte]))]).collect()
}

type Script = dyn FnMut(&Asked) -> Reply + Send;

/// The requests so far.
type Log = watch::Sender<Vec<Asked>>;

/// A provider on `127.0.0.1`, until it is dropped.
pub struct FaultServer {
    address: SocketAddr,
    log: Arc<Log>,
    connections: Arc<watch::Sender<usize>>,
    task: JoinHandle<()>,
}

impl FaultServer {
    /// Starts it; `script` is asked what to do with each request.
    pub async fn start(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(watch::Sender::new(Vec::new()));
        let connections = Arc::new(watch::Sender::new(0));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let task = tokio::spawn(accept(listener, script, Arc::clone(&log), Arc::clone(&connections)));
        Self { address, log, connections, task }
    }

    /// One that does the same with every request.
    pub async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    /// One that does these in turn, and the last for ever.
    pub async fn in_turn(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        let mut number = 0;
        Self::start(move |_| {
            let reply = replies.get(number).or(replies.last()).expect("a server needs something to do").clone();
            number += 1;
            reply
        })
        .await
    }

    /// The base URL, without a version.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.borrow().clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.log.borrow().len()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// The times between one request and the next.
    pub fn gaps(&self) -> Vec<Duration> {
        self.asked().windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }

    /// Waits for the request of this number, counted from 0.
    pub async fn nth(&self, number: usize) -> Asked {
        let mut log = self.log.subscribe();
        let there = tokio::time::timeout(PATIENCE, log.wait_for(|asked| asked.len() > number)).await;
        there.expect("no request came").expect("the server has gone")[number].clone()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    script: Arc<Mutex<Script>>,
    log: Arc<Log>,
    connections: Arc<watch::Sender<usize>>,
) {
    // Dropped with the server, so that its connections end with it.
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let connection = *connections.borrow();
        connections.send_replace(connection + 1);
        // What is sent byte by byte must arrive so.
        socket.set_nodelay(true).unwrap();
        serving.spawn(serve(socket, connection, Arc::clone(&script), Arc::clone(&log)));
        while serving.try_join_next().is_some() {}
    }
}

/// Serves one connection until either side ends it.
async fn serve(mut socket: TcpStream, connection: usize, script: Arc<Mutex<Script>>, log: Arc<Log>) {
    loop {
        let (fate, watched) = watch::channel(Fate::Open);
        let Some(asked) = receive(&mut socket, connection, watched).await else { return };
        let reply = (script.lock().unwrap())(&asked);
        log.send_modify(|all| all.push(asked));
        for step in reply.on_the_wire() {
            if matches!(step, Step::Reset) {
                // With nothing to linger for, closing is an RST.
                socket.set_zero_linger().unwrap();
                fate.send_replace(Fate::Done);
                return;
            }
            if matches!(step, Step::Close) {
                fate.send_replace(Fate::Done);
                return;
            }
            let (mut reader, mut writer) = socket.split();
            tokio::select! {
                biased;
                () = closed(&mut reader) => {
                    fate.send_replace(Fate::Left(Instant::now()));
                    return;
                }
                done = perform(step, &mut writer) => if !done {
                    fate.send_replace(Fate::Left(Instant::now()));
                    return;
                }
            }
        }
        fate.send_replace(Fate::Done);
    }
}

/// Does a step; false when the client has gone.
async fn perform(step: Step, writer: &mut WriteHalf<'_>) -> bool {
    match step {
        Step::Body(bytes) | Step::Raw(bytes) => return writer.write_all(&bytes).await.is_ok(),
        Step::Pause(time) => tokio::time::sleep(time).await,
        // A gate that is dropped is open.
        Step::Wait(mut gate) => drop(gate.wait_for(|open| *open).await),
        Step::Silence => std::future::pending().await,
        Step::Flood(bytes) => {
            while writer.write_all(&bytes).await.is_ok() {}
            return false;
        }
        Step::Close | Step::Reset => {}
    }
    true
}

/// Waits until the client closes its side, or breaks it.
async fn closed(reader: &mut ReadHalf<'_>) {
    let mut more = [0; 1];
    // A client sends nothing while it waits for an answer.
    let read = reader.read(&mut more).await;
    assert!(!matches!(read, Ok(1)), "a client spoke before it was answered");
}

/// The next request; `None` when the client has closed.
async fn receive(socket: &mut TcpStream, connection: usize, fate: watch::Receiver<Fate>) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.trim()).unwrap())
    };
    let headers: HeaderMap = lines.map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if socket.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let path = target.split('?').next()?.to_owned();
    Some(Asked { at: Instant::now(), connection, path, headers, body: body.into(), fate })
}
