//! A whole .deb as raw bytes: its two archives lie within the file, one behind the other, and what they unpack to stays
//! below the root and within the bounds of its compression.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::{ar, checks, deb, spool};

/// What zstd makes of a block at most: 128 KiB from four bytes.
const EXPANSION: u64 = 32 << 10;

fuzz_target!(|bytes: &[u8]| {
    let members = ar::members(&bytes);
    let read = deb::Deb::read(&bytes, &spool::Budget::new(&std::env::temp_dir()));
    let Ok((control, data)) = members else {
        assert!(read.is_err());
        return;
    };
    let size = bytes.len() as u64;
    let control_end = control.offset + control.size;
    assert!(control.offset >= 8 + 60 + 4 + 60 && control_end + 60 <= data.offset);
    assert!(data.offset - control_end <= 61 && data.offset + data.size <= size);
    assert!(size - (data.offset + data.size) <= 1, "something follows the last member");
    if let Ok(deb) = read {
        assert!(!deb.control_text.is_empty());
        checks::deb(&deb, EXPANSION * size);
    }
});
