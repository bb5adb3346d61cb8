//! As little of HTTP/1.1 as load and upstream need: a kept connection, heads, bodies with a length or in chunks.

use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

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
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect(address).await?)
    }

    /// A connection that was accepted.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends `bytes` at once.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes).await
    }

    /// The head of the next message; `None` when the other side has closed.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let start = self.line().await?;
        if start.is_empty() {
            return Ok(None);
        }
        let mut body = Body::Length(0);
        loop {
            let line = self.line().await?;
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
    pub async fn body(&mut self, head: &Head, mut on_piece: impl FnMut(&[u8])) -> io::Result<()> {
        match head.body {
            Body::Length(length) => self.exactly(length, &mut on_piece).await,
            Body::Chunked => loop {
                let size = usize::from_str_radix(&self.line().await?, 16).map_err(|_| malformed("chunk size"))?;
                self.exactly(size, &mut on_piece).await?;
                self.line().await?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// Sends a request and reads its whole answer; the status.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.send(request).await?;
        let head = self.head().await?.ok_or(ErrorKind::UnexpectedEof)?;
        self.body(&head, |_| {}).await?;
        Ok(head.status())
    }

    async fn exactly(&mut self, mut left: usize, on_piece: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            let there = self.reader.fill_buf().await?;
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

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).await?;
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// A `POST` of JSON.
pub fn post(path: &str, body: &str) -> Bytes {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed {what}"))
}
