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

    /// The index after the first blank line. A line ends with LF, CR LF or CR; a CR at the very end waits for what follows.
    fn find_end(&mut self) -> Option<usize> {
        let bytes = &self.buffer[..];
        let mut at = self.searched;
        // The buffer starts at the start of a line, so a blank line is an end of line right after another one or at 0.
        let mut line_is_empty = at == 0 || matches!(bytes[at - 1], b'\n' | b'\r');
        while at < bytes.len() {
            let width = match bytes[at] {
                b'\n' => 1,
                b'\r' if at + 1 == bytes.len() => break,
                b'\r' if bytes[at + 1] == b'\n' => 2,
                b'\r' => 1,
                _ => 0,
            };
            if width == 0 {
                line_is_empty = false;
                at += 1;
            } else if line_is_empty {
                return Some(at + width);
            } else {
                line_is_empty = true;
                at += width;
            }
        }
        self.searched = at;
        None
    }
}

fn parse(raw: Bytes) -> SseEvent {
    let mut event = String::new();
    let mut data: Option<String> = None;
    let text = String::from_utf8_lossy(&raw);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for line in text.split(['\n', '\r']) {
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

    proptest! {
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
