//! `docs/CONFIGURATION.md` says what the code does: its tables are made from the schema, the variables and the exit codes,
//! and its example has every key and loads. `UPDATE_DOCS=1 cargo test --test configuration_doc` writes the tables anew.

use bifrost::cli::Exit;
use bifrost::config::{File, Inputs, Snapshot, env};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md")
}

/// A key of the schema: its path (`providers.NAME.key`), and what is said of it.
struct Key {
    path: Vec<String>,
    schema: Map<String, Value>,
}

/// The schema behind a `$ref`, with what stands beside the `$ref` over it.
fn resolved(root: &Value, schema: &Value) -> Map<String, Value> {
    let mut resolved = schema.as_object().cloned().unwrap_or_default();
    if let Some(name) = resolved.remove("$ref") {
        let name = name.as_str().unwrap().trim_start_matches("#/$defs/").to_owned();
        let mut target = root["$defs"][&name].as_object().unwrap().clone();
        target.extend(resolved);
        return target;
    }
    resolved
}

fn collect(root: &Value, schema: &Value, path: &[String], keys: &mut Vec<Key>) {
    let schema = resolved(root, schema);
    let under = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        keys.push(Key { path: under(name), schema: resolved(root, inner) });
        collect(root, inner, &under(name), keys);
    }
    for choice in ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten() {
        collect(root, choice, path, keys);
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
        collect(root, inner, &under("NAME"), keys);
    }
    if let Some(inner) = schema.get("items") {
        collect(root, inner, path, keys);
    }
}

fn keys() -> (Value, Vec<Key>) {
    let root = File::schema().to_value();
    let mut keys = Vec::new();
    collect(&root, &root, &[], &mut keys);
    (root, keys)
}

/// The values that an enumeration can have.
fn choices(root: &Value, schema: &Map<String, Value>, found: &mut Vec<String>) {
    let lists = ["enum", "anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array());
    for choice in lists.flatten() {
        match choice {
            Value::String(value) => found.push(value.clone()),
            choice => {
                let choice = resolved(root, choice);
                found.extend(choice.get("const").and_then(Value::as_str).map(str::to_owned));
                choices(root, &choice, found);
            }
        }
    }
    let mut seen = HashSet::new();
    found.retain(|value| seen.insert(value.clone()));
    if let Some(items) = schema.get("items") {
        choices(root, &resolved(root, items), found);
    }
}

fn reference() -> String {
    let (root, keys) = keys();
    let mut table = "| Key | What it is | Default |\n| --- | --- | --- |\n".to_owned();
    for Key { path, schema } in keys {
        let about = schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let (about, default) = match about.split_once("Default: ") {
            Some((about, default)) => (about.trim().to_owned(), default.trim_end_matches('.').to_owned()),
            None => match schema.get("default") {
                Some(Value::Null) => (about, "none".to_owned()),
                Some(Value::String(text)) if text.is_empty() => (about, "none".to_owned()),
                Some(Value::Array(list)) if list.is_empty() => (about, "none".to_owned()),
                Some(Value::Object(_)) | None => (about, String::new()),
                Some(default) => (about, format!("`{default}`").replace('"', "")),
            },
        };
        let mut values = Vec::new();
        choices(&root, &schema, &mut values);
        let values = if values.is_empty() { String::new() } else { format!(" One of `{}`.", values.join("`, `")) };
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(table, "| `{}` | {}{values} | {} |", path.join("."), cell(&about), cell(&default));
    }
    table
}

fn environment() -> String {
    let rows = env::VARIABLES.iter().map(|variable| format!("| `{}` | {} |\n", variable.name, variable.about));
    format!("| Variable | What it does |\n| --- | --- |\n{}", rows.collect::<String>())
}

fn exit_codes() -> String {
    let rows = Exit::ALL.iter().map(|(exit, about)| format!("| {} | {about} |\n", *exit as u8));
    format!("| Code | Meaning |\n| --- | --- |\n{}", rows.collect::<String>())
}

/// The document with the text between two markers replaced.
fn with(document: &str, marker: &str, text: &str) -> String {
    let (start, end) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
    let (before, rest) = document.split_once(&start).expect(marker);
    let (_, after) = rest.split_once(&end).expect(marker);
    format!("{before}{start}{text}{end}{after}")
}

#[test]
fn the_tables_are_those_of_the_code() {
    let written = std::fs::read_to_string(document()).unwrap();
    let mut made = with(&written, "reference", &reference());
    made = with(&made, "environment", &environment());
    made = with(&made, "exit codes", &exit_codes());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(document(), &made).unwrap();
    } else {
        assert!(written == made, "out of date: run UPDATE_DOCS=1 cargo test --test configuration_doc");
    }
}

