//! `bifrost chat`: one question, the answer streamed to the terminal as it comes.

use super::client::{Gateway, GatewayArgs, Trouble, text};
use super::{Exit, Output, resolve};
use crate::chat::{BlockKind, Delta, DialectId, Event, StopReason, Usage};
use crate::config::Inputs;
use crate::dialect;
use clap::Args;
use http::{HeaderMap, Method};
use reqwest::Response;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Read as _};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

/// The wait is shown from here on, and so often.
const SECOND: Duration = Duration::from_secs(1);

/// The plan is asked for only to name the target while waiting; it may not hold anything up.
const PLAN: Duration = Duration::from_millis(500);

/// The exchange is written down when its last byte is gone, which may be a moment after the client has it.
const RECORD: Duration = Duration::from_millis(50);

/// Options of `chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// A task class (`coding`), `auto`, `provider/model`, or a model's id.
    #[arg(short, long, default_value = "auto")]
    pub model: String,
    /// Only models on this machine.
    #[arg(long)]
    pub local: bool,
    /// The system prompt.
    #[arg(short, long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Shows the model's reasoning on standard error also where that is no terminal.
    #[arg(long)]
    pub reasoning: bool,
    /// The question; `-` stands for what comes on standard input, which is read too when there is no question.
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Asks the question and prints the answer on standard output; everything else goes to standard error.
///
/// # Errors
/// The gateway does not answer, or the answer is an error or breaks off.
pub async fn run(args: &ChatArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let question = question(&args.prompt, output)?;
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        done = converse(args, &gateway, &question, output) => return done,
    }
    // Whatever line was begun is ended; dropping the answer has closed the connection, and the model stops.
    output.clear_line()?;
    writeln!(output.out)?;
    output.out.flush()?;
    Ok(Exit::Interrupted)
}

fn question(words: &[String], output: &mut Output<'_>) -> Result<String, Trouble> {
    let question = if words.is_empty() {
        standard_input(output)?
    } else {
        let mut parts = Vec::with_capacity(words.len());
        for word in words {
            parts.push(if word == "-" { standard_input(output)? } else { word.clone() });
        }
        parts.join(" ")
    };
    if question.trim().is_empty() {
        let message = "there is no question: write it behind `bifrost chat`, or send it on standard input";
        return Err(Trouble::new(Exit::Usage, message));
    }
    Ok(question)
}

fn standard_input(output: &mut Output<'_>) -> Result<String, Trouble> {
    if io::stdin().is_terminal() {
        writeln!(output.err, "write the question and end it with Ctrl-D on a line of its own")?;
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| {
        let message = format!("standard input could not be read as text: {error}");
        Trouble::new(Exit::Usage, message)
    })?;
    Ok(text)
}

