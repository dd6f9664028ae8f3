//! ELF facts from a file's bytes as they pass, once and in order, in bounded memory.
//!
//! Kept are: the head of the first segment (header, program headers and, in all but the largest libraries,
//! `.dynstr`), `PT_DYNAMIC` and `PT_INTERP` exactly, small segments, and the strings that the dynamic section names if they
//! come behind it, as in the segment at the file's end into which patchelf moves what it has rewritten. A library whose
//! strings lie before the dynamic section but behind the head (many MiB of C++ names, those of libraries last) asks for
//! a second pass over a named, short prefix of the file.

use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::Range;

use super::parse::{Bytes, DYNAMIC_MAX, ElfFacts, HEADER, Segment, Stop, header, parse, segments};

/// Bytes of the first segment kept at most. One sniffer a worker: this bounds its memory.
const HEAD_MAX: u64 = 2 * 1024 * 1024;
/// Segments up to this size are kept whole,
const SMALL_SEGMENT: u64 = 256 * 1024;
/// together at most this many bytes of them.
const SMALL_SEGMENTS_MAX: u64 = 1024 * 1024;
/// Bytes that a second pass may ask for in all.
const AGAIN_MAX: u64 = 4 * 1024 * 1024;
/// Passes over one file at most: header to table, table to dynamic section, to strings.
const PASSES_MAX: usize = 4;

/// What a [`Sniffer`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Not a file that the dynamic linker would load.
    NotElf,
    Elf(ElfFacts),
    /// These ranges are needed beside those kept: feed the file to [`Sniffer::again`], up to the end of the last.
    Again(Vec<Range<u64>>),
}

/// Takes a file's bytes in order.
pub struct Sniffer {
    size: u64,
    /// How many bytes have passed.
    passed: u64,
    /// What is kept; they may overlap.
    windows: Vec<Window>,
    stage: Stage,
    again: Vec<Range<u64>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting for the header.
    Start,
    /// Waiting for the program header table, which ends there.
    Table(u64),
    /// Waiting for the dynamic section, which ends there and says where its strings are.
    Dynamic(u64),
    /// All windows are known.
    Windows,
    NotElf,
}

struct Window {
    range: Range<u64>,
    /// The first bytes of `range`, as far as they have passed.
    bytes: Vec<u8>,
}

