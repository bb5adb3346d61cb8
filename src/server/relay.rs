//! A stream on its way from a provider to the client.

use crate::chat::{ChatError, Collector, DialectId, ErrorKind, Event, Losses, Usage};
use crate::dialect::openai_chat::usage_chunk;
use crate::dialect::{self, Dialect, StreamDecoder, StreamEncoder, StreamOptions};
use crate::limit::Permit;
use crate::local::llama_swap::is_loading_text;
use crate::upstream::{AnswerBody, Failure, Outcome, Phase};
use crate::wire::sse::{EventCutter, EventTooLarge, MAX_EVENT, SseEvent, SseParser, one_line_event, write_event};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long the end of a body is waited for after the last word of its stream.
const DRAIN: Duration = Duration::from_secs(1);

/// As much is put together of what has come before the client gets it; in bytes.
const ENOUGH: usize = 16 * 1024;

/// As much is held back for a client before the first content, in bytes; who sends more of frames than that sends no content.
const HELD_BACK: usize = 4 * 1024 * 1024;

/// What was seen of a stream while it was passed on.
#[derive(Debug, Default)]
pub struct Seen {
    /// Token counts, as far as they are known.
    pub usage: Option<Usage>,
    /// What ended the stream early.
    pub failure: Option<Failure>,
    /// The gateway broke it off, and not the provider.
    pub was_cut: bool,
    /// Events of the provider's that could not be read and were left out.
    pub skipped: usize,
    /// What the client's dialect could not say.
    pub losses: Losses,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// When the first real content came.
    pub first_content: Option<Instant>,
}

/// How the provider's bytes become the client's.
enum Manner {
    /// The same dialect: whole events pass as they are.
    Pass(Passage),
    /// Another dialect: decoded and encoded again.
    Translate,
}

/// The way of events that pass as they are.
struct Passage {
    cutter: EventCutter,
    /// Where the events of the run end that is on its way.
    ends: Vec<usize>,
    /// The gateway asked for usage, the client did not.
    hide_usage: bool,
    frame: Frame,
}

/// How a passed event is framed for the client.
enum Frame {
    /// As it came.
    Event,
    /// As an element of one JSON array (Gemini without `alt=sse`).
    Element {
        /// The opening bracket has been written.
        open: bool,
    },
}

impl Frame {
    fn write(&mut self, event: Bytes, out: &mut Ready) {
        match self {
            Self::Event => out.push(event),
            Self::Element { open } => {
                let Some(data) = read_event(&event).and_then(|event| event.data) else { return };
                out.extend(if *open { b",\r\n" } else { b"[" });
                out.extend(data.as_bytes());
                *open = true;
            }
        }
    }

    fn close(&mut self, out: &mut Ready) {
        match self {
            Self::Event => {}
            Self::Element { open: true } => out.extend(b"]"),
            Self::Element { open: false } => out.extend(b"[]"),
        }
    }
}

/// Bytes that are ready for the client: a piece as the network gave it, or several put together.
#[derive(Default)]
struct Ready {
    piece: Bytes,
    joined: Vec<u8>,
}

impl Ready {
    fn len(&self) -> usize {
        self.piece.len() + self.joined.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.piece = piece;
        } else {
            self.extend(&piece);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.joined().extend_from_slice(bytes);
    }

    /// Everything in one buffer, to write behind it.
    fn joined(&mut self) -> &mut Vec<u8> {
        if !self.piece.is_empty() {
            // Where two pieces come at once, more do.
            self.joined.reserve(ENOUGH / 4);
            self.joined.extend_from_slice(&std::mem::take(&mut self.piece));
        }
        &mut self.joined
    }

    fn take(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.piece) } else { std::mem::take(&mut self.joined).into() }
    }
}

/// A stream between a provider and the client.
pub struct Relay {
    body: AnswerBody,
    ingress: DialectId,
    upstream: &'static dyn Dialect,
    manner: Manner,
    /// Cuts out what llama-swap says while it loads the model; `None` from the model's first event on.
    loading: Option<EventCutter>,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    /// Puts the answer together where somebody wants to learn from it.
    collector: Option<Collector>,
    events: Vec<Event>,
    ready: Ready,
    ended: bool,
    idle: Duration,
    idle_deadline: Instant,
    seen: Seen,
}

