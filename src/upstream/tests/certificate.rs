//! A certificate that vouches for itself, made anew each time.

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The algorithm Ed25519 (RFC 8410).
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// The extension `subjectAltName` (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate for `names` and its key (RFC 5280, section 4.1). It belongs to nobody: an empty name signs an empty name.
pub fn for_names(names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
    let nobody = der(SEQUENCE, &[]);
    let validity = [der(UTC_TIME, b"200101000000Z"), der(GENERALIZED_TIME, b"99991231235959Z")].concat();
    let public_key = [&ED25519[..], &bits(pair.public_key().as_ref())].concat();
    let names: Vec<u8> = names.iter().flat_map(|name| der(0x82, name.as_bytes())).collect();
    // Without a subject the names must be understood.
    let is_critical = der(BOOLEAN, &[0xff]);
    let extension = [&ALTERNATIVE_NAMES[..], &is_critical, &der(OCTET_STRING, &der(SEQUENCE, &names))].concat();
    let version_3 = der(0xa0, &der(INTEGER, &[2]));
    let content = [
        version_3,
        der(INTEGER, &[1]),
        ED25519.to_vec(),
        nobody.clone(),
        der(SEQUENCE, &validity),
        nobody,
        der(SEQUENCE, &public_key),
        der(0xa3, &der(SEQUENCE, &der(SEQUENCE, &extension))),
    ];
    let content = der(SEQUENCE, &content.concat());
    let signature = bits(pair.sign(&content).as_ref());
    let certificate = der(SEQUENCE, &[&content[..], &ED25519, &signature].concat());
    (certificate.into(), PrivatePkcs8KeyDer::from(key.as_ref().to_vec()).into())
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    // No bit of the last byte is unused.
    der(BIT_STRING, &[&[0], bytes].concat())
}

/// A value in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = match (high, low) {
        (0, ..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(content);
    out
}
