//! A JSON object taken as bytes: where its top-level members stand, and edits that keep every other byte.

use super::cuts::Cuts;
use memchr::memchr2;
use std::borrow::Cow;
use std::ops::Range;

/// Objects nested deeper than this are refused, so that no later parser can overflow its stack.
pub const MAX_DEPTH: usize = 128;

/// Why a body could not be taken as a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a JSON object: {what} at byte {at}")]
pub struct NotAnObject {
    /// What was found.
    pub what: &'static str,
    /// Where, in bytes from the start.
    pub at: usize,
}

/// One member of the outermost object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name with its quotes, as bytes of the body.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
    /// The name may be spelled with escapes.
    is_escaped: bool,
}

/// Where the members of a body's outermost object stand: found once, and of use as long as the body is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    members: Vec<Member>,
    /// Where the closing brace stands.
    end: usize,
}

/// The outermost object of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a> {
    bytes: &'a [u8],
    outline: Cow<'a, Outline>,
}

impl Outline {
    /// Finds the members of the outermost object. Checks nesting and strings on the way, but not the grammar of numbers and
    /// words inside values: a body is forwarded as it is, and whoever reads a value checks it.
    ///
    /// # Errors
    /// The body is not one JSON object, or is nested deeper than [`MAX_DEPTH`].
    pub fn scan(bytes: &[u8]) -> Result<Self, NotAnObject> {
        let mut at = skip_space(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return Err(NotAnObject { what: "no opening brace", at });
        }
        at = skip_space(bytes, at + 1);
        let mut members = Vec::with_capacity(8);
        if bytes.get(at) == Some(&b'}') {
            return Self::close(bytes, members, at);
        }
        loop {
            let key_start = at;
            let (end, is_escaped) = skip_string(bytes, at)?;
            let key = key_start..end;
            at = skip_space(bytes, end);
            if bytes.get(at) != Some(&b':') {
                return Err(NotAnObject { what: "no colon after a name", at });
            }
            let value_start = skip_space(bytes, at + 1);
            at = skip_value(bytes, value_start)?;
            members.push(Member { key, value: value_start..at, is_escaped });
            at = skip_space(bytes, at);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b'}') => return Self::close(bytes, members, at),
                _ => return Err(NotAnObject { what: "neither comma nor closing brace after a value", at }),
            }
        }
    }

    /// The object of which this is the outline: `bytes` are those that were scanned.
    pub fn of<'a>(&'a self, bytes: &'a [u8]) -> Object<'a> {
        Object { bytes, outline: Cow::Borrowed(self) }
    }

    fn close(bytes: &[u8], members: Vec<Member>, end: usize) -> Result<Self, NotAnObject> {
        let after = skip_space(bytes, end + 1);
        if after != bytes.len() {
            return Err(NotAnObject { what: "something after the object", at: after });
        }
        Ok(Self { members, end })
    }
}

impl<'a> Object<'a> {
    /// Finds the members of the outermost object, as [`Outline::scan`] does.
    ///
    /// # Errors
    /// As there.
    pub fn scan(bytes: &'a [u8]) -> Result<Self, NotAnObject> {
        Ok(Self { bytes, outline: Cow::Owned(Outline::scan(bytes)?) })
    }

    /// The member called `name`. Of several the last one counts, as in every JSON parser that takes them.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.outline.members.iter().rev().find(|member| self.key_is(member, name))
    }

    /// The bytes of the value called `name`.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.member(name).map(|member| &self.bytes[member.value.clone()])
    }

    /// The string called `name`; `None` when it is missing or no string.
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        text_of(self.raw(name)?)
    }

    /// Every member in its order: the name as it is spelled, without its quotes, and the value.
    pub fn members(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.outline.members.iter().map(|member| {
            let key = member.key.start + 1..member.key.end - 1;
            (&self.bytes[key], &self.bytes[member.value.clone()])
        })
    }

    /// The boolean called `name`; `None` when it is missing or no boolean.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.raw(name)? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// Starts a set of edits.
    pub fn edit(&self) -> Edits<'_, 'a> {
        Edits { object: self, cuts: Cuts::default(), removed: Vec::new(), added: Vec::new() }
    }

    fn key_is(&self, member: &Member, name: &str) -> bool {
        let raw = &self.bytes[member.key.clone()];
        &raw[1..raw.len() - 1] == name.as_bytes()
            || (member.is_escaped && serde_json::from_slice::<String>(raw).is_ok_and(|key| key == name))
    }
}

