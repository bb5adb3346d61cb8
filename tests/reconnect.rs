//! Connections that have died while nobody used them: the next request does not notice. Real sockets, the real binary.

#[allow(dead_code)] // Each test file uses its own part of it.
mod support {
    pub mod gateway;
}

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::gateway::Gateway;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// What a server does with the second chat on a connection.
#[derive(Clone, Copy)]
enum Second {
    /// Closes the connection without a word, as one that had forgotten it.
    Close,
    /// Begins an answer and closes.
    Begin,
}

/// A server that answers the first chat of each connection. Which connections the chats came over, in order.
async fn server(second: Second) -> (String, Arc<Mutex<Vec<usize>>>) {
    server_of_many(second, 1).await
}

/// The same, whose first chats are answered when so many of them are there.
async fn server_of_many(second: Second, together: usize) -> (String, Arc<Mutex<Vec<usize>>>) {
    let first = Arc::new(Barrier::new(together));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let chats = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&chats);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let first = (connection < together).then(|| Arc::clone(&first));
            tokio::spawn(serve(stream, connection, second, first, Arc::clone(&log)));
        }
    });
    (url, chats)
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    second: Second,
    mut first: Option<Arc<Barrier>>,
    chats: Arc<Mutex<Vec<usize>>>,
) {
    let mut stream = BufReader::new(stream);
    let mut answered = 0;
    while let Some(path) = read_request(&mut stream).await {
        let body = if path.starts_with("/v1/chat") {
            chats.lock().unwrap().push(connection);
            answered += 1;
            if let Some(first) = first.take() {
                first.wait().await;
            }
            if answered > 1 {
                if let Second::Begin = second {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
                }
                return;
            }
            json!({"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]})
        } else {
            json!({"object": "list", "data": []})
        };
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}

/// Reads a request to its end; its path.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if path.is_none() {
            path = line.split(' ').nth(1).map(str::to_owned);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    path
}

/// No model list is fetched meanwhile that could take a connection away, and nothing is retried that the client would see.
fn gateway(url: &str) -> Gateway {
    let config = format!(
        "[log]\nfilter = \"bifrost=debug\"\n[retry]\nattempts = 0\n[providers.p]\nbase_url = \"{url}\"\ndialect = \"openai_chat\"\nmodels = \"none\"\n"
    );
    Gateway::start(&config)
}

async fn ask(gateway: &Gateway) -> (u16, Value) {
    let body = json!({"model": "p/m", "messages": [{"role": "user", "content": "hi"}]});
    let response = gateway.post("/v1/chat/completions", &body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_dead_idle_connection_is_not_noticed_by_the_client() {
    let (url, chats) = server(Second::Close).await;
    let mut gateway = gateway(&url);
    for _ in 0..3 {
        assert_eq!(ask(&gateway).await.0, 200, "{}", gateway.log());
    }
    // Each chat but the first was sent over the connection of the one before, and then over a new one.
    assert_eq!(*chats.lock().unwrap(), [0, 0, 1, 1, 2]);
    gateway.signal("TERM");
    gateway.wait();
    assert!(gateway.log().contains("an idle connection was dead"), "{}", gateway.log());
}

#[tokio::test]
async fn an_answer_that_had_begun_is_not_asked_for_again() {
    let (url, chats) = server(Second::Begin).await;
    let gateway = gateway(&url);
    assert_eq!(ask(&gateway).await.0, 200);
    let (status, body) = ask(&gateway).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.to_string().contains("closed the connection before it answered"), "{body}");
    assert_eq!(*chats.lock().unwrap(), [0, 0]);
}

#[tokio::test]
async fn where_one_idle_connection_was_dead_the_others_are_not_tried() {
    let (url, chats) = server_of_many(Second::Close, 3).await;
    let gateway = gateway(&url);
    for (status, body) in <[_; 3]>::from(tokio::join!(ask(&gateway), ask(&gateway), ask(&gateway))) {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(ask(&gateway).await.0, 200);
    for (status, body) in <[_; 2]>::from(tokio::join!(ask(&gateway), ask(&gateway))) {
        assert_eq!(status, 200, "{body}");
    }
    // One chat found one of the three dead, and was sent again over the fourth.
    let chats = chats.lock().unwrap().split_off(3);
    assert_eq!(chats.iter().filter(|connection| **connection < 3).count(), 1, "{chats:?}");
}
