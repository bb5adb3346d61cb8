#![no_main]

use bifrost::chat::DialectId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bifrost_fuzz::stream(DialectId::OpenAiChat, data));
