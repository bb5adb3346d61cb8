//! Three minutes of mixed faults: nobody is forgotten, nobody is answered twice, nothing panics and nothing grows.
//!
//! `cargo test --test soak -- --ignored --nocapture`
//!
//! BIFROST_BIN           the program under test; else the one that cargo built
//! BIFROST_SOAK_SEED     repeats the faults and clients of an earlier run, which printed it
//! BIFROST_SOAK_SECONDS  how long; else 180. The thirds of that time are its minutes

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod fault_client;
    pub mod fault_replies;
    pub mod fault_server;
    pub mod gateway;
}

use bifrost::chat::DialectId::{self, Anthropic, Gemini, OpenAiChat};
use bytes::Bytes;
use fastrand::Rng;
use reqwest::Client;
use serde_json::json;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::fault_client::{DIALECTS, Told, deadlines, provider, question, told};
use support::fault_replies::{Refusal, Stream, whole};
use support::fault_server::{Asked, FaultServer, PATIENCE, Reply, Step};
use support::gateway::Gateway;
use tokio::task::JoinSet;

/// So many clients at a time, each of which thinks between two questions.
const CLIENTS: usize = 300;
/// The longest that a client thinks, in milliseconds; half of it on average.
const THINKING: u64 = 4_000;
/// So many models of each provider, so that what is kept for a target is kept for many.
const MODELS: usize = 20;
/// The targets of this model are now and then refused in ways that rest them for minutes.
const UNLUCKY: usize = MODELS - 1;
/// Providers by the dialect that they speak.
const PROVIDERS: [(&str, DialectId); 3] = [("alpha", OpenAiChat), ("beta", Anthropic), ("gamma", Gemini)];

/// What happened so far.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    complete: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
}

impl Tally {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    fn answered(&self) -> u64 {
        [&self.complete, &self.cut, &self.refused].into_iter().map(Self::of).sum()
    }
}

/// Random numbers that depend on these words only, and not on when they are asked for.
fn chance(seed: u64, words: impl Hash) -> Rng {
    let mut hasher = DefaultHasher::new();
    (seed, words).hash(&mut hasher);
    Rng::with_seed(hasher.finish())
}

/// The pieces of the one right answer to a question.
fn pieces(id: &str) -> [String; 4] {
    [format!("{id}|"), "one ".into(), "two ".into(), "three".into()]
}

/// A provider whose mood for a question depends on the question and on how often it was asked before.
async fn moody(dialect: DialectId, seed: u64) -> FaultServer {
    let mut before: HashMap<String, u32> = HashMap::new();
    let began = Instant::now();
    FaultServer::start(move |asked| {
        let id = id_of(&asked.body);
        let number = before.entry(id.clone()).or_default();
        *number += 1;
        let mut rng = chance(seed, (dialect.name(), &id, *number));
        let model = model_of(asked);
        // One model flaps: five bad seconds, five good ones.
        let flaps = model.ends_with("-0") && began.elapsed().as_secs() % 10 < 5;
        if flaps {
            return Refusal::Internal.reply(dialect);
        }
        if rng.f64() < 0.55 {
            good(dialect, &model, &id, is_stream(asked), &mut rng)
        } else {
            bad(dialect, &model, &id, is_stream(asked), &mut rng)
        }
    })
    .await
}

/// The id that a client put into its question.
fn id_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let start = text.find("soak-").expect("a question without an id");
    text[start..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect()
}

fn model_of(asked: &Asked) -> String {
    let in_path = || asked.path.split("models/").nth(1)?.split(':').next().map(str::to_owned);
    asked.json()["model"].as_str().map(str::to_owned).or_else(in_path).unwrap_or_default()
}

fn is_stream(asked: &Asked) -> bool {
    asked.json()["stream"] == true || asked.path.contains(":streamGenerateContent")
}

fn good(dialect: DialectId, model: &str, id: &str, stream: bool, rng: &mut Rng) -> Reply {
    let pause = Step::Pause(Duration::from_millis(rng.u64(0..150)));
    if !stream {
        return whole(dialect, model, &pieces(id).concat()).after(pause);
    }
    let opened = Stream::of(dialect, model).opening().step(pause);
    let told = pieces(id)
        .iter()
        .fold(opened, |stream, piece| stream.text(piece).step(Step::Pause(Duration::from_millis(rng.u64(0..60)))));
    told.stop().marker().reply()
}

