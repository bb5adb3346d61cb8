//! The only proof that a server serves: a completion of one token. Lists and health pages stay well while it is wedged.

use super::supervisor::Trial;
use serde_json::{Value, json};

/// The request, in the form of OpenAI's chat completions.
pub fn request(model: &str) -> Vec<u8> {
    let messages = [json!({ "role": "user", "content": "1" })];
    json!({ "model": model, "messages": messages, "max_tokens": 1, "temperature": 0, "stream": false })
        .to_string()
        .into_bytes()
}

/// What the answer proves. A 200 that counts no token proves that it does not serve (seen of vllm-mlx 0.3.0).
pub fn read(status: u16, body: &[u8]) -> Trial {
    match status {
        200 => {}
        429 => return Trial::Busy,
        // Both vllm-mlx and llama-swap say so of what will pass: busy, or a model on its way.
        503 => return Trial::Busy,
        504 => return Trial::TimedOut,
        // A model for embeddings, reranking or speech: that is no fault of the server.
        400 | 404 | 405 | 422 | 501 => return Trial::NotForChat,
        status => return Trial::Failed(format!("a completion of one token was answered with {status}")),
    }
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Trial::Failed("a completion of one token was answered with something that is no JSON".to_owned());
    };
    let tokens = answer.pointer("/usage/completion_tokens").and_then(Value::as_u64).unwrap_or(0);
    let ended = answer.pointer("/choices/0/finish_reason").and_then(Value::as_str);
    match (tokens, ended) {
        (_, Some("error")) => Trial::Failed("a completion of one token ended with finish_reason error".to_owned()),
        (0, _) => Trial::Failed("a completion of one token came without a token".to_owned()),
        (1.., _) => Trial::Served,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_proves() {
        let served = br#"{"choices":[{"finish_reason":"length"}],"usage":{"completion_tokens":1}}"#;
        assert_eq!(read(200, served), Trial::Served);
        assert_eq!(read(429, b"{}"), Trial::Busy);
        assert_eq!(read(503, served), Trial::Busy);
        assert_eq!(read(504, b""), Trial::TimedOut);
        for status in [400, 404, 405, 422, 501] {
            assert_eq!(read(status, b"{\"detail\":\"no chat\"}"), Trial::NotForChat);
        }
        for (status, body) in [
            (200, &br#"{"choices":[{"finish_reason":"stop"}],"usage":{"completion_tokens":0}}"#[..]),
            (200, br#"{"choices":[{"finish_reason":"error"}],"usage":{"completion_tokens":3}}"#),
            (200, b"{}"),
            (200, b"<html>"),
            (500, served),
        ] {
            assert!(matches!(read(status, body), Trial::Failed(_)), "{status} {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_request_is_the_smallest_there_is() {
        let request: Value = serde_json::from_slice(&request("org/\"tiny\"")).unwrap();
        assert_eq!(request["model"], "org/\"tiny\"");
        assert_eq!(request["max_tokens"], 1);
    }
}