/// Edits of the outermost object; every byte that no edit names stays.
#[derive(Debug)]
pub struct Edits<'o, 'a> {
    object: &'o Object<'a>,
    cuts: Cuts,
    /// Where the members stand that are taken out.
    removed: Vec<usize>,
    added: Vec<u8>,
}

impl Edits<'_, '_> {
    /// Replaces the value called `name` by `json`, or adds the member at the end.
    pub fn set(&mut self, name: &str, json: &[u8]) {
        if !self.replace(name, |member| member.value.clone(), json) {
            self.added.push(b',');
            self.added.extend_from_slice(&quoted(name));
            self.added.push(b':');
            self.added.extend_from_slice(json);
        }
    }

    /// Renames a member. Does nothing when it is missing.
    pub fn rename(&mut self, from: &str, to: &str) {
        self.replace(from, |member| member.key.clone(), &quoted(to));
    }

    /// Takes a member out, with one comma. Does nothing when it is missing.
    pub fn remove(&mut self, name: &str) {
        let members = self.object.outline.members.iter().enumerate();
        self.removed.extend(members.filter(|(_, member)| self.object.key_is(member, name)).map(|(index, _)| index));
    }

    /// The edited body.
    pub fn apply(self) -> Vec<u8> {
        let Self { object, mut cuts, removed, mut added } = self;
        let Outline { members, end } = &*object.outline;
        let mut is_left = !members.is_empty();
        if !removed.is_empty() {
            let mut gone = vec![false; members.len()];
            removed.into_iter().for_each(|index| gone[index] = true);
            is_left = !gone.iter().all(|gone| *gone);
            let spans = members.iter().map(|member| member.key.start..member.value.end);
            cuts.remove(spans.zip(gone));
        }
        if !added.is_empty() {
            if !is_left {
                added.remove(0);
            }
            cuts.put(*end..*end, added);
        }
        cuts.apply(object.bytes)
    }

    /// Puts `json` in the place of a part of every member called `name`; false when there is none.
    fn replace(&mut self, name: &str, part: impl Fn(&Member) -> Range<usize>, json: &[u8]) -> bool {
        let mut is_there = false;
        for member in self.object.outline.members.iter().filter(|member| self.object.key_is(member, name)) {
            self.cuts.put(part(member), json.to_vec());
            is_there = true;
        }
        is_there
    }
}

/// The string that `raw` is; `None` for another value.
pub fn text_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    match raw {
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => std::str::from_utf8(text).ok().map(Cow::Borrowed),
        _ => serde_json::from_slice::<String>(raw).ok().map(Cow::Owned),
    }
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> Vec<u8> {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return [b"\"", text.as_bytes(), b"\""].concat();
    }
    serde_json::Value::from(text).to_string().into_bytes()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Where a string ends, and whether anything in it is escaped.
fn skip_string(bytes: &[u8], start: usize) -> Result<(usize, bool), NotAnObject> {
    if bytes.get(start) != Some(&b'"') {
        return Err(NotAnObject { what: "no string where one must be", at: start });
    }
    let mut at = start + 1;
    let mut is_escaped = false;
    loop {
        match bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            Some(found) if bytes[at + found] == b'"' => return Ok((at + found + 1, is_escaped)),
            Some(found) => at += found + 2,
            None => return Err(NotAnObject { what: "a string without end", at: start }),
        }
        is_escaped = true;
    }
}

