//! As little of HTTP/1.1 as load and upstream need: a kept connection, heads, bodies with a length or in chunks.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nobody is waited for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One kept connection, of either side.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

/// What the head of a message says.
pub struct Head {
    /// The request line or the status line.
    pub start: String,
    body: Body,
}

enum Body {
    Length(usize),
    Chunked,
}

impl Head {
    /// The status of an answer; 0 when this is none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// A connection that was accepted.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends `bytes` at once.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The head of the next message; `None` when the other side has closed.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        let start = self.line()?;
        if start.is_empty() {
            return Ok(None);
        }
        let mut body = Body::Length(0);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                body = Body::Length(value.trim().parse().map_err(|_| malformed("content-length"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Body::Chunked;
            }
        }
        Ok(Some(Head { start, body }))
    }

    /// The body that belongs to `head`, piece by piece as it comes.
    pub fn body(&mut self, head: &Head, mut on_piece: impl FnMut(&[u8])) -> io::Result<()> {
        match head.body {
            Body::Length(length) => self.exactly(length, &mut on_piece),
            Body::Chunked => loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| malformed("chunk size"))?;
                self.exactly(size, &mut on_piece)?;
                self.line()?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// Sends a request and reads its whole answer; the status.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.send(request)?;
        let head = self.head()?.ok_or(ErrorKind::UnexpectedEof)?;
        self.body(&head, |_| {})?;
        Ok(head.status())
    }

    fn exactly(&mut self, mut left: usize, on_piece: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            let there = self.reader.fill_buf()?;
            if there.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let size = there.len().min(left);
            on_piece(&there[..size]);
            self.reader.consume(size);
            left -= size;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// A `POST` of JSON.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed {what}"))
}
