//! Calls over TLS: HTTP/2 and HTTP/1 over real connections to a server of the test's own.

mod certificate;
mod server;

use super::{Answer, AnswerBody, Call, Clients, Failure, Outcome, Phase};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, Method, Response, Uri};
use server::{PROVIDER, Server, answer, read_http1, soon};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A limit that no test reaches.
const LONG: Duration = Duration::from_secs(60);

/// A whole answer, after which the connection may be used again.
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

type Asking = JoinHandle<Result<Answer, Failure>>;

/// Asks for a path of the provider's.
fn ask(clients: &Arc<Clients>, path: &str) -> Asking {
    ask_at(clients, &format!("https://{PROVIDER}{path}"))
}

fn ask_at(clients: &Arc<Clients>, url: &str) -> Asking {
    let (url, clients) = (Uri::try_from(url), Arc::clone(clients));
    tokio::spawn(async move {
        let call = Call {
            provider: &Arc::from("p"),
            method: Method::POST,
            url,
            headers: &HeaderMap::new,
            body: Bytes::from_static(b"{}"),
            local_only: false,
            connect: LONG,
            deadline: Instant::now() + LONG,
            phase: Phase::WholeAnswer,
        };
        call.send(&clients).await
    })
}

async fn answered(asking: Asking) -> Answer {
    soon(asking).await.unwrap().unwrap_or_else(|failure| panic!("{failure:?}"))
}

async fn failed(asking: Asking) -> Failure {
    soon(asking).await.unwrap().expect_err("it was answered")
}

async fn whole(answer: Answer) -> Bytes {
    soon(answer.body.whole(Instant::now() + LONG, Phase::WholeAnswer)).await.unwrap()
}

async fn chunk(body: &mut AnswerBody) -> Result<Option<Bytes>, Failure> {
    soon(body.chunk(Instant::now() + LONG, Phase::Idle)).await
}

/// Begins to answer `asking`: what the server says with, and what the client hears it from.
async fn begun(mut respond: h2::server::SendResponse<Bytes>, asking: Asking) -> (SendStream<Bytes>, AnswerBody) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(b"one"), false).unwrap();
    let mut body = answered(asking).await.body;
    assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "one");
    (stream, body)
}

async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    soon(poll_fn(|cx| stream.poll_reset(cx))).await.unwrap()
}

#[tokio::test]
async fn http2_is_agreed_on_and_requests_go_side_by_side_over_one_connection() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let clients = server.clients();
    let first = ask(&clients, "/v1/first?a=b");
    let mut connection = server.http2().await;
    let (request, first_response) = connection.next().await;
    assert_eq!(
        (request.method(), request.uri()),
        (&Method::POST, &format!("https://{PROVIDER}/v1/first?a=b").parse().unwrap())
    );
    assert!(!request.headers().contains_key("host"), "{request:?}");
    assert_eq!(request.body(), "{}");

    let (second, third) = (ask(&clients, "/second"), ask(&clients, "/third"));
    for _ in 0..2 {
        let (request, response) = connection.next().await;
        answer(response, if request.uri().path() == "/second" { "2" } else { "3" });
    }
    assert_eq!((whole(answered(third).await).await, whole(answered(second).await).await), ("3".into(), "2".into()));
    assert!(!first.is_finished());
    answer(first_response, "1");
    assert_eq!(whole(answered(first).await).await, "1");
    assert!(server.is_left_alone());
}

#[tokio::test]
async fn what_is_more_than_one_connection_takes_side_by_side_goes_over_another() {
    let server = Server::start(&["h2"]).await;
    let clients = server.clients();
    let first = ask(&clients, "/1");
    let mut connection = server.http2().await;
    let mut unanswered = vec![(first, connection.next().await.1)];
    while unanswered.len() < 100 {
        let asking = ask(&clients, "/");
        unanswered.push((asking, connection.next().await.1));
    }
    assert!(server.is_left_alone(), "it takes a hundred");
    for path in ["/101", "/102"] {
        unanswered.push((ask(&clients, path), {
            if path == "/101" {
                connection = server.http2().await;
            }
            connection.next().await.1
        }));
    }
    for (asking, response) in unanswered {
        answer(response, "at last");
        assert_eq!(whole(answered(asking).await).await, "at last");
    }
    let asking = ask(&clients, "/after");
    answer(connection.next().await.1, "after");
    assert_eq!(whole(answered(asking).await).await, "after");
    assert!(server.is_left_alone());
}

