//! A strict reader of zip directories, for wheels.
//!
//! Zip readers disagree where a file contradicts itself: central directory against local headers, two end records,
//! bytes that no record owns. Each such disagreement has been used to show one tool other files than another
//! (CVE-2025-54368 and its kin), so this reader takes only files that can be read in one way: every local header must
//! repeat its central record, and members, directory and end records must tile the file without gap or overlap.
//! Zip64 and data descriptors are understood. Methods are "stored" and "deflated". Nothing is inflated here, so the
//! sizes and CRCs of a [`Member`] remain claims until somebody inflates it.
//!
//! Limits: [`MAX_MEMBERS`] members, in a directory of [`MAX_DIRECTORY`] bytes that is held in memory at once; both are
//! known from the end record, before anything is read. Together the members may claim [`MAX_RATIO`] times the size of
//! the archive, or [`SMALL`] bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::waivers::Waivers;
use crate::blob::ReadAt;
use crate::spec::model::WheelRule;
use crate::tree::{PathError, TreePath};

/// The largest central directory read, in bytes. torch's is 1.5 MB.
pub const MAX_DIRECTORY: u64 = 64 << 20;
/// The most members. torch has 11,612.
pub const MAX_MEMBERS: u64 = 250_000;
/// How many times its own size an archive may claim to unpack to. Wheels do 4 times, of 1,268 one does 11 times.
pub const MAX_RATIO: u64 = 100;
/// What is no bomb whatever its ratio, in bytes.
pub const SMALL: u64 = 16 << 20;
/// The most parts of a name: what looks at all parents of all names shall not take long.
const MAX_DEPTH: usize = 64;
/// DEFLATE cannot expand more than this (RFC 1951: 258 bytes from two bits), with room for rounding.
const MAX_EXPANSION: u64 = 1032;

/// DEFLATE need not make anything longer but for a few bytes a block. Twice the size and this much more can only be
/// empty blocks or junk, and would have to be read to see a small file.
const MAX_WASTE: u64 = 4096;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// How a member's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Stored,
    Deflated,
}

/// One file of the archive. Directories are checked and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub path: TreePath,
    pub method: Method,
    /// Where the data begins, behind the local header.
    pub offset: u64,
    /// Length of the data as kept.
    pub packed: u64,
    /// Length once inflated, as the directory claims.
    pub size: u64,
    pub crc32: u32,
    /// Any x bit of the Unix mode.
    pub executable: bool,
}