impl Sniffer {
    /// For a file of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self::again(size, &[])
    }

    /// For another pass over the same file, which also keeps `ranges`.
    pub fn again(size: u64, ranges: &[Range<u64>]) -> Self {
        let mut sniffer =
            Self { size, passed: 0, windows: Vec::new(), stage: Stage::Start, again: ranges.to_vec() };
        sniffer.want(0..HEADER);
        ranges.iter().for_each(|range| sniffer.want(range.clone()));
        sniffer
    }

    /// The next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.stage != Stage::NotElf {
            // Up to the point where the next decision can be made, so that windows are known before their bytes pass.
            let take = match self.stage {
                Stage::Windows => bytes.len(),
                _ => self.until_decision().min(bytes.len() as u64) as usize,
            };
            let (now, rest) = bytes.split_at(take);
            self.keep(now);
            bytes = rest;
            self.decide();
        }
    }

    /// No byte that is still to come is wanted: the caller may stop reading.
    pub fn enough(&self) -> bool {
        match self.stage {
            Stage::NotElf => true,
            Stage::Windows => self.windows.iter().all(|window| window.range.end <= self.passed),
            Stage::Start | Stage::Table(_) | Stage::Dynamic(_) => false,
        }
    }

    pub fn finish(self) -> Sniffed {
        match parse(&self) {
            Ok(facts) => Sniffed::Elf(facts),
            Err(Stop::NotElf) => Sniffed::NotElf,
            Err(Stop::Absent(ranges)) => {
                let ranges = merged(ranges, self.size);
                let repeated = ranges.iter().all(|range| self.again.contains(range));
                let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                if repeated || bytes > AGAIN_MAX { Sniffed::NotElf } else { Sniffed::Again(ranges) }
            }
        }
    }

    /// The facts, where one pass was enough.
    pub fn finish_facts(self) -> Option<ElfFacts> {
        match self.finish() {
            Sniffed::Elf(facts) => Some(facts),
            Sniffed::NotElf | Sniffed::Again(_) => None,
        }
    }

    /// The facts of a file that can be read from its start as often as needed.
    pub fn read<R: Read>(size: u64, mut open: impl FnMut() -> io::Result<R>) -> io::Result<Option<ElfFacts>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for _ in 0..PASSES_MAX {
            let mut sniffer = Self::again(size, &ranges);
            let mut reader = open()?;
            let mut buffer = vec![0; 64 * 1024];
            while !sniffer.enough() {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => sniffer.push(&buffer[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            match sniffer.finish() {
                Sniffed::NotElf => return Ok(None),
                Sniffed::Elf(facts) => return Ok(Some(facts)),
                Sniffed::Again(more) => ranges.extend(more),
            }
        }
        Ok(None)
    }

    /// Bytes until the window that the present stage waits for is complete; at least one.
    fn until_decision(&self) -> u64 {
        let end = match self.stage {
            Stage::Table(end) | Stage::Dynamic(end) => end,
            _ => HEADER.min(self.size),
        };
        end.saturating_sub(self.passed).max(1)
    }

    fn keep(&mut self, now: &[u8]) {
        let passing = self.passed..self.passed + now.len() as u64;
        for window in &mut self.windows {
            let start = (window.range.start + window.bytes.len() as u64).max(passing.start);
            let end = window.range.end.min(passing.end);
            // A window whose first bytes had passed when it was opened stays empty.
            if start < end && start == window.range.start + window.bytes.len() as u64 {
                let slice = (start - passing.start) as usize..(end - passing.start) as usize;
                window.bytes.extend_from_slice(&now[slice]);
            }
        }
        self.passed = passing.end;
    }

    /// Opens the windows that can be named by what has passed so far.
    fn decide(&mut self) {
        if self.stage == Stage::Start && self.passed >= HEADER.min(self.size) {
            match header(self) {
                Ok(header) => {
                    self.stage = Stage::Table(header.table.end);
                    // From the start, so that the head can grow from it.
                    let near = header.table.end <= HEAD_MAX;
                    self.want(if near { 0..header.table.end } else { header.table });
                }
                Err(_) => self.stage = Stage::NotElf,
            }
        }
        if let Stage::Table(end) = self.stage
            && self.passed >= end
        {
            let segments = header(self).and_then(|header| segments(self, &header));
            match segments {
                Ok(segments) => {
                    self.want_segments(&segments);
                    let dynamic = segments.iter().find(|segment| segment.is_dynamic());
                    self.stage = dynamic.map_or(Stage::Windows, |dynamic| Stage::Dynamic(dynamic.file.end));
                }
                // The table had passed before the header said where it is: only another pass can see it.
                Err(Stop::Absent(_)) => self.stage = Stage::Windows,
                Err(Stop::NotElf) => self.stage = Stage::NotElf,
            }
        }
        if let Stage::Dynamic(end) = self.stage
            && self.passed >= end
        {
            self.stage = Stage::Windows;
            if let Err(Stop::Absent(ranges)) = parse(self) {
                self.want_ahead(ranges);
            }
        }
    }

    /// Opens windows for those of `ranges` that are still to come.
    fn want_ahead(&mut self, ranges: Vec<Range<u64>>) {
        let mut left = AGAIN_MAX;
        for range in merged(ranges, self.size) {
            let len = range.end - range.start;
            if range.start >= self.passed && len <= left {
                left -= len;
                self.want(range);
            }
        }
    }

    fn want_segments(&mut self, segments: &[Segment]) {
        for segment in segments.iter().filter(|s| s.is_dynamic() || s.is_interp()) {
            let Range { start, end } = segment.file;
            self.want(start..end.min(start.saturating_add(DYNAMIC_MAX)));
        }
        let mut left = SMALL_SEGMENTS_MAX;
        for segment in segments.iter().filter(|segment| segment.is_load()) {
            let len = segment.file.end - segment.file.start;
            if segment.file.start <= self.passed {
                self.want(segment.file.start..segment.file.end.min(HEAD_MAX));
            } else if len <= SMALL_SEGMENT.min(left) {
                left -= len;
                self.want(segment.file.clone());
            }
        }
    }

    /// Keeps `range`, with those of its bytes that have passed already if they are at hand.
    fn want(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.size);
        let covers =
            |outer: &Range<u64>, inner: &Range<u64>| outer.start <= inner.start && inner.end <= outer.end;
        if range.is_empty() || self.windows.iter().any(|window| covers(&window.range, &range)) {
            return;
        }
        let bytes = self.at_hand(range.start..range.end.min(self.passed)).unwrap_or_default().to_vec();
        if range.start + bytes.len() as u64 == range.start.max(self.passed) {
            self.windows.retain(|window| !covers(&range, &window.range));
        }
        self.windows.push(Window { range, bytes });
    }

    fn at_hand(&self, range: Range<u64>) -> Option<&[u8]> {
        self.windows.iter().find_map(|window| {
            let start = usize::try_from(range.start.checked_sub(window.range.start)?).ok()?;
            let end = usize::try_from(range.end.checked_sub(window.range.start)?).ok()?;
            window.bytes.get(start..end)
        })
    }
}

