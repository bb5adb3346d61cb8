//! What llama-swap says in the place of a model (its `internal/process`, `internal/router/loading.go`).

/// What it says when a model did not start. To ask again is to wait for another load that fails; a model that was unloaded
/// while it was waited for is another matter.
const FAILED_LOADS: [&str; 3] =
    ["upstream command exited prematurely", "health check timed out after", "failed to start command"];

/// True for the message of an error that tells of a load that failed.
pub fn is_failed_load(message: &str) -> bool {
    FAILED_LOADS.iter().any(|words| message.contains(words))
}

/// True for an event of its loading text (`sendLoadingState`), which it writes as if the model thought, without an id or a
/// model. The model's own events come after it, or the error of a failed load as a bare line of JSON.
pub fn is_loading_text(event: &[u8]) -> bool {
    let text = event.strip_prefix(br#"data: {"choices":[{"delta":{"reasoning_content":""#);
    text.is_some_and(|text| text.trim_ascii_end().ends_with(br#""}}]}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_thinks_is_no_loading_text() {
        assert!(is_loading_text(b"data: {\"choices\":[{\"delta\":{\"reasoning_content\":\".\"}}]}\n\n"));
        for event in [
            &br#"data: {"choices":[{"delta":{"reasoning_content":"a"}}],"id":"c1"}"#[..],
            br#"data: {"id":"c1","choices":[{"delta":{"reasoning_content":"a"}}]}"#,
            br#"data: {"choices":[{"delta":{"content":"a"}}]}"#,
            b": a comment",
        ] {
            assert!(!is_loading_text(event), "{}", String::from_utf8_lossy(event));
        }
    }

    #[test]
    fn only_a_load_that_failed_is_one() {
        assert!(is_failed_load("mlx-local: unspecific error: upstream command exited prematurely"));
        assert!(is_failed_load("unspecific error: health check timed out after 15s"));
        assert!(!is_failed_load("unspecific error: group: model unloaded"));
    }
}