/// Why a file is not a zip that can be read in one way only.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    #[error("not a zip archive: no end-of-directory record at its end")]
    NoEnd,
    #[error("the archive {0}")]
    Archive(&'static str),
    #[error("member {name:?} {rule}")]
    Member { name: String, rule: &'static str },
    #[error("the archive {0}")]
    Stray(&'static str),
    #[error("member {0:?} is followed by bytes that no record owns")]
    StrayBehind(String),
    #[error("member {0:?} is there twice, with the same bytes")]
    Copied(String),
    #[error("member {0:?} is set-uid or set-gid")]
    ModeBits(String),
    #[error(
        "the archive unpacks to {unpacked} bytes, more than {MAX_RATIO} times its size of {size} bytes; the largest \
         member is {largest:?}"
    )]
    Ratio { unpacked: u64, size: u64, largest: String },
    #[error("member has an unusable name")]
    Name(#[from] PathError),
}

impl ZipError {
    /// The rule that a spec may waive.
    pub fn waivable(&self) -> Option<WheelRule> {
        match self {
            Self::Stray(_) | Self::StrayBehind(_) => Some(WheelRule::StrayBytes),
            Self::Copied(_) => Some(WheelRule::DuplicateMember),
            Self::ModeBits(_) => Some(WheelRule::ModeBits),
            Self::Ratio { .. } => Some(WheelRule::Ratio),
            Self::Read(_) | Self::NoEnd | Self::Archive(_) | Self::Member { .. } | Self::Name(_) => None,
        }
    }
}

/// Reads and proves the directory; members come in the order of their names' bytes.
pub fn read(blob: &dyn ReadAt, waivers: &mut Waivers) -> Result<Vec<Member>, ZipError> {
    let end = End::find(blob, waivers)?;
    let directory = blob.read_vec_at(end.directory_offset, to_usize(end.directory_size)?)?;
    let mut records = Vec::new();
    let mut at = Cursor { bytes: &directory };
    while !at.bytes.is_empty() && records.len() as u64 <= end.entries {
        records.push(Record::parse(&mut at)?);
    }
    if records.len() as u64 != end.entries {
        return Err(ZipError::Archive("has another number of members than its end record says"));
    }
    let members = tile(blob, records, end.directory_offset, waivers)?;
    let members = without_collisions(members, blob, waivers)?;
    check_ratio(&members, blob.size(), waivers)?;
    Ok(members)
}

/// The end records, checked against each other and against the file's length.
struct End {
    entries: u64,
    directory_offset: u64,
    directory_size: u64,
}

impl End {
    fn find(blob: &dyn ReadAt, waivers: &mut Waivers) -> Result<Self, ZipError> {
        const LEN: usize = 22;
        let size = blob.size();
        let tail_len = size.min((LEN + 0xffff) as u64);
        let tail = blob.read_vec_at(size - tail_len, to_usize(tail_len)?)?;
        // The last one counts. Its comment must end where the file does, and hold nothing that looks like another.
        let signature = |start: &usize| tail[*start..*start + 4] == END.to_le_bytes();
        let after = |start: usize| {
            start + LEN + usize::from(u16::from_le_bytes([tail[start + 20], tail[start + 21]]))
        };
        let mut starts = (0..(tail.len() + 1).saturating_sub(LEN)).rev().filter(signature);
        let start = starts.next().ok_or(ZipError::NoEnd)?;
        if starts.any(|start| after(start) == tail.len()) {
            return Err(ZipError::Archive("has two end-of-directory records"));
        }
        match after(start).cmp(&tail.len()) {
            Ordering::Equal => {}
            Ordering::Less => {
                let stray = size - (tail.len() - after(start)) as u64..size;
                if !may_stray(blob, stray, waivers)? {
                    return Err(ZipError::Stray("has bytes behind its end-of-directory record"));
                }
            }
            Ordering::Greater => return Err(ZipError::Archive("ends within its end-of-directory record")),
        }
        let position = size - tail_len + start as u64;
        let mut at = Cursor { bytes: &tail[start + 4..start + LEN] };
        let (disk, directory_disk) = (at.u16()?, at.u16()?);
        let (entries_here, entries) = (at.u16()?, at.u16()?);
        let (directory_size, directory_offset) = (at.u32()?, at.u32()?);
        let mut end = Self {
            entries: u64::from(entries),
            directory_offset: u64::from(directory_offset),
            directory_size: u64::from(directory_size),
        };
        let mut directory_end = position;
        let wants64 = entries == u16::MAX || directory_size == u32::MAX || directory_offset == u32::MAX;
        match Self::find64(blob, position)? {
            Some((end64, position64)) => {
                let agrees = |small: u64, limit: u64, large: u64| small == limit || small == large;
                if !agrees(end.entries, 0xffff, end64.entries)
                    || !agrees(end.directory_size, 0xffff_ffff, end64.directory_size)
                    || !agrees(end.directory_offset, 0xffff_ffff, end64.directory_offset)
                {
                    return Err(ZipError::Archive("has end records that contradict each other"));
                }
                end = end64;
                directory_end = position64;
            }
            None if wants64 => return Err(ZipError::Archive("needs a zip64 end record and has none")),
            None => {}
        }
        if (disk != 0 && disk != u16::MAX)
            || (directory_disk != 0 && directory_disk != u16::MAX)
            || entries_here != entries
        {
            return Err(ZipError::Archive("is split over several files"));
        }
        if end.directory_offset.checked_add(end.directory_size) != Some(directory_end) {
            return Err(ZipError::Archive("has bytes around its directory that no record owns"));
        }
        if end.directory_size > MAX_DIRECTORY {
            return Err(ZipError::Archive("has a directory of more than 64 MiB"));
        }
        if end.entries > MAX_MEMBERS {
            return Err(ZipError::Archive("has more than 250,000 members"));
        }
        Ok(end)
    }

    /// The zip64 end record in front of the end record at `position`, and where it begins.
    fn find64(blob: &dyn ReadAt, position: u64) -> Result<Option<(Self, u64)>, ZipError> {
        const LOCATOR_LEN: u64 = 20;
        const LEN: u64 = 56;
        let Some(locator_at) = position.checked_sub(LOCATOR_LEN) else { return Ok(None) };
        let locator = blob.read_vec_at(locator_at, LOCATOR_LEN as usize)?;
        let mut at = Cursor { bytes: &locator };
        if at.u32()? != END64_LOCATOR {
            return Ok(None);
        }
        let (disk, offset, disks) = (at.u32()?, at.u64()?, at.u32()?);
        if disk != 0 || disks > 1 {
            return Err(ZipError::Archive("is split over several files"));
        }
        if offset.checked_add(LEN) != Some(locator_at) {
            return Err(ZipError::Archive("has a zip64 end record at another place than its locator says"));
        }
        let record = blob.read_vec_at(offset, LEN as usize)?;
        let mut at = Cursor { bytes: &record };
        if at.u32()? != END64 || at.u64()? != LEN - 12 {
            return Err(ZipError::Archive("has a malformed zip64 end record"));
        }
        let _versions = at.u32()?;
        let (disk, directory_disk) = (at.u32()?, at.u32()?);
        let (entries_here, entries) = (at.u64()?, at.u64()?);
        let (directory_size, directory_offset) = (at.u64()?, at.u64()?);
        if disk != 0 || directory_disk != 0 || entries_here != entries {
            return Err(ZipError::Archive("is split over several files"));
        }
        Ok(Some((Self { entries, directory_offset, directory_size }, offset)))
    }
}

/// One record of the central directory.
struct Record {
    name: String,
    flags: u16,
    method: u16,
    crc32: u32,
    packed: u64,
    size: u64,
    local: u64,
    /// Unix mode, 0 where the record's maker was no Unix.
    mode: u32,
    /// What readers take for the type of file, whoever the maker.
    kind: u32,
}

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCH: u16 = 1 << 5;
const FLAG_STRONG_ENCRYPTION: u16 = 1 << 6;
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_MASKED: u16 = 1 << 13;

impl Record {
    fn parse(at: &mut Cursor<'_>) -> Result<Self, ZipError> {
        if at.u32()? != CENTRAL {
            return Err(ZipError::Archive("has a malformed directory"));
        }
        let made_by = at.u16()?;
        let _needed = at.u16()?;
        let (flags, method) = (at.u16()?, at.u16()?);
        let _time = at.u32()?;
        let crc32 = at.u32()?;
        let (packed, size) = (at.u32()?, at.u32()?);
        let (name_len, extra_len, comment_len) = (at.u16()?, at.u16()?, at.u16()?);
        let disk = at.u16()?;
        let _internal = at.u16()?;
        let external = at.u32()?;
        let local = at.u32()?;
        let name = at.take(usize::from(name_len))?;
        let extra = at.take(usize::from(extra_len))?;
        at.take(usize::from(comment_len))?;

        let shown = String::from_utf8_lossy(name).into_owned();
        let refuse = |rule| Err(ZipError::Member { name: shown.clone(), rule });
        let Ok(name) = std::str::from_utf8(name) else { return refuse("has a name that is not UTF-8") };
        if !name.is_ascii() && flags & FLAG_UTF8 == 0 {
            return refuse("has a name beyond ASCII without the UTF-8 flag");
        }
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0 {
            return refuse("is encrypted");
        }
        if flags & FLAG_PATCH != 0 {
            return refuse("is a patch, not a file");
        }
        if disk != 0 {
            return refuse("is on another disk");
        }
        let mut record = Self {
            name: name.to_owned(),
            flags,
            method,
            crc32,
            packed: u64::from(packed),
            size: u64::from(size),
            local: u64::from(local),
            mode: if made_by >> 8 == 3 { external >> 16 } else { 0 },
            kind: external >> 16 & 0o170_000,
        };
        let Some(mut extra) = Extra::parse(extra) else { return refuse("has malformed extra fields") };
        if extra.unicode_path {
            return refuse("has a second name in its extra fields");
        }
        // APPNOTE 4.5.3: a zip64 field holds just those values that are all ones, in this order.
        let wide = [(size, &mut record.size), (packed, &mut record.packed), (local, &mut record.local)];
        for (narrow, value) in wide {
            if narrow == u32::MAX {
                match extra.zip64_u64() {
                    Some(large) => *value = large,
                    None => return refuse("lacks its zip64 sizes"),
                }
            }
        }
        let all = [record.size, record.packed, record.local];
        if !extra.is_exhausted_or(&all) {
            return refuse("has zip64 sizes that it does not need, and others than its own");
        }
        Ok(record)
    }

    fn refuse(&self, rule: &'static str) -> ZipError {
        ZipError::Member { name: self.name.clone(), rule }
    }

    /// The member this record stands for, `None` for a directory; and where the member ends if nothing follows the
    /// data. `limit` is where the next thing of the archive begins.
    fn member(
        self,
        blob: &dyn ReadAt,
        limit: u64,
        waivers: &mut Waivers,
    ) -> Result<Option<Member>, ZipError> {
        let offset = self.check_local(blob, limit, waivers)?;
        let is_directory = self.name.ends_with('/');
        match (self.kind, is_directory) {
            (0, _) | (0o040_000, true) | (0o100_000, false) => {}
            (0o120_000, _) => return Err(self.refuse("is a symbolic link, which wheels may not contain")),
            _ => return Err(self.refuse("is neither a file nor a directory")),
        }
        let name = if is_directory { &self.name[..self.name.len() - 1] } else { &self.name };
        if name.contains('\\') {
            return Err(self.refuse("has a backslash in its name"));
        }
        if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
            return Err(self.refuse("has a drive letter in its name"));
        }
        if name.split('/').count() > MAX_DEPTH {
            return Err(self.refuse("has a name of more than 64 parts"));
        }
        if !is_directory && self.mode & 0o6000 != 0 && !waivers.take(WheelRule::ModeBits) {
            return Err(ZipError::ModeBits(self.name));
        }
        let path = TreePath::new(name)?;
        if is_directory {
            // Nothing, deflated, is two bytes.
            if self.size != 0 || self.packed > 2 {
                return Err(self.refuse("is a directory with content"));
            }
            return Ok(None);
        }
        let method = match self.method {
            0 => Method::Stored,
            8 => Method::Deflated,
            _ => return Err(self.refuse("is compressed by another method than deflate")),
        };
        let possible = match method {
            Method::Stored => self.packed == self.size,
            Method::Deflated => {
                let largest = self.size.saturating_mul(2).saturating_add(MAX_WASTE);
                self.packed > 0 && self.size / MAX_EXPANSION <= self.packed && self.packed <= largest
            }
        };
        if !possible {
            return Err(self.refuse("has a size that its packed size cannot have"));
        }
        Ok(Some(Member {
            path,
            method,
            offset,
            packed: self.packed,
            size: self.size,
            crc32: self.crc32,
            executable: self.mode & 0o111 != 0,
        }))
    }

    /// Compares the local header with this record and proves that header, data and descriptor reach exactly to
    /// `limit`; returns where the data begins.
    fn check_local(&self, blob: &dyn ReadAt, limit: u64, waivers: &mut Waivers) -> Result<u64, ZipError> {
        const LEN: u64 = 30;
        let overlaps = || self.refuse("overlaps what follows it");
        let room = limit - self.local;
        if room < LEN + self.name.len() as u64 {
            return Err(overlaps());
        }
        let head = blob.read_vec_at(self.local, LEN as usize + self.name.len())?;
        let mut at = Cursor { bytes: &head };
        if at.u32()? != LOCAL {
            return Err(self.refuse("has no local header where the directory says"));
        }
        let _needed = at.u16()?;
        let (flags, method) = (at.u16()?, at.u16()?);
        let _time = at.u32()?;
        let (crc32, packed, size) = (at.u32()?, at.u32()?, at.u32()?);
        let (name_len, extra_len) = (at.u16()?, u64::from(at.u16()?));
        if usize::from(name_len) != self.name.len() || at.bytes != self.name.as_bytes() {
            return Err(self.refuse("has another name in its local header"));
        }
        if room < LEN + self.name.len() as u64 + extra_len {
            return Err(overlaps());
        }
        let extra = blob.read_vec_at(self.local + head.len() as u64, extra_len as usize)?;
        let offset = self.local + head.len() as u64 + extra_len;
        let mut extra = Extra::parse(&extra)
            .ok_or_else(|| self.refuse("has malformed extra fields in its local header"))?;
        if extra.unicode_path {
            return Err(self.refuse("has a second name in its extra fields"));
        }
        let contradicts = || self.refuse("has a local header that contradicts the directory");
        if flags != self.flags || method != self.method {
            return Err(contradicts());
        }
        let (mut size, mut packed) = (u64::from(size), u64::from(packed));
        let zip64 = extra.zip64.is_some();
        if size == 0xffff_ffff {
            size = extra.zip64_u64().ok_or_else(contradicts)?;
        }
        if packed == 0xffff_ffff {
            packed = extra.zip64_u64().ok_or_else(contradicts)?;
        }
        // A writer that does not know the sizes yet leaves room for them.
        if !extra.is_exhausted_or(&[self.size, self.packed]) && !extra.is_exhausted_or(&[0, 0]) {
            return Err(contradicts());
        }
        let described = flags & FLAG_DESCRIPTOR != 0;
        let same = (crc32, packed, size) == (self.crc32, self.packed, self.size);
        if !(same || described && (crc32, packed, size) == (0, 0, 0)) {
            return Err(contradicts());
        }
        let behind = offset.checked_add(self.packed).filter(|end| *end <= limit).ok_or_else(overlaps)?;
        let gap = limit - behind;
        let descriptor = if described {
            let bytes = blob.read_vec_at(behind, gap.min(24) as usize)?;
            let fits =
                |len: &&usize| bytes.get(..**len).is_some_and(|bytes| self.matches_descriptor(bytes, zip64));
            *[24, 20, 16, 12].iter().find(fits).ok_or_else(contradicts)?
        } else {
            0
        };
        if gap > descriptor as u64 && !may_stray(blob, behind + descriptor as u64..limit, waivers)? {
            return Err(ZipError::StrayBehind(self.name.clone()));
        }
        Ok(offset)
    }

    /// APPNOTE 4.3.9: CRC, packed size, size, in front of them perhaps a signature; 8-byte sizes with zip64.
    fn matches_descriptor(&self, bytes: &[u8], zip64: bool) -> bool {
        let mut expected = Vec::with_capacity(24);
        if matches!(bytes.len(), 16 | 24) {
            expected.extend(DESCRIPTOR.to_le_bytes());
        }
        expected.extend(self.crc32.to_le_bytes());
        match bytes.len() {
            20 | 24 if zip64 || self.size > 0xffff_ffff || self.packed > 0xffff_ffff => {
                expected.extend(self.packed.to_le_bytes());
                expected.extend(self.size.to_le_bytes());
            }
            12 | 16 => {
                let (Ok(packed), Ok(size)) = (u32::try_from(self.packed), u32::try_from(self.size)) else {
                    return false;
                };
                expected.extend(packed.to_le_bytes());
                expected.extend(size.to_le_bytes());
            }
            _ => return false,
        }
        expected == bytes
    }
}