fn skip_value(bytes: &[u8], start: usize) -> Result<usize, NotAnObject> {
    match bytes.get(start) {
        Some(b'"') => Ok(skip_string(bytes, start)?.0),
        Some(b'{' | b'[') => skip_nested(bytes, start),
        Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'-' => {
            let length = bytes[start..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                .count();
            Ok(start + length)
        }
        _ => Err(NotAnObject { what: "no value where one must be", at: start }),
    }
}

/// Quotes and brackets.
static IS_STRUCTURE: [bool; 256] = {
    let mut is_structure = [false; 256];
    is_structure[b'"' as usize] = true;
    is_structure[b'{' as usize] = true;
    is_structure[b'}' as usize] = true;
    is_structure[b'[' as usize] = true;
    is_structure[b']' as usize] = true;
    is_structure
};

fn skip_nested(bytes: &[u8], start: usize) -> Result<usize, NotAnObject> {
    // A bit for each that is open: set for an object, not for an array.
    let mut objects = 0u128;
    let mut depth = 0;
    let mut at = start;
    loop {
        // What stands between strings is short, and mostly nothing of interest.
        at += bytes[at..].iter().take_while(|byte| !IS_STRUCTURE[usize::from(**byte)]).count();
        match bytes.get(at) {
            Some(b'"') => {
                at = skip_string(bytes, at)?.0;
                continue;
            }
            Some(byte @ (b'{' | b'[')) => {
                if depth == MAX_DEPTH {
                    return Err(NotAnObject { what: "nested too deep", at });
                }
                objects = objects << 1 | u128::from(*byte == b'{');
                depth += 1;
            }
            Some(byte @ (b'}' | b']')) => {
                if (objects & 1 == 1) != (*byte == b'}') {
                    return Err(NotAnObject { what: "a bracket that closes nothing", at });
                }
                objects >>= 1;
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            Some(_) => {}
            None => return Err(NotAnObject { what: "a value without end", at: start }),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn edited(body: &str, change: impl FnOnce(&mut Edits<'_, '_>)) -> String {
        let object = Object::scan(body.as_bytes()).unwrap();
        let mut edits = object.edit();
        change(&mut edits);
        String::from_utf8(edits.apply()).unwrap()
    }

    #[test]
    fn an_edit_keeps_every_other_byte() {
        let body = "{ \"b\" :1.0, \"model\":\"x\" ,\"a\": [ {\"model\":\"no\"} ]}";
        assert_eq!(
            edited(body, |edits| edits.set("model", b"\"y\"")),
            "{ \"b\" :1.0, \"model\":\"y\" ,\"a\": [ {\"model\":\"no\"} ]}"
        );
        assert_eq!(edited(body, |edits| edits.remove("model")), "{ \"b\" :1.0, \"a\": [ {\"model\":\"no\"} ]}");
        assert_eq!(edited("{}", |edits| edits.set("m", b"1")), "{\"m\":1}");
        assert_eq!(edited("{\"m\":1}", |edits| edits.remove("m")), "{}");
        assert_eq!(edited("{\"a\":0, \"m\":1, \"m\":2}", |edits| edits.remove("m")), "{\"a\":0}");
        assert_eq!(
            edited("{\"m\":1}", |edits| {
                edits.remove("m");
                edits.set("n", b"2")
            }),
            "{\"n\":2}"
        );
        assert_eq!(edited("{\"mod\\u0065l\":1}", |edits| edits.set("model", b"2")), "{\"mod\\u0065l\":2}");
    }

    #[test]
    fn two_fields_that_are_taken_from_the_end_leave_an_object() {
        let taken = |body, names: &[&str]| edited(body, |edits| names.iter().for_each(|name| edits.remove(name)));
        let body = r#"{"model":"m","reasoning_effort":"low","fallbacks":["a"]}"#;
        assert_eq!(taken(body, &["fallbacks", "reasoning_effort"]), r#"{"model":"m"}"#);
        assert_eq!(taken(body, &["reasoning_effort", "fallbacks"]), r#"{"model":"m"}"#);
        assert_eq!(taken(body, &["reasoning_effort", "fallbacks", "model"]), "{}");
        let added = edited(body, |edits| {
            edits.remove("fallbacks");
            edits.remove("reasoning_effort");
            edits.set("stream", b"true");
        });
        assert_eq!(added, r#"{"model":"m","stream":true}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "{", "{\"a\":}", "{\"a\":1}x", "{\"a\":[}", "{\"a\":\"", "{a:1}", "{\"a\":1,}"] {
            assert!(Object::scan(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(Object::scan(deep.as_bytes()).unwrap_err().what, "nested too deep");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn edits_mean_what_serde_json_would_do(
            object in proptest::collection::btree_map("[a-e\"\\\\é]{0,3}", json(), 0..6),
            pretty in any::<bool>(), set in "[a-e]", gone in proptest::collection::vec("[a-e]", 0..4),
        ) {
            let value = Value::Object(object.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut expected = value.clone();
            let sets = !gone.contains(&set);
            if sets {
                expected[&set] = Value::from(7);
            }
            for name in &gone {
                expected.as_object_mut().unwrap().shift_remove(name);
            }
            let found = edited(&text, |edits| {
                if sets { edits.set(&set, b"7"); }
                gone.iter().for_each(|name| edits.remove(name));
            });
            prop_assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Object::scan(&bytes);
        }

        #[test]
        fn what_serde_json_reads_is_read(value in json()) {
            let text = serde_json::json!({ "v": value }).to_string();
            let object = Object::scan(text.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(object.raw("v").unwrap()).unwrap(), value);
        }
    }
}
