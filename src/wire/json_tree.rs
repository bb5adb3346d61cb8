//! A JSON text as a tree of byte ranges, and edits anywhere in it that keep every other byte.

use super::cuts::Cuts;
use super::json::{MAX_DEPTH, NotAnObject};
use std::ops::Range;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its bytes.
    pub range: Range<usize>,
    /// What it holds.
    pub children: Children,
}

/// What a value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Children {
    /// The members of an object: the name with its quotes, and the value.
    Members(Vec<(Range<usize>, Node)>),
    /// The items of a list.
    Items(Vec<Node>),
    /// A string, number, `true`, `false` or `null`.
    None,
}

impl Node {
    /// Reads one JSON value. Checks nesting and strings, but not the grammar of numbers and words: the text is forwarded as
    /// it is, and whoever reads a value checks it.
    ///
    /// # Errors
    /// The text is not one JSON value, or is nested deeper than [`MAX_DEPTH`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAnObject> {
        let mut reader = Reader { bytes, at: 0 };
        reader.skip_space();
        let node = reader.value(0)?;
        reader.skip_space();
        if reader.at != bytes.len() { Err(reader.wrong("something after the value")) } else { Ok(node) }
    }

    /// The member called `name`; `None` when this is no object or has none. Of several the last one counts.
    pub fn member(&self, bytes: &[u8], name: &str) -> Option<&Node> {
        let Children::Members(members) = &self.children else { return None };
        members.iter().rev().find(|(key, _)| key_is(bytes, key, name)).map(|(_, node)| node)
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Node] {
        match &self.children {
            Children::Items(items) => items,
            _ => &[],
        }
    }

    /// The bytes of the value.
    pub fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.range.clone()).unwrap_or_default()
    }
}

fn key_is(bytes: &[u8], key: &Range<usize>, name: &str) -> bool {
    let raw = bytes.get(key.clone()).unwrap_or_default();
    raw.get(1..raw.len().saturating_sub(1)) == Some(name.as_bytes())
        || (raw.contains(&b'\\') && serde_json::from_slice::<String>(raw).is_ok_and(|key| key == name))
}

impl Cuts {
    /// Replaces a value.
    pub fn replace(&mut self, node: &Node, json: &[u8]) {
        self.put(node.range.clone(), json.to_vec());
    }

    /// Takes the members called one of `names` out of an object.
    pub fn remove_members(&mut self, bytes: &[u8], object: &Node, names: &[&str]) {
        let Children::Members(members) = &object.children else { return };
        let spans = members
            .iter()
            .map(|(key, value)| (key.start..value.range.end, names.iter().any(|name| key_is(bytes, key, name))));
        self.remove(spans);
    }

    /// Takes the items that `gone` names (by their position) out of a list.
    pub fn remove_items(&mut self, list: &Node, gone: impl Fn(usize) -> bool) {
        self.remove(list.items().iter().enumerate().map(|(index, item)| (item.range.clone(), gone(index))));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> NotAnObject {
        NotAnObject { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, NotAnObject> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("nested too deep"));
        }
        let start = self.at;
        let children = match self.peek() {
            Some(b'{') => Children::Members(self.list(b'}', |reader| {
                let key = reader.string()?;
                reader.skip_space();
                if reader.peek() != Some(b':') {
                    return Err(reader.wrong("no colon after a name"));
                }
                reader.at += 1;
                reader.skip_space();
                Ok((key, reader.value(depth + 1)?))
            })?),
            Some(b'[') => Children::Items(self.list(b']', |reader| reader.value(depth + 1))?),
            Some(b'"') => {
                self.string()?;
                Children::None
            }
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => {
                while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                {
                    self.at += 1;
                }
                Children::None
            }
            _ => return Err(self.wrong("no value where one must be")),
        };
        Ok(Node { range: start..self.at, children })
    }

    /// Reads what stands between brackets, with commas in between.
    fn list<T>(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<T, NotAnObject>,
    ) -> Result<Vec<T>, NotAnObject> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return Err(self.wrong("neither comma nor closing bracket after a value")),
            }
            self.skip_space();
        }
    }

    fn string(&mut self) -> Result<Range<usize>, NotAnObject> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.wrong("no string where one must be"));
        }
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at);
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a string without end")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), ".{0,5}".prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"é]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn cut(value: &Value, pretty: bool, gone: &[bool]) -> Value {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.unwrap();
        let node = Node::parse(text.as_bytes()).unwrap();
        let mut cuts = Cuts::default();
        cuts.remove_items(node.member(text.as_bytes(), "list").unwrap(), |index| gone[index % gone.len()]);
        cuts.remove_members(text.as_bytes(), &node, &["a", "b"]);
        serde_json::from_slice(&cuts.apply(text.as_bytes())).unwrap()
    }

    proptest! {
        #[test]
        fn cuts_mean_what_serde_json_would_do(
            list in proptest::collection::vec(json(), 0..6), gone in proptest::collection::vec(any::<bool>(), 1..6),
            more in json(), pretty in any::<bool>(),
        ) {
            let value = json!({"a": more, "list": list, "c": more, "b": 1});
            let kept: Vec<Value> =
                list.into_iter().enumerate().filter(|(index, _)| !gone[index % gone.len()]).map(|(_, item)| item).collect();
            prop_assert_eq!(cut(&value, pretty, &gone), json!({"list": kept, "c": more}));
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Node::parse(&bytes);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
        assert_eq!(Node::parse(deep.as_bytes()).unwrap_err().what, "nested too deep");
    }
}
