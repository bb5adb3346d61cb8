//! Server-sent events (WHATWG HTML, section 9.2), as a push parser that keeps the bytes of each event.

use bytes::{Bytes, BytesMut};

/// An event larger than this is an error of the provider's; in bytes.
pub const MAX_EVENT: usize = 32 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; empty when there was none.
    pub event: String,
    /// The `data` fields, joined by line feeds; `None` when there was none (a comment, a lone `id`).
    pub data: Option<String>,
    /// The event as it stood on the wire, with its blank line.
    pub raw: Bytes,
}

/// The bytes without an end of an event grew over [`MAX_EVENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {MAX_EVENT} bytes")]
pub struct EventTooLarge;

/// Cuts a byte stream into events; where the network cut it does not matter.
#[derive(Debug, Default)]
pub struct SseParser {
    buffer: BytesMut,
    /// How far the buffer has been searched for an end.
    searched: usize,
}

impl SseParser {
    /// A parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; then call [`SseParser::next_event`] until it gives `None`.
    ///
    /// # Errors
    /// An event that is too large; the stream cannot be read on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.buffer.len() + bytes.len() > MAX_EVENT {
            return Err(EventTooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event.
    pub fn next_event(&mut self) -> Option<SseEvent> {
        let end = self.find_end()?;
        self.searched = 0;
        Some(parse(self.buffer.split_to(end).freeze()))
    }

    /// What is left when the stream has ended: servers leave out the last blank line.
    pub fn finish(&mut self) -> Option<SseEvent> {
        if self.buffer.is_empty() {
            return None;
        }
        self.searched = 0;
        Some(parse(self.buffer.split().freeze()))
    }

    fn find_end(&mut self) -> Option<usize> {
        match event_end(&self.buffer, self.searched) {
            Ok(end) => Some(end),
            Err(searched) => {
                self.searched = searched;
                None
            }
        }
    }
}

/// The index after the first blank line, or how far there is none. A line ends with LF, CR LF or CR; a CR at the very end
/// waits for what follows. `bytes` start at the start of a line, and up to `searched` they were searched before.
fn event_end(bytes: &[u8], searched: usize) -> Result<usize, usize> {
    let mut at = searched;
    // A blank line is an end of line right after another one, or at the very start.
    let mut line_start = if at == 0 || matches!(bytes[at - 1], b'\n' | b'\r') { Some(at) } else { None };
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) {
        let end = at + found;
        let width = match (bytes[end], bytes.get(end + 1)) {
            (b'\r', None) => return Err(end),
            (b'\r', Some(b'\n')) => 2,
            _ => 1,
        };
        at = end + width;
        if line_start == Some(end) {
            return Ok(at);
        }
        line_start = Some(at);
    }
    Err(bytes.len())
}

/// Cuts a byte stream into runs of whole events without copying them; only what lies across a cut of the network's is put
/// together.
#[derive(Debug, Default)]
pub struct EventCutter {
    /// The start of an event whose end has not come.
    started: BytesMut,
    /// How far it has been searched for an end.
    searched: usize,
}

impl EventCutter {
    /// Takes the next bytes and gives the events that are whole by now, as one run. Appends to `ends` where each of them
    /// ends in it.
    ///
    /// # Errors
    /// An event that is too large; the stream cannot be read on.
    pub fn cut(&mut self, bytes: Bytes, ends: &mut Vec<usize>) -> Result<Bytes, EventTooLarge> {
        let (mut run, mut searched) = (bytes, 0);
        if !self.started.is_empty() {
            if self.started.len() + run.len() > MAX_EVENT {
                return Err(EventTooLarge);
            }
            self.started.extend_from_slice(&run);
            searched = std::mem::take(&mut self.searched);
            run = std::mem::take(&mut self.started).freeze();
        }
        let mut start = 0;
        loop {
            match event_end(&run[start..], searched) {
                Ok(end) => {
                    start += end;
                    ends.push(start);
                    searched = 0;
                }
                Err(searched) => {
                    self.keep(run.split_off(start), searched)?;
                    return Ok(run);
                }
            }
        }
    }

    /// What is left when the stream has ended: servers leave out the last blank line.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.searched = 0;
        Some(std::mem::take(&mut self.started).freeze()).filter(|rest| !rest.is_empty())
    }

    fn keep(&mut self, rest: Bytes, searched: usize) -> Result<(), EventTooLarge> {
        if rest.len() > MAX_EVENT {
            return Err(EventTooLarge);
        }
        // Bytes that nobody else holds are taken over, and a large event is not copied with each piece of it.
        self.started = rest.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
        self.searched = searched;
        Ok(())
    }
}

/// The parts of an event that a server writes on one line each: the name and the data. `None` for one with data on several
/// lines, or with line ends of the old kind; [`SseParser`] reads those.
pub fn one_line_event(raw: &[u8]) -> Option<OneLineEvent<'_>> {
    let (mut name, mut data) = (&b""[..], None);
    let mut rest = raw;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[(end + 1).min(rest.len())..];
        if memchr::memchr(b'\r', line).is_some() || line.starts_with(b"\xef\xbb\xbf") {
            return None;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = &line[(colon + 1).min(line.len())..];
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" if data.is_some() => return None,
            b"data" => data = Some(value),
            b"event" => name = value,
            _ => {}
        }
    }
    Some(OneLineEvent { name, data })
}