/// All that may go wrong.
fn bad(dialect: DialectId, model: &str, id: &str, stream: bool, rng: &mut Rng) -> Reply {
    let unlucky = model.ends_with(&format!("-{UNLUCKY}"));
    match rng.u32(0..8) {
        0 => connection_fault(rng),
        1 => silence(stream, rng),
        2 => refusal(unlucky, rng).reply(dialect),
        3 => Refusal::Throttled.reply(dialect).header("retry-after-ms", rng.u32(20..200).to_string()),
        4 => good(dialect, model, id, stream, rng).trickled(Duration::from_micros(200)),
        5 => good(dialect, model, id, stream, rng).after(Step::Pause(Duration::from_millis(rng.u64(200..1_200)))),
        _ if stream => bad_stream(dialect, model, id, rng),
        _ => bad_whole(dialect, rng),
    }
}

fn connection_fault(rng: &mut Rng) -> Reply {
    let half = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le");
    let faults = [
        vec![Step::Reset],
        vec![Step::Close],
        vec![Step::Raw(half.clone()), Step::Reset],
        vec![Step::Raw(half), Step::Close],
    ];
    Reply::nothing_but(faults[rng.usize(0..faults.len())].clone())
}

fn silence(stream: bool, rng: &mut Rng) -> Reply {
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n");
    match rng.bool() {
        true => Reply::silence(),
        false if stream => Reply::events().then(Step::Silence),
        false => Reply::nothing_but([Step::Raw(head), Step::Silence]),
    }
}

fn refusal(unlucky: bool, rng: &mut Rng) -> Refusal {
    const RESTING: [Refusal; 3] = [Refusal::UsedUp, Refusal::BadKey, Refusal::Forbidden];
    const PASSING: [Refusal; 7] = [
        Refusal::Throttled,
        Refusal::TooLong,
        Refusal::Filtered,
        Refusal::Prefilled,
        Refusal::BadRequest,
        Refusal::Internal,
        Refusal::Overloaded,
    ];
    if unlucky { RESTING[rng.usize(0..RESTING.len())] } else { PASSING[rng.usize(0..PASSING.len())] }
}

fn bad_whole(dialect: DialectId, rng: &mut Rng) -> Reply {
    let (_, error) = Refusal::Overloaded.form(dialect);
    match rng.u32(0..4) {
        0 => Reply::whole(200, "application/json", "{\"id\":\"c1\",\"choi"),
        1 => Reply::whole(200, "application/json", ""),
        2 => Reply::json(200, &error),
        _ => Reply::whole(502, "text/html", "<html>Bad Gateway</html>"),
    }
}

fn bad_stream(dialect: DialectId, model: &str, id: &str, rng: &mut Rng) -> Reply {
    let broken_chunk = Step::Raw(Bytes::from_static(b"zz\r\nwhat\r\n"));
    let [one, two, three, four] = pieces(id);
    let opened = Stream::of(dialect, model).opening();
    let begun = if rng.bool() { opened.text(&one) } else { opened };
    match rng.u32(0..9) {
        0 => begun.step(Step::Close),
        1 => begun.step(Step::Reset),
        2 => begun.step(Step::Silence),
        3 => begun.step(broken_chunk).step(Step::Close),
        4 => begun.error(Refusal::Overloaded),
        5 => begun.error(Refusal::BadRequest),
        // No end at all.
        6 => begun,
        7 => Stream::of(dialect, model)
            .opening()
            .text(&one)
            .malformed()
            .text(&two)
            .text(&three)
            .text(&four)
            .stop()
            .marker(),
        // Without its marker.
        _ => Stream::of(dialect, model).opening().text(&one).text(&two).text(&three).text(&four).stop(),
    }
    .reply()
}

fn config(servers: &[FaultServer]) -> String {
    let mut config =
        "[retry]\nbase = \"5ms\"\ncap = \"50ms\"\n[breaker]\nopen = \"500ms\"\nmax_open = \"2s\"\n".to_owned();
    for ((name, dialect), server) in PROVIDERS.iter().zip(servers) {
        config += &provider(name, *dialect, server);
        config += &deadlines(
            name,
            "connect = \"1s\"\nfirst_token = \"500ms\"\nwhole_answer = \"900ms\"\nidle = \"500ms\"\nbudget = \"3s\"",
        );
    }
    for number in 0..MODELS {
        let targets = PROVIDERS.map(|(name, _)| format!("{{ provider = \"{name}\", model = \"m-{number}\" }}"));
        config += &format!("[classes.all-{number}]\ncloud = true\nselect = [{}]\n", targets.join(", "));
    }
    config
}

