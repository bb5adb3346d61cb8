use super::*;
use crate::chat::{DialectId, ErrorKind, Losses, Usage};
use crate::config::classes::Priority;
use crate::provider::prices::Prices;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tracing::Level;

fn settings(json: bool) -> LogSettings {
    LogSettings { filter: "info".to_owned(), json, access: true }
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says that it was asked to write, and then waits until it is let go.
struct Stuck {
    entered: Sender<()>,
    gate: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.gate.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn observer() -> (Log, Observer) {
    let log = Log::start(&settings(false), io::sink()).unwrap();
    let observer = Observer::new(&log);
    (log, observer)
}

/// An attempt that did not get through.
fn unreachable(retry: bool, waited: Duration) -> AttemptRecord {
    AttemptRecord {
        provider: "mlx-local".into(),
        model: "org/tiny".into(),
        outcome: "unreachable",
        status: None,
        retry,
        waited,
        began: Duration::from_micros(40),
        millis: 3,
        error: Some("mlx-local could not be reached".to_owned()),
    }
}

/// A streamed exchange in which everything is known.
fn full() -> ExchangeRecord {
    let mut losses = Losses::new();
    losses.dropped("seed");
    losses.approximated("reasoning.effort");
    ExchangeRecord {
        id: "0193-full".into(),
        started: UNIX_EPOCH + Duration::from_millis(1_767_225_600_000),
        ingress: DialectId::Anthropic,
        operation: Operation::Chat,
        requested_model: "coding".to_owned(),
        class: Some("coding".to_owned()),
        class_reason: Some("asked for".to_owned()),
        provider: Some("openai".into()),
        model: Some("gpt-x".into()),
        response_model: Some("gpt-x-2026-01-01".into()),
        known_model: true,
        attempts: vec![
            unreachable(false, Duration::ZERO),
            unreachable(true, Duration::from_millis(10)),
            AttemptRecord {
                provider: "openai".into(),
                model: "gpt-x".into(),
                outcome: "ok",
                status: Some(200),
                retry: false,
                waited: Duration::from_millis(20),
                began: Duration::from_millis(23),
                millis: 700,
                error: None,
            },
        ],
        queue: Some(QueueRecord {
            position: Some(2),
            waited: Duration::from_millis(20),
            priority: Priority::Batch,
            spilled: false,
        }),
        stream: true,
        status: 200,
        error: None,
        local_only: false,
        substituted: None,
        losses,
        usage: Some(Usage { input: 100, output: 20, cache_read: Some(64), reasoning: Some(5), ..Usage::default() }),
        prices: Prices { input: Some(2.0), output: Some(10.0), cache_read: Some(0.5), ..Prices::default() },
        total: Duration::from_millis(1_500),
        upstream: Some(Duration::from_micros(1_499_900)),
        first_token: Some(Duration::from_millis(700)),
        skipped: 1,
        overhead: Some(Duration::from_micros(90)),
        bytes_in: 1_234,
        bytes_out: 5_678,
        cancelled: false,
        upstream_request_id: Some("req_1".to_owned()),
        trace: Some(TraceContext::of(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))),
    }
}

/// An exchange that never got to a provider.
fn refused() -> ExchangeRecord {
    ExchangeRecord {
        id: "0193-refused".into(),
        started: UNIX_EPOCH + Duration::from_millis(1_767_225_600_500),
        requested_model: "no such\nmodel".to_owned(),
        status: 404,
        error: Some(ErrorRecord { kind: ErrorKind::NotFound, code: Some("model_not_found".to_owned()), param: None }),
        total: Duration::from_micros(80),
        local_only: true,
        ..ExchangeRecord::default()
    }
}

/// An exchange whose client left before there was an answer.
fn left() -> ExchangeRecord {
    ExchangeRecord {
        started: UNIX_EPOCH,
        requested_model: "mlx-local/org/tiny".to_owned(),
        ..ExchangeRecord::begin("0193-left".into(), DialectId::Gemini, Operation::Embeddings, false)
    }
}

/// OpenMetrics says nothing of the order of series, and a hash map's is another each time.
fn sorted(text: &str) -> String {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("# HELP") || line.starts_with("# EOF") {
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push(line);
        }
    }
    for block in &mut blocks {
        block.sort_by_key(|line| !line.starts_with('#'));
        let comments = block.iter().take_while(|line| line.starts_with('#')).count();
        // Series come in any order; the buckets of one keep theirs.
        block[comments..].sort_by_key(|line| series(line));
    }
    blocks.concat().join("\n")
}

/// Name and labels of a line, without the bound of a bucket and the value.
fn series(line: &str) -> String {
    let labels = line.rsplit_once(' ').map_or(line, |(labels, _)| labels);
    match labels.split_once("le=\"") {
        Some((name, rest)) => format!("{name}{}", rest.split_once('"').map_or("", |(_, others)| others)),
        None => labels.to_owned(),
    }
}

