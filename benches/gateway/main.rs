//! The whole gateway under load, beside nginx and beside nothing: what it adds, what it costs, what it holds.
//!
//! `cargo bench --bench gateway`, or with `-- --quick` one short round. The upstream and the load are threads of this
//! program; the gateway is the release build of `bifrost` with `benches/gateway.toml`. On Linux the gateway has the first
//! processor for itself, as far as this program is concerned. Nothing here passes or fails by its speed.

mod http;
mod load;
mod machine;
mod measure;
mod progress;
mod report;
mod streams;
mod target;
mod upstream;

use anyhow::Result;
use clap::Parser;
use machine::{Processors, Side};
use progress::Progress;
use report::Figures;
use serde_json::json;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;
use sysinfo::System;

/// Where nginx may lie: on many systems not on the PATH of those who are not root.
const NGINX: [&str; 3] = ["nginx", "/usr/sbin/nginx", "/opt/homebrew/bin/nginx"];

/// Measures the gateway under load, beside nginx where it is installed.
#[derive(Parser)]
struct Arguments {
    /// One short round: for a first look, too noisy for a comparison
    #[arg(long)]
    quick: bool,
    /// Prints JSON with the figures of every round
    #[arg(long)]
    json: bool,
    /// What `cargo bench` says and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
}

/// What holds for all rounds.
struct Setting {
    /// Where the upstream listens.
    upstream: SocketAddr,
    /// The name of nginx, where it is installed.
    nginx: Option<&'static str>,
    /// Who runs where; `None` where nobody can be kept on a processor.
    processors: Option<Processors>,
    /// How long a load lasts that does not end by itself.
    length: Duration,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        eprintln!("skipped: `cargo bench --bench gateway` measures, a build without optimisation tells nothing");
        return Ok(ExitCode::SUCCESS);
    }
    let (rounds, length) =
        if arguments.quick { (1, Duration::from_millis(1_500)) } else { (3, Duration::from_secs(3)) };
    machine::allow_many_connections()?;
    let processors = Processors::part()?;
    if let Some(processors) = processors {
        processors.pin(Side::Load)?;
    }
    let nginx = NGINX.into_iter().find(|program| Command::new(program).arg("-v").output().is_ok());
    if nginx.is_none() {
        eprintln!("skipped: nginx, which is not installed; there is nothing to compare with but no gateway at all");
    }
    // Before the benchmark makes one itself.
    let busy = System::load_average().one;
    let setting = Setting { upstream: upstream::start()?, nginx, processors, length };
    let (mut figures, mut progress) = (Figures::default(), Progress::new(rounds));
    for _ in 0..rounds {
        progress.next_round();
        measure::round(&setting, &mut progress, &mut figures)?;
    }
    progress.end();
    if arguments.json {
        println!(
            "{}",
            json!({ "rounds": rounds, "pinned": processors.is_some(), "load_average": busy, "targets": figures.json() })
        );
    } else {
        println!("{}", figures.table());
        println!("{}", conditions(rounds, processors.is_some(), busy));
    }
    if figures.complete() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Requests failed or chunks were lost: the other figures cannot be trusted.");
    Ok(ExitCode::FAILURE)
}

/// What a reader of the table must know.
fn conditions(rounds: u32, pinned: bool, busy: f64) -> String {
    let rounds = if rounds == 1 { "One round".to_owned() } else { format!("Medians of {rounds} rounds") };
    let processors = if pinned {
        "the target on the first processor, load and upstream on the others"
    } else {
        "nobody kept on a processor"
    };
    format!(
        "{rounds}; {processors}. Added is the target's percentile less that of the same round without a gateway, which \
         stands in brackets; the load is open, and a latency counts from when its request was due. The machine's load \
         average was {busy:.1} before: where that is near the number of processors or above, only CPU can be trusted."
    )
}
