//! A request body, read whole within its limits.

use crate::chat::{ChatError, ErrorKind};
use crate::config::Server;
use crate::wire::buffer::detached;
use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Reads the body.
///
/// # Errors
/// Larger than `[server] max_body_bytes` (413), slower than `body_timeout` (408), or broken off (400).
pub async fn read(body: Body, server: &Server) -> Result<Bytes, ChatError> {
    // What is declared too large is not waited for.
    if body.size_hint().lower() > server.max_body as u64 {
        return Err(too_large(server));
    }
    let limited = Limited::new(body, server.max_body);
    match tokio::time::timeout(server.body_timeout, limited.collect()).await {
        Ok(Ok(collected)) => Ok(detached(collected.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(server)),
        Ok(Err(_)) => Err(ChatError::new(ErrorKind::InvalidRequest, "The request broke off before its end.")
            .with_code("body_incomplete")),
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

fn too_large(server: &Server) -> ChatError {
    let message = format!(
        "The request is larger than {} bytes. Send less, or raise `max_body_bytes` in [server].",
        server.max_body
    );
    ChatError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
}
