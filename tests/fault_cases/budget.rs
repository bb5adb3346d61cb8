//! All attempts of a request together have a limit too, until the first content is sent.

use crate::support::fault_client::{LONG, PAIR, QUICK, ask, deadlines, provider, request, with_one};
use crate::support::fault_replies::{Refusal, Stream, whole};
use crate::support::fault_server::{FaultServer, Reply, Step};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use std::time::Duration;

#[tokio::test]
async fn the_budget_ends_the_search_for_a_target_that_answers() {
    for stream in [false, true] {
        let silent = Reply::silence();
        let servers = [
            FaultServer::always(silent.clone()).await,
            FaultServer::always(silent.clone()).await,
            FaultServer::always(silent).await,
        ];
        let mut config = QUICK.to_owned();
        for (name, server) in ["first", "second", "third"].iter().zip(&servers) {
            config += &provider(name, OpenAiChat, server);
            let own = if *name == "first" { "800ms" } else { "50s" };
            let limits = format!("first_token = \"{own}\"\nwhole_answer = \"{own}\"\nbudget = \"1200ms\"");
            config += &deadlines(name, &limits);
        }
        let targets = ["first", "second", "third"].map(|name| format!("{{ provider = \"{name}\", model = \"m\" }}"));
        config += &format!("[classes.three]\ncloud = true\nselect = [{}]\n", targets.join(", "));
        let gateway = Gateway::start(&config);
        let told = ask(&gateway, OpenAiChat, "three", stream).await;
        assert_eq!(told.status, 504, "{told:?}");
        assert!(told.took >= Duration::from_millis(1200) && told.took < LONG, "{told:?}");
        assert_eq!([servers[0].count(), servers[1].count(), servers[2].count()], [1, 1, 0], "{told:?}");
        // The second had what the first had left.
        let second = servers[1].nth(0).await;
        let held = second.left().await - second.at;
        assert!(held < LONG, "{held:?}");
    }
}

#[tokio::test]
async fn the_budget_ends_the_retries_of_a_target() {
    let first = FaultServer::always(Refusal::Overloaded.reply(OpenAiChat)).await;
    let retry = "[retry]\nattempts = 10\nbase = \"400ms\"\ncap = \"400ms\"\n";
    let config =
        format!("{retry}{}{}", provider("first", OpenAiChat, &first), deadlines("first", "budget = \"300ms\""));
    let gateway = Gateway::start(&config);
    let told = ask(&gateway, OpenAiChat, "first/m", false).await;
    assert_eq!(told.status, 503, "what it said is more useful than that the time is over: {told:?}");
    assert!((1..11).contains(&first.count()), "{}", first.count());
    assert!(told.took < Duration::from_secs(5), "{told:?}");
    for gap in first.gaps() {
        assert!(gap < Duration::from_secs(5), "{gap:?}");
    }
}

#[tokio::test]
async fn the_budget_ends_with_the_first_content() {
    let mut stream = Stream::of(OpenAiChat, "m").opening();
    for _ in 0..12 {
        stream = stream.text("x").step(Step::Pause(Duration::from_millis(100)));
    }
    let first = FaultServer::always(stream.stop().marker().reply()).await;
    let gateway = with_one(OpenAiChat, &first, &deadlines("first", "budget = \"600ms\"\nidle = \"20s\""));
    let told = ask(&gateway, OpenAiChat, "first/m", true).await;
    told.answered_by("first/m");
    assert!(told.content().len() == 12 && told.took >= Duration::from_millis(1200), "{told:?}");
}

#[tokio::test]
async fn nobody_is_asked_once_the_budget_is_over() {
    let first = FaultServer::always(Reply::silence()).await;
    let second = FaultServer::always(whole(OpenAiChat, "n", "there")).await;
    let more = "in_flight = 1\n[classes.pair.deadlines]\nbudget = \"500ms\"\n";
    let config = format!(
        "{QUICK}{PAIR}{}{}[providers.first.limits]\n{more}",
        provider("second", OpenAiChat, &second),
        provider("first", OpenAiChat, &first)
    );
    let gateway = Gateway::start(&config);
    // Over a connection that waits a request is on its way at once.
    ask(&gateway, OpenAiChat, "second/n", false).await.answered_by("second/n");
    let holds = tokio::spawn(request(&gateway, OpenAiChat, "first/m", false).send());
    first.nth(0).await;
    let told = ask(&gateway, OpenAiChat, "pair", false).await;
    assert!(told.status >= 500 && told.took < LONG, "{told:?}");
    assert_eq!(told.attempts(), ["first/m busy"]);
    assert!(told.error()["message"].as_str().unwrap().contains("first/m is busy"), "{told:?}");
    ask(&gateway, OpenAiChat, "second/n", false).await.answered_by("second/n");
    assert_eq!((first.count(), second.count()), (1, 2));
    holds.abort();
}

#[tokio::test]
async fn the_end_of_a_rest_within_the_budget_is_not_slept_over() {
    let throttled = Refusal::Throttled.reply(OpenAiChat).header("retry-after-ms", "300");
    let first = FaultServer::in_turn([throttled, whole(OpenAiChat, "m", "here")]).await;
    let retry = "[retry]\nbase = \"1h\"\ncap = \"1h\"\n";
    let limits = deadlines("first", "budget = \"1500ms\"");
    let gateway = Gateway::start(&format!("{retry}{}{limits}", provider("first", OpenAiChat, &first)));
    let told = tokio::time::timeout(LONG, ask(&gateway, OpenAiChat, "first/m", false)).await.expect("it oversleeps");
    told.answered_by("first/m");
}
