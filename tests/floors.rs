//! The house rules that a compiler does not know: who may use whom, how long a file may be, what it may not be called.
//!
//! The floors are read from the table in `docs/ARCHITECTURE.md`: a module may use those on the floors above it in that
//! table (smaller numbers), never one on its own floor or a later one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a file must have been divided; about 600 is where it asks to be.
const MAX_LINES: usize = 700;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["utils", "helpers", "common", "misc"];

#[test]
fn every_module_uses_only_the_floors_above_it() {
    let floors = floors(&read(&root().join("docs/ARCHITECTURE.md")));
    assert!(floors.len() >= 10, "the table of floors in docs/ARCHITECTURE.md could not be read: {floors:?}");
    let sources = rust_files(&root().join("src"));
    assert!(sources.len() >= 20, "no sources found");
    let broken: Vec<String> = sources
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(root()).unwrap().display().to_string();
            broken_floors(&floors, &file, &read(path))
        })
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    let files: Vec<PathBuf> =
        ["src", "tests", "benches", "fuzz"].iter().flat_map(|folder| rust_files(&root().join(folder))).collect();
    let broken: Vec<String> = files
        .iter()
        .flat_map(|path| bad_shape(path.strip_prefix(root()).unwrap(), read(path).lines().count()))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_check_sees_what_it_is_for() {
    let floors = floors(
        "| Floor | Module |\n| --- | --- |\n| 1 | `chat` |\n| 2 | `wire` |\n| 2 | `other` |\n| 9 | `server` |\n| 10 | `main` |",
    );
    let seen = |file: &str, source: &str| broken_floors(&floors, file, source);
    let one = |file: &str, source: &str, line: usize, module: &str| {
        let broken = seen(file, source);
        assert_eq!(broken.len(), 1, "{source}: {broken:?}");
        assert!(broken[0].starts_with(&format!("{file}:{line}: ")), "{broken:?}");
        assert!(broken[0].contains(&format!("`{module}`")), "{broken:?}");
    };
    one("src/chat/mod.rs", "use std::fmt;\nuse crate::wire::sse;", 2, "wire");
    one("src/wire/sse.rs", "fn f() { crate::server::run() }", 1, "server");
    one("src/wire/sse.rs", "use crate::{chat::Part,\n    server::{self, chat}};", 2, "server");
    one("src/wire/sse.rs", "use crate::other;", 1, "other");
    one("src/wire/sse.rs", "use super::super::server;", 1, "server");
    one("src/wire.rs", "mod tests { mod deep {\nuse super::super::super::server; } }", 2, "server");
    one("src/new.rs", "fn f() {}", 1, "new");
    for fine in [
        "use crate::chat::Part; use crate::wire::json;",
        "//! See [`crate::server`].\n/* crate::server:: */",
        r####"const S: &str = "crate::server::x"; const R: &str = r#"crate::server::"x"#; const C: char = '"'; use crate::chat;"####,
        "pub(crate) fn f<'a>(x: &'a str) {} use super::json; mod tests { use super::*; use super::super::json; }",
    ] {
        assert_eq!(seen("src/wire/sse.rs", fine), Vec::<String>::new(), "{fine}");
    }
    assert_eq!(seen("src/main.rs", "use crate::server;"), Vec::<String>::new());

    assert_eq!(bad_shape(Path::new("src/wire/sse.rs"), MAX_LINES).len(), 0);
    assert_eq!(bad_shape(Path::new("src/wire/sse.rs"), MAX_LINES + 1).len(), 1);
    assert_eq!(bad_shape(Path::new("src/wire/utils.rs"), 1).len(), 1);
    assert_eq!(bad_shape(Path::new("src/common/mod.rs"), 1).len(), 1);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn bad_shape(file: &Path, lines: usize) -> Vec<String> {
    let mut broken = Vec::new();
    if lines > MAX_LINES {
        broken.push(format!("{}: {lines} lines; divide it (at most {MAX_LINES})", file.display()));
    }
    if file.iter().any(|part| EMPTY_NAMES.contains(&part.to_string_lossy().trim_end_matches(".rs"))) {
        broken.push(format!("{}: the name does not say what is inside", file.display()));
    }
    broken
}

/// Module to floor, from the rows `| 3 | `dialect` | ... |` of a Markdown table.
fn floors(markdown: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in markdown.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, floor, modules, ..] = cells[..] else { continue };
        let Ok(floor) = floor.parse::<u32>() else { continue };
        for name in modules.split('`').skip(1).step_by(2) {
            floors.insert(name.to_owned(), floor);
        }
    }
    floors
}

