//! ELF header to [`ElfFacts`], over any source of bytes that may not hold all of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::blob::ReadAt;
use crate::oci::Platform;

/// `e_machine` of linux/amd64.
pub const MACHINE_X86_64: u16 = 62;
/// `e_machine` of linux/arm64.
pub const MACHINE_AARCH64: u16 = 183;

/// `e_machine` of the files that `platform` runs.
pub const fn machine(platform: Platform) -> u16 {
    match platform {
        Platform::LinuxAmd64 => MACHINE_X86_64,
        Platform::LinuxArm64 => MACHINE_AARCH64,
    }
}

/// The part of an ELF executable or shared object that decides what it can be linked with at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFacts {
    pub class64: bool,
    /// `e_machine`: [`MACHINE_X86_64`], [`MACHINE_AARCH64`] or another.
    pub machine: u16,
    pub soname: Option<String>,
    /// In the file's order.
    pub needed: Vec<String>,
    /// Directories of `DT_RUNPATH`, or of `DT_RPATH` where there is none, as written (`$ORIGIN` unexpanded), each once.
    pub runpath: Vec<String>,
    /// The program interpreter, e.g. `/lib64/ld-linux-x86-64.so.2`; only executables have one.
    pub interp: Option<String>,
}

/// The facts of a file that can be read at any offset; `None` when it is not an ELF file to load.
pub fn facts(bytes: &dyn ReadAt) -> Option<ElfFacts> {
    parse(&Whole(bytes)).ok()
}

/// Entries of the program header table read at most. The largest real ones have about twenty.
const PROGRAM_HEADERS_MAX: u64 = 512;
/// Bytes of `PT_DYNAMIC` read at most: 4,096 entries. Real ones have about forty.
pub(super) const DYNAMIC_MAX: u64 = 64 * 1024;
/// Bytes of a name read at most (`PATH_MAX`).
const STRING_MAX: u64 = 4096;
/// Bytes of `DT_RUNPATH` read at most. Build systems repeat directories: libtensorflow_framework has 19 KB of eighteen.
const SEARCH_PATH_MAX: u64 = 256 * 1024;
/// `DT_NEEDED` entries read at most.
const NEEDED_MAX: usize = 2048;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Why parsing stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not a file that the dynamic linker would load.
    NotElf,
    /// These bytes of the file were not at hand.
    Absent(Vec<Range<u64>>),
}

/// Bytes of a file, some of which may not be at hand.
pub(super) trait Bytes {
    fn size(&self) -> u64;
    /// The bytes of `range`, which the caller has bounded and which lies within the file.
    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Stop>;
}

pub(super) struct Whole<'a>(pub &'a dyn ReadAt);

impl Bytes for Whole<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Stop> {
        let len = usize::try_from(range.end - range.start).map_err(|_| Stop::NotElf)?;
        self.0.read_vec_at(range.start, len).map(Cow::Owned).map_err(|_| Stop::NotElf)
    }
}

/// Byte order and word size of one file.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    class64: bool,
    little: bool,
}

impl Layout {
    pub(super) fn number(self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(len)?)?;
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.little { field.iter().rev().fold(0, push) } else { field.iter().fold(0, push) })
    }

    /// A field that is as wide as an address.
    pub(super) fn word(self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.class64 { 8 } else { 4 })
    }

    pub(super) const fn select(self, for64: usize, for32: usize) -> usize {
        if self.class64 { for64 } else { for32 }
    }
}

/// The ELF header's part that is used.
pub(super) struct Header {
    pub(super) layout: Layout,
    machine: u16,
    /// Where the program header table lies.
    pub(super) table: Range<u64>,
    entry: usize,
}

/// One entry of the program header table.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    kind: u32,
    /// Where it lies in the file.
    pub(super) file: Range<u64>,
    pub(super) address: u64,
}

impl Segment {
    pub(super) const fn is_load(&self) -> bool {
        self.kind == PT_LOAD
    }

    pub(super) const fn is_dynamic(&self) -> bool {
        self.kind == PT_DYNAMIC
    }

    pub(super) const fn is_interp(&self) -> bool {
        self.kind == PT_INTERP
    }
}

/// Bytes of the ELF header of a 64-bit file; a 32-bit one has 52.
pub(super) const HEADER: u64 = 64;

