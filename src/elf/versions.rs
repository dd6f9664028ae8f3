//! The versions that a shared library defines (`DT_VERDEF`): of a C library, its own version is the newest.

use std::ops::Range;

use super::parse::{Bytes as _, DYNAMIC_MAX, Segment, Whole, header, segments, string_at};
use crate::blob::ReadAt;

const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_VERDEF: u64 = 0x6fff_fffc;
/// Definitions read at most; glibc has about fifty.
const DEFINITIONS_MAX: usize = 1000;
/// Bytes of `Elf_Verdef`, whatever the class.
const DEFINITION: u64 = 20;
/// The longest name of a version.
const NAME_MAX: u64 = 256;

/// The version of glibc that this file is the C library of: the newest `GLIBC_2.N` that it defines. None for any other file.
pub fn glibc(file: &dyn ReadAt) -> Option<(u16, u16)> {
    // `GLIBC_2.2.5` is none of its own; `GLIBC_2.2` stands beside it. No wheel is for any but 2.
    let version = |name: &String| Some((2, name.strip_prefix("GLIBC_2.")?.parse().ok()?));
    definitions(file)?.iter().filter_map(version).max()
}

/// Names of the versions that the file defines; none if it is no ELF file to load.
fn definitions(file: &dyn ReadAt) -> Option<Vec<String>> {
    let bytes = Whole(file);
    let header = header(&bytes).ok()?;
    let segments = segments(&bytes, &header).ok()?;
    let dynamic = segments.iter().find(|segment| segment.is_dynamic())?;
    if dynamic.file.end - dynamic.file.start > DYNAMIC_MAX {
        return None;
    }
    let layout = header.layout;
    let half = layout.select(8, 4);
    let (mut table, mut table_size, mut first) = (None, None, None);
    for entry in bytes.get(dynamic.file.clone()).ok()?.chunks_exact(2 * half) {
        let value = layout.word(entry, half)?;
        match layout.word(entry, 0)? {
            0 => break,
            DT_STRTAB => table = Some(value),
            DT_STRSZ => table_size = Some(value),
            DT_VERDEF => first = Some(value),
            _ => {}
        }
    }
    let Some(first) = first else { return Some(Vec::new()) };
    let start = offset(&segments, table?)?;
    let table: Range<u64> = start..start.checked_add(table_size?)?.min(file.size());
    let mut at = offset(&segments, first)?;
    let mut names = Vec::new();
    while names.len() < DEFINITIONS_MAX {
        let definition = bytes.get(at..at.checked_add(DEFINITION)?).ok()?;
        let aux = at.checked_add(layout.number(&definition, 12, 4)?)?;
        let name = layout.number(&bytes.get(aux..aux.checked_add(8)?).ok()?, 0, 4)?;
        names.push(string_at(&bytes, &table, name, NAME_MAX).ok()?);
        match layout.number(&definition, 16, 4)? {
            0 => break,
            next => at = at.checked_add(next)?,
        }
    }
    Some(names)
}

/// Where an address lies in the file.
fn offset(segments: &[Segment], address: u64) -> Option<u64> {
    let within = |segment: &&Segment| {
        let into = address.checked_sub(segment.address);
        segment.is_load() && into.is_some_and(|into| into < segment.file.end - segment.file.start)
    };
    let segment = segments.iter().find(within)?;
    Some(segment.file.start + (address - segment.address))
}

#[cfg(test)]
mod tests {
    use super::super::samples::c_library;
    use super::*;

    #[test]
    fn the_newest_definition_is_the_version() {
        let versions =
            ["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_2.9", "GLIBC_PRIVATE", "GLIBC_ABI_DT_RELR"];
        assert_eq!(glibc(&c_library(62, &versions)), Some((2, 36)));
        assert_eq!(glibc(&c_library(62, &["libother.so.1", "OTHER_9.9", "GLIBC_3.1", "GLIBC_2.x"])), None);
        assert_eq!(glibc(&crate::elf::shared_object()), None);
        assert_eq!(glibc(&b"#!/bin/sh\n".to_vec()), None);
    }

    /// The host's own, where it is glibc and its place is known.
    #[test]
    fn the_hosts_library_has_a_version() {
        for path in
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
        {
            let Ok(bytes) = std::fs::read(path) else { continue };
            let (major, minor) = glibc(&bytes).expect("it is glibc");
            assert!(major == 2 && (17..200).contains(&minor), "{major}.{minor}");
            return;
        }
    }

    #[test]
    fn hostile_files_end() {
        let good = c_library(62, &["libc.so.6", "GLIBC_2.36"]);
        for cut in 0..good.len() {
            let _ = glibc(&good[..cut].to_vec());
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = glibc(&bad);
            }
        }
    }
}
