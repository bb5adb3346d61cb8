//! What is wrong with a configuration, and where: file, line, column, key.

use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Everything that is wrong with a configuration; never empty. Never quotes a value, which may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
    /// The file, wrong as it is, the environment or a flag asks for local-only mode: better obey that at once.
    pub asks_local_only: bool,
}

/// One thing that is wrong, or odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file; `None` for environment and flags.
    pub file: Option<PathBuf>,
    /// Line and column in characters, both from 1.
    pub position: Option<(usize, usize)>,
    /// The dotted key, as in `server.port`; empty where none is meant.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some((line, column)) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A file and its text, to tell where in it a key stands.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Text<'_> {
    /// A problem with the key at `path`, placed at the longest part of it that stands in the file.
    pub fn problem(self, path: &[&str], message: impl Into<String>) -> Problem {
        Problem {
            file: Some(self.path.to_owned()),
            position: locate(self.text, path).map(|at| line_and_column(self.text, at)),
            key: dotted(path),
            message: message.into(),
        }
    }

    /// A problem at a byte of the text.
    pub fn problem_at(self, at: Option<usize>, key: String, message: String) -> Problem {
        let position = at.map(|at| line_and_column(self.text, at));
        Problem { file: Some(self.path.to_owned()), position, key, message }
    }

    /// The line of the key at `path`, if the whole of it stands in the file.
    pub fn line_of(self, path: &[&str]) -> Option<usize> {
        let (table, _) = DeTable::parse_recoverable(self.text);
        let (at, depth) = walk(table.get_ref(), path)?;
        (depth == path.len()).then(|| line_and_column(self.text, at).0)
    }
}

/// True when `text` asks for local-only mode, however broken the rest of it may be.
pub(super) fn asks_local_only(text: &str) -> bool {
    let (table, _) = DeTable::parse_recoverable(text);
    let table = table.get_ref();
    let on = |table: &DeTable<'_>, key: &str| {
        table.get(key).is_some_and(|value| !matches!(value.get_ref(), DeValue::Boolean(false)))
    };
    let local = table.get("local").and_then(|local| local.get_ref().as_table());
    on(table, "localOnlyMode") || local.is_some_and(|local| on(local, "only") || on(local, "localOnlyMode"))
}

/// The key as TOML writes it: `facts."openai/gpt".context`; numbers of a list as `rules[2]`, from 1.
pub(super) fn dotted(path: &[&str]) -> String {
    let mut key = String::new();
    for part in path {
        let bare = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') && !part.is_empty();
        match part.strip_prefix('#').and_then(|index| index.parse::<usize>().ok()) {
            Some(index) => key.push_str(&format!("[{}]", index + 1)),
            None => {
                if !key.is_empty() {
                    key.push('.');
                }
                if bare { key.push_str(part) } else { key.push_str(&format!("{part:?}")) }
            }
        }
    }
    key
}

fn locate(text: &str, path: &[&str]) -> Option<usize> {
    let (table, _) = DeTable::parse_recoverable(text);
    walk(table.get_ref(), path).map(|(at, _)| at)
}

/// The byte where the deepest part of `path` that exists begins, and how deep that is. A part `#3` is a list's index.
fn walk(table: &DeTable<'_>, path: &[&str]) -> Option<(usize, usize)> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(*first)?;
    let mut found = (key.span().start, 1);
    let mut value = value.get_ref();
    for part in rest {
        match (value, part.strip_prefix('#').and_then(|index| index.parse::<usize>().ok())) {
            (DeValue::Array(list), Some(index)) => {
                let Some(item) = list.get(index) else { break };
                found = (item.span().start, found.1 + 1);
                value = item.get_ref();
            }
            (DeValue::Table(table), _) => {
                let Some((key, inner)) = table.get_key_value(*part) else { break };
                found = (key.span().start, found.1 + 1);
                value = inner.get_ref();
            }
            _ => break,
        }
    }
    Some(found)
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
