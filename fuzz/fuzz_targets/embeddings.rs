#![no_main]

use bifrost::chat::{Losses, VectorEncoding};
use bifrost::dialect::{UrlHints, anthropic, gemini, openai_embeddings as openai};
use libfuzzer_sys::fuzz_target;

// Embeddings and token counts: requests of every client to every provider, and what those answer.
fuzz_target!(|data: &[u8]| {
    let hints = UrlHints { model: Some("a-model".to_owned()), stream: None };
    let losses = &mut Losses::new();
    for request in [openai::parse_request(data), gemini::embedding::parse_request(data, &hints)].into_iter().flatten() {
        openai::write_request(&request, losses);
        // Gemini cannot be told everything, and says so.
        let _ = gemini::embedding::write_request(&request, losses);
    }
    for answer in [openai::parse_response(data), gemini::embedding::parse_response(data)].into_iter().flatten() {
        for encoding in [VectorEncoding::Float, VectorEncoding::Base64] {
            openai::write_response(&answer, Some(encoding), losses);
        }
        for single in [false, true] {
            gemini::embedding::write_response(&answer, single, losses);
        }
    }
    if let Ok(request) = gemini::count_tokens::parse_request(data, &hints) {
        gemini::count_tokens::write_request(&request, losses);
    }
    for count in
        [gemini::count_tokens::parse_response(data), anthropic::parse_count_response(data)].into_iter().flatten()
    {
        gemini::count_tokens::write_response(count);
        anthropic::write_count_response(count);
    }
});