/// Proves that the members, in the order of their places, fill the file from its first byte to the directory.
fn tile(
    blob: &dyn ReadAt,
    mut records: Vec<Record>,
    directory_offset: u64,
    waivers: &mut Waivers,
) -> Result<Vec<Option<Member>>, ZipError> {
    records.sort_by_key(|record| record.local);
    match records.first() {
        Some(first) if first.local != 0 && !may_stray(blob, 0..first.local, waivers)? => {
            return Err(ZipError::Stray("has data in front of its first member"));
        }
        None if directory_offset != 0 => {
            return Err(ZipError::Archive("has data in front of its directory"));
        }
        _ => {}
    }
    let mut limits: Vec<u64> = records.iter().skip(1).map(|record| record.local).collect();
    limits.push(directory_offset);
    let mut members = Vec::with_capacity(records.len());
    let mut directories = BTreeSet::new();
    for (record, limit) in records.into_iter().zip(limits) {
        if record.local >= limit {
            return Err(record.refuse("overlaps what follows it"));
        }
        let name = record.name.clone();
        let member = record.member(blob, limit, waivers)?;
        if member.is_none() && !directories.insert(name.clone()) && !waivers.take(WheelRule::DuplicateMember)
        {
            return Err(ZipError::Copied(name));
        }
        members.push(member);
    }
    // A directory that is a file as well shows up as a file with something below it.
    let files: BTreeSet<&str> = members.iter().flatten().map(|member| member.path.as_str()).collect();
    for name in &directories {
        if files.contains(&name[..name.len() - 1]) {
            return Err(ZipError::Member { name: name.clone(), rule: "is both a file and a directory" });
        }
    }
    Ok(members)
}