#[tokio::test]
async fn the_authority_is_the_host_without_what_is_nobodys_business() {
    for protocol in ["h2", "http/1.1"] {
        let server = Server::start(&[protocol]).await;
        for (written, told) in [("", ""), (":443", ""), (":8443", ":8443")] {
            let clients = server.clients();
            let told = format!("{PROVIDER}{told}");
            let asking = ask_at(&clients, &format!("https://user:secret@{PROVIDER}{written}/v1"));
            if protocol == "h2" {
                let (request, _) = server.http2().await.next().await;
                assert_eq!(request.uri().to_string(), format!("https://{told}/v1"));
            } else {
                let (head, _) = read_http1(&mut server.accept().await).await;
                assert!(head.starts_with("post /v1 http/1.1\r\n"), "{head}");
                assert_eq!(head.lines().filter(|line| *line == format!("host: {told}")).count(), 1, "{head}");
            }
            asking.abort();
        }
    }
}

#[tokio::test]
async fn who_leaves_resets_a_stream_and_none_beside_it() {
    let server = Server::start(&["h2"]).await;
    let clients = server.clients();
    let asking = ask(&clients, "/left");
    let mut connection = server.http2().await;
    let (mut left, body) = begun(connection.next().await.1, asking).await;
    let asking = ask(&clients, "/kept");
    let (mut kept, mut kept_body) = begun(connection.next().await.1, asking).await;
    let unanswered = ask(&clients, "/unanswered");
    let (_, mut response) = connection.next().await;

    drop(body);
    assert_eq!(reset(&mut left).await, Reason::CANCEL);
    unanswered.abort();
    assert_eq!(soon(poll_fn(|cx| response.poll_reset(cx))).await.unwrap(), Reason::CANCEL);

    kept.send_data(Bytes::from_static(b"two"), true).unwrap();
    assert_eq!(chunk(&mut kept_body).await.unwrap().unwrap(), "two");
    assert_eq!(chunk(&mut kept_body).await.unwrap(), None);
    let asking = ask(&clients, "/next");
    answer(connection.next().await.1, "next");
    assert_eq!(whole(answered(asking).await).await, "next");
    assert!(server.is_left_alone());
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_none_beside_them() {
    let server = Server::start(&["h2"]).await;
    let clients = server.clients();
    let asking = ask(&clients, "/first");
    let mut connection = server.http2().await;
    let mut unread = vec![begun(connection.next().await.1, asking).await];
    while unread.len() < 20 {
        let asking = ask(&clients, "/unread");
        unread.push(begun(connection.next().await.1, asking).await);
    }
    for (stream, _) in &mut unread {
        stream.send_data(Bytes::from(vec![b'x'; 4 * 1024 * 1024]), false).unwrap();
    }
    let asking = ask(&clients, "/read");
    answer(connection.next().await.1, "read");
    assert_eq!(whole(answered(asking).await).await, "read");
    assert!(server.is_left_alone());
}

#[tokio::test]
async fn a_connection_that_the_server_takes_away_ends_what_it_carries_and_carries_no_more() {
    let server = Server::start(&["h2"]).await;
    let clients = server.clients();
    let asking = ask(&clients, "/old");
    let mut old = server.http2().await;
    let (mut stream, mut body) = begun(old.next().await.1, asking).await;
    old.go_away().await;
    let asking = ask(&clients, "/new");
    let mut new = server.http2().await;
    answer(new.next().await.1, "new");
    assert_eq!(whole(answered(asking).await).await, "new");
    let asking = ask(&clients, "/newer");
    answer(new.next().await.1, "newer");
    assert_eq!(whole(answered(asking).await).await, "newer");
    assert!(old.is_left_alone() && server.is_left_alone(), "it was asked after its last word");
    stream.send_data(Bytes::from_static(b"two"), true).unwrap();
    assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "two");
    assert_eq!(chunk(&mut body).await.unwrap(), None);
    soon(old.serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dies_with_a_request_before_a_word_is_asked_again_over_a_new_connection() {
    // Who hears of the end first is left to chance.
    for _ in 0..20 {
        let server = Server::start(&["h2"]).await;
        let clients = server.clients();
        let asking = ask(&clients, "/first");
        let mut old = server.http2().await;
        answer(old.next().await.1, "first");
        assert_eq!(whole(answered(asking).await).await, "first");

        let asking = ask(&clients, "/second");
        let (_, _unanswered) = old.next().await;
        old.serving.abort();
        let mut new = server.http2().await;
        answer(new.next().await.1, "second");
        let again = answered(asking).await;
        assert!(again.reconnected);
        assert_eq!(whole(again).await, "second");
    }
}

#[tokio::test]
async fn local_only_mode_ends_the_streams_and_their_connection() {
    let server = Server::start(&["h2"]).await;
    let clients = server.clients();
    let asking = ask(&clients, "/read");
    let mut connection = server.http2().await;
    let (_stream, mut body) = begun(connection.next().await.1, asking).await;
    let asking = ask(&clients, "/unread");
    let (_other, unread) = begun(connection.next().await.1, asking).await;
    let unanswered = ask(&clients, "/unanswered");
    let (_, _response) = connection.next().await;

    clients.set_local_only(true);
    assert_eq!(chunk(&mut body).await.unwrap_err().outcome, Outcome::Cancelled);
    assert_eq!(failed(unanswered).await.outcome, Outcome::Cancelled);
    // Nobody reads the other one now: its client is slow.
    soon(connection.serving).await.unwrap();
    drop(unread);
    assert_eq!(failed(ask(&clients, "/refused")).await.outcome, Outcome::Cancelled);
    assert!(server.is_left_alone());
}

#[tokio::test]
async fn a_kept_http1_connection_that_has_died_is_replaced_once() {
    let server = Server::start(&["http/1.1"]).await;
    let clients = server.clients();
    let asking = ask(&clients, "/first");
    let mut old = server.accept().await;
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(read_http1(&mut old).await.1, b"{}");
    old.write_all(HELLO).await.unwrap();
    let first = answered(asking).await;
    assert!(!first.reconnected);
    assert_eq!(whole(first).await, "hello");

    let asking = ask(&clients, "/second");
    assert!(read_http1(&mut old).await.0.starts_with("post /second"));
    drop(old);
    let mut new = server.accept().await;
    assert!(read_http1(&mut new).await.0.starts_with("post /second"));
    new.write_all(HELLO).await.unwrap();
    let second = answered(asking).await;
    assert!(second.reconnected);
    assert_eq!(whole(second).await, "hello");

    let asking = ask(&clients, "/third");
    read_http1(&mut new).await;
    drop(new);
    let mut newest = server.accept().await;
    read_http1(&mut newest).await;
    drop(newest);
    assert_eq!(failed(asking).await.outcome, Outcome::Unreachable);
    assert!(server.is_left_alone(), "it was asked a third time");
}

#[tokio::test]
async fn an_http1_connection_ends_with_an_answer_that_nobody_wants_and_with_local_only_mode() {
    let begin = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\none";
    let server = Server::start(&["http/1.1"]).await;
    let clients = server.clients();
    for local_only in [false, true] {
        let asking = ask(&clients, "/");
        let mut connection = server.accept().await;
        read_http1(&mut connection).await;
        connection.write_all(begin).await.unwrap();
        let mut body = answered(asking).await.body;
        assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "one");
        let mut unread = Some(body);
        if local_only {
            clients.set_local_only(true);
        } else {
            unread = None;
        }
        // Closed in good order or not.
        assert!(soon(connection.read_u8()).await.is_err());
        if let Some(body) = &mut unread {
            assert_eq!(chunk(body).await.unwrap_err().outcome, Outcome::Cancelled);
        }
    }
}

#[tokio::test]
async fn http2_is_agreed_on_through_a_proxy_too() {
    let server = Server::start(&["h2"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = server.clients_behind(&format!("http://{}", listener.local_addr().unwrap()));
    let target = server.authority();
    let tunnel = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        let mut far = TcpStream::connect(target.as_str()).await.unwrap();
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
        String::from_utf8(head).unwrap()
    });
    let asking = ask(&clients, "/through");
    let mut connection = server.http2().await;
    let (request, response) = connection.next().await;
    assert_eq!(request.uri().host(), Some(PROVIDER));
    answer(response, "through");
    assert_eq!(whole(answered(asking).await).await, "through");
    drop(clients);
    let head = soon(tunnel).await.unwrap();
    assert!(head.starts_with(&format!("CONNECT {PROVIDER}:443 HTTP/1.1\r\n")), "{head}");
}

#[tokio::test]
async fn a_proxy_that_reads_requests_gets_the_whole_url_without_what_is_nobodys_business() {
    let server = Server::start(&["h2"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = server.clients_behind(&format!("http://{}", listener.local_addr().unwrap()));
    let asking = ask_at(&clients, &format!("http://user:secret@{PROVIDER}/v1"));
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let (head, _) = read_http1(&mut stream).await;
    assert!(head.starts_with(&format!("post http://{PROVIDER}/v1 http/1.1\r\n")), "{head}");
    assert!(head.contains(&format!("host: {PROVIDER}\r\n")) && !head.contains("secret"), "{head}");
    stream.write_all(HELLO).await.unwrap();
    assert_eq!(whole(answered(asking).await).await, "hello");
}
