//! `/etc/ld.so.cache`: the table in which the dynamic linker looks a library's name up.
//!
//! The format is glibc's `glibc-ld.so.cache1.1`: a header of 48 bytes, entries of 24 bytes sorted downwards by the
//! loader's own order of names, the strings and, since glibc 2.33, extensions. Of those only the names of
//! `glibc-hwcaps` directories are kept: entries of such directories count on the processors that the name stands for.
//! Before glibc 2.32 the same stands behind a table of an older format, which is skipped when it is read and not
//! written any more. Of entries with one name and equal conditions the loader takes the first.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::oci::Platform;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const EXTENSION_HWCAPS: u32 = 1;
/// The low half of [`CacheEntry::hwcap`] is an index into the names of directories.
const HWCAP_EXTENSION: u64 = 1 << 62;
/// `PATH_MAX`.
const STRING_MAX: usize = 4096;
/// Bytes of all strings together that are read at most; real caches have some hundred thousand.
const STRINGS_MAX: usize = 16 << 20;

/// One library of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// What is asked for, `libc.so.6`.
    pub name: String,
    pub path: String,
    /// Kind of library and ABI, see [`cache_flags`].
    pub flags: u32,
    /// Conditions on the processor; 0 is none.
    pub hwcap: u64,
    /// Directory below `glibc-hwcaps`, `x86-64-v3`.
    pub subdirectory: Option<String>,
}

/// The loader's flags of a library for glibc on the platform: FLAG_ELF_LIBC6 and the ABI's bits.
pub const fn cache_flags(platform: Platform) -> u32 {
    match platform {
        Platform::LinuxAmd64 => 0x0303,
        Platform::LinuxArm64 => 0x0a03,
    }
}

/// All entries in the file's order; `None` when the bytes are no cache that glibc 2.2 or later would take.
pub fn read_cache(file: &[u8]) -> Option<Vec<CacheEntry>> {
    let cache = match file.strip_prefix(OLD_MAGIC) {
        Some(_) => {
            let old = usize::try_from(number(file, 12)?).ok()?;
            let end = OLD_HEADER.checked_add(old.checked_mul(OLD_ENTRY)?)?;
            file.get(end.checked_next_multiple_of(8)?..)?
        }
        None => file,
    };
    if !cache.starts_with(MAGIC) {
        return None;
    }
    let count = usize::try_from(number(cache, 20)?).ok()?;
    let entries = cache.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
    let subdirectories = subdirectories(file, cache, number(cache, 32)?)?;
    let mut room = STRINGS_MAX;
    entries
        .chunks_exact(ENTRY)
        .map(|entry| {
            let hwcap = u64::from(number(entry, 16)?) | u64::from(number(entry, 20)?) << 32;
            let subdirectory = match hwcap & HWCAP_EXTENSION {
                0 => None,
                _ => Some(subdirectories.get((hwcap & 0xffff_ffff) as usize)?.clone()),
            };
            Some(CacheEntry {
                name: string(cache, number(entry, 4)?, &mut room)?,
                path: string(cache, number(entry, 8)?, &mut room)?,
                flags: number(entry, 0)?,
                hwcap,
                subdirectory,
            })
        })
        .collect()
}