async fn converse(
    args: &ChatArgs,
    gateway: &Gateway,
    question: &str,
    output: &mut Output<'_>,
) -> Result<Exit, Trouble> {
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    messages.push(json!({ "role": "user", "content": question }));
    let body = json!({
        "model": args.model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let began = Instant::now();
    let mut waiting = Waiting::new(args, gateway, output).await;
    let answered = waiting.during(gateway.chat(&body, args.local), output).await?;
    if !matches!(&answered, Ok(answered) if answered.status().is_success()) {
        waiting.over(output)?;
    }
    let answered = answered?;
    if !answered.status().is_success() {
        gateway.read(answered).await?.good()?;
        return Err(Trouble::new(Exit::Failure, "the gateway refused without a reason"));
    }
    let headers = answered.headers().clone();
    let mut printer = Printer::new(args.reasoning || output.terminal);
    let streamed = printer.stream(answered, &mut waiting, output).await;
    printer.end(output)?;
    tell(gateway, &headers, &printer, began.elapsed(), output).await?;
    streamed?;
    Ok(Exit::Ok)
}

/// What is shown until the first word comes: on a terminal, from the first second on, a line that counts them.
struct Waiting {
    what: String,
    began: Instant,
    tick: Interval,
    ended: bool,
    shown: bool,
}

impl Waiting {
    async fn new(args: &ChatArgs, gateway: &Gateway, output: &Output<'_>) -> Self {
        let mut what = args.model.clone();
        // `auto` depends on the request; what the plan of an empty one says would be a guess.
        if output.terminal
            && args.model != "auto"
            && let Ok(Ok(plan)) = timeout(PLAN, resolve::ask(gateway, &args.model, args.local)).await
            && let Some(target) = resolve::targets(&plan).first()
        {
            let target = format!("{}/{}", text(target, "provider"), text(target, "model"));
            if target != what {
                what = format!("{what} -> {target}");
            }
        }
        let began = Instant::now();
        let mut tick = interval_at(began + SECOND, SECOND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { what, began, tick, ended: !output.terminal, shown: false }
    }

    /// Waits for `future`, showing for how long.
    async fn during<T>(&mut self, future: impl Future<Output = T>, output: &mut Output<'_>) -> io::Result<T> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                value = &mut future => return Ok(value),
                _ = self.tick.tick(), if !self.ended => self.show(output)?,
            }
        }
    }

    fn show(&mut self, output: &mut Output<'_>) -> io::Result<()> {
        self.shown = true;
        let what = plain(&self.what);
        if output.colour {
            let seconds = self.began.elapsed().as_secs();
            write!(output.err, "\r\x1b[2K\x1b[2mwaiting for {what} {seconds} s\x1b[0m")?;
        } else {
            // Without escape codes the line cannot be written again.
            self.ended = true;
            writeln!(output.err, "waiting for {what}")?;
        }
        output.err.flush()
    }

    /// The first word is there, or none will come.
    fn over(&mut self, output: &mut Output<'_>) -> io::Result<()> {
        self.ended = true;
        if std::mem::take(&mut self.shown) { output.clear_line() } else { Ok(()) }
    }
}

/// Prints an answer as it comes.
#[derive(Default)]
struct Printer {
    shows_reasoning: bool,
    /// What the open blocks are, by number.
    reasoning: HashSet<usize>,
    in_reasoning: bool,
    /// Something stands on standard output, and whether its last line is ended.
    printed: Option<bool>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
}

impl Printer {
    fn new(shows_reasoning: bool) -> Self {
        Self { shows_reasoning, ..Self::default() }
    }

    async fn stream(
        &mut self,
        mut answer: Response,
        waiting: &mut Waiting,
        output: &mut Output<'_>,
    ) -> Result<(), Trouble> {
        let mut decoder = dialect::get(DialectId::OpenAiChat).decoder();
        let mut events = Vec::new();
        loop {
            let Ok(bytes) = waiting.during(answer.chunk(), output).await? else {
                waiting.over(output)?;
                let broken = "the connection to the gateway broke; what was printed is not the whole answer";
                return Err(Trouble::new(Exit::Failure, broken));
            };
            let ended = bytes.is_none();
            match bytes {
                Some(bytes) => decoder.push(&bytes, &mut events),
                None => decoder.finish(&mut events),
            }
            for event in events.drain(..) {
                self.take(event, waiting, output)?;
            }
            if ended {
                waiting.over(output)?;
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: Event, waiting: &mut Waiting, output: &mut Output<'_>) -> Result<(), Trouble> {
        match event {
            Event::BlockStart { index, kind: BlockKind::Reasoning { .. }, .. } => {
                self.reasoning.insert(index);
            }
            Event::Delta { index, delta: Delta::Text(text) } if !text.is_empty() => {
                if !self.reasoning.contains(&index) {
                    waiting.over(output)?;
                    self.say(&text, output)?;
                } else if self.shows_reasoning {
                    waiting.over(output)?;
                    self.think(&text, output)?;
                }
            }
            Event::Usage(usage) => self.usage.get_or_insert_default().merge(&usage),
            Event::Stop { reason, .. } => self.stop = Some(reason),
            Event::Error(error) => {
                waiting.over(output)?;
                return Err(Trouble::new(Exit::Failure, error.message));
            }
            _ => {}
        }
        Ok(())
    }

    fn think(&mut self, thought: &str, output: &mut Output<'_>) -> io::Result<()> {
        self.in_reasoning = true;
        let thought = if output.terminal { plain(thought) } else { thought.to_owned() };
        match output.colour {
            true => write!(output.err, "\x1b[2m{thought}\x1b[0m")?,
            false => write!(output.err, "{thought}")?,
        }
        output.err.flush()
    }

    fn say(&mut self, said: &str, output: &mut Output<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.in_reasoning) {
            writeln!(output.err, "\n")?;
        }
        self.printed = Some(said.ends_with('\n'));
        let said = if output.out_is_terminal { plain(said) } else { said.to_owned() };
        write!(output.out, "{said}")?;
        output.out.flush()
    }

    /// Ends the line that was begun.
    fn end(&mut self, output: &mut Output<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.in_reasoning) {
            writeln!(output.err)?;
        }
        if self.printed == Some(false) {
            self.printed = Some(true);
            writeln!(output.out)?;
        }
        output.out.flush()
    }
}

/// Tells what a person should know of the answer: who gave it (on a terminal), and what was put in another's place,
/// lost or cut off (always).
async fn tell(
    gateway: &Gateway,
    headers: &HeaderMap,
    printer: &Printer,
    took: Duration,
    output: &mut Output<'_>,
) -> Result<(), Trouble> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut told = Told {
        provider: header("x-bifrost-provider"),
        model: header("x-bifrost-model"),
        class: header("x-bifrost-class"),
        substituted: header("x-bifrost-substituted"),
        fallback: header("x-bifrost-fallback"),
        losses: header("x-bifrost-loss"),
    };
    if told.provider.as_deref() == Some("pending") {
        let record = match header("x-request-id") {
            Some(id) => record(gateway, &id).await,
            None => None,
        };
        told = record.map_or_else(Told::default, |record| Told::of_record(&record));
    }
    if let Some(asked) = told.substituted {
        output.warning(&format!("{asked} was asked for; nothing may leave this machine, so another model answered"))?;
    }
    if let Some(first) = told.fallback {
        output.warning(&format!("{first} should have answered and failed; another model did"))?;
    }
    if let Some(losses) = told.losses {
        output.warning(&format!("not all of the request could be said to the provider: {losses}"))?;
    }
    match printer.stop {
        Some(StopReason::MaxTokens) => output.warning("the answer was cut off at the model's limit")?,
        Some(StopReason::ContentFilter) => output.warning("the provider's filter cut the answer off")?,
        _ => {}
    }
    if output.terminal
        && let (Some(provider), Some(model)) = (told.provider, told.model)
    {
        let class = told.class.map(|class| format!(", class {class}")).unwrap_or_default();
        let count = |usage: Usage| format!(", {} tokens in, {} out", usage.input, usage.output);
        let usage = printer.usage.map(count).unwrap_or_default();
        let line = format!("{provider}/{model}{class}{usage}, {:.1} s", took.as_secs_f64());
        output.aside(&plain(&line))?;
    }
    Ok(())
}

