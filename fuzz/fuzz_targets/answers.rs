#![no_main]

use bifrost::chat::Losses;
use bifrost::dialect;
use libfuzzer_sys::fuzz_target;

// Whole answers and error answers of every provider, to every client.
fuzz_target!(|data: &[u8]| {
    for provider in dialect::ALL {
        let response = provider.parse_response(data);
        let error = provider.parse_error(500, data);
        for client in dialect::ALL {
            if let Ok(response) = &response {
                client.write_response(response, &mut Losses::new());
            }
            client.write_error(&error);
        }
    }
});