/// The names of `glibc-hwcaps` directories. `at` is an offset in the file, 0 where there are no extensions.
fn subdirectories(file: &[u8], cache: &[u8], at: u32) -> Option<Vec<String>> {
    if at == 0 {
        return Some(Vec::new());
    }
    let directory = file.get(at as usize..)?;
    if number(directory, 0)? != EXTENSION_MAGIC {
        return None;
    }
    let sections = directory.get(8..)?.chunks_exact(16).take(number(directory, 4)? as usize);
    for section in sections {
        if number(section, 0)? == EXTENSION_HWCAPS {
            let (start, size) = (number(section, 8)? as usize, number(section, 12)? as usize);
            let offsets = file.get(start..start.checked_add(size)?)?;
            let mut room = STRINGS_MAX;
            return offsets.chunks_exact(4).map(|at| string(cache, number(at, 0)?, &mut room)).collect();
        }
    }
    Some(Vec::new())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn string(cache: &[u8], at: u32, room: &mut usize) -> Option<String> {
    let rest = cache.get(at as usize..)?;
    let end = rest.iter().take(STRING_MAX).position(|byte| *byte == 0)?;
    *room = room.checked_sub(end)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

/// The bytes of a cache with these entries. They are sorted by name; those of one name stay in the order given.
pub fn write_cache(entries: &[CacheEntry]) -> Vec<u8> {
    let mut sorted: Vec<&CacheEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| order(&b.name, &a.name));
    // In the order of bytes, as the loader wants them.
    let subdirectories: BTreeSet<&str> =
        entries.iter().filter_map(|entry| entry.subdirectory.as_deref()).collect();
    let base = HEADER + ENTRY * sorted.len();
    let mut strings = Vec::new();
    let mut put = |text: &str| {
        let at = base + strings.len();
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let mut table = Vec::with_capacity(ENTRY * sorted.len());
    for entry in sorted {
        let value = put(&entry.path);
        let key = match entry.path.strip_suffix(&entry.name) {
            // The name is the end of the path, so it needs no string of its own.
            Some(directory) => value + directory.len(),
            None => put(&entry.name),
        };
        let hwcap = match &entry.subdirectory {
            Some(name) => {
                let index = subdirectories.iter().position(|known| known == name);
                entry.hwcap & !0xffff_ffff | index.expect("all names were collected") as u64
            }
            None => entry.hwcap,
        };
        for field in [entry.flags, key as u32, value as u32, 0, hwcap as u32, (hwcap >> 32) as u32] {
            table.extend_from_slice(&field.to_le_bytes());
        }
    }
    let offsets: Vec<u8> = subdirectories.iter().flat_map(|name| (put(name) as u32).to_le_bytes()).collect();
    let end = base + strings.len();
    let extension = if offsets.is_empty() { 0 } else { end.next_multiple_of(4) };

    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    // Little endian, and padding.
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    bytes.extend_from_slice(&(extension as u32).to_le_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(table);
    bytes.extend(strings);
    if extension != 0 {
        bytes.resize(extension, 0);
        let (at, size) = (extension as u32 + 8 + 16, offsets.len() as u32);
        for field in [EXTENSION_MAGIC, 1, EXTENSION_HWCAPS, 0, at, size] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend(offsets);
    }
    bytes
}

/// The loader's order of names: runs of digits as numbers, and after any other character.
fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (x.is_ascii_digit(), y.is_ascii_digit()) {
                (true, true) => {
                    let number = |text: &mut &[u8]| {
                        let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
                        let (digits, rest) = text.split_at(end);
                        *text = rest;
                        let zeros = digits.iter().take_while(|b| **b == b'0').count();
                        (digits.len() - zeros, digits[zeros..].to_vec())
                    };
                    let result = number(&mut a).cmp(&number(&mut b));
                    if result.is_ne() {
                        return result;
                    }
                }
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) if x == y => (a, b) = (&a[1..], &b[1..]),
                (false, false) => return x.cmp(y),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, path: &str) -> CacheEntry {
        let flags = cache_flags(Platform::LinuxAmd64);
        CacheEntry { name: name.to_owned(), path: path.to_owned(), flags, hwcap: 0, subdirectory: None }
    }

    fn sample() -> Vec<CacheEntry> {
        let special = |name: &str| CacheEntry {
            hwcap: HWCAP_EXTENSION | 2 << 32,
            subdirectory: Some(name.to_owned()),
            ..entry("libm.so.6", &format!("/lib/glibc-hwcaps/{name}/libm.so.6"))
        };
        vec![
            entry("libz.so.1", "/lib/x/libz.so.1"),
            special("x86-64-v3"),
            special("x86-64-v2"),
            entry("libm.so.6", "/lib/x/libm.so.6"),
            entry("libm.so.6", "/opt/other/libm.so.6"),
            // A name that is not the end of its path.
            entry("libcuda.so", "/run/lib/libcuda.so.1"),
        ]
    }

    /// Indexes of directories are the writer's.
    fn comparable(entries: Vec<CacheEntry>) -> Vec<CacheEntry> {
        let plain = |entry: CacheEntry| match entry.subdirectory {
            Some(_) => CacheEntry { hwcap: entry.hwcap & !0xffff_ffff, ..entry },
            None => entry,
        };
        entries.into_iter().map(plain).collect()
    }

    #[test]
    fn order_is_the_loaders() {
        for (smaller, larger) in [
            ("libc.so.6", "libc.so.10"),
            ("libc.so", "libc.so.6"),
            ("libBrokenLocale.so.1", "libanl.so.1"),
            ("liba", "lib1"),
        ] {
            assert_eq!(order(smaller, larger), Ordering::Less, "{smaller} {larger}");
            assert_eq!(order(larger, smaller), Ordering::Greater, "{larger} {smaller}");
        }
    }

    #[test]
    fn bytes_of_the_cache() {
        let bytes = write_cache(&[entry("liba.so.1", "/lib/x/liba.so.1")]);
        assert_eq!(&bytes[..20], b"glibc-ld.so.cache1.1");
        assert_eq!(&bytes[20..32], &[1, 0, 0, 0, 17, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(&bytes[32..48], &[0; 16]);
        assert_eq!(&bytes[48..60], &[3, 3, 0, 0, 79, 0, 0, 0, 72, 0, 0, 0]);
        assert_eq!(&bytes[72..], b"/lib/x/liba.so.1\0");
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read_cache(&write_cache(&[])), Some(Vec::new()));
        // Sorted already.
        let read = read_cache(&write_cache(&sample())).unwrap();
        assert_eq!(comparable(read.clone()), sample());
        assert_eq!(read[1].hwcap & 0xffff_ffff, 1, "v3 comes after v2");
        assert_eq!(read_cache(&write_cache(&read)), Some(read));
        let mut turned = sample();
        turned.rotate_left(2);
        let names = |entries: &[CacheEntry]| entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&read_cache(&write_cache(&turned)).unwrap()), names(&sample()));
    }

    #[test]
    fn an_older_table_in_front_is_skipped() {
        for old in [0_u32, 1, 2] {
            let mut file = OLD_MAGIC.to_vec();
            file.push(0);
            file.extend(old.to_le_bytes());
            file.resize((OLD_HEADER + OLD_ENTRY * old as usize).next_multiple_of(8), 0xee);
            file.extend(write_cache(&sample()[5..]));
            assert_eq!(read_cache(&file).unwrap(), sample()[5..]);
        }
    }

    #[test]
    fn hostile_caches_are_refused_without_panic() {
        let good = write_cache(&sample());
        for cut in 0..good.len() {
            assert_eq!(read_cache(&good[..cut]), None, "cut at {cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // Whatever it says, it ends.
                let _ = read_cache(&bad);
            }
        }
        for text in [&b""[..], b"ld.so-1.7.0", b"ld.so-1.7.0\0\xff\xff\xff\xff", b"glibc-ld.so.cache1.0"] {
            assert_eq!(read_cache(text), None);
        }
    }

    /// Many entries that all stand for one long string would fill the memory.
    #[test]
    fn strings_are_bounded_together() {
        let long = format!("/{}", "x".repeat(STRING_MAX - 2));
        let mut bytes = write_cache(&[entry("n", &long)]);
        assert!(read_cache(&bytes).is_some());
        let count = 2 * STRINGS_MAX / STRING_MAX;
        let at = HEADER + ENTRY * count;
        let strings = bytes.split_off(HEADER + ENTRY);
        bytes[20..24].copy_from_slice(&(count as u32).to_le_bytes());
        bytes.truncate(HEADER);
        for _ in 0..count {
            for field in [0x0303, at as u32, at as u32, 0, 0, 0] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        bytes.extend(strings);
        assert_eq!(read_cache(&bytes), None);
    }
}