/// Asks until the time is over.
async fn client(number: usize, soak: Arc<Soak>) {
    let mut rng = chance(soak.seed, ("client", number));
    for turn in 0.. {
        tokio::time::sleep(Duration::from_millis(rng.u64(0..THINKING))).await;
        if soak.over.load(Ordering::Relaxed) {
            return;
        }
        soak.ask(&format!("soak-{number}-{turn}"), &mut rng).await;
    }
}

/// What all clients share.
struct Soak {
    seed: u64,
    url: String,
    client: Client,
    tally: Tally,
    /// The ids of those who heard their answer to its end.
    answered: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Soak {
    async fn ask(&self, id: &str, rng: &mut Rng) {
        let ingress = DIALECTS[rng.usize(0..DIALECTS.len())];
        let (stream, model) = (rng.bool(), rng.usize(0..MODELS));
        let fallbacks = rng.f64() < 0.2;
        let named = match rng.usize(0..=PROVIDERS.len()) {
            place if place < PROVIDERS.len() => format!("{}/m-{model}", PROVIDERS[place].0),
            _ => format!("all-{model}"),
        };
        let (path, mut body) = question(ingress, &named, stream);
        let text = json!(format!("What do you say to {id}?"));
        match ingress {
            Gemini => body["contents"][0]["parts"][0]["text"] = text,
            OpenAiChat | Anthropic => body["messages"][0]["content"] = text,
        }
        if fallbacks {
            body["fallbacks"] = json!([format!("beta/m-{model}"), format!("alpha/m-{model}")]);
        }
        let request = self.client.post(format!("{}{path}", self.url)).header("x-request-id", id);
        let request = request.header("content-type", "application/json").body(body.to_string());
        Tally::count(&self.tally.sent);
        // Some leave, before their answer or in the middle of it.
        let patience = if rng.f64() < 0.12 { Duration::from_millis(rng.u64(1..400)) } else { PATIENCE };
        let Ok(told) = tokio::time::timeout(patience, told(ingress, request)).await else {
            assert!(patience < PATIENCE, "{id} is not answered");
            return Tally::count(&self.tally.left);
        };
        Tally::count(self.judge(&told, id, stream));
        self.answered.lock().unwrap().push(id.to_owned());
    }

    /// Checks an answer, and says how it is counted.
    fn judge(&self, told: &Told, id: &str, stream: bool) -> &AtomicU64 {
        assert!(told.whole, "an answer that breaks off: {told:?}");
        assert_eq!(told.header("x-request-id"), id, "somebody else's answer");
        if told.status != 200 {
            told.error();
            return &self.tally.refused;
        }
        let (content, right) = (told.content(), pieces(id).concat());
        if let Some(error) = told.stream_error() {
            assert!(stream && error["message"].is_string(), "{told:?}");
            assert!(right.starts_with(&content), "not what was asked for: {told:?}");
            return &self.tally.cut;
        }
        // Gemini's filter takes an answer within the answer, and leaves nothing of it.
        assert!(content == right || content.is_empty() && is_filtered(told), "{told:?}");
        &self.tally.complete
    }
}

/// The answer says in one of the dialects that the filter has taken it.
fn is_filtered(told: &Told) -> bool {
    ["content_filter", "blockReason", "refusal", "SAFETY"].iter().any(|word| told.text().contains(word))
}

/// Memory of a process in KiB.
fn resident(process: u32) -> u64 {
    let output = Command::new("ps").args(["-o", "rss=", "-p", &process.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("the gateway has gone")
}

/// Files and sockets that a process holds.
fn open_files(process: u32) -> usize {
    if let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) {
        return files.count();
    }
    let output = Command::new("lsof").args(["-p", &process.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().count().saturating_sub(1)
}

/// The sum of a metric over its labels; 0 where nothing was counted yet.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.text("/metrics").await;
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_it).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// How often each id of ours stands in the access log.
fn logged(log: &str) -> HashMap<String, u32> {
    let mut ids = HashMap::new();
    for word in log.split_whitespace().filter_map(|word| word.strip_prefix("id=soak-")) {
        *ids.entry(format!("soak-{word}")).or_default() += 1;
    }
    ids
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn program() -> PathBuf {
    std::env::var_os("BIFROST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_bifrost").into(), PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes three minutes; .ci/run runs it"]
async fn mixed_faults_forget_nobody_answer_nobody_twice_and_let_nothing_grow() {
    let seed = number("BIFROST_SOAK_SEED").unwrap_or_else(|| fastrand::u64(0..1 << 32));
    let seconds = number("BIFROST_SOAK_SECONDS").unwrap_or(180);
    println!("soak: BIFROST_SOAK_SEED={seed}, {seconds} s, {}", program().display());
    let mut servers = Vec::new();
    for (_, dialect) in PROVIDERS {
        servers.push(moody(dialect, seed).await);
    }
    let mut gateway = Gateway::start_program(&program(), &config(&servers), &[], &[]);
    let files_before = open_files(gateway.id());
    let client = Client::builder().no_proxy().build().unwrap();
    let soak = Arc::new(Soak {
        seed,
        url: gateway.url().to_owned(),
        client,
        tally: Tally::default(),
        answered: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(self::client(number, Arc::clone(&soak)));
    }

    let mut memory = Vec::new();
    for second in 1..=seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        memory.push(resident(gateway.id()));
        if second % 10 == 0 {
            let Tally { sent, complete, cut, refused, left } = &soak.tally;
            println!(
                "{second:>4} s: sent {}, complete {}, cut {}, refused {}, left {}; {} KiB, {} files, {} in flight",
                Tally::of(sent),
                Tally::of(complete),
                Tally::of(cut),
                Tally::of(refused),
                Tally::of(left),
                memory.last().unwrap(),
                open_files(gateway.id()),
                metric(&gateway, "bifrost_requests_in_flight").await,
            );
        }
    }
    soak.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client was not content");
    }

    let Tally { sent, left, complete, cut, .. } = &soak.tally;
    let (sent, left) = (Tally::of(sent), Tally::of(left));
    assert!(Tally::of(complete) > 0 && Tally::of(cut) > 0 && left > 0, "it proves nothing");
    assert_eq!(sent, soak.tally.answered() + left, "somebody was forgotten");
    let is_idle = async || {
        let requests = metric(&gateway, "bifrost_requests_in_flight").await;
        (requests + metric(&gateway, "bifrost_streams_open").await == 0).then_some(())
    };
    gateway.eventually("nobody is in flight", is_idle).await;
    assert_eq!(gateway.get("/health").send().await.unwrap().status(), 200);

    // One record of each: by the counter, in the log, and among the newest that the admin API keeps.
    assert_eq!(metric(&gateway, "bifrost_log_dropped_total").await, 0, "the log is not whole");
    let counted = metric(&gateway, "bifrost_requests_total").await;
    let is_logged = async || {
        let lines: u64 = logged(&gateway.log()).values().map(|times| u64::from(*times)).sum();
        (lines == counted).then_some(())
    };
    gateway.eventually("the log holds what was counted", is_logged).await;
    let log = gateway.log();
    let ids = logged(&log);
    assert!(ids.values().all(|times| *times == 1), "somebody was written down twice");
    let answered = soak.answered.lock().unwrap().clone();
    assert!(answered.iter().all(|id| ids.contains_key(id)), "somebody was answered and not written down");
    // Who leaves early may never have been heard of.
    assert!(counted <= sent && counted >= sent - left, "{counted} of {sent}, {left} of which left");
    let recent = gateway.admin("/admin/exchanges").await;
    let recent = recent["exchanges"].as_array().or(recent.as_array()).unwrap();
    let mut kept: Vec<&str> = recent.iter().filter_map(|record| record["id"].as_str()).collect();
    assert!(!kept.is_empty() && kept.iter().all(|id| ids.contains_key(*id)), "{kept:?}");
    kept.sort_unstable();
    assert!(kept.windows(2).all(|pair| pair[0] != pair[1]), "an exchange is kept twice");

    // Nothing is held for clients and providers that have gone.
    drop(soak);
    drop(servers);
    let has_closed = async || (open_files(gateway.id()) <= files_before + 4).then_some(());
    gateway.eventually("connections are held for nobody", has_closed).await;
    let third = memory.len() / 3;
    let mean = |range: &[u64]| range.iter().sum::<u64>() / range.len().max(1) as u64;
    let (second, last) = (mean(&memory[third..2 * third]), mean(&memory[2 * third..]));
    println!("memory: {second} KiB in the second minute, {last} KiB in the third");
    assert!(last.abs_diff(second) * 10 <= second, "memory is not steady: {second} KiB, then {last} KiB");
    gateway.signal("TERM");
    let (code, log) = tokio::task::spawn_blocking(move || (gateway.wait(), gateway.log())).await.unwrap();
    assert_eq!(code, Some(0), "it does not end in good order");
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panic")).collect();
    assert!(panics.is_empty(), "{panics:?}");
}
