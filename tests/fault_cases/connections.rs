//! Connections that were kept and have died meanwhile, as after sleep: nobody is to notice.

use crate::support::fault_client::{DIALECTS, QUICK, ask, provider};
use crate::support::fault_replies::{answer, whole};
use crate::support::fault_server::{Asked, FaultServer, Gate, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use bytes::Bytes;
use futures_util::future::join_all;
use std::collections::HashMap;

/// No retry but the one that a dead connection gets.
const NO_RETRY: &str = "[retry]\nattempts = 0\n";

/// Counts the requests of each connection; this one's number on its own, from 0.
#[derive(Default)]
struct Reuse(HashMap<usize, usize>);

impl Reuse {
    fn number(&mut self, asked: &Asked) -> usize {
        let number = self.0.entry(asked.connection).or_default();
        *number += 1;
        *number - 1
    }
}

fn start(first: &FaultServer, retry: &str) -> Gateway {
    Gateway::start(&format!("{retry}{}", provider("first", OpenAiChat, first)))
}

#[tokio::test]
async fn a_kept_connection_is_used_again() {
    let first = FaultServer::always(answer(OpenAiChat, "m", false, "here")).await;
    let gateway = start(&first, NO_RETRY);
    for _ in 0..5 {
        ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    }
    assert_eq!((first.count(), first.connections()), (5, 1));
}

#[tokio::test]
async fn a_kept_connection_that_has_died_is_replaced_at_once() {
    for death in [Step::Reset, Step::Close] {
        for stream in [false, true] {
            let mut reuse = Reuse::default();
            let death = death.clone();
            let first = FaultServer::start(move |asked| match reuse.number(asked) {
                0 => answer(OpenAiChat, "m", stream, "here"),
                _ => Reply::nothing_but([death.clone()]),
            })
            .await;
            let gateway = start(&first, NO_RETRY);
            ask(&gateway, OpenAiChat, "first/m", stream).await.answered_by("first/m");
            for ingress in DIALECTS {
                let told = ask(&gateway, ingress, "first/m", stream).await;
                told.answered_by("first/m");
                assert_eq!(told.content(), "here", "{told:?}");
            }
            assert_eq!(first.connections(), 1 + DIALECTS.len());
            // Each is sent into a dead connection and once more; that of a stream may not have been put back yet.
            let least = if stream { 2 + DIALECTS.len() } else { 1 + 2 * DIALECTS.len() };
            assert!((least..=1 + 2 * DIALECTS.len()).contains(&first.count()), "{}", first.count());
        }
    }
}

#[tokio::test]
async fn many_kept_connections_that_have_died_cost_one_more_try_and_not_many() {
    let (gate, wait) = Gate::closed();
    let mut reuse = Reuse::default();
    let first = FaultServer::start(move |asked| match reuse.number(asked) {
        0 => whole(OpenAiChat, "m", "here").after(wait.clone()),
        _ => Reply::reset(),
    })
    .await;
    let gateway = start(&first, NO_RETRY);
    let together = join_all((0..4).map(|_| ask(&gateway, OpenAiChat, "first/m", false)));
    let released = async {
        first.nth(3).await;
        gate.open();
    };
    for told in tokio::join!(together, released).0 {
        told.answered_by("first/m");
    }
    assert_eq!(first.connections(), 4);
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    told.answered_by("first/m");
    assert_eq!((first.count(), first.connections()), (6, 5), "a fresh connection, not another old one");
}

#[tokio::test]
async fn a_connection_that_the_provider_closes_after_each_answer_is_no_failure() {
    let closing = whole(OpenAiChat, "m", "here").then(Step::Close);
    let polite = whole(OpenAiChat, "m", "here").header("connection", "close").then(Step::Close);
    for reply in [closing, polite] {
        let first = FaultServer::always(reply).await;
        let gateway = start(&first, NO_RETRY);
        for _ in 0..20 {
            ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
        }
        assert_eq!(first.count(), 20);
    }
}

#[tokio::test]
async fn a_kept_connection_that_dies_in_the_middle_of_an_answer_is_a_failure_like_any_other() {
    let mut reuse = Reuse::default();
    let half = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{");
    let first = FaultServer::start(move |asked| match reuse.number(asked) {
        0 => whole(OpenAiChat, "m", "here"),
        _ => Reply::nothing_but([Step::Raw(half.clone()), Step::Reset]),
    })
    .await;
    let gateway = start(&first, NO_RETRY);
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    assert_eq!((told.status, first.count()), (502, 2), "{told:?}");
    // With retries it is one of them.
    let gateway = start(&first, QUICK);
    ask(&gateway, OpenAiChat, "first/m", false).await.answered_by("first/m");
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    told.answered_by("first/m");
    assert_eq!(told.attempts().len(), 2, "{told:?}");
}
