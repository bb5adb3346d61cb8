//! What the name of a Gemini model tells about what the model takes.

/// True for Gemini 3 and later, and for the undated aliases (`gemini-flash-latest`), which point there. These take
/// thinking levels and media inside function responses, and check the signatures of function calls.
pub(super) fn third_or_later(model: &str) -> bool {
    let name = bare(model);
    match name.split_once("gemini-") {
        Some((_, rest)) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            match digits.parse::<u32>() {
                Ok(major) => major >= 3,
                Err(_) => name.ends_with("-latest"),
            }
        }
        None => false,
    }
}

/// True for the large models of a generation, which cannot stop thinking.
pub(super) fn is_pro(model: &str) -> bool {
    bare(model).contains("-pro")
}

/// True for the models before 2.5 that refuse a `thinkingConfig`.
pub(super) fn cannot_think(model: &str) -> bool {
    let name = bare(model);
    ["gemini-1.", "gemini-2.0-", "gemma-"].iter().any(|old| name.starts_with(old)) && !name.contains("thinking")
}

/// The name without the collection it stands in.
fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_from_names() {
        for name in ["gemini-3-pro-preview", "models/gemini-3.1-pro-preview", "gemini-flash-latest", "gemini-10-x"] {
            assert!(third_or_later(name), "{name}");
        }
        for name in ["gemini-2.5-pro", "gemini-2.0-flash", "gemini-1.5-pro-latest", "gemma-3-27b", "gpt-5", ""] {
            assert!(!third_or_later(name), "{name}");
        }
    }
}
