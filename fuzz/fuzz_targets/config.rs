#![no_main]

use bifrost::config::{Flags, Inputs, Snapshot};
use bifrost::secret::Environment;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

// Any text is a configuration or an error that names the file.
fuzz_target!(|text: &str| {
    let environment: Environment = [("HOME", "/home/somebody")].into_iter().collect();
    let inputs = Inputs::new(environment, Flags::default());
    if let Err(error) = Snapshot::of_text(&inputs, Some((Path::new("/etc/bifrost.toml"), text))) {
        assert!(error.to_string().contains("bifrost.toml"), "{error}");
    }
});
