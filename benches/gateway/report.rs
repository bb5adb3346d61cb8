//! What was measured: the figures of all rounds, as a table or as JSON.

use crate::target::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    P50Slow,
    P99Slow,
    P50Fast,
    P99Fast,
    P50Translated,
    P99Translated,
    CpuSlow,
    CpuFast,
    CpuMost,
    MostRequests,
    FirstToken,
    CpuChunk,
    Lost,
    Failed,
    MemoryIdle,
    MemoryLoaded,
    MemoryFlood,
    FirstAnswer,
}

/// How a metric is shown.
struct Row {
    /// Its name in JSON; `added_` comes before it where it applies.
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    decimals: usize,
    /// What the target adds to the latency without it, which stands in brackets.
    added: bool,
    /// Summed over the rounds, where others are the median of them.
    summed: bool,
}

impl Metric {
    const ALL: [Self; 18] = [
        Self::P50Slow,
        Self::P99Slow,
        Self::P50Fast,
        Self::P99Fast,
        Self::P50Translated,
        Self::P99Translated,
        Self::CpuSlow,
        Self::CpuFast,
        Self::CpuMost,
        Self::MostRequests,
        Self::FirstToken,
        Self::CpuChunk,
        Self::Lost,
        Self::Failed,
        Self::MemoryIdle,
        Self::MemoryLoaded,
        Self::MemoryFlood,
        Self::FirstAnswer,
    ];

    const fn row(self) -> Row {
        match self {
            Self::P50Slow => added("p50_1000_us", "added at 1,000 requests/s, p50"),
            Self::P99Slow => added("p99_1000_us", "added at 1,000 requests/s, p99"),
            Self::P50Fast => added("p50_5000_us", "added at 5,000 requests/s, p50"),
            Self::P99Fast => added("p99_5000_us", "added at 5,000 requests/s, p99"),
            Self::P50Translated => added("p50_translated_us", "added, OpenAI to Anthropic, 1,000 requests/s, p50"),
            Self::P99Translated => added("p99_translated_us", "added, OpenAI to Anthropic, 1,000 requests/s, p99"),
            Self::CpuSlow => plain("cpu_1000_us", "CPU per request at 1,000 requests/s", "us", 1),
            Self::CpuFast => plain("cpu_5000_us", "CPU per request at 5,000 requests/s", "us", 1),
            Self::CpuMost => plain("cpu_most_us", "CPU per request at 64 connections", "us", 1),
            Self::MostRequests => plain("requests_per_second", "requests/s at 64 connections", "", 0),
            Self::FirstToken => added("first_token_us", "added to the first token, p50"),
            Self::CpuChunk => plain("cpu_chunk_us", "CPU per chunk, 200 streams of 100", "us", 1),
            Self::Lost => summed("chunks_lost", "chunks lost"),
            Self::Failed => summed("failed", "requests failed"),
            Self::MemoryIdle => plain("memory_idle_mib", "memory after the first answer", "MiB", 1),
            Self::MemoryLoaded => plain("memory_loaded_mib", "memory after load", "MiB", 1),
            Self::MemoryFlood => plain("memory_flood_mib", "memory at 1,000 connections", "MiB", 1),
            Self::FirstAnswer => plain("first_answer_ms", "first answer after exec", "ms", 0),
        }
    }
}

const fn plain(key: &'static str, label: &'static str, unit: &'static str, decimals: usize) -> Row {
    Row { key, label, unit, decimals, added: false, summed: false }
}

const fn added(key: &'static str, label: &'static str) -> Row {
    Row { added: true, ..plain(key, label, "us", 0) }
}

const fn summed(key: &'static str, label: &'static str) -> Row {
    Row { summed: true, ..plain(key, label, "", 0) }
}

/// The figures of all rounds.
#[derive(Default)]
pub struct Figures {
    samples: BTreeMap<(Metric, Kind), Vec<f64>>,
}

impl Figures {
    /// Takes a figure of a round; nothing where there is none.
    pub fn add(&mut self, kind: Kind, metric: Metric, figure: Option<f64>) {
        self.samples.entry((metric, kind)).or_default().extend(figure);
    }

    /// Takes a latency, which counts as what `kind` adds to that of the same load `without` it.
    pub fn add_latency(&mut self, kind: Kind, metric: Metric, latency: f64, without: f64) {
        let figure = if kind == Kind::Direct { latency } else { latency - without };
        self.add(kind, metric, Some(figure));
    }

    /// Every request was answered, and every stream came whole.
    pub fn complete(&self) -> bool {
        self.kinds()
            .into_iter()
            .all(|kind| [Metric::Failed, Metric::Lost].into_iter().all(|metric| self.figure(metric, kind) == Some(0.0)))
    }

    /// The figures as a Markdown table.
    pub fn table(&self) -> String {
        let kinds = self.kinds();
        let mut table = String::from("| |");
        for kind in &kinds {
            let _ = write!(table, " {} |", kind.name());
        }
        let _ = write!(table, "\n|{}", " --- |".repeat(kinds.len() + 1));
        for metric in Metric::ALL {
            let row = metric.row();
            let _ = write!(table, "\n| {} |", row.label);
            for kind in &kinds {
                let figure = self.figure(metric, *kind);
                let text = figure
                    .map_or_else(|| "-".to_owned(), |figure| format!("{} {}", grouped(figure, row.decimals), row.unit));
                let text = text.trim_end();
                let bracketed = row.added && *kind == Kind::Direct;
                let _ = if bracketed { write!(table, " ({text}) |") } else { write!(table, " {text} |") };
            }
        }
        table.push('\n');
        table
    }

    /// The figures, and what they were made of.
    pub fn json(&self) -> Value {
        let of_kind = |kind: &Kind| {
            let figures: Map<String, Value> = Metric::ALL
                .into_iter()
                .filter_map(|metric| {
                    let figure = self.figure(metric, *kind)?;
                    let samples = self.samples.get(&(metric, *kind))?;
                    let row = metric.row();
                    let prefix = if row.added && *kind != Kind::Direct { "added_" } else { "" };
                    Some((format!("{prefix}{}", row.key), json!({ "figure": figure, "samples": samples })))
                })
                .collect();
            (kind.name().to_owned(), Value::Object(figures))
        };
        Value::Object(self.kinds().iter().map(of_kind).collect())
    }

    fn kinds(&self) -> Vec<Kind> {
        let has_figures = |kind: &Kind| self.samples.keys().any(|(_, measured)| measured == kind);
        [Kind::Direct, Kind::Nginx, Kind::Bifrost].into_iter().filter(has_figures).collect()
    }

    fn figure(&self, metric: Metric, kind: Kind) -> Option<f64> {
        let mut samples = self.samples.get(&(metric, kind)).filter(|samples| !samples.is_empty())?.clone();
        if metric.row().summed {
            return Some(samples.iter().sum());
        }
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        Some(if samples.len() % 2 == 1 { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 })
    }
}

/// A number with a comma between thousands, as `12,345.6`.
fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}{rest}", digits.join(","))
}
