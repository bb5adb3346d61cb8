//! One round: every target under the same load, one right after the other, so that a noisy minute hits all of them.

use crate::Setting;
use crate::load;
use crate::progress::Progress;
use crate::report::{Figures, Metric};
use crate::streams::{self, Streams};
use crate::target::{Kind, Target};
use anyhow::Result;
use bytes::Bytes;
use std::thread;
use std::time::{Duration, Instant};

/// Connections of the closed loop that asks how much can be had.
const SATURATION_CONNECTIONS: u32 = 64;
/// Connections of the flood.
const FLOOD_CONNECTIONS: u32 = 1_000;
/// Streams at once, and the chunks of each.
const STREAMS: u32 = 200;
const STREAM_CHUNKS: u32 = 100;
/// Streams in turn whose first chunk is waited for, and the chunks of each.
const SHORT_STREAMS: u32 = 300;
const SHORT_STREAM_CHUNKS: u32 = 20;
/// Between two looks at the memory of a flooded process.
const LOOK: Duration = Duration::from_millis(50);

/// Measures all targets once.
///
/// # Errors
/// A target does not start.
pub fn round(setting: &Setting, progress: &mut Progress, figures: &mut Figures) -> Result<()> {
    progress.phase("start", "all");
    let mut targets = vec![Target::direct(setting)];
    if let Some(program) = setting.nginx {
        targets.push(Target::nginx(program, setting)?);
    }
    targets.push(Target::bifrost(setting)?);
    let mut round = Round { targets, length: setting.length, progress, figures };
    round.start();
    let whole = load::whole();
    let (slow, fast) = ([Metric::P50Slow, Metric::P99Slow], [Metric::P50Fast, Metric::P99Fast]);
    round.open_loop("1,000 requests/s", &whole, 1_000, slow, Some(Metric::CpuSlow));
    round.open_loop("5,000 requests/s", &whole, 5_000, fast, Some(Metric::CpuFast));
    round.saturation(&whole);
    round.first_token();
    round.streams();
    round.flood(&whole);
    // nginx translates nothing.
    round.targets.retain(|target| target.kind != Kind::Nginx);
    let translated = [Metric::P50Translated, Metric::P99Translated];
    round.open_loop("1,000 translated requests/s", &load::translated(), 1_000, translated, None);
    Ok(())
}

struct Round<'a> {
    targets: Vec<Target>,
    length: Duration,
    progress: &'a mut Progress,
    figures: &'a mut Figures,
}

impl Round<'_> {
    fn start(&mut self) {
        for target in &mut self.targets {
            self.figures.add(target.kind, Metric::FirstAnswer, target.first_answer.map(millis));
            self.figures.add(target.kind, Metric::MemoryIdle, target.resident().map(mebibytes));
        }
    }

    fn open_loop(&mut self, name: &str, request: &Bytes, rate: u32, percentiles: [Metric; 2], cpu: Option<Metric>) {
        let mut direct = None;
        for target in &mut self.targets {
            self.progress.phase(name, target.kind.name());
            let (seen, used) = target.under(|address| load::open_loop(address, request, rate, self.length));
            let measured = [seen.percentile(0.5), seen.percentile(0.99)].map(micros);
            let without = *direct.get_or_insert(measured);
            for (index, metric) in percentiles.into_iter().enumerate() {
                self.figures.add_latency(target.kind, metric, measured[index], without[index]);
            }
            if let Some(metric) = cpu {
                self.figures.add(target.kind, metric, used.map(|used| micros(used) / seen.requests as f64));
            }
            self.figures.add(target.kind, Metric::Failed, Some(seen.failed as f64));
        }
    }

    fn saturation(&mut self, request: &Bytes) {
        for target in &mut self.targets {
            self.progress.phase("as many requests as can be had", target.kind.name());
            let begun = Instant::now();
            let (seen, used) =
                target.under(|address| load::closed_loop(address, request, SATURATION_CONNECTIONS, self.length));
            let answered = (seen.requests - seen.failed) as f64;
            self.figures.add(target.kind, Metric::MostRequests, Some(answered / begun.elapsed().as_secs_f64()));
            self.figures.add(target.kind, Metric::CpuMost, used.map(|used| micros(used) / answered));
            self.figures.add(target.kind, Metric::Failed, Some(seen.failed as f64));
        }
    }

    fn first_token(&mut self) {
        let mut direct = None;
        for target in &mut self.targets {
            self.progress.phase("first token", target.kind.name());
            let streams = streams::in_turn(target.address, SHORT_STREAMS, SHORT_STREAM_CHUNKS);
            let measured = micros(streams.first_chunks.percentile(0.5));
            let without = *direct.get_or_insert(measured);
            self.figures.add_latency(target.kind, Metric::FirstToken, measured, without);
            streamed(self.figures, target.kind, &streams, SHORT_STREAMS * SHORT_STREAM_CHUNKS);
        }
    }

    fn streams(&mut self) {
        for target in &mut self.targets {
            self.progress.phase("200 streams at once", target.kind.name());
            let (streams, used) = target.under(|address| streams::at_once(address, STREAMS, STREAM_CHUNKS));
            let per_chunk = used.map(|used| micros(used) / streams.chunks as f64);
            self.figures.add(target.kind, Metric::CpuChunk, per_chunk);
            streamed(self.figures, target.kind, &streams, STREAMS * STREAM_CHUNKS);
        }
    }

    fn flood(&mut self, request: &Bytes) {
        for target in self.targets.iter_mut().filter(|target| target.kind != Kind::Direct) {
            self.progress.phase("1,000 connections", target.kind.name());
            self.figures.add(target.kind, Metric::MemoryLoaded, target.resident().map(mebibytes));
            let (address, length) = (target.address, self.length);
            let (seen, most) = thread::scope(|scope| {
                let load = scope.spawn(move || load::closed_loop(address, request, FLOOD_CONNECTIONS, length));
                let mut most = target.resident();
                while !load.is_finished() {
                    thread::sleep(LOOK);
                    most = most.max(target.resident());
                }
                (load.join().expect("a thread that does not panic"), most)
            });
            self.figures.add(target.kind, Metric::MemoryFlood, most.map(mebibytes));
            self.figures.add(target.kind, Metric::Failed, Some(seen.failed as f64));
        }
    }
}

fn streamed(figures: &mut Figures, kind: Kind, streams: &Streams, expected: u32) {
    figures.add(kind, Metric::Lost, Some(f64::from(expected) - streams.chunks as f64));
    figures.add(kind, Metric::Failed, Some(streams.first_chunks.failed as f64));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