pub(super) fn header(bytes: &impl Bytes) -> Result<Header, Stop> {
    let start = bytes.get(0..bytes.size().min(HEADER))?;
    header_of(&start, bytes.size()).ok_or(Stop::NotElf)
}

fn header_of(start: &[u8], size: u64) -> Option<Header> {
    if start.get(..4)? != b"\x7fELF" {
        return None;
    }
    let class64 = match start.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let little = match start.get(5)? {
        1 => true,
        2 => false,
        _ => return None,
    };
    let layout = Layout { class64, little };
    // ET_EXEC and ET_DYN.
    if !matches!(layout.number(start, 16, 2)?, 2 | 3) {
        return None;
    }
    let machine = u16::try_from(layout.number(start, 18, 2)?).ok()?;
    let offset = layout.word(start, layout.select(32, 28))?;
    let entry = layout.number(start, layout.select(54, 42), 2)?;
    let count = layout.number(start, layout.select(56, 44), 2)?;
    if entry < layout.select(56, 32) as u64 || entry > 256 || count > PROGRAM_HEADERS_MAX {
        return None;
    }
    let end = offset.checked_add(entry * count)?;
    if end > size {
        return None;
    }
    Some(Header { layout, machine, table: offset..end, entry: usize::try_from(entry).ok()? })
}

