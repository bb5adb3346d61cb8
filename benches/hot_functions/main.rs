//! Micro-benchmarks of what every request goes through: time, bytes a second and allocations of each function.
//!
//! `cargo bench --bench hot_functions`; words behind `--` choose, as `cargo bench --bench hot_functions -- decode_stream`.

mod agent_request;
mod dialects;
mod framing;
mod observing;
mod recorded;

use std::time::Duration;

/// Counts what is allocated while a benchmark runs.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    // Without it the fast ones are over before the processor is up to speed.
    divan::Divan::default().min_time(Duration::from_millis(200)).config_with_args().main();
}
