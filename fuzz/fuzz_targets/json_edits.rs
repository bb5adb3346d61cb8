#![no_main]

use bifrost::wire::json::{Object, quoted};
use libfuzzer_sys::fuzz_target;

// A body that is edited stays a body: what was set is there, and nothing else has moved.
fuzz_target!(|data: &[u8]| {
    let Ok(object) = Object::scan(data) else { return };
    assert_eq!(object.edit().apply(), data, "no edit changes nothing");
    let mut edits = object.edit();
    edits.set("model", &quoted("a/b\"\\\u{1}"));
    edits.remove("stop");
    edits.rename("max_completion_tokens", "max_tokens");
    let edited = edits.apply();
    let again = Object::scan(&edited).expect("an edited body can be read");
    assert_eq!(again.string("model").as_deref(), Some("a/b\"\\\u{1}"));
    assert!(again.raw("stop").is_none());
});