/// Whether bytes that no record owns are waived. Those that look like records are not: a reader that searches for
/// records, or takes them as they come, would see other members.
fn may_stray(blob: &dyn ReadAt, stray: Range<u64>, waivers: &mut Waivers) -> Result<bool, ZipError> {
    const CHUNK: u64 = 64 << 10;
    const SIGNATURES: [u32; 5] = [LOCAL, CENTRAL, END, END64, END64_LOCATOR];
    if !waivers.take(WheelRule::StrayBytes) {
        return Ok(false);
    }
    let mut at = stray.start;
    while at < stray.end {
        // What begins in this chunk may end in the next.
        let bytes = blob.read_vec_at(at, (CHUNK + 3).min(stray.end - at) as usize)?;
        let is_record = |bytes: &[u8]| SIGNATURES.iter().any(|signature| signature.to_le_bytes() == *bytes);
        if bytes.windows(4).any(is_record) {
            return Err(ZipError::Archive("has bytes that no record owns and that look like records"));
        }
        at += CHUNK;
    }
    Ok(true)
}

/// Sorts by name and refuses a name that comes twice or lies below a file.
fn without_collisions(
    members: Vec<Option<Member>>,
    blob: &dyn ReadAt,
    waivers: &mut Waivers,
) -> Result<Vec<Member>, ZipError> {
    let mut by_path: BTreeMap<TreePath, Member> = BTreeMap::new();
    for member in members.into_iter().flatten() {
        match by_path.get(&member.path) {
            None => drop(by_path.insert(member.path.clone(), member)),
            Some(first) if !same_bytes(first, &member, blob)? => {
                let name = member.path.to_string();
                return Err(ZipError::Member { name, rule: "is there twice, with different bytes" });
            }
            Some(_) if waivers.take(WheelRule::DuplicateMember) => {}
            Some(_) => return Err(ZipError::Copied(member.path.to_string())),
        }
    }
    for path in by_path.keys() {
        if let Some(file) = path.parents().find(|parent| by_path.contains_key(parent)) {
            return Err(ZipError::Member { name: file.to_string(), rule: "is both a file and a directory" });
        }
    }
    Ok(by_path.into_values().collect())
}

