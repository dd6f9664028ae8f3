//! The tar archives of a .deb, uncompressed, with right checksums: entries take their content from the archive and from
//! nowhere else, names never leave the root, and how the archive is cut into reads changes nothing.

#![no_main]

use std::io::Read;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mlbuild_fuzz::tarfile::{Entry, Kind, TarReader};
use mlbuild_fuzz::{checks, deb, spool};

fuzz_target!(|bytes: &[u8]| {
    let whole = list(bytes, bytes.len() as u64, true);
    let bytewise = list(OneByOne(bytes), bytes.len() as u64, true);
    assert_eq!(whole, bytewise, "short reads change the answer");
    // Skipping content is reading it.
    let skipped = list(bytes, bytes.len() as u64, false);
    assert_eq!(skipped.is_ok(), whole.is_ok());
    assert_eq!(names(skipped), names(whole));

    let control = b"Package: demo\nVersion: 1\nArchitecture: all\n";
    let control = tar(b"./control", control);
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", bytes)];
    let archive = checks::ar_archive(&members);
    if let Ok(deb) = deb::Deb::read(&archive, &spool::Budget::new(&std::env::temp_dir())) {
        checks::deb(&deb, bytes.len() as u64);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    checks::mend_tar_checksums(&mut data[..size]);
    size
});

/// Entries with their contents, or the error in words.
fn list(reader: impl Read, size: u64, content: bool) -> Result<Vec<(Entry, Vec<u8>)>, String> {
    let mut tar = TarReader::new(reader);
    let (mut found, mut total) = (Vec::new(), 0);
    while let Some(entry) = tar.next_entry().map_err(|error| error.to_string())? {
        assert!(!entry.name.is_empty() && !entry.name.contains('\0') && !entry.target.contains('\0'));
        assert!(entry.mode <= 0o7777);
        let is_link = matches!(entry.kind, Kind::Symlink | Kind::Hardlink);
        assert_eq!(is_link, !entry.target.is_empty());
        let mut bytes = Vec::new();
        if content {
            tar.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            assert!(bytes.len() as u64 <= entry.size);
        }
        total += bytes.len() as u64;
        assert!(total <= size, "more content than archive");
        found.push((entry, bytes));
    }
    if content {
        assert!(
            found.iter().all(|(entry, bytes)| entry.size == bytes.len() as u64),
            "a cut file was accepted"
        );
    }
    Ok(found)
}

fn names(found: Result<Vec<(Entry, Vec<u8>)>, String>) -> Option<Vec<Entry>> {
    Some(found.ok()?.into_iter().map(|(entry, _)| entry).collect())
}

/// An archive of one file.
fn tar(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar  \0");
    checks::mend_tar_checksums(&mut header);
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// Gives one byte a read.
struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        let Some(place) = buffer.first_mut() else { return Ok(0) };
        *place = *first;
        self.0 = rest;
        Ok(1)
    }
}