#[test]
fn every_key_is_described() {
    for Key { path, schema } in keys().1 {
        assert!(schema.get("description").is_some_and(Value::is_string), "{} has no comment", path.join("."));
    }
}

fn example() -> String {
    let document = std::fs::read_to_string(document()).unwrap();
    document.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

/// Every path in a value, with names of the user's own left as they are and lists looked through.
fn paths(value: &toml::Value, path: &str, found: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.push(path.clone());
                paths(inner, &path, found);
            }
        }
        toml::Value::Array(list) => list.iter().for_each(|inner| paths(inner, path, found)),
        _ => {}
    }
}

#[test]
fn the_example_has_every_key() {
    let mut found = Vec::new();
    paths(&toml::Value::Table(example().parse().unwrap()), "", &mut found);
    for Key { path, .. } in keys().1 {
        let fits = |found: &String| {
            // A name of the user's own has no dots in the example, except of models, which stand in [facts] only.
            let found = found.replace("workshop/large-translate-2", "x");
            let parts: Vec<&str> = found.split('.').collect();
            parts.len() == path.len() && parts.iter().zip(&path).all(|(part, key)| key == "NAME" || key == part)
        };
        let path = path.join(".");
        assert!(found.iter().any(fits) || path == "catalogue.registry", "{path} is not in the example");
    }
}

#[test]
fn the_example_loads_without_a_warning() {
    let snapshot = Snapshot::of_text(&Inputs::default(), Some((Path::new("/x/config.toml"), &example()))).unwrap();
    assert_eq!(snapshot.warnings, Vec::<String>::new());
}

/// The defaults that the comments of the file's types state are those that are used.
#[test]
fn stated_defaults_are_in_effect() {
    let effective = Snapshot::of_text(&Inputs::default(), None).unwrap().effective();
    let stated = reference();
    for (key, words) in [
        ("server.port", "30080"),
        ("server.max_body_bytes", "104857600 (100 MiB)"),
        ("server.max_header_bytes", "65536"),
        ("server.max_connections", "1024"),
        ("server.header_timeout", "10 s"),
        ("server.body_timeout", "60 s"),
        ("server.shutdown_grace", "0.8 s"),
        ("server.host", "`[\"127.0.0.1\", \"::1\"]`"),
        ("catalogue.ttl", "10 min"),
        ("local.only", "false"),
        ("local.on_cloud_model", "`substitute`"),
        ("log.filter", "`info`"),
        ("log.json", "false"),
        ("log.access", "true"),
    ] {
        let row = stated.lines().find(|row| row.starts_with(&format!("| `{key}` |"))).expect(key);
        assert!(row.ends_with(&format!("| {words} |")), "{row}");
        let (table, name) = key.split_once('.').unwrap();
        let value = effective[table][name].to_string();
        let said = match words {
            "104857600 (100 MiB)" => "104857600",
            "10 s" => "\"10s\"",
            "60 s" => "\"1m\"",
            "0.8 s" => "\"800ms\"",
            "10 min" => "\"10m\"",
            "`substitute`" => "\"substitute\"",
            "`info`" => "\"info\"",
            words => words.trim_matches('`'),
        };
        assert_eq!(value, said, "{key}");
    }
}
