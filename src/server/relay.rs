//! A stream on its way from a provider to the client.

use crate::chat::{ChatError, Collector, DialectId, ErrorKind, Event, Losses, Usage};
use crate::dialect::openai_chat::usage_chunk;
use crate::dialect::{self, StreamDecoder, StreamEncoder, StreamOptions};
use crate::limit::Permit;
use crate::upstream::{AnswerBody, Failure, Phase};
use crate::wire::sse::{SseEvent, SseParser};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// How long the end of a body is waited for after the last word of its stream.
const DRAIN: Duration = Duration::from_secs(1);

/// What was seen of a stream while it was passed on.
#[derive(Debug, Default)]
pub struct Seen {
    /// Token counts, as far as they are known.
    pub usage: Option<Usage>,
    /// What ended the stream early.
    pub error: Option<ChatError>,
    /// Events of the provider's that could not be read.
    pub skipped: usize,
    /// What the client's dialect could not say.
    pub losses: Losses,
    /// The model that the provider says it used.
    pub model: Option<String>,
    /// When the first real content came.
    pub first_content: Option<Instant>,
    /// Bytes received from the provider.
    pub bytes: u64,
}

/// How the provider's bytes become the client's.
enum Manner {
    /// The same dialect: whole events pass as they are.
    Pass {
        parser: SseParser,
        /// The gateway asked for usage, the client did not.
        hide_usage: bool,
        frame: Frame,
    },
    /// Another dialect: decoded and encoded again.
    Translate,
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
    fn write(&mut self, raw: &[u8], data: Option<&str>, out: &mut Vec<u8>) {
        match (self, data) {
            (Self::Event, _) => out.extend_from_slice(raw),
            (Self::Element { .. }, None) => {}
            (Self::Element { open }, Some(data)) => {
                out.extend_from_slice(if *open { b",\r\n" } else { b"[" });
                out.extend_from_slice(data.as_bytes());
                *open = true;
            }
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Event => {}
            Self::Element { open: true } => out.push(b']'),
            Self::Element { open: false } => out.extend_from_slice(b"[]"),
        }
    }
}

