//! What llama-swap says in the place of a model (its `internal/process`, `internal/router/loading.go`).

/// What it says when a model did not start. To ask again is to wait for another load that fails; a model that was unloaded
/// while it was waited for is another matter.
const FAILED_LOADS: [&str; 3] =
    ["upstream command exited prematurely", "health check timed out after", "failed to start command"];

/// True for the message of an error that tells of a load that failed.
pub fn is_failed_load(message: &str) -> bool {
    FAILED_LOADS.iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_load_that_failed_is_one() {
        assert!(is_failed_load("mlx-local: unspecific error: upstream command exited prematurely"));
        assert!(is_failed_load("unspecific error: health check timed out after 15s"));
        assert!(!is_failed_load("unspecific error: group: model unloaded"));
    }
}
