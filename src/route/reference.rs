//! Model strings as clients write them.

/// The form of a model string; what it means is for the plan to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// Nothing, or only white space.
    Empty,
    /// `auto`: the class is chosen from the request.
    Auto,
    /// `class/<name>`.
    Class(&'a str),
    /// `<first>/<rest>`: a provider's model, or an id that has slashes of its own.
    Slashed {
        /// Before the first slash.
        first: &'a str,
        /// After it; more slashes may follow.
        rest: &'a str,
        /// Both, as written.
        whole: &'a str,
    },
    /// Without a slash: a class, an alias, a role, or an id.
    Bare(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a model string. Google's clients write `models/<id>`; that prefix means nothing here.
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("models/").unwrap_or(text);
        match text.split_once('/') {
            _ if text.is_empty() => Self::Empty,
            _ if text == "auto" => Self::Auto,
            Some(("class", name)) if !name.is_empty() => Self::Class(name),
            Some((first, rest)) if !first.is_empty() && !rest.is_empty() => Self::Slashed { first, rest, whole: text },
            _ => Self::Bare(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference::{self, Auto, Bare, Class, Empty, Slashed};
    use proptest::prelude::*;

    #[test]
    fn every_form_is_told_apart() {
        let cases = [
            ("", Empty),
            ("  ", Empty),
            ("auto", Auto),
            ("coding", Bare("coding")),
            ("class/coding", Class("coding")),
            ("class/", Bare("class/")),
            ("/x", Bare("/x")),
            ("models/gemini-2.5-pro", Bare("gemini-2.5-pro")),
            ("openai/gpt-5", Slashed { first: "openai", rest: "gpt-5", whole: "openai/gpt-5" }),
            (
                "mlx-local/mlx-community/Qwen3-4bit",
                Slashed {
                    first: "mlx-local",
                    rest: "mlx-community/Qwen3-4bit",
                    whole: "mlx-local/mlx-community/Qwen3-4bit",
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Reference::parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_the_text(text in "\\PC{0,40}") {
            let stripped = text.trim().strip_prefix("models/").unwrap_or(text.trim());
            match Reference::parse(&text) {
                Empty => prop_assert!(stripped.is_empty()),
                Auto => prop_assert_eq!(stripped, "auto"),
                Class(name) => prop_assert_eq!(stripped, format!("class/{name}")),
                Slashed { first, rest, whole } => {
                    prop_assert_eq!(stripped, whole);
                    prop_assert_eq!(whole, format!("{first}/{rest}"));
                    prop_assert!(!first.contains('/'));
                }
                Bare(name) => prop_assert_eq!(stripped, name),
            }
        }
    }
}
