//! The words of a command line, quoted as a POSIX shell would have it; nothing is expanded and no shell is run.

/// Splits `line` at white space; `'...'` keeps everything, `"..."` keeps all but `\"` and `\\`, a backslash outside of
/// quotes keeps the next character. `None` when a quote is not closed or the line ends in a backslash.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '\'' => loop {
                let word = word.get_or_insert_default();
                match chars.next()? {
                    '\'' => break,
                    inner => word.push(inner),
                }
            },
            '"' => loop {
                let word = word.get_or_insert_default();
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                        other => word.extend(['\\', other]),
                    },
                    inner => word.push(inner),
                }
            },
            '\\' => word.get_or_insert_default().push(chars.next()?),
            space if space.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// Puts quotes around `word` where [`split`] would need them to read it back.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{quote, split};
    use proptest::prelude::*;

    #[test]
    fn quotes_and_backslashes_are_those_of_a_shell() {
        let words = |line| split(line).unwrap();
        assert_eq!(words("op read 'op://Private/My Key/credential'"), ["op", "read", "op://Private/My Key/credential"]);
        assert_eq!(words(r#"a "b \"c\" \d" e\ f ''"#), ["a", r#"b "c" \d"#, "e f", ""]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words("$HOME `ls` ; x"), ["$HOME", "`ls`", ";", "x"]);
    }

    #[test]
    fn what_is_not_closed_is_no_line() {
        for open in ["a 'b", "a \"b", "a \"b\\", "a\\"] {
            assert_eq!(split(open), None, "{open}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(".*", 0..5)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line), Some(words));
        }

        #[test]
        fn any_line_is_read_or_refused(line in ".*") {
            let _ = split(&line);
        }
    }
}