/// An event as its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneLineEvent<'a> {
    /// The `event` field; empty when there was none.
    pub name: &'a [u8],
    /// The `data` field; `None` when there was none.
    pub data: Option<&'a [u8]>,
}

fn parse(raw: Bytes) -> SseEvent {
    let mut event = String::new();
    let mut data: Option<String> = None;
    let text = String::from_utf8_lossy(&raw);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for line in text.split('\n').flat_map(|line| line.split('\r')) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut event),
            _ => {}
        }
    }
    SseEvent { event, data, raw }
}

/// Appends one event; `data` must hold no line break.
pub fn write_event(event: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(event) = event {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(parser: &mut SseParser) -> Vec<SseEvent> {
        std::iter::from_fn(|| parser.next_event()).collect()
    }

    #[test]
    fn reads_fields_comments_and_every_line_ending() {
        let mut parser = SseParser::new();
        parser.push(b": hi\n\nevent: ping\r\ndata: {}\r\n\r\ndata: a\rdata:b\r\rdata: [DONE]").unwrap();
        let events = all(&mut parser);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].data, None);
        assert_eq!((events[1].event.as_str(), events[1].data.as_deref()), ("ping", Some("{}")));
        assert_eq!(events[2].data.as_deref(), Some("a\nb"));
        assert_eq!(parser.finish().unwrap().data.as_deref(), Some("[DONE]"));
    }

    /// The events of `text`, cut as `steps` say.
    fn cut_raw(text: &[u8], steps: &[usize]) -> Vec<u8> {
        let mut cutter = EventCutter::default();
        let (mut rest, mut joined) = (text, Vec::new());
        for step in steps.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*step).min(rest.len()));
            let mut ends = Vec::new();
            let run = cutter.cut(Bytes::copy_from_slice(now), &mut ends).unwrap();
            assert_eq!(ends.last().copied().unwrap_or(0), run.len());
            let mut start = 0;
            for end in ends {
                let mut parser = SseParser::new();
                parser.push(&run[start..end]).unwrap();
                // A last CR might be half of a CR LF, for a parser that sees no more.
                let event = parser.next_event().or_else(|| parser.finish()).unwrap();
                assert_eq!(parser.finish(), None);
                if let Some(one) = one_line_event(&run[start..end]) {
                    assert_eq!(one.name, event.event.as_bytes());
                    assert_eq!(one.data, event.data.as_deref().map(str::as_bytes));
                }
                joined.extend_from_slice(&run[start..end]);
                joined.push(0);
                start = end;
            }
            rest = later;
        }
        joined.extend_from_slice(&cutter.finish().unwrap_or_default());
        joined
    }

    #[test]
    fn a_large_event_in_small_pieces_is_searched_once() {
        let mut cutter = EventCutter::default();
        let mut ends = Vec::new();
        for _ in 0..20_000 {
            assert!(cutter.cut(Bytes::from_static(&[b'x'; 1024]), &mut ends).unwrap().is_empty());
        }
        assert_eq!(cutter.searched, 20_000 * 1024);
        let error = std::iter::repeat_with(|| cutter.cut(Bytes::from_static(&[b'x'; 65_536]), &mut ends));
        assert!(error.take(1_000).any(|cut| cut.is_err()));
    }

    proptest! {
        #[test]
        fn the_cutter_cuts_where_the_parser_does(
            text in "(data: [ab]|event: e|: c|id|\n|\n\n|\r\n\r\n|\r|\r\r|é){0,24}",
            steps in proptest::collection::vec(1usize..9, 1..20),
        ) {
            let mut parser = SseParser::new();
            parser.push(text.as_bytes()).unwrap();
            let mut expected = Vec::new();
            for event in all(&mut parser) {
                expected.extend_from_slice(&event.raw);
                expected.push(0);
            }
            expected.extend(parser.finish().map(|event| event.raw.to_vec()).unwrap_or_default());
            prop_assert_eq!(cut_raw(text.as_bytes(), &steps), expected);
        }

        #[test]
        fn where_the_network_cuts_does_not_matter(
            text in proptest::collection::vec(prop_oneof![
                Just("data: x\n\n"), Just("data: y\r\n\r\n"), Just(": c\n\n"), Just("event: e\ndata: z\n\n"), Just("data: é\n\n"),
            ], 1..12).prop_map(|parts| parts.concat().into_bytes()),
            cut in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let mut whole = SseParser::new();
            whole.push(&text).unwrap();
            let expected = all(&mut whole);
            let mut parser = SseParser::new();
            let mut seen = Vec::new();
            let mut rest = &text[..];
            for step in cut.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*step).min(rest.len()));
                parser.push(now).unwrap();
                seen.extend(all(&mut parser));
                rest = later;
            }
            prop_assert_eq!(&seen, &expected);
            let raw: Vec<u8> = seen.iter().flat_map(|event| event.raw.to_vec()).collect();
            prop_assert_eq!(raw, text);
        }
    }
}
