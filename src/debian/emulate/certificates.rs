//! update-ca-certificates: the bundle of trusted certificates, and the directory of links that OpenSSL looks into.
//!
//! `/etc/ssl/certs/ca-certificates.crt` holds all of them, in the order of their paths. `NAME.pem` and `HASH.N` lead
//! to single ones; the hash is OpenSSL's: SHA-1 of the subject in canonical form, its first four bytes as a
//! little-endian number. The links that the packages `openssl` and nobody own are made as well: without them
//! neither Debian's OpenSSL (which looks below /usr/lib/ssl) nor that of standalone Pythons (/etc/ssl/cert.pem) finds
//! the bundle.

use std::collections::BTreeMap;

use sha1::{Digest as _, Sha1};

use super::{EmulateError, Root};

const SOURCE: &str = "usr/share/ca-certificates/";
const TARGET: &str = "etc/ssl/certs";

pub fn add(root: &mut Root<'_>) -> Result<(), EmulateError> {
    let mut bundle = Vec::new();
    let mut links = Vec::new();
    let mut by_hash: BTreeMap<String, u32> = BTreeMap::new();
    for path in root.below(SOURCE) {
        let Some(stem) = path.name().strip_suffix(".crt") else { continue };
        let Some(pem) = root.read(path.as_str())? else { continue };
        let refuse = |rule| EmulateError::Certificate { path: path.to_string(), rule };
        let name: String = stem
            .chars()
            .map(|c| match c {
                ' ' => '_',
                '(' | ')' => '=',
                ',' => '_',
                c => c,
            })
            .collect();
        let der = decode(&pem).ok_or_else(|| refuse("it is not a PEM certificate"))?;
        let hash = subject_hash(&der).ok_or_else(|| refuse("it has no subject"))?;
        let number = by_hash.entry(hash.clone()).or_default();
        links.push((format!("{TARGET}/{name}.pem"), format!("/{path}")));
        links.push((format!("{TARGET}/{hash}.{number}"), format!("{name}.pem")));
        *number += 1;
        bundle.extend_from_slice(&pem);
        if pem.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    if bundle.is_empty() {
        return Ok(());
    }
    root.add_file(&format!("{TARGET}/ca-certificates.crt"), bundle)?;
    for (link, target) in links {
        root.add_link(&link, &target)?;
    }
    root.add_link("etc/ssl/cert.pem", "certs/ca-certificates.crt")?;
    root.add_link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")?;
    root.add_link("usr/lib/ssl/certs", "/etc/ssl/certs")
}

/// The bytes between the first pair of certificate lines.
fn decode(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for symbol in body.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// OpenSSL's `X509_NAME_hash` of a certificate's subject.
fn subject_hash(certificate: &[u8]) -> Option<String> {
    let (_, outer, _) = element(certificate)?;
    let (_, mut fields, _) = element(outer)?;
    // [0] version is optional; then serial number, algorithm, issuer, validity, subject.
    let (tag, _, rest) = element(fields)?;
    if tag == 0xa0 {
        fields = rest;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (0x30, mut subject, _) = element(fields)? else { return None };
    let mut canonical = Vec::new();
    while !subject.is_empty() {
        let (0x31, mut set, rest) = element(subject)? else { return None };
        subject = rest;
        let mut members = Vec::new();
        while !set.is_empty() {
            let (0x30, pair, rest) = element(set)? else { return None };
            set = rest;
            let (0x06, _, value) = element(pair)? else { return None };
            let mut member = pair[..pair.len() - value.len()].to_vec();
            member.extend(canonical_value(value)?);
            members.push(wrap(0x30, &member));
        }
        members.sort();
        canonical.extend(wrap(0x31, &members.concat()));
    }
    let hash = Sha1::digest(&canonical);
    Some(format!("{:08x}", u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])))
}

/// A string as UTF-8 in lower case (of ASCII) with single blanks inside and none around; other values as they are.
fn canonical_value(value: &[u8]) -> Option<Vec<u8>> {
    let (tag, bytes, _) = element(value)?;
    let text = match tag {
        // UTF8String, PrintableString, IA5String, VisibleString
        0x0c | 0x13 | 0x16 | 0x1a => bytes.to_vec(),
        // T61String, taken for Latin-1
        0x14 => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes(),
        // BMPString, UniversalString
        0x1e => wide(bytes, 2)?,
        0x1c => wide(bytes, 4)?,
        _ => return Some(value.to_vec()),
    };
    let words: Vec<Vec<u8>> = text
        .split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    Some(wrap(0x0c, &words.join(&b' ')))
}

fn wide(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let code = |unit: &[u8]| unit.iter().fold(0, |code: u32, byte| code << 8 | u32::from(*byte));
    let text: Option<String> = bytes.chunks(size).map(|unit| char::from_u32(code(unit))).collect();
    text.map(String::into_bytes)
}

/// The first DER element: tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 4 {
            return None;
        }
        rest = after;
        digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len();
    if length < 0x80 {
        bytes.push(length as u8);
    } else {
        let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        bytes.push(0x80 | digits.len() as u8);
        bytes.extend(digits);
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Self-signed, made for this test; `openssl x509 -subject_hash` is the oracle.
    const PEM: &str = include_str!("test-ca.crt");

    #[test]
    fn hash_is_openssls() {
        assert_eq!(subject_hash(&decode(PEM.as_bytes()).unwrap()).unwrap(), "f7e76fc6");
    }

    #[test]
    fn damaged_certificates_are_refused() {
        let der = decode(PEM.as_bytes()).unwrap();
        for end in 0..200 {
            assert_eq!(subject_hash(&der[..end]), None);
        }
        assert_eq!(decode(b"-----BEGIN CERTIFICATE-----\n*"), None);
        assert_eq!(element(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
    }
}