/// Sorted ranges within the file, those that touch joined.
fn merged(mut ranges: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start..range.end.min(size);
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

impl Bytes for Sniffer {
    fn size(&self) -> u64 {
        self.size
    }

    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Stop> {
        match self.at_hand(range.clone()) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None if range.is_empty() => Ok(Cow::Borrowed(&[])),
            None => Err(Stop::Absent(vec![range])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::tests::{sample, sample_facts, sample_of};
    use super::*;

    fn sniff(file: &[u8], chunk: usize) -> Option<ElfFacts> {
        Sniffer::read(file.len() as u64, || Ok(Chunks(file, chunk))).unwrap()
    }

    struct Chunks<'a>(&'a [u8], usize);

    impl Read for Chunks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(buffer.len()).min(self.0.len());
            let (now, rest) = self.0.split_at(len);
            buffer[..len].copy_from_slice(now);
            self.0 = rest;
            Ok(len)
        }
    }

    #[test]
    fn any_order_of_parts_and_any_chunks() {
        // Program headers, dynamic section and strings, each near, past the kept head, and before the others.
        let far = HEAD_MAX + 12_345;
        for (table, dynamic, strings) in [
            (64, 256, 1024),
            (64, 1024, 256),
            (64, 256, far),
            (64, far, 256),
            (far, 256, 1024),
            (far, far + 4096, 256),
            (far + 8192, far, far + 4096),
        ] {
            let file = sample((true, true), table, dynamic, strings);
            for chunk in [7, 4096, usize::MAX] {
                let found = sniff(&file, chunk);
                assert_eq!(found, Some(sample_facts(true)), "{table} {dynamic} {strings} {chunk}");
            }
        }
    }

    #[test]
    fn one_pass_is_enough_for_ordinary_files() {
        let file = sample((true, true), 64, HEAD_MAX + 4096, 256);
        let mut sniffer = Sniffer::new(file.len() as u64);
        sniffer.push(&file);
        assert!(sniffer.enough());
        assert_eq!(sniffer.finish_facts(), Some(sample_facts(true)));
    }

    #[test]
    fn strings_behind_the_dynamic_section_need_no_second_pass() {
        // As patchelf leaves torch's libraries: in a segment of their own that is too large to be kept.
        for (dynamic, strings) in [(256, HEAD_MAX + 4096), (HEAD_MAX + 4096, 8 * HEAD_MAX)] {
            let file = sample((true, true), 64, dynamic, strings);
            for chunk in [1000, 1 << 20, usize::MAX] {
                let mut sniffer = Sniffer::new(file.len() as u64);
                file.chunks(chunk.min(file.len())).for_each(|chunk| sniffer.push(chunk));
                assert_eq!(sniffer.finish(), Sniffed::Elf(sample_facts(true)), "{dynamic} {strings} {chunk}");
            }
        }
    }

    #[test]
    fn a_second_pass_names_what_it_needs() {
        let strings = HEAD_MAX + 4096;
        let file = sample((true, true), 64, 2 * HEAD_MAX, strings);
        let mut sniffer = Sniffer::new(file.len() as u64);
        sniffer.push(&file);
        let Sniffed::Again(ranges) = sniffer.finish() else { panic!("strings were not kept") };
        assert!(ranges.iter().all(|range| range.start > strings && range.end <= file.len() as u64));
        let mut sniffer = Sniffer::again(file.len() as u64, &ranges);
        sniffer.push(&file);
        assert_eq!(sniffer.finish(), Sniffed::Elf(sample_facts(true)));
    }

    #[test]
    fn a_long_search_path_behind_the_head_is_read() {
        let dirs: Vec<_> = (0..1000).map(|at| format!("/opt/{at}/lib")).collect();
        for (dynamic, strings) in [(256, HEAD_MAX + 4096), (HEAD_MAX + 4096, 256), (256, HEAD_MAX - 4096)] {
            let file = sample_of((true, true), 64, dynamic, strings, &dirs.join(":"));
            assert_eq!(sniff(&file, 4096).unwrap().runpath, dirs, "{dynamic} {strings}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let size = 64 * HEAD_MAX;
        let mut sniffer = Sniffer::new(size);
        let mut head = sample((true, true), 64, 256, 1024);
        // One segment that spans the file.
        head[64 + 32..64 + 40].copy_from_slice(&size.to_le_bytes());
        sniffer.push(&head);
        for _ in 0..64 {
            sniffer.push(&vec![0; HEAD_MAX as usize - head.len() / 64 - 1]);
        }
        let kept: usize = sniffer.windows.iter().map(|window| window.bytes.len()).sum();
        assert!(kept as u64 <= HEAD_MAX + SMALL_SEGMENTS_MAX, "{kept}");
    }

    #[test]
    fn scripts_are_done_with_at_once() {
        let mut sniffer = Sniffer::new(1 << 30);
        sniffer.push(&[b'#'; 128]);
        assert!(sniffer.enough());
        assert_eq!(sniffer.finish(), Sniffed::NotElf);
    }
}
