//! The end of an exchange: what the request's task does for it, and what the log's thread makes of it.

use bifrost::chat::{DialectId, Usage};
use bifrost::config::LogSettings;
use bifrost::observe::{AttemptRecord, ExchangeRecord, Log, Observer, Operation};
use divan::Bencher;
use divan::counter::ItemsCount;
use std::io;
use std::time::Duration;

/// Below half of what the log's queue holds, so that nothing is dropped and the thread is woken once.
const EXCHANGES: usize = 2_000;

/// Metrics, the ring, and the place in the log's queue, on the task of the request.
#[divan::bench(sample_count = 20)]
fn finish_exchange(bencher: Bencher) {
    bencher.counter(ItemsCount::new(EXCHANGES)).with_inputs(|| (log(false), vec![record(); EXCHANGES])).bench_values(
        |(log, records)| {
            finish(&log, records);
            // Given back, so that what the log's thread still has to write is not counted.
            log
        },
    );
}

/// The same, until the last line is written to nowhere.
#[divan::bench(args = ["readable", "json"], sample_count = 20)]
fn finish_exchange_and_write_line(bencher: Bencher, form: &str) {
    bencher
        .counter(ItemsCount::new(EXCHANGES))
        .with_inputs(|| (log(form == "json"), vec![record(); EXCHANGES]))
        .bench_values(|(log, records)| {
            finish(&log, records);
            drop(log);
        });
}

fn finish(log: &Log, records: Vec<ExchangeRecord>) {
    let observer = Observer::new(log);
    for record in records {
        observer.finish(record);
    }
}

fn log(json: bool) -> Log {
    Log::start(&LogSettings { filter: "info".to_owned(), json, access: true }, io::sink()).unwrap()
}

fn record() -> ExchangeRecord {
    let id = "0192f0c1-2f6e-7cc1-8a53-1f6f6a2b7c11".into();
    ExchangeRecord {
        requested_model: "coding".to_owned(),
        class: Some("coding".to_owned()),
        provider: Some("anthropic".into()),
        model: Some("claude-sonnet-4-5".into()),
        known_model: true,
        attempts: vec![AttemptRecord {
            provider: "anthropic".into(),
            model: "claude-sonnet-4-5".into(),
            outcome: "ok",
            status: Some(200),
            retry: false,
            waited: Duration::ZERO,
            began: Duration::from_micros(40),
            millis: 812,
            error: None,
        }],
        stream: true,
        status: 200,
        usage: Some(Usage { input: 4_211, output: 388, ..Usage::default() }),
        total: Duration::from_micros(812_345),
        upstream: Some(Duration::from_micros(812_260)),
        first_token: Some(Duration::from_micros(301_002)),
        overhead: Some(Duration::from_micros(85)),
        bytes_in: 20_480,
        bytes_out: 9_112,
        cancelled: false,
        ..ExchangeRecord::begin(id, DialectId::OpenAiChat, Operation::Chat, false)
    }
}
