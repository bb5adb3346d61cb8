//! Equal targets: who asks gets the one that answers soonest.

use crate::support::fault_client::{ask, request};
use crate::support::fault_replies::whole;
use crate::support::fault_server::{FaultServer, Reply};
use crate::support::gateway::Gateway;
use bifrost::chat::DialectId::OpenAiChat;
use serde_json::json;
use std::time::Duration;

/// Lists the model `m`, and does the same with every question.
async fn equal(reply: Reply) -> FaultServer {
    let list = Reply::json(200, &json!({"object": "list", "data": [{"id": "m", "object": "model"}]}));
    FaultServer::start(move |asked| if asked.path.ends_with("/models") { list.clone() } else { reply.clone() }).await
}

fn questions(server: &FaultServer) -> usize {
    server.asked().iter().filter(|asked| !asked.path.ends_with("/models")).count()
}

/// A gateway that has the lists of `first` and `second`, and the class `equals` over both.
async fn over(first: &FaultServer, second: &FaultServer, more: &str) -> Gateway {
    let table = |name: &str, server: &FaultServer| {
        format!("[providers.{name}]\nbase_url = \"{}\"\nkind = \"vendor\"\n", server.url())
    };
    let gateway = Gateway::start(&format!(
        "{}{}{more}[classes.equals]\ncloud = true\nselect = [{{ model = \"m\", limit = 2, balance = true }}]\n\
         [providers.mlx-local]\nenabled = false\n",
        table("first", first),
        table("second", second),
    ));
    gateway.lists(&["first/m", "second/m"]).await;
    gateway
}

#[tokio::test]
async fn a_target_that_never_answers_does_not_draw_everybody() {
    let (silent, quick) = (equal(Reply::silence()).await, equal(whole(OpenAiChat, "m", "hello")).await);
    let gateway = over(&silent, &quick, "").await;
    for _ in 0..20 {
        // Clients that give up teach no breaker anything.
        let asking = request(&gateway, OpenAiChat, "equals", false).timeout(Duration::from_millis(150));
        let _ = asking.send().await;
    }
    assert!(questions(&silent) <= 3, "{} of 20", questions(&silent));
    ask(&gateway, OpenAiChat, "equals", false).await.answered_by("second/m");
}
