//! Clear-signed texts against the test suite's certificates: whatever happens to a message, what is believed is one of
//! the texts that were signed.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::debian::openpgp::{Keyring, Validity};
use mlbuild_fuzz::debian::release::{Archive, Expected, Release};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/debian/", $name)).as_slice()
    };
}

/// 2026-01-11, a day after the fixtures were signed.
const NOW: Duration = Duration::from_secs(1_768_089_600);

struct Known {
    keyring: Keyring,
    /// The signed texts, and who signed them.
    texts: Vec<String>,
    signers: Vec<String>,
    releases: Vec<Release>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let keyring = Keyring::from_armored(&[fixture!("archive-key.asc")]).expect("a fixture");
    let good = [fixture!("good.InRelease"), fixture!("primary.InRelease"), fixture!("both.InRelease")];
    let verified = good.map(|message| keyring.verify(message, validity()).expect("a fixture"));
    Known {
        texts: verified.iter().map(|verified| verified.text.clone()).collect(),
        signers: verified.iter().flat_map(|verified| verified.signed_by.clone()).collect(),
        releases: good
            .iter()
            .filter_map(|message| Release::read(message, &keyring, &expected()).ok())
            .collect(),
        keyring,
    }
});

fn validity() -> Validity {
    Validity::Live(UNIX_EPOCH + NOW)
}

fn expected() -> Expected<'static> {
    Expected {
        archive: Archive::Debian,
        suite: "bookworm",
        now: UNIX_EPOCH + NOW,
        archived: false,
        seen: None,
    }
}

fuzz_target!(|message: &[u8]| {
    let known = &*KNOWN;
    match known.keyring.verify(message, validity()) {
        Ok(verified) => {
            assert!(known.texts.contains(&verified.text), "believed: {:?}", verified.text);
            assert!(!verified.signed_by.is_empty());
            assert!(verified.signed_by.iter().all(|signer| known.signers.contains(signer)));
            let release = Release::read(message, &known.keyring, &expected());
            let same = |read: &Release| known.releases.iter().any(|release| release.date == read.date);
            assert!(release.as_ref().map_or(known.releases.is_empty(), same));
        }
        Err(_) => assert!(Release::read(message, &known.keyring, &expected()).is_err()),
    }
    let archived = known.keyring.verify(message, Validity::Archived(UNIX_EPOCH + NOW));
    assert!(archived.is_err() || known.texts.contains(&archived.expect("just checked").text));
});
