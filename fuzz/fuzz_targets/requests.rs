#![no_main]

use bifrost::chat::Losses;
use bifrost::dialect::{self, Profile, UrlHints};
use bifrost::wire::json::Object;
use libfuzzer_sys::fuzz_target;

// What a client sends, to every provider; what is written is one JSON object.
fuzz_target!(|data: &[u8]| {
    let hints = UrlHints { model: Some("a-model".to_owned()), stream: Some(false) };
    for client in dialect::ALL {
        let Ok(request) = client.parse_request(data, &hints) else { continue };
        for provider in dialect::ALL {
            for profile in [Profile::VENDOR, Profile::COMPATIBLE, Profile::FULL] {
                let body = provider.write_request(&request, &profile, &mut Losses::new());
                assert!(Object::scan(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
            }
        }
    }
});