pub(super) fn segments(bytes: &impl Bytes, header: &Header) -> Result<Vec<Segment>, Stop> {
    let table = bytes.get(header.table.clone())?;
    let layout = header.layout;
    table
        .chunks_exact(header.entry)
        .map(|entry| {
            let kind = u32::try_from(layout.number(entry, 0, 4)?).ok()?;
            let offset = layout.word(entry, layout.select(8, 4))?;
            let address = layout.word(entry, layout.select(16, 8))?;
            let len = layout.word(entry, layout.select(32, 16))?;
            let end = offset.checked_add(len)?;
            // Only what is read must lie within the file.
            let read = matches!(kind, PT_LOAD | PT_DYNAMIC | PT_INTERP);
            (!read || end <= bytes.size()).then_some(Segment { kind, file: offset..end, address })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(Stop::NotElf)
}

/// Everything that is needed, or what is missing for it.
pub(super) fn parse(bytes: &impl Bytes) -> Result<ElfFacts, Stop> {
    let header = header(bytes)?;
    let segments = segments(bytes, &header)?;
    let mut facts = ElfFacts {
        class64: header.layout.class64,
        machine: header.machine,
        soname: None,
        needed: Vec::new(),
        runpath: Vec::new(),
        interp: None,
    };
    if let Some(segment) = segments.iter().find(|segment| segment.is_interp()) {
        if segment.file.end - segment.file.start > STRING_MAX {
            return Err(Stop::NotElf);
        }
        facts.interp = Some(terminated(&bytes.get(segment.file.clone())?)?);
    }
    let Some(dynamic) = segments.iter().find(|segment| segment.is_dynamic()) else {
        return Ok(facts);
    };
    if dynamic.file.is_empty() || dynamic.file.end - dynamic.file.start > DYNAMIC_MAX {
        return Err(Stop::NotElf);
    }
    let dynamic = Dynamic::read(&bytes.get(dynamic.file.clone())?, header.layout)?;
    dynamic.resolve(bytes, &segments, &mut facts)?;
    Ok(facts)
}

/// The entries of `PT_DYNAMIC` that are used; strings are offsets into the string table.
#[derive(Default)]
struct Dynamic {
    table: Option<u64>,
    table_size: Option<u64>,
    needed: Vec<u64>,
    soname: Option<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
}

impl Dynamic {
    fn read(bytes: &[u8], layout: Layout) -> Result<Self, Stop> {
        let half = layout.select(8, 4);
        let mut dynamic = Self::default();
        for entry in bytes.chunks_exact(2 * half) {
            let tag = layout.word(entry, 0).ok_or(Stop::NotElf)?;
            let value = layout.word(entry, half).ok_or(Stop::NotElf)?;
            match tag {
                DT_NULL => break,
                DT_NEEDED if dynamic.needed.len() == NEEDED_MAX => return Err(Stop::NotElf),
                DT_NEEDED => dynamic.needed.push(value),
                DT_STRTAB => dynamic.table = Some(value),
                DT_STRSZ => dynamic.table_size = Some(value),
                DT_SONAME => dynamic.soname = Some(value),
                DT_RPATH => dynamic.rpath = Some(value),
                DT_RUNPATH => dynamic.runpath = Some(value),
                _ => {}
            }
        }
        Ok(dynamic)
    }

    fn resolve(&self, bytes: &impl Bytes, segments: &[Segment], facts: &mut ElfFacts) -> Result<(), Stop> {
        let path = self.runpath.or(self.rpath);
        if self.needed.is_empty() && self.soname.is_none() && path.is_none() {
            return Ok(());
        }
        let table = self.table(segments, bytes.size()).ok_or(Stop::NotElf)?;
        let mut absent = Vec::new();
        let mut string = |offset: u64, longest: u64| match string_at(bytes, &table, offset, longest) {
            Ok(text) => Ok(text),
            Err(Stop::Absent(ranges)) => {
                absent.extend(ranges);
                Ok(String::new())
            }
            Err(stop) => Err(stop),
        };
        facts.needed =
            self.needed.iter().map(|&offset| string(offset, STRING_MAX)).collect::<Result<_, _>>()?;
        facts.soname = self.soname.map(|offset| string(offset, STRING_MAX)).transpose()?;
        if let Some(offset) = path {
            let path = string(offset, SEARCH_PATH_MAX)?;
            let mut seen = BTreeSet::new();
            let dirs = path.split(':').filter(|dir| !dir.is_empty() && seen.insert(*dir));
            facts.runpath = dirs.map(str::to_owned).collect();
        }
        if absent.is_empty() { Ok(()) } else { Err(Stop::Absent(absent)) }
    }

    /// Where the string table lies in the file: `DT_STRTAB` is an address, which a `PT_LOAD` maps to an offset. The
    /// table may go on in the next segment (patchelf leaves such files).
    fn table(&self, segments: &[Segment], size_of_file: u64) -> Option<Range<u64>> {
        let (address, size) = (self.table?, self.table_size?);
        let segment = segments.iter().find(|segment| {
            let len = segment.file.end - segment.file.start;
            segment.is_load()
                && address >= segment.address
                && address.checked_sub(segment.address).is_some_and(|into| into < len)
        })?;
        let start = segment.file.start + (address - segment.address);
        let end = start.checked_add(size)?;
        (end <= size_of_file).then_some(start..end)
    }
}

pub(super) fn string_at(
    bytes: &impl Bytes,
    table: &Range<u64>,
    offset: u64,
    longest: u64,
) -> Result<String, Stop> {
    let start = table.start.checked_add(offset).filter(|start| *start < table.end).ok_or(Stop::NotElf)?;
    // Most names are short: ask for little first, so that a window's edge is met as seldom as possible.
    for len in [1024, longest] {
        let end = start.saturating_add(len).min(table.end);
        let found = bytes.get(start..end)?;
        if found.contains(&0) {
            return terminated(&found);
        }
    }
    Err(Stop::NotElf)
}

fn terminated(bytes: &[u8]) -> Result<String, Stop> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Stop::NotElf)?;
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| Stop::NotElf)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shared object with one segment, its dynamic section at `dynamic_at` and the string table at `strings_at`.
    pub(in crate::elf) fn sample(
        layout: (bool, bool),
        table_at: u64,
        dynamic_at: u64,
        strings_at: u64,
    ) -> Vec<u8> {
        sample_of(layout, table_at, dynamic_at, strings_at, "$ORIGIN/../lib:/opt/lib")
    }

    /// The same with another search path, the last of its strings.
    pub(in crate::elf) fn sample_of(
        layout: (bool, bool),
        table_at: u64,
        dynamic_at: u64,
        strings_at: u64,
        path: &str,
    ) -> Vec<u8> {
        const ADDRESS: u64 = 0x10000;
        let layout = Layout { class64: layout.0, little: layout.1 };
        let strings = format!("\0libself.so.1\0libc.so.6\0libm.so.6\0{path}\0");
        let strings = strings.as_bytes();
        let at = |text: &str| {
            strings.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
        };
        let dynamic: Vec<(u64, u64)> = vec![
            (DT_NEEDED, at("libm.so.6")),
            (DT_NEEDED, at("libc.so.6")),
            (DT_SONAME, at("libself.so.1")),
            (DT_RPATH, at("libc.so.6")),
            (DT_RUNPATH, at(path)),
            (DT_STRTAB, ADDRESS + strings_at),
            (DT_STRSZ, strings.len() as u64),
            (DT_NULL, 0),
            (DT_NEEDED, at("libself.so.1")),
        ];
        let word = layout.select(8, 4);
        let end = (dynamic_at + (dynamic.len() * 2 * word) as u64)
            .max(strings_at + strings.len() as u64)
            .max(table_at + 2 * 56);
        let mut file = vec![0; end as usize];
        let mut put = |at: u64, len: usize, value: u64| {
            let bytes = value.to_le_bytes();
            for (index, byte) in bytes[..len].iter().enumerate() {
                let index = if layout.little { index } else { len - 1 - index };
                file[at as usize + index] = *byte;
            }
        };
        put(16, 2, 3);
        put(18, 2, u64::from(MACHINE_X86_64));
        put(layout.select(32, 28) as u64, word, table_at);
        let entry = layout.select(56, 32);
        put(layout.select(54, 42) as u64, 2, entry as u64);
        put(layout.select(56, 44) as u64, 2, 2);
        let dynamic_len = (dynamic.len() * 2 * word) as u64;
        for (index, (kind, offset, len)) in
            [(PT_LOAD, 0, end), (PT_DYNAMIC, dynamic_at, dynamic_len)].into_iter().enumerate()
        {
            let base = table_at + (index * entry) as u64;
            put(base, 4, u64::from(kind));
            put(base + layout.select(8, 4) as u64, word, offset);
            put(base + layout.select(16, 8) as u64, word, ADDRESS + offset);
            put(base + layout.select(32, 16) as u64, word, len);
        }
        for (index, (tag, value)) in dynamic.into_iter().enumerate() {
            put(dynamic_at + (index * 2 * word) as u64, word, tag);
            put(dynamic_at + ((index * 2 + 1) * word) as u64, word, value);
        }
        file[..6].copy_from_slice(&[
            0x7f,
            b'E',
            b'L',
            b'F',
            1 + u8::from(layout.class64),
            2 - u8::from(layout.little),
        ]);
        file[strings_at as usize..][..strings.len()].copy_from_slice(strings);
        file
    }

    /// A shared object for linux/amd64 whose soname is `libself.so.1`.
    pub(crate) fn shared_object() -> Vec<u8> {
        sample((true, true), 64, 256, 512)
    }

    pub(in crate::elf) fn sample_facts(class64: bool) -> ElfFacts {
        ElfFacts {
            class64,
            machine: MACHINE_X86_64,
            soname: Some("libself.so.1".to_owned()),
            needed: vec!["libm.so.6".to_owned(), "libc.so.6".to_owned()],
            runpath: vec!["$ORIGIN/../lib".to_owned(), "/opt/lib".to_owned()],
            interp: None,
        }
    }

    #[test]
    fn both_classes_and_byte_orders() {
        for class64 in [false, true] {
            for little in [false, true] {
                let file = sample((class64, little), 64, 256, 1024);
                assert_eq!(facts(&file), Some(sample_facts(class64)), "{class64} {little}");
            }
        }
    }

    #[test]
    fn a_search_path_may_be_long_and_repeat_itself() {
        let twice = |count: usize| {
            let dirs: Vec<_> = (0..count).map(|at| format!("$ORIGIN/../nvidia/{}/lib", at / 2)).collect();
            sample_of((true, true), 64, 256, 1024, &format!("{}::", dirs.join(":")))
        };
        let expected: Vec<_> = (0..500).map(|at| format!("$ORIGIN/../nvidia/{at}/lib")).collect();
        assert_eq!(facts(&twice(1000)).unwrap().runpath, expected);
        assert_eq!(facts(&twice(20_000)), None, "more than any file has");
    }

    #[test]
    fn other_files_are_not_elf() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0x7f; 200]] {
            assert_eq!(facts(&bytes.to_vec()), None);
        }
        let mut object = sample((true, true), 64, 256, 1024);
        object[16] = 1;
        assert_eq!(facts(&object), None);
    }

    #[test]
    fn hostile_files_are_refused_without_panic() {
        let good = sample((true, true), 64, 256, 512);
        for cut in 0..good.len() {
            assert_eq!(facts(&good[..cut].to_vec()), None, "cut at {cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // Whatever it says, it ends.
                let _ = facts(&bad);
            }
        }
    }
}
