//! `RECORD`: what is read and written is read as the same again, and written as the same text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::{checks, record};

fuzz_target!(|text: &str| {
    let Ok(rows) = checks::rows(text) else { return };
    let written = record::write(&rows);
    let again = checks::rows(&written).expect("what is written is read");
    assert_eq!(again, rows);
    assert_eq!(record::write(&again), written);
});
