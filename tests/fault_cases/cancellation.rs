//! When the client leaves, the provider's connection is dropped at once, and nobody else is asked.

use crate::support::fault_client::{DIALECTS, QUICK, provider, question, request, with_two};
use crate::support::fault_replies::{Refusal, Stream, streamed};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::{self, OpenAiChat};
use bytes::Bytes;
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// Generous for "at once", and far below every limit of time.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a provider does while the client still waits for its first byte.
fn before_the_first_byte(dialect: DialectId, stream: bool) -> Vec<(&'static str, Reply)> {
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-");
    let body = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"id\":";
    let mut faults = vec![
        ("silence", Reply::silence()),
        ("during the headers", Reply::nothing_but([Step::Raw(head), Step::Silence])),
        ("during an error", Reply::nothing_but([Step::Raw(body.replace("200 OK", "500 Error").into()), Step::Silence])),
    ];
    if stream {
        faults.push(("before any content", Stream::of(dialect, "m").opening().step(Step::Silence).reply()));
    } else {
        faults.push(("during the body", Reply::nothing_but([Step::Raw(body.into()), Step::Silence])));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_the_first_byte_ends_the_call() {
    let cases = DIALECTS.map(|dialect| async move {
        for stream in [false, true] {
            for (fault, reply) in before_the_first_byte(dialect, stream) {
                let first = FaultServer::always(reply).await;
                let second = FaultServer::always(streamed(dialect, "n", &["there"])).await;
                let gateway = with_two(dialect, &first, &second, "");
                for (number, ingress) in DIALECTS.into_iter().enumerate() {
                    let id = format!("left-{number}");
                    let asking = request(&gateway, ingress, "pair", stream).header("x-request-id", &id).send();
                    let asking = tokio::spawn(asking);
                    let asked = first.nth(number).await;
                    let left = Instant::now();
                    asking.abort();
                    assert!(asked.left().await - left < AT_ONCE, "{fault}");
                    let record = gateway.recorded(&id).await;
                    assert_eq!(record["cancelled"], true, "{fault}: {record}");
                    assert_eq!(record["attempts"][0]["outcome"], "cancelled", "{fault}: {record}");
                }
                assert_eq!((first.count(), second.count()), (DIALECTS.len(), 0), "{fault}");
            }
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn who_leaves_in_mid_stream_ends_the_call() {
    for dialect in DIALECTS {
        for ingress in DIALECTS {
            let endless = Stream::of(dialect, "m").opening().text("one").step(Step::Silence).reply();
            let first = FaultServer::always(endless).await;
            let second = FaultServer::always(streamed(dialect, "n", &["two"])).await;
            let gateway = with_two(dialect, &first, &second, "");
            let asking = request(&gateway, ingress, "pair", true).header("x-request-id", "left").send();
            let mut answer = asking.await.unwrap();
            answer.chunk().await.unwrap().unwrap();
            let left = Instant::now();
            drop(answer);
            assert!(first.nth(0).await.left().await - left < AT_ONCE);
            assert_eq!(gateway.recorded("left").await["cancelled"], true);
            assert_eq!((first.count(), second.count()), (1, 0));
        }
    }
}

#[tokio::test]
async fn who_leaves_bytes_behind_the_body_and_goes_ends_the_call() {
    let (path, body) = question(OpenAiChat, "first/m", true);
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let started = Stream::of(OpenAiChat, "m").opening().text("one").step(Step::Silence).reply();
    for reply in [Reply::silence(), started] {
        let first = FaultServer::always(reply).await;
        let gateway = crate::support::fault_client::with_one(OpenAiChat, &first, "");
        for (number, (with, behind)) in
            [("\r\n", ""), ("", "\r\n"), ("GET /health HTTP/1.1\r\n", ""), ("", "GET /")].into_iter().enumerate()
        {
            let address = gateway.url().strip_prefix("http://").unwrap();
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            client.write_all(format!("{head}{body}{with}").as_bytes()).await.unwrap();
            let asked = first.nth(number).await;
            client.write_all(behind.as_bytes()).await.unwrap();
            let left = Instant::now();
            drop(client);
            assert!(asked.left().await - left < AT_ONCE, "{with:?} {behind:?}");
        }
    }
}

#[tokio::test]
async fn who_leaves_while_a_flood_comes_ends_the_call() {
    let mut stream = Stream::of(OpenAiChat, "m").opening();
    let piece = "x".repeat(10_000);
    for _ in 0..2_000 {
        stream = stream.text(&piece);
    }
    let first = FaultServer::always(stream.stop().marker().reply()).await;
    let gateway = crate::support::fault_client::with_one(OpenAiChat, &first, "");
    let mut answer = request(&gateway, OpenAiChat, "first/m", true).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    let left = Instant::now();
    drop(answer);
    assert!(first.nth(0).await.left().await - left < AT_ONCE);
}

#[tokio::test]
async fn who_leaves_during_a_wait_is_not_asked_for_again() {
    let waits = [
        ("Retry-After", Refusal::Throttled.reply(OpenAiChat).header("retry-after", "20")),
        ("backoff", Refusal::Internal.reply(OpenAiChat)),
    ];
    for (wait, reply) in waits {
        let first = FaultServer::always(reply).await;
        let slow = QUICK.replace("5ms", "300s").replace("10ms", "300s");
        let gateway = Gateway::start(&format!("{slow}{}", provider("first", OpenAiChat, &first)));
        let asking = tokio::spawn(request(&gateway, OpenAiChat, "first/m", true).header("x-request-id", "left").send());
        first.nth(0).await;
        let left = Instant::now();
        asking.abort();
        let record = gateway.recorded("left").await;
        assert!(left.elapsed() < AT_ONCE, "it was waited for all the same: {wait}");
        assert_eq!(record["cancelled"], true, "{wait}: {record}");
        assert_eq!(first.count(), 1, "{wait}");
    }
}

#[tokio::test]
async fn who_leaves_is_no_longer_in_flight() {
    let first = FaultServer::always(Reply::silence()).await;
    let gateway = crate::support::fault_client::with_one(OpenAiChat, &first, "");
    let asking: Vec<_> = (0..8).map(|_| tokio::spawn(request(&gateway, OpenAiChat, "first/m", true).send())).collect();
    first.nth(7).await;
    assert_eq!(in_flight(&gateway).await, 8);
    for asking in asking {
        asking.abort();
    }
    for asked in first.asked() {
        asked.left().await;
    }
    let began = Instant::now();
    gateway.eventually("nobody is counted", async || (in_flight(&gateway).await == 0).then_some(())).await;
    assert!(began.elapsed() < AT_ONCE, "some are counted for long");
}

async fn in_flight(gateway: &Gateway) -> u64 {
    let text = gateway.text("/metrics").await;
    let line = text.lines().find(|line| line.starts_with("bifrost_requests_in_flight"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no gauge: {text}"))
}
