//! The golden matrix: chosen recordings, each as the other dialects say it. A snapshot is read by a person before it is
//! accepted: it is what a provider or a client will get.

use super::recordings::{self, APIS, Recording};
use super::stream::{decode, encode};
use bifrost::chat::{DialectId, Losses};
use bifrost::dialect::{self, Profile};
use serde_json::Value;

#[test]
fn every_fixture_is_said_in_every_dialect_as_before() {
    let fixtures = recordings::fixtures();
    assert!(fixtures.len() > 60, "the fixtures are gone");
    for (api, _) in APIS {
        assert!(fixtures.iter().any(|fixture| fixture.api == api), "no fixture of {api}");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/golden/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for fixture in &fixtures {
            let others = APIS.into_iter().map(|(_, dialect)| dialect).filter(|other| *other != fixture.dialect());
            let said: String = others.map(|other| say(fixture, other)).collect();
            insta::assert_snapshot!(fixture.name.as_str(), said);
        }
    });
}

/// The request of `fixture` to a provider of `other`, and its answer to a client of `other`.
fn say(fixture: &Recording, other: DialectId) -> String {
    let (request, losses) = request(fixture, other);
    let mut said = section(&format!("the request to a provider of {other}"), &losses, &request);
    let (answer, losses) = answer(fixture, other);
    said.push_str(&section(&format!("the answer to a client of {other}"), &losses, &answer));
    said
}

fn section(title: &str, losses: &Losses, body: &str) -> String {
    let lost = if losses.is_empty() { String::new() } else { format!("\nlost: {losses}") };
    format!("== {title}{lost}\n{}\n\n", body.trim_end())
}

fn request(fixture: &Recording, other: DialectId) -> (String, Losses) {
    let bytes = fixture.request_bytes().unwrap();
    let mut losses = Losses::new();
    match dialect::get(fixture.dialect()).parse_request(&bytes, &fixture.hints()) {
        Ok(request) => {
            let body = dialect::get(other).write_request(&request, &Profile::VENDOR, &mut losses);
            (pretty(&body), losses)
        }
        Err(error) => (format!("refused: {error}"), losses),
    }
}

fn answer(fixture: &Recording, other: DialectId) -> (String, Losses) {
    let own = dialect::get(fixture.dialect());
    let client = dialect::get(other);
    let bytes = fixture.response_bytes();
    let mut losses = Losses::new();
    if fixture.is_stream() {
        let stream = encode(other, &decode(fixture.dialect(), &bytes), false, false, &mut losses);
        return (String::from_utf8(stream).unwrap(), losses);
    }
    let read =
        if fixture.succeeded() { own.parse_response(&bytes) } else { Err(own.parse_error(fixture.status, &bytes)) };
    match read {
        Ok(response) => (pretty(&client.write_response(&response, &mut losses)), losses),
        Err(error) => {
            let (status, body) = client.write_error(&error);
            (format!("{status}\n{}", pretty(&body)), losses)
        }
    }
}

fn pretty(body: &[u8]) -> String {
    serde_json::to_string_pretty(&serde_json::from_slice::<Value>(body).unwrap()).unwrap()
}
