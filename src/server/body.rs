//! A request body, read whole within its limits.

use crate::chat::{ChatError, ErrorKind};
use crate::config::Server;
use crate::wire::buffer::Pieces;
use bytes::Bytes;
use futures_util::poll;
use http_body::Body;
use http_body_util::BodyExt;
use std::pin::pin;
use std::task::Poll;

/// Reads the body.
///
/// # Errors
/// Larger than `[server] max_body_bytes` (413), slower than `body_timeout` (408), or broken off (400).
pub async fn read(body: impl Body<Data = Bytes>, server: &Server) -> Result<Bytes, ChatError> {
    // What is declared too large is not waited for.
    if body.size_hint().lower() > server.max_body as u64 {
        return Err(too_large(server));
    }
    let mut reading = pin!(pieces(body, server));
    // Nearly always it came together with its head.
    if let Poll::Ready(read) = poll!(reading.as_mut()) {
        return read.map(Pieces::join);
    }
    match tokio::time::timeout(server.body_timeout, reading).await {
        Ok(read) => read.map(Pieces::join),
        Err(_) => {
            let message = format!(
                "The request was not there within {} s. Send it faster, or raise `body_timeout` in [server].",
                server.body_timeout.as_secs()
            );
            let mut error = ChatError::new(ErrorKind::InvalidRequest, message).with_code("body_timeout");
            error.status = Some(408);
            Err(error)
        }
    }
}

async fn pieces(body: impl Body<Data = Bytes>, server: &Server) -> Result<Pieces, ChatError> {
    let mut body = pin!(body);
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ChatError::new(ErrorKind::InvalidRequest, "The request broke off before its end.")
                .with_code("body_incomplete")
        })?;
        // Trailers are passed over.
        let Ok(piece) = frame.into_data() else { continue };
        if pieces.bytes() + piece.len() > server.max_body {
            return Err(too_large(server));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

fn too_large(server: &Server) -> ChatError {
    let message = format!(
        "The request is larger than {} bytes. Send less, or raise `max_body_bytes` in [server].",
        server.max_body
    );
    ChatError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
}