/// How a stream is to be passed on.
pub struct RelayOptions {
    /// The provider's dialect.
    pub upstream: DialectId,
    /// The client's dialect.
    pub ingress: DialectId,
    /// How the client wants it framed.
    pub stream: StreamOptions,
    /// The gateway asked for usage, the client did not.
    pub hide_usage: bool,
    /// The provider may be llama-swap, which tells in the stream that it loads the model.
    pub may_load: bool,
    /// Put the answer together on the side.
    pub collect: bool,
    /// The longest silence between two pieces.
    pub idle: Duration,
}

impl Relay {
    /// A relay over an answer whose head has come.
    pub fn new(body: AnswerBody, options: &RelayOptions) -> Self {
        let manner = if options.upstream == options.ingress {
            let frame = if options.stream.json_array { Frame::Element { open: false } } else { Frame::Event };
            let (cutter, hide_usage) = (EventCutter::default(), options.hide_usage);
            Manner::Pass(Passage { cutter, ends: Vec::new(), hide_usage, frame })
        } else {
            Manner::Translate
        };
        let upstream = dialect::get(options.upstream);
        Self {
            body,
            ingress: options.ingress,
            upstream,
            manner,
            loading: options.may_load.then(EventCutter::default),
            decoder: upstream.decoder(),
            encoder: dialect::get(options.ingress).encoder(&options.stream),
            collector: options.collect.then(Collector::default),
            events: Vec::new(),
            ready: Ready::default(),
            ended: false,
            idle: options.idle,
            idle_deadline: Instant::now() + options.idle,
            seen: Seen::default(),
        }
    }

    /// Reads until the first real content, or to the end of an answer without any. Nothing is given to the client before.
    ///
    /// # Errors
    /// The provider failed before it said anything; another one may be asked.
    pub async fn until_content(&mut self, deadline: Instant, phase: Phase) -> Result<(), Failure> {
        let mut received = 0;
        while self.seen.first_content.is_none() && !self.ended {
            match self.body.chunk(deadline, phase).await? {
                Some(bytes) => {
                    received += bytes.len();
                    self.take(bytes);
                }
                None => self.end(None),
            }
            if let Some(failure) = self.seen.failure.take() {
                return Err(failure);
            }
            // The first content may be an event as large as any.
            let is_flood = self.ready.len() > HELD_BACK || received > HELD_BACK + MAX_EVENT;
            if is_flood && self.seen.first_content.is_none() {
                return Err(Failure::from_error(flood(received)));
            }
        }
        self.idle_deadline = Instant::now() + self.idle;
        Ok(())
    }