/// What is known of an answer besides its text.
#[derive(Debug, Default)]
struct Told {
    provider: Option<String>,
    model: Option<String>,
    class: Option<String>,
    substituted: Option<String>,
    fallback: Option<String>,
    losses: Option<String>,
}

impl Told {
    fn of_record(record: &Value) -> Self {
        let word = |key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        let list = |key: &str| record.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let losses: Vec<String> =
            list("losses").iter().map(|loss| format!("{}={}", text(loss, "field"), text(loss, "kind"))).collect();
        let attempts = list("attempts");
        let first = attempts.first().filter(|_| attempts.len() > 1);
        Self {
            provider: word("provider"),
            model: word("model"),
            class: word("class"),
            substituted: word("substituted"),
            fallback: first.map(|first| format!("{}/{}", text(first, "provider"), text(first, "model"))),
            losses: (!losses.is_empty()).then(|| losses.join(", ")),
        }
    }
}

/// What the gateway wrote down of an exchange whose headers went before it was known who would answer.
async fn record(gateway: &Gateway, id: &str) -> Option<Value> {
    for _ in 0..4 {
        let path = format!("/admin/exchanges/{id}");
        match gateway.admin(Method::GET, &path, &[], None).await.ok()?.good() {
            Ok(record) => return Some(record),
            Err(_) => tokio::time::sleep(RECORD).await,
        }
    }
    None
}

/// Text of somebody else's for a terminal: without the control characters that could do more than print.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
}
