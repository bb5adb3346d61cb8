//! The provider behind the gateways: one thread, answers that cost it next to nothing.
//!
//! The model's name says what it does: `whole` answers at once, `burst` streams without a pause, `paced` streams a chunk
//! every [`PACE`]; a stream has as many chunks as the request's `max_tokens`. `/v1/messages` answers as Anthropic.

use crate::http::{Connection, Head};
use bifrost::wire::json::Object;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};

/// Between two chunks of a paced stream.
pub const PACE: Duration = Duration::from_millis(20);

/// Starts the provider; it serves as long as the process lives.
///
/// # Errors
/// No port can be had.
pub fn start() -> io::Result<SocketAddr> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        let error = runtime.block_on(accept(&listener));
        eprintln!("The upstream takes no more connections: {error}");
    })?;
    Ok(address)
}

async fn accept(listener: &TcpListener) -> io::Error {
    let answers = Arc::new(Answers::new());
    loop {
        match listener.accept().await {
            // A gateway that breaks off is noticed by the load.
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&answers)))),
            Err(error) => return error,
        }
    }
}

/// The text of chunk `number`; the load looks whether they come in this order.
pub fn word(number: u32) -> String {
    format!("word{number} ")
}

async fn serve(stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut connection = Connection::of(stream)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head().await? {
        body.clear();
        connection.body(&head, |piece| body.extend_from_slice(piece)).await?;
        match stream_asked(&body) {
            Some((pause, chunks)) => send_stream(&mut connection, pause, chunks).await?,
            None => connection.send(answers.to(&head)).await?,
        }
    }
    Ok(())
}

/// The pause between chunks and their number, when the request wants a stream.
fn stream_asked(body: &[u8]) -> Option<(Duration, u32)> {
    let request = Object::scan(body).ok()?;
    if request.boolean("stream") != Some(true) {
        return None;
    }
    let pause = if request.string("model")?.ends_with("paced") { PACE } else { Duration::ZERO };
    let chunks = std::str::from_utf8(request.raw("max_tokens")?).ok()?.parse().ok()?;
    Some((pause, chunks))
}

/// Each chunk is due at a fixed time after the first, so that a slow reader does not slow the stream.
async fn send_stream(connection: &mut Connection, pause: Duration, chunks: u32) -> io::Result<()> {
    let begun = Instant::now();
    connection
        .send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    for number in 0..chunks {
        if !pause.is_zero() {
            sleep_until(begun + pause * number).await;
        }
        let delta = format!(r#"{{"content":"{}"}}"#, word(number));
        connection.send(&event(&delta, "null")).await?;
    }
    let mut end = event("{}", r#""stop""#);
    end.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    connection.send(&end).await
}

fn event(delta: &str, finish: &str) -> Vec<u8> {
    let event = format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\
         \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    );
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// Whole answers, made once.
struct Answers {
    chat: Vec<u8>,
    message: Vec<u8>,
    models: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let text = "Paris is mild today, with some clouds and a light wind from the west. ".repeat(6);
        Self {
            chat: json(&format!(
                r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":210,"completion_tokens":90,"total_tokens":300}}}}"#
            )),
            message: json(&format!(
                r#"{{"id":"msg_1","type":"message","role":"assistant","model":"mock","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":210,"output_tokens":90}}}}"#
            )),
            models: json(
                r#"{"object":"list","data":[{"id":"whole","object":"model"},{"id":"burst","object":"model"},{"id":"paced","object":"model"}]}"#,
            ),
        }
    }

    fn to(&self, head: &Head) -> &[u8] {
        match head.start.split(' ').nth(1) {
            Some("/v1/chat/completions") => &self.chat,
            Some("/v1/messages") => &self.message,
            _ => &self.models,
        }
    }
}

fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