    /// The next bytes for the client, as many as are there; `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.ended && self.ready.len() < ENOUGH {
            match self.body.poll_chunk(cx, self.idle_deadline, Phase::Idle) {
                Poll::Ready(Ok(Some(bytes))) => {
                    self.idle_deadline = Instant::now() + self.idle;
                    self.take(bytes);
                }
                Poll::Ready(Ok(None)) => self.end(None),
                Poll::Ready(Err(failure)) if failure.outcome == Outcome::Cancelled => self.cut(failure),
                Poll::Ready(Err(failure)) if matches!(failure.outcome, Outcome::Timeout(_)) => self.break_off(failure),
                Poll::Ready(Err(failure)) => self.end(Some(failure)),
                Poll::Pending if self.ready.len() == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(self.ready.take()).filter(|bytes| !bytes.is_empty()))
    }

    /// Reads on for a moment after the last word, so that the connection can be used again. `place` is free after that: a
    /// provider that counts its requests still counts this one.
    pub fn drain(self, place: Option<Permit>) {
        let mut body = self.body;
        let deadline = Instant::now() + DRAIN;
        tokio::spawn(async move {
            let last = loop {
                match body.chunk(deadline, Phase::Idle).await {
                    Ok(Some(_)) => {}
                    last => break last,
                }
            };
            drop(body);
            if let Some(place) = place.filter(|_| last.is_err()) {
                place.broken_off();
            }
        });
    }

    /// Ends the stream where it is. Nothing is missing from an answer that has said why it ended.
    pub fn break_off(&mut self, failure: Failure) {
        if !self.ended {
            self.seen.was_cut = true;
            self.end(Some(failure));
        }
    }

    /// A sign of life in the client's dialect, to be sent between two pieces.
    pub fn keep_alive(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.encoder.keep_alive(&mut out);
        Bytes::from(out)
    }

    /// What was seen so far.
    pub fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// The answer put together, if that was asked for and it is whole.
    pub fn take_collected(&mut self) -> Option<crate::chat::Response> {
        self.collector.take()?.finish().ok()
    }

    fn take(&mut self, bytes: Bytes) {
        match self.after_loading(bytes) {
            Ok(Some(bytes)) => self.take_models(bytes),
            Ok(None) => {}
            Err(EventTooLarge) => self.cut(too_large()),
        }
    }

    /// What the model says itself; its loading is no content, and a sign of life at most.
    fn after_loading(&mut self, bytes: Bytes) -> Result<Option<Bytes>, EventTooLarge> {
        let Some(cutter) = &mut self.loading else { return Ok(Some(bytes)) };
        let mut ends = Vec::new();
        let run = cutter.cut(bytes, &mut ends)?;
        let mut start = 0;
        for end in ends {
            if !is_loading_text(&run[start..end]) {
                let rest = cutter.finish();
                self.loading = None;
                let own = run.slice(start..);
                return Ok(Some(match rest {
                    None => own,
                    Some(rest) => [own, rest].concat().into(),
                }));
            }
            start = end;
        }
        Ok(None)
    }

    fn take_models(&mut self, bytes: Bytes) {
        let Manner::Pass(passage) = &mut self.manner else {
            self.decoder.push(&bytes, &mut self.events);
            self.digest();
            return self.end_if_complete();
        };
        let mut ends = std::mem::take(&mut passage.ends);
        match passage.cutter.cut(bytes, &mut ends) {
            Ok(run) => self.pass_all(&run, &ends),
            Err(EventTooLarge) => self.cut(too_large()),
        }
        if let Manner::Pass(passage) = &mut self.manner {
            ends.clear();
            passage.ends = ends;
        }
        self.end_if_complete();
    }

    /// Passes a run of events on. Those that need no second look go together, as one piece.
    fn pass_all(&mut self, run: &Bytes, ends: &[usize]) {
        let (mut passed, mut start) = (0, 0);
        for end in ends.iter().copied() {
            if !self.is_mere_content(&run[start..end]) {
                self.write(run.slice(passed..start));
                self.pass(run.slice(start..end));
                passed = end;
                if self.ended {
                    return;
                }
            }
            start = end;
        }
        self.write(run.slice(passed..start));
    }

    /// True for an event of which nothing but its being a JSON object has to be known.
    fn is_mere_content(&self, raw: &[u8]) -> bool {
        self.seen.first_content.is_some()
            && matches!(&self.manner, Manner::Pass(Passage { frame: Frame::Event, .. }))
            && one_line_event(raw)
                .is_some_and(|event| self.upstream.is_mere_content(&event) && event.data.is_some_and(is_object))
    }

    fn write(&mut self, events: Bytes) {
        if let Manner::Pass(passage) = &mut self.manner
            && !events.is_empty()
        {
            passage.frame.write(events, &mut self.ready);
        }
    }

    /// A provider that has said its last word may be slow to close; the client does not wait for that.
    fn end_if_complete(&mut self) {
        if !self.ended && self.decoder.is_complete() {
            self.end(None);
        }
    }

    /// Decodes an event and passes it on, unless it is not for the client or no event at all.
    fn pass(&mut self, raw: Bytes) {
        self.decoder.push(&raw, &mut self.events);
        let error =
            self.events.iter().find_map(|event| if let Event::Error(error) = event { Some(error) } else { None });
        if let Some(error) = error.cloned() {
            return self.pass_error(raw, error);
        }
        let decoded = self.events.len();
        self.events.retain(|event| !matches!(event, Event::Skipped { .. }));
        if self.events.len() < decoded && read_event(&raw).is_some_and(|event| is_malformed(&event)) {
            self.seen.skipped += 1;
        } else if !(self.hides_usage() && read_event(&raw).is_some_and(|event| usage_chunk::is_usage_only(&event))) {
            self.write(raw);
        }
        self.digest();
    }

    /// Passes the provider's own error event on, as the last one, if the client can read it; else one in the client's form.
    fn pass_error(&mut self, raw: Bytes, error: ChatError) {
        self.digest();
        if read_event(&raw).is_some_and(|event| self.upstream.is_error_event(&event)) {
            self.write(raw);
            if let Manner::Pass(passage) = &mut self.manner {
                passage.frame.close(&mut self.ready);
            }
        } else {
            self.fail(Failure::from_error(error));
        }
    }

    fn hides_usage(&self) -> bool {
        matches!(self.manner, Manner::Pass(Passage { hide_usage: true, .. }))
    }

    /// Looks at the decoded events, and writes them to a client of another dialect.
    fn digest(&mut self) {
        let translates = matches!(self.manner, Manner::Translate);
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if let Some(collector) = &mut self.collector {
                collector.push(&event);
            }
            match &event {
                Event::Start { model: Some(model), .. } => self.seen.model = Some(model.clone()),
                Event::Usage(usage) => self.seen.usage.get_or_insert_with(Usage::default).merge(usage),
                Event::Skipped { .. } => self.seen.skipped += 1,
                Event::Error(error) => {
                    self.seen.failure = Some(Failure::from_error(error.clone()));
                    self.ended = true;
                }
                event if event.is_content() && self.seen.first_content.is_none() => {
                    self.seen.first_content = Some(Instant::now());
                }
                _ => {}
            }
            if translates {
                self.encoder.encode(&event, self.ready.joined(), &mut self.seen.losses);
            }
            if self.ended {
                break;
            }
        }
        // Its memory is used again.
        self.events = events;
    }

    /// The provider closed the stream, or broke it off, or fell silent: `broken` is what a client hears whose answer is not
    /// complete.
    fn end(&mut self, broken: Option<Failure>) {
        if let Some(rest) = self.loading.take().and_then(|mut cutter| cutter.finish()) {
            self.take_models(rest);
            if self.ended {
                return;
            }
        }
        let last = match &mut self.manner {
            Manner::Pass(passage) if broken.is_none() => passage.cutter.finish(),
            Manner::Pass(_) | Manner::Translate => None,
        };
        if let Some(last) = last {
            // The server left the last blank line out; the client gets it.
            self.pass([last.trim_ascii_end(), b"\n\n"].concat().into());
            if self.ended {
                return;
            }
        }
        self.decoder.finish(&mut self.events);
        if self.events.iter().any(|event| matches!(event, Event::Start { .. })) {
            // Only now: the body was no stream but a whole answer, which becomes one. Nothing of it has gone out.
            self.ready = Ready::default();
            self.manner = Manner::Translate;
        }
        for event in &mut self.events {
            if let (Event::Error(error), Some(cause)) = (event, &broken) {
                error.clone_from(&cause.error);
            }
        }
        self.digest();
        self.ended = true;
        if let (Some(failure), Some(broken)) = (&mut self.seen.failure, broken) {
            *failure = broken;
        }
        match (&mut self.manner, self.seen.failure.clone()) {
            (Manner::Translate, None) => self.encoder.finish(self.ready.joined(), &mut self.seen.losses),
            (Manner::Translate, Some(_)) => {}
            (Manner::Pass(passage), None) => passage.frame.close(&mut self.ready),
            // The provider sent no bytes for it.
            (Manner::Pass(_), Some(failure)) => self.fail(failure),
        }
    }

    /// Breaks the stream off.
    fn cut(&mut self, failure: Failure) {
        self.seen.was_cut = true;
        self.fail(failure);
    }

    /// Ends the stream with an error event in the client's dialect.
    fn fail(&mut self, failure: Failure) {
        if let Manner::Pass(Passage { frame: frame @ Frame::Element { .. }, .. }) = &mut self.manner {
            let (_, body) = dialect::get(self.ingress).write_error(&failure.error);
            let mut event = Vec::with_capacity(body.len() + 8);
            write_event(None, &body, &mut event);
            frame.write(event.into(), &mut self.ready);
            frame.close(&mut self.ready);
        } else {
            let error = Event::Error((*failure.error).clone());
            self.encoder.encode(&error, self.ready.joined(), &mut self.seen.losses);
        }
        self.seen.failure = Some(failure);
        self.ended = true;
    }
}

fn too_large() -> Failure {
    let message = "The provider sent an event that is too large to be one.";
    Failure::from_error(ChatError::new(ErrorKind::Upstream, message))
}

fn flood(received: usize) -> ChatError {
    let message = format!("The provider sent {received} bytes of a stream without any content. Ask again.");
    ChatError::new(ErrorKind::Upstream, message).with_code("stream_without_content")
}

/// The one event that `raw` is.
fn read_event(raw: &[u8]) -> Option<SseEvent> {
    let mut parser = SseParser::new();
    parser.push(raw).ok()?;
    parser.next_event().or_else(|| parser.finish())
}

/// Data that is neither a JSON object nor a terminal marker.
fn is_malformed(event: &SseEvent) -> bool {
    event.data.as_deref().map(str::trim).is_some_and(|data| data != "[DONE]" && !is_object(data.as_bytes()))
}

fn is_object(data: &[u8]) -> bool {
    data.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(data).is_ok()
}