/// One of each.
fn events() -> Vec<Event<'static>> {
    let (provider, model) = ("openai", "gpt-x");
    let (closed, open, half) = (BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen);
    let breaker = |from, to| Event::Breaker { provider, model, from, to, rest: Some(Duration::from_secs(5)) };
    let waited =
        |waited, end| Event::Waited { provider: "mlx-local", model, priority: Priority::Interactive, waited, end };
    let url = "http://127.0.0.1:11434";
    vec![
        breaker(closed, open),
        breaker(open, half),
        breaker(half, closed),
        breaker(closed, open),
        Event::Breaker { provider, model: "unheard-of", from: closed, to: open, rest: None },
        Event::KeyRested { provider, model: None, key: 1, reason: "rate_limited", rest: Some(Duration::from_secs(2)) },
        Event::KeyRested { provider, model: Some(model), key: 0, reason: "auth", rest: None },
        waited(Duration::from_secs(3), WaitEnd::Admitted),
        waited(Duration::from_secs(300), WaitEnd::TimedOut),
        waited(Duration::ZERO, WaitEnd::ClientLeft),
        Event::Reconnected { provider },
        Event::LocalState { from: "ready", to: "down", reason: "nobody listens", url, level: Level::WARN },
        Event::LocalState { from: "down", to: "held", reason: "somebody else listens", url, level: Level::ERROR },
        Event::LocalState { from: "held", to: "ready", reason: "it answers", url, level: Level::INFO },
        Event::ConfigReloaded { error: None },
        Event::ConfigReloaded { error: Some("a key is missing") },
        Event::SpansSent { spans: 3 },
        Event::SpansDropped { spans: 2, reason: "the collector does not answer", again: false },
        Event::SpansDropped { spans: 1, reason: "the collector does not answer", again: true },
    ]
}

/// An observer that has seen everything that there is to see.
fn experienced() -> (Log, Observer) {
    let (log, observer) = observer();
    observer.local_state(["ready", "down", "held"], "ready");
    observer.finish(full());
    observer.finish(refused());
    observer.finish(left());
    observer.finish(ExchangeRecord { prices: Prices::default(), ..full() });
    observer.set_local_only(true);
    let load = |model, in_flight| Load { provider: "mlx-local", model, in_flight, interactive: 2, batch: 1 };
    observer.set_load([load(Some("org/forgotten"), 9)].into_iter());
    observer.set_load([load(Some("org/tiny"), 4), load(None, 3), load(None, 1)].into_iter());
    let breakers = |models: &[(Option<&'static str>, BreakerState)]| {
        observer.set_breakers(models.iter().map(|(model, state)| ("openai", *model, *state)));
    };
    breakers(&[(Some("gpt-forgotten"), BreakerState::Open)]);
    breakers(&[(Some("gpt-x"), BreakerState::Open), (Some("gpt-y"), BreakerState::Closed), (None, BreakerState::Open)]);
    for event in events() {
        observer.tell(event);
    }
    (log, observer)
}

#[test]
fn metrics_say_what_the_records_and_the_events_say() {
    let (_log, observer) = experienced();
    let waiting = (observer.in_flight(), observer.open_stream());
    drop((observer.in_flight(), observer.open_stream()));
    let text = sorted(&observer.metrics_text());
    drop(waiting);
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "[version]"));
    let text = observer.metrics_text();
    assert!(text.contains("bifrost_requests_in_flight 0\n") && text.contains("bifrost_streams_open 0\n"));
}