fn broken_floors(floors: &BTreeMap<String, u32>, file: &str, source: &str) -> Vec<String> {
    let path = module_path(file);
    let Some(own) = path.first() else { return Vec::new() };
    let Some(own_floor) = floors.get(own) else {
        return vec![format!("{file}:1: `{own}` has no floor in docs/ARCHITECTURE.md")];
    };
    let mut broken = Vec::new();
    for (line, used) in modules_used(path.len(), source) {
        let Some(floor) = floors.get(&used) else { continue };
        if used != *own && floor >= own_floor {
            broken.push(format!("{file}:{line}: `{own}` (floor {own_floor}) may not use `{used}` (floor {floor})"));
        }
    }
    broken
}

/// `src/wire/sse.rs` is `["wire", "sse"]`; the crate's root is empty.
fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if inner == "lib" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
}

/// The crate's top-level modules that a source names through `crate::` or `super::`, with the line. `depth` is how deep
/// the file stands below the crate's root.
fn modules_used(depth: usize, source: &str) -> Vec<(usize, String)> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let mut used = Vec::new();
    let mut braces: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => braces.push(at >= 2 && text(at - 2) == "mod"),
            "}" => {
                braces.pop();
            }
            "crate" if text(at + 1) == "::" => used.extend(first_names(&tokens[at + 2..])),
            "super" if at == 0 || text(at - 1) != "::" => {
                let mut supers = 1;
                while text(at + 1) == "::" && text(at + 2) == "super" {
                    supers += 1;
                    at += 2;
                }
                if supers == depth + braces.iter().filter(|is_module| **is_module).count() {
                    used.extend(first_names(tokens.get(at + 2..).unwrap_or_default()));
                }
            }
            _ => {}
        }
        at += 1;
    }
    used
}

/// The first segments after `crate::`: one, or those of a group in braces.
fn first_names(tokens: &[(usize, String)]) -> Vec<(usize, String)> {
    if tokens.first().is_none_or(|(_, token)| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expected = false;
    for (line, token) in tokens {
        match token.as_str() {
            "{" => {
                depth += 1;
                expected = depth == 1;
            }
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," => expected = depth == 1,
            name if expected => {
                names.push((*line, name.to_owned()));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

/// Words, `::` and single characters with their lines; without comments, strings and characters.
fn tokens(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let from = at;
        if starts(at, "//") {
            at = find(&chars, at, "\n");
        } else if starts(at, "/*") {
            at = find(&chars, at + 2, "*/");
        } else if let Some(hashes) = raw_string(&chars[at..]) {
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            at = find(&chars, at + hashes + 2, &end);
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) {
            at += if chars[at + 1] == '\\' { 3 } else { 2 };
            at = find(&chars, at, "'");
        } else if chars[at].is_alphanumeric() || chars[at] == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            tokens.push((line, chars[from..at].iter().collect()));
        } else {
            at += if starts(at, "::") { 2 } else { 1 };
            if !chars[from].is_whitespace() {
                tokens.push((line, chars[from..at].iter().collect()));
            }
        }
        at = at.min(chars.len());
        line += chars[from..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// How many `#` the raw string that begins here has.
fn raw_string(chars: &[char]) -> Option<usize> {
    let rest = chars.strip_prefix(&['r'])?;
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

/// The index after the next `end`.
fn find(chars: &[char], from: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    (from..chars.len()).find(|at| chars[*at..].starts_with(&end)).map_or(chars.len(), |at| at + end.len())
}
