//! The environment as the gateway sees it: the process's own variables, and those of `--env-file` beneath them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Variables by name. The process's own win over those of an env file, as with dotenv. Shows names only.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// Why an env file was not taken. Never quotes the file's text beyond the name of a variable.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It could not be read.
    #[error("{}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("{0}: mode {mode:04o} lets other users at the keys in it; run: chmod 600 {0}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line is no `KEY=VALUE`.
    #[error("{}:{line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Environment {
    /// The variables of this process; those that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.process.get(name).or_else(|| self.files.get(name)).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of all variables, set or empty.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.process.keys().chain(self.files.keys()).map(String::as_str)
    }

    /// The variables that came from env files and that the process does not have itself; child processes get them too.
    pub fn added(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = |name: &String| self.process.contains_key(name);
        self.files.iter().filter(move |(name, _)| !own(name)).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the variables of an env file: lines of `KEY=VALUE`, optionally after `export`; `#` comments; `'...'` taken as
    /// it is, `"..."` with `\n`, `\t`, `\r`, `\"`, `\\` and `\$`. Quoted values may span lines. Nothing is expanded.
    ///
    /// # Errors
    /// The file cannot be read, is open to group or others, or has a line that is none of the above.
    pub fn add_file(&mut self, path: &Path) -> Result<(), EnvFileError> {
        let text = read_private(path)?;
        let variables =
            parse(&text).map_err(|(line, problem)| EnvFileError::Line { path: path.to_owned(), line, problem })?;
        self.files.extend(variables);
        Ok(())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let process = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { process, files: BTreeMap::new() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Reads a file after looking at the mode of the very file that is open, so that it cannot be swapped in between.
fn read_private(path: &Path) -> Result<String, EnvFileError> {
    use std::io::Read as _;
    let unreadable = |error| EnvFileError::Unreadable { path: path.to_owned(), error };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(EnvFileError::Open { path: path.to_owned(), mode });
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The variables of a dotenv text, or the line (from 1) that is wrong and why.
fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut variables = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_of = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        let line = line_of(rest);
        if rest.starts_with('#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let end_of_line = rest.find('\n').unwrap_or(rest.len());
        let equals = rest[..end_of_line].find('=').ok_or((line, "not of the form KEY=VALUE"))?;
        let name = rest[..equals].trim();
        let name = name.strip_prefix("export").filter(|name| name.starts_with([' ', '\t'])).unwrap_or(name).trim();
        let valid = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            return Err((line, "the name before `=` may have letters, digits and `_` only"));
        }
        let (value, after) =
            value(rest[equals + 1..].trim_start_matches([' ', '\t'])).map_err(|problem| (line, problem))?;
        variables.push((name.to_owned(), value));
        rest = after;
    }
}

/// The value at the start of `text`, and what follows its line.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let (value, after) = if let Some(quoted) = text.strip_prefix('\'') {
        let end = quoted.find('\'').ok_or("a quote `'` is not closed")?;
        (quoted[..end].to_owned(), &quoted[end + 1..])
    } else if let Some(quoted) = text.strip_prefix('"') {
        double_quoted(quoted).ok_or("a quote `\"` is not closed")?
    } else {
        let line = &text[..text.find('\n').unwrap_or(text.len())];
        let comment = line.find(" #").or_else(|| line.find("\t#")).or(line.starts_with('#').then_some(0));
        (line[..comment.unwrap_or(line.len())].trim_end().to_owned(), &text[line.len()..])
    };
    let end_of_line = after.find('\n').unwrap_or(after.len());
    let trailing = after[..end_of_line].trim();
    if trailing.is_empty() || trailing.starts_with('#') {
        Ok((value, &after[end_of_line..]))
    } else {
        Err("something follows the closing quote")
    }
}

fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                kept @ ('"' | '\\' | '$') => value.push(kept),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variables(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    #[test]
    fn the_usual_forms_are_read() {
        let text = "\u{feff}# comment\n\nA=1\n export B = two words # said\nC='it # is' # c\nD=\"a\\nb\\\"\\$X\\q\"\r\nE=\nF=a#b\nG=x=y\nH='two\nlines'\nI=last";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "it # is"),
            ("D", "a\nb\"$X\\q"),
            ("E", ""),
            ("F", "a#b"),
            ("G", "x=y"),
            ("H", "two\nlines"),
            ("I", "last"),
        ];
        assert_eq!(variables(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_quoted() {
        let mut environment = Environment::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, line, about) in [
            ("A=1\nsk-planted\n", 2, "KEY=VALUE"),
            ("sk-planted=1", 1, "name before"),
            ("\n\nA='sk-planted", 3, "not closed"),
            ("A=\"sk-planted", 1, "not closed"),
            ("A='x' sk-planted", 1, "follows"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = environment.add_file(file.path()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}:{line}: ", file.path().display())), "{error}");
            assert!(error.contains(about) && !error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn the_process_wins_and_empty_is_unset() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=file\nB=file\nC=").unwrap();
        let mut environment: Environment = [("A", "process")].into_iter().collect();
        environment.add_file(file.path()).unwrap();
        assert_eq!(
            (environment.get("A"), environment.get("B"), environment.get("C")),
            (Some("process"), Some("file"), None)
        );
        assert_eq!(environment.added().map(|(name, _)| name).collect::<Vec<_>>(), ["B", "C"]);
        assert!(!format!("{environment:?}").contains("file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Environment::default().add_file(file.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o400)).unwrap();
        Environment::default().add_file(file.path()).unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s)[A-C= '\"\\\\#\n\r\texport]{0,40}|.*") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[^\"\\\\]*") {
            prop_assert_eq!(variables(&format!("A=\"{value}\" # c\nB=1")), [
                ("A".to_owned(), value), ("B".to_owned(), "1".to_owned()),
            ]);
        }
    }
}