/// A stream between a provider and the client.
pub struct Relay {
    body: AnswerBody,
    ingress: DialectId,
    manner: Manner,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    /// Puts the answer together where somebody wants to learn from it.
    collector: Option<Collector>,
    events: Vec<Event>,
    ready: Vec<u8>,
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
            Manner::Pass { parser: SseParser::new(), hide_usage: options.hide_usage, frame }
        } else {
            Manner::Translate
        };
        Self {
            body,
            ingress: options.ingress,
            manner,
            decoder: dialect::get(options.upstream).decoder(),
            encoder: dialect::get(options.ingress).encoder(&options.stream),
            collector: options.collect.then(Collector::default),
            events: Vec::new(),
            ready: Vec::new(),
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
        while self.seen.first_content.is_none() && !self.ended {
            match self.body.chunk(deadline, phase).await? {
                Some(bytes) => self.take(&bytes),
                None => self.end(),
            }
            if let Some(error) = self.seen.error.take() {
                return Err(Failure::from_error(error));
            }
        }
        self.idle_deadline = Instant::now() + self.idle;
        Ok(())
    }

    /// The next bytes for the client; `None` at the end. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.ready)));
            }
            if self.ended {
                return None;
            }
            match self.body.chunk(self.idle_deadline, Phase::Idle).await {
                Ok(Some(bytes)) => {
                    self.idle_deadline = Instant::now() + self.idle;
                    self.take(&bytes);
                }
                Ok(None) => self.end(),
                Err(failure) => self.fail(failure.error),
            }
        }
    }

    /// Reads on for a moment after the last word, so that the connection can be used again. `place` is free after that: a
    /// provider that counts its requests still counts this one.
    pub fn drain(self, place: Option<Permit>) {
        let mut body = self.body;
        let deadline = Instant::now() + DRAIN;
        tokio::spawn(async move {
            while let Ok(Some(_)) = body.chunk(deadline, Phase::Idle).await {}
            drop(place);
        });
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

    fn take(&mut self, bytes: &[u8]) {
        self.seen.bytes += bytes.len() as u64;
        let Manner::Pass { parser, .. } = &mut self.manner else {
            self.decoder.push(bytes, &mut self.events);
            self.digest();
            return self.end_if_complete();
        };
        if parser.push(bytes).is_err() {
            self.fail(ChatError::new(ErrorKind::Upstream, "The provider sent an event that is too large to be one."));
            return;
        }
        while let Some(event) = self.next_whole_event() {
            self.pass(&event);
            if self.ended {
                // The provider's own error event was passed on and is the last one.
                if let Manner::Pass { frame, .. } = &mut self.manner {
                    frame.close(&mut self.ready);
                }
                return;
            }
        }
        self.end_if_complete();
    }

    /// A provider that has said its last word may be slow to close; the client does not wait for that.
    fn end_if_complete(&mut self) {
        if !self.ended && self.decoder.is_complete() {
            self.end();
        }
    }

    fn next_whole_event(&mut self) -> Option<SseEvent> {
        match &mut self.manner {
            Manner::Pass { parser, .. } => parser.next_event(),
            Manner::Translate => None,
        }
    }

    fn pass(&mut self, event: &SseEvent) {
        self.decoder.push(&event.raw, &mut self.events);
        if let Manner::Pass { hide_usage, frame, .. } = &mut self.manner
            && !(*hide_usage && usage_chunk::is_usage_only(event))
        {
            frame.write(&event.raw, event.data.as_deref(), &mut self.ready);
        }
        self.digest();
    }

    /// Looks at the decoded events, and writes them to a client of another dialect.
    fn digest(&mut self) {
        let translates = matches!(self.manner, Manner::Translate);
        for event in std::mem::take(&mut self.events) {
            if let Some(collector) = &mut self.collector {
                collector.push(&event);
            }
            match &event {
                Event::Start { model: Some(model), .. } => self.seen.model = Some(model.clone()),
                Event::Usage(usage) => self.seen.usage.get_or_insert_with(Usage::default).merge(usage),
                Event::Skipped { .. } => self.seen.skipped += 1,
                Event::Error(error) => {
                    self.seen.error = Some(error.clone());
                    self.ended = true;
                }
                event if event.is_content() && self.seen.first_content.is_none() => {
                    self.seen.first_content = Some(Instant::now());
                }
                _ => {}
            }
            if translates {
                self.encoder.encode(&event, &mut self.ready, &mut self.seen.losses);
            }
            if self.ended {
                return;
            }
        }
    }

    /// The provider closed the stream.
    fn end(&mut self) {
        let last = match &mut self.manner {
            Manner::Pass { parser, .. } => parser.finish(),
            Manner::Translate => None,
        };
        if let Some(event) = &last {
            self.decoder.push(&event.raw, &mut self.events);
        }
        self.decoder.finish(&mut self.events);
        self.digest();
        self.ended = true;
        let Manner::Pass { frame, .. } = &mut self.manner else {
            if self.seen.error.is_none() {
                self.encoder.finish(&mut self.ready, &mut self.seen.losses);
            }
            return;
        };
        if let Some(error) = self.seen.error.clone() {
            // The provider sent no bytes for it.
            return self.fail(error);
        }
        if let Some(event) = last {
            // The server left the last blank line out; the client gets it.
            let raw = [event.raw.trim_ascii_end(), b"\n\n"].concat();
            frame.write(&raw, event.data.as_deref(), &mut self.ready);
        }
        frame.close(&mut self.ready);
    }

    /// Ends the stream with an error event in the client's dialect.
    fn fail(&mut self, error: ChatError) {
        if let Manner::Pass { frame: frame @ Frame::Element { .. }, .. } = &mut self.manner {
            let (_, body) = dialect::get(self.ingress).write_error(&error);
            frame.write(&[], Some(&String::from_utf8_lossy(&body)), &mut self.ready);
            frame.close(&mut self.ready);
        } else {
            self.encoder.encode(&Event::Error(error.clone()), &mut self.ready, &mut self.seen.losses);
        }
        self.seen.error = Some(error);
        self.ended = true;
    }
}