/// The table of `docs/METRICS.md`, from the text that a scrape gets.
fn table_of_metrics(text: &str) -> (String, usize) {
    let (mut help, mut rows) = ("", Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((_, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = words.trim_end_matches('.');
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        lines.next_if(|line| line.starts_with("# UNIT "));
        let sample = lines.peek().copied().unwrap_or_default();
        if sample.starts_with('#') {
            continue;
        }
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        let labels: Vec<String> = labels.filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        rows.push(format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    rows.sort();
    (format!("| Metric | Type | Labels | What it says |\n| --- | --- | --- | --- |\n{}", rows.concat()), rows.len())
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let (_log, observer) = experienced();
    let (table, rows) = table_of_metrics(&observer.metrics_text());
    let registered = include_str!("metrics/families.rs").matches("registry.register").count();
    assert_eq!(rows, registered, "the records and the events of this test leave a metric out:\n{table}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
    let written = std::fs::read_to_string(path).unwrap();
    let (before, rest) = written.split_once("<!-- metrics -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /metrics -->").unwrap();
    let made = format!("{before}<!-- metrics -->\n{table}<!-- /metrics -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, made).unwrap();
    } else {
        assert!(made == written, "out of date: run UPDATE_DOCS=1 cargo test --lib the_table_of_metrics");
    }
}

#[test]
fn a_record_as_json() {
    let list = [full(), refused(), left()];
    insta::assert_json_snapshot!(list);
    assert_eq!(trail(&full().attempts[..1]), "mlx-local/org/tiny unreachable 3ms");
}

#[test]
fn lines_come_in_order_and_all_are_written_before_the_log_goes() {
    for (name, json) in [("readable", false), ("json", true)] {
        let kept = Kept::default();
        let log = Log::start(&settings(json), kept.clone()).unwrap();
        let observer = Observer::new(&log);
        let substituted = ExchangeRecord { substituted: Some("openai/gpt-x".to_owned()), status: 502, ..full() };
        for record in [full(), refused(), left(), substituted] {
            observer.finish(record);
        }
        drop(log);
        insta::assert_snapshot!(name, kept.text());
        observer.finish(full());
        assert!(observer.metrics_text().contains("bifrost_log_dropped_total 1\n"), "what comes later is counted");
    }
}

#[test]
fn events_go_the_same_way_and_the_filter_follows_the_configuration() {
    let kept = Kept::default();
    let log = Log::start(&settings(false), kept.clone()).unwrap();
    let with_filter = |filter: &str| LogSettings { filter: filter.to_owned(), ..settings(false) };
    let wrong = log.install(&with_filter("bifrost=loud"), false);
    assert!(matches!(wrong, Err(LogError::Filter { filter, .. }) if filter == "bifrost=loud"));
    // The only test of this process that may do so.
    log.install(&with_filter("warn,bifrost::observe::tests=info"), false).unwrap();
    assert!(matches!(log.install(&settings(false), false), Err(LogError::AlreadyInstalled)));
    let observer = Observer::new(&log);
    tracing::info!(answer = 42, "first");
    tracing::debug!("not asked for");
    observer.finish(full());
    observer.adjust_log(&with_filter("warn,bifrost::observe=debug"));
    tracing::debug!("asked for now");
    for event in events() {
        observer.tell(event);
    }
    observer.adjust_log(&with_filter("bifrost=loud"));
    drop(log);
    // Other tests of this process may log too.
    let text = kept.text();
    let expected = [
        " INFO first answer=42\n",
        " INFO exchange: 200",
        "DEBUG asked for now\n",
        " WARN the circuit breaker opened: the target is not asked provider=\"openai\" model=\"gpt-x\" from=closed rest_ms=5000\n",
        " INFO the circuit breaker lets one request through, to see whether the target is well again provider=\"openai\" model=\"gpt-x\" from=open\n",
        " INFO the circuit breaker closed: the target is asked again provider=\"openai\" model=\"gpt-x\" from=half_open\n",
        " WARN a key rests provider=\"openai\" key=1 reason=\"rate_limited\" rest_ms=2000\n",
        " WARN a key is not used until the configuration is read again provider=\"openai\" model=\"gpt-x\" key=0 reason=\"auth\"\n",
        "DEBUG a kept connection was closed; the call is sent again on a fresh one provider=\"openai\"\n",
        " WARN the local server: nobody listens from=\"ready\" to=\"down\" url=\"http://127.0.0.1:11434\"\n",
        "ERROR the local server: somebody else listens",
        " INFO the local server: it answers",
        " INFO the changed configuration is in force\n",
        "ERROR the changed configuration is not in force: a key is missing\n",
        "DEBUG spans were sent spans=3\n",
        " WARN traces are incomplete: the collector does not answer; bifrost_trace_spans_dropped counts on spans=2\n",
        "DEBUG traces are incomplete: the collector does not answer spans=1\n",
        "stays as it was: the log filter",
    ];
    let places: Vec<_> =
        expected.iter().map(|line| text.find(line).unwrap_or_else(|| panic!("{line}: {text}"))).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(!text.contains("not asked for") && !text.contains('\x1b'), "{text}");
}

#[test]
fn without_an_access_log_only_the_ring_and_the_metrics_know() {
    let kept = Kept::default();
    let log = Log::start(&LogSettings { access: false, ..settings(false) }, kept.clone()).unwrap();
    let observer = Observer::new(&log);
    observer.finish(full());
    observer.adjust_log(&settings(false));
    observer.finish(refused());
    drop(log);
    assert!(!kept.text().contains("0193-full") && kept.text().contains("0193-refused"), "{}", kept.text());
    assert_eq!(observer.recent().len(), 2);
}

#[test]
fn a_sink_that_is_stuck_costs_lines_that_are_counted_and_holds_nobody() {
    let (entered, has_entered) = channel();
    let (open, gate) = channel();
    let log = Log::with_capacity(&settings(false), Stuck { entered, gate }, 4).unwrap();
    let observer = Observer::new(&log);
    observer.finish(full());
    has_entered.recv_timeout(Duration::from_secs(10)).unwrap();
    for _ in 0..10 {
        observer.finish(full());
    }
    assert!(observer.metrics_text().contains("bifrost_log_dropped_total 6\n"), "{}", observer.metrics_text());
    assert_eq!(observer.recent().len(), 11, "the ring and the metrics miss nothing");
    let began = Instant::now();
    drop(log);
    assert!(began.elapsed() < Duration::from_secs(10), "shutdown does not wait for it either");
    drop(open);
}

#[test]
fn the_ring_keeps_the_newest() {
    let ring = Ring::new(3);
    for number in 0..5 {
        ring.push(Arc::new(ExchangeRecord { id: number.to_string().into(), ..ExchangeRecord::default() }));
    }
    ring.push(Arc::new(ExchangeRecord { id: "4".into(), status: 200, ..ExchangeRecord::default() }));
    let ids: Vec<String> = ring.newest_first().iter().map(|record| record.id.to_string()).collect();
    assert_eq!(ids, ["4", "4", "3"]);
    assert_eq!(ring.by_id("4").map(|record| record.status), Some(200), "the newer one of two with the same id");
    assert!(ring.by_id("2").is_none());
}

#[test]
fn what_others_wrote_is_cut_before_it_is_kept() {
    let (_log, observer) = observer();
    let long = "ä".repeat(100_000);
    let mut losses = Losses::new();
    for number in 0..1_000 {
        losses.dropped(format!("{number}.{long}"));
    }
    let attempt = AttemptRecord { error: Some(long.clone()), model: long.clone().into(), ..full().attempts.remove(0) };
    observer.finish(ExchangeRecord {
        requested_model: long.clone(),
        class_reason: Some(long.clone()),
        upstream_request_id: Some(long.clone()),
        error: Some(ErrorRecord { kind: ErrorKind::Upstream, code: Some(long.clone()), param: Some(long) }),
        attempts: vec![attempt],
        losses,
        ..full()
    });
    let record = observer.by_id("0193-full").unwrap();
    assert!(record.requested_model.ends_with("ä…") && record.requested_model.len() <= 256);
    assert!(serde_json::to_string(&*record).unwrap().len() < 32 * 1_024);
}

fn label_values(text: &str, label: &str) -> BTreeSet<String> {
    let start = format!("{label}=\"");
    text.lines()
        .filter_map(|line| line.split_once(&start))
        .filter_map(|(_, rest)| rest.split_once('"'))
        .map(|(value, _)| value.to_owned())
        .collect()
}

#[test]
fn only_so_many_models_of_a_catalogue_become_labels() {
    let (_log, observer) = observer();
    for number in 0..2_000 {
        observer.finish(ExchangeRecord { model: Some(format!("model-{number}").into()), ..full() });
    }
    let models = label_values(&observer.metrics_text(), "gen_ai_request_model");
    assert_eq!(models.len(), 513, "512 and `other`");
    assert!(models.contains("model-0") && models.contains("other") && !models.contains("model-1999"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn names_of_clients_never_become_labels(names in prop::collection::vec(any::<String>(), 1..20)) {
        let (_log, observer) = observer();
        for name in &names {
            let mut losses = Losses::new();
            losses.dropped(name.clone());
            observer.finish(ExchangeRecord {
                requested_model: name.clone(),
                class: Some(name.clone()),
                substituted: Some(name.clone()),
                model: Some(name.clone().into()),
                known_model: false,
                losses,
                error: Some(ErrorRecord {
                    kind: ErrorKind::InvalidRequest,
                    code: Some(name.clone()),
                    param: Some(name.clone()),
                }),
                ..full()
            });
        }
        let text = observer.metrics_text();
        let other = BTreeSet::from(["other".to_owned()]);
        prop_assert_eq!(label_values(&text, "gen_ai_request_model"), other.clone());
        prop_assert_eq!(label_values(&text, "field"), other);
        prop_assert_eq!(label_values(&text, "error_type"), BTreeSet::from(["invalid_request".to_owned()]));
        prop_assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_catalogues_names_cannot_break_the_text(name in "\\PC{1,40}|[\"\\\\\n{}=,# ]{1,20}") {
        let (_log, observer) = observer();
        observer.finish(ExchangeRecord { model: Some(name.clone().into()), provider: Some(name.into()), ..full() });
        for line in observer.metrics_text().lines() {
            let shape = line.starts_with("# ") || line.starts_with("bifrost_") || line.starts_with("gen_ai_");
            prop_assert!(shape, "{line:?}");
        }
    }
}
