//! Keys and messages under `fixtures/debian` were made with GnuPG 2.2 on faked clocks: a certificate of 2026 with a
//! signing subkey that expires on 2026-07-01, and a release of 2026-01-10 signed in several ways.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/debian/", $name)).as_slice()
    };
}

const SUBKEY: &str = "4612F147E166226ED65914C356F88F1F15F3A195";
const PRIMARY: &str = "58CC13BB06AC5FB692B23F863EA61279D689A151";

const JANUARY_11: u64 = 1_768_089_600;
const AUGUST_1: u64 = 1_785_542_400;
const YEAR_2028: u64 = 1_830_297_600;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn verify(key: &[u8], message: &[u8], validity: Validity) -> String {
    match Keyring::from_armored(&[key]).unwrap().verify(message, validity) {
        Ok(verified) => verified.signed_by.join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn signatures_count_when_key_and_time_are_right() {
    let key = fixture!("archive-key.asc");
    let good = fixture!("good.InRelease");
    let live = |seconds| Validity::Live(at(seconds));
    let refused = "no good signature of a known key: ";
    for (name, message, validity, wanted) in [
        ("subkey", good, live(JANUARY_11), SUBKEY.to_owned()),
        ("primary", fixture!("primary.InRelease"), live(JANUARY_11), PRIMARY.to_owned()),
        ("one of two", fixture!("both.InRelease"), live(JANUARY_11), SUBKEY.to_owned()),
        ("subkey expired", good, live(AUGUST_1), format!("{refused}key {SUBKEY} has expired")),
        ("primary has not", fixture!("primary.InRelease"), live(AUGUST_1), PRIMARY.to_owned()),
        (
            "primary expired",
            fixture!("primary.InRelease"),
            live(YEAR_2028),
            format!("{refused}key {PRIMARY} has expired"),
        ),
        ("archived", good, Validity::Archived(at(YEAR_2028)), SUBKEY.to_owned()),
        (
            "from the future",
            good,
            live(JANUARY_11 - 3 * 86_400),
            format!("{refused}a signature is from the future"),
        ),
        (
            "weak hash",
            fixture!("weak.InRelease"),
            live(JANUARY_11),
            format!("{refused}a signature uses a weak hash or an old version"),
        ),
    ] {
        assert_eq!(verify(key, message, validity), wanted, "{name}");
    }
    let foreign = verify(key, fixture!("foreign.InRelease"), live(JANUARY_11));
    assert!(foreign.contains("does not fit any known key"), "{foreign}");
}

#[test]
fn revoked_keys_vouch_for_nothing() {
    let good = fixture!("good.InRelease");
    for validity in [Validity::Live(at(JANUARY_11)), Validity::Archived(at(YEAR_2028))] {
        for key in [fixture!("archive-key-subkey-revoked.asc"), fixture!("archive-key-revoked.asc")] {
            let said = verify(key, good, validity);
            assert!(said.ends_with(&format!("key {SUBKEY} is revoked")), "{said}");
        }
    }
    let said = verify(
        fixture!("archive-key-subkey-revoked.asc"),
        fixture!("primary.InRelease"),
        Validity::Live(at(JANUARY_11)),
    );
    assert_eq!(said, PRIMARY);
}

#[test]
fn a_certificate_without_its_bindings_vouches_for_nothing() {
    let key = Keyring::from_armored(&[fixture!("archive-key.asc")]).unwrap();
    let mut unbound = key.clone();
    unbound.0[0].public_subkeys[0].signatures.clear();
    let mut unstated = key.clone();
    unstated.0[0].details.users.clear();
    for (keyring, wanted) in
        [(unbound, "is not bound to its primary key"), (unstated, "has no good self-signature")]
    {
        let error = keyring.verify(fixture!("good.InRelease"), Validity::Live(at(JANUARY_11))).unwrap_err();
        assert!(error.to_string().ends_with(wanted), "{error}");
    }
}

#[test]
fn every_changed_byte_of_the_text_is_noticed() {
    let (key, good) = (fixture!("archive-key.asc"), fixture!("good.InRelease"));
    let keyring = Keyring::from_armored(&[key]).unwrap();
    let validity = Validity::Live(at(JANUARY_11));
    let text = keyring.verify(good, validity).unwrap().text;
    assert!(text.starts_with("Origin: Debian\n") && text.ends_with("Packages.xz"));
    let body = text.as_bytes();
    let start = good.windows(body.len()).position(|window| window == body).unwrap();
    for offset in (0..body.len()).step_by(7) {
        let mut tampered = good.to_vec();
        tampered[start + offset] ^= 1;
        assert!(keyring.verify(&tampered, validity).is_err(), "byte {offset}");
    }
}

#[test]
fn framing_is_strict() {
    let good = std::str::from_utf8(fixture!("good.InRelease")).unwrap();
    for (name, message) in [
        ("before", format!("Origin: evil\n{good}")),
        ("after", format!("{good}Origin: evil\n")),
        ("no end", good.replace(END_SIGNATURE, "")),
        ("no signature", good.split(BEGIN_SIGNATURE).next().unwrap().to_owned()),
        ("header", good.replacen("Hash: SHA256", "Comment: x", 1)),
        ("dash", good.replacen("Origin:", "-Origin:", 1)),
        ("empty", String::new()),
    ] {
        assert!(matches!(split(message.as_bytes()), Err(SignatureError::Form(_))), "{name}");
    }
    // Found by fuzzing: asked for more after the error, the crate's reader of armour panics.
    let broken = fixture!("broken-armour.InRelease");
    let (_, block) = split(broken).unwrap();
    assert!(matches!(unarmoured(&block), Err(SignatureError::Block(_))));
    let (text, _) = split(good.replacen("Origin:", "- -Origin:", 1).as_bytes()).unwrap();
    assert!(text.starts_with("-Origin: Debian\n"));
}