/// Whether two members are packed alike, byte for byte.
fn same_bytes(a: &Member, b: &Member, blob: &dyn ReadAt) -> io::Result<bool> {
    const CHUNK: u64 = 64 << 10;
    let facts =
        |member: &Member| (member.method, member.packed, member.size, member.crc32, member.executable);
    if facts(a) != facts(b) {
        return Ok(false);
    }
    let mut at = 0;
    while at < a.packed {
        let len = CHUNK.min(a.packed - at) as usize;
        if blob.read_vec_at(a.offset + at, len)? != blob.read_vec_at(b.offset + at, len)? {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Refuses a bomb by what it claims; who inflates finds out claims that are too small.
fn check_ratio(members: &[Member], size: u64, waivers: &mut Waivers) -> Result<(), ZipError> {
    let unpacked = members.iter().fold(0, |sum: u64, member| sum.saturating_add(member.size));
    if unpacked <= SMALL.max(size.saturating_mul(MAX_RATIO)) || waivers.take(WheelRule::Ratio) {
        return Ok(());
    }
    let largest = members.iter().max_by_key(|member| member.size);
    let largest = largest.map(|member| member.path.to_string()).unwrap_or_default();
    Err(ZipError::Ratio { unpacked, size, largest })
}

/// What matters of a record's extra fields.
struct Extra<'a> {
    zip64: Option<&'a [u8]>,
    unicode_path: bool,
}

impl<'a> Extra<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut at = Cursor { bytes };
        let mut extra = Self { zip64: None, unicode_path: false };
        while !at.bytes.is_empty() {
            let (id, len) = (at.u16().ok()?, at.u16().ok()?);
            let data = at.take(usize::from(len)).ok()?;
            match id {
                1 if extra.zip64.replace(data).is_some() => return None,
                0x7075 => extra.unicode_path = true,
                _ => {}
            }
        }
        Some(extra)
    }

    fn zip64_u64(&mut self) -> Option<u64> {
        let (value, rest) = self.zip64?.split_first_chunk()?;
        self.zip64 = Some(rest);
        Some(u64::from_le_bytes(*value))
    }

    /// Whether nothing is left of the zip64 field, or just what a writer leaves that always writes these values.
    fn is_exhausted_or(&self, all: &[u64]) -> bool {
        let Some(left) = self.zip64.filter(|left| !left.is_empty()) else { return true };
        let (values, rest) = left.as_chunks::<8>();
        let values: Vec<_> = values.iter().map(|value| u64::from_le_bytes(*value)).collect();
        // Behind them may stand the disk's number, which is 0.
        rest.iter().all(|byte| *byte == 0) && (all.ends_with(&values) || all.starts_with(&values))
    }
}

/// Little-endian reading with a bound.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ZipError> {
        let (taken, rest) =
            self.bytes.split_at_checked(len).ok_or(ZipError::Archive("has a directory that is cut off"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ZipError> {
        Ok(self.take(N)?.try_into().expect("take gives the length asked for"))
    }

    fn u16(&mut self) -> Result<u16, ZipError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ZipError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ZipError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn to_usize(value: u64) -> Result<usize, ZipError> {
    if value > MAX_DIRECTORY {
        return Err(ZipError::Archive("has a directory of more than 64 MiB"));
    }
    usize::try_from(value).map_err(|_| ZipError::Archive("has a directory of more than 64 MiB"))
}

#[cfg(test)]
#[path = "zip_tests.rs"]
mod tests;
