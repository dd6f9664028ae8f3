//! A strict reader of zip directories, for wheels.
//!
//! Zip readers disagree where a file contradicts itself: central directory against local headers, two end records,
//! bytes that no record owns. Each such disagreement has been used to show one tool other files than another
//! (CVE-2025-54368 and its kin), so this reader takes only files that can be read in one way: every local header must
//! repeat its central record, and members, directory and end records must tile the file without gap or overlap.
//! Zip64 and data descriptors are understood. Methods are "stored" and "deflated". Nothing is inflated here, so the
//! sizes and CRCs of a [`Member`] remain claims until somebody inflates it.
//!
//! Limits: [`MAX_DIRECTORY`] bytes of central directory are held in memory at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::blob::ReadAt;
use crate::tree::{PathError, TreePath};

/// The largest central directory read: some hundred thousand members. torch's is 1.5 MB.
pub const MAX_DIRECTORY: u64 = 64 << 20;
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
    #[error("member has an unusable name")]
    Name(#[from] PathError),
}

/// Reads and proves the directory; members come in the order of their names' bytes.
pub fn read(blob: &dyn ReadAt) -> Result<Vec<Member>, ZipError> {
    let end = End::find(blob)?;
    let directory = blob.read_vec_at(end.directory_offset, to_usize(end.directory_size)?)?;
    let mut records = Vec::new();
    let mut at = Cursor { bytes: &directory };
    while !at.bytes.is_empty() {
        records.push(Record::parse(&mut at)?);
    }
    if records.len() as u64 != end.entries {
        return Err(ZipError::Archive("has another number of members than its end record says"));
    }
    let members = tile(blob, records, end.directory_offset)?;
    without_collisions(members)
}

/// The end records, checked against each other and against the file's length.
struct End {
    entries: u64,
    directory_offset: u64,
    directory_size: u64,
}

impl End {
    fn find(blob: &dyn ReadAt) -> Result<Self, ZipError> {
        const LEN: usize = 22;
        let size = blob.size();
        let tail_len = size.min((LEN + 0xffff) as u64);
        let tail = blob.read_vec_at(size - tail_len, to_usize(tail_len)?)?;
        // A record counts only when its comment reaches exactly to the end of the file.
        let mut found = None;
        for start in 0..(tail.len() + 1).saturating_sub(LEN) {
            if tail[start..start + 4] != END.to_le_bytes() {
                continue;
            }
            let comment = usize::from(u16::from_le_bytes([tail[start + 20], tail[start + 21]]));
            if start + LEN + comment != tail.len() {
                continue;
            }
            if found.replace(start).is_some() {
                return Err(ZipError::Archive("has two end-of-directory records"));
            }
        }
        let start = found.ok_or(ZipError::NoEnd)?;
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
        Ok(record)
    }

    fn refuse(&self, rule: &'static str) -> ZipError {
        ZipError::Member { name: self.name.clone(), rule }
    }

    /// The member this record stands for, `None` for a directory; and where the member ends if nothing follows the
    /// data. `limit` is where the next thing of the archive begins.
    fn member(self, blob: &dyn ReadAt, limit: u64) -> Result<Option<Member>, ZipError> {
        let offset = self.check_local(blob, limit)?;
        let is_directory = self.name.ends_with('/');
        match (self.mode & 0o170_000, is_directory) {
            (0, _) | (0o040_000, true) | (0o100_000, false) => {}
            (0o120_000, _) => return Err(self.refuse("is a symbolic link, which wheels may not contain")),
            _ => return Err(self.refuse("is neither a file nor a directory")),
        }
        let name = if is_directory { &self.name[..self.name.len() - 1] } else { &self.name };
        if name.contains('\\') {
            return Err(self.refuse("has a backslash in its name"));
        }
        let path = TreePath::new(name)?;
        if is_directory {
            if self.size != 0 {
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
    fn check_local(&self, blob: &dyn ReadAt, limit: u64) -> Result<u64, ZipError> {
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
        let described = flags & FLAG_DESCRIPTOR != 0;
        let same = (crc32, packed, size) == (self.crc32, self.packed, self.size);
        if !(same || described && (crc32, packed, size) == (0, 0, 0)) {
            return Err(contradicts());
        }
        let behind = offset.checked_add(self.packed).filter(|end| *end <= limit).ok_or_else(overlaps)?;
        let gap = limit - behind;
        match (described, gap) {
            (false, 0) => Ok(offset),
            (true, 12 | 16 | 20 | 24) => {
                let descriptor = blob.read_vec_at(behind, gap as usize)?;
                if self.matches_descriptor(&descriptor, zip64) { Ok(offset) } else { Err(contradicts()) }
            }
            _ => Err(self.refuse("is followed by bytes that no record owns")),
        }
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
) -> Result<Vec<Option<Member>>, ZipError> {
    records.sort_by_key(|record| record.local);
    match records.first() {
        Some(first) if first.local != 0 => {
            return Err(ZipError::Archive("has data in front of its first member"));
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
        let member = record.member(blob, limit)?;
        if member.is_none() && !directories.insert(name.clone()) {
            return Err(ZipError::Member { name, rule: "is there twice" });
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

/// Sorts by name and refuses a name that comes twice or lies below a file.
fn without_collisions(members: Vec<Option<Member>>) -> Result<Vec<Member>, ZipError> {
    let mut by_path = BTreeMap::new();
    for member in members.into_iter().flatten() {
        let path = member.path.clone();
        if by_path.insert(path.clone(), member).is_some() {
            return Err(ZipError::Member { name: path.to_string(), rule: "is there twice" });
        }
    }
    for path in by_path.keys() {
        if let Some(file) = path.parents().find(|parent| by_path.contains_key(parent)) {
            return Err(ZipError::Member { name: file.to_string(), rule: "is both a file and a directory" });
        }
    }
    Ok(by_path.into_values().collect())
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
mod tests {
    use super::super::testing::{File, Frame, file, framed_zip, zip};
    use super::*;

    fn with(change: impl FnOnce(&mut File)) -> Vec<u8> {
        let mut odd = file("pkg/odd.py", "content of odd.py, which is long enough to be deflated deflated");
        change(&mut odd);
        zip(&[file("pkg/a.py", "a"), odd, file("pkg/z.py", "z")])
    }

    fn framed(change: impl FnOnce(&mut Frame)) -> Vec<u8> {
        let mut frame = Frame::default();
        change(&mut frame);
        framed_zip(&[file("pkg/a.py", "a"), file("pkg/z.py", "z")], &frame)
    }

    fn message(archive: &[u8]) -> String {
        let error = read(&archive.to_vec()).expect_err("a hostile zip was taken");
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    }

    #[test]
    fn ambiguous_archives_are_refused_by_name_and_rule() {
        let unicode_path = [0x75, 0x70, 1, 0, 1].to_vec();
        let mut spliced = framed(|_| {});
        let end = framed(|frame| frame.comment = spliced[spliced.len() - 22..].to_vec());
        spliced.extend(b"x");
        for (archive, rule) in [
            (with(|f| f.name = "pkg/a.py".into()), "member \"pkg/a.py\" is there twice"),
            (with(|f| f.name = "pkg/a.py/b".into()), "member \"pkg/a.py\" is both a file and a directory"),
            (with(|f| f.name = "../odd".into()), "path \"../odd\" has a `.` or `..` part"),
            (with(|f| f.name = "pkg/../../odd".into()), "has a `.` or `..` part"),
            (with(|f| f.name = "/etc/odd".into()), "path \"/etc/odd\" is absolute"),
            (with(|f| f.name = "pkg\\odd".into()), "has a backslash in its name"),
            (with(|f| f.name = "pkg/o\0dd".into()), "contains a NUL"),
            (with(|f| f.name = "pkg//odd".into()), "has an empty part"),
            (with(|f| f.name = "pkg/.wh.odd".into()), "has a part that begins with `.wh.`"),
            (with(|f| f.name = "pkg/é".into()), "has a name beyond ASCII without the UTF-8 flag"),
            (with(|f| f.mode = 0o120_777), "member \"pkg/odd.py\" is a symbolic link"),
            (with(|f| f.mode = 0o010_644), "is neither a file nor a directory"),
            (with(|f| f.mode = 0o040_755), "is neither a file nor a directory"),
            (
                with(|f| {
                    f.name = "pkg/odd/".into();
                    f.mode = 0;
                }),
                "is a directory with content",
            ),
            (with(|f| f.flags = 1), "is encrypted"),
            (with(|f| f.flags = 1 << 6), "is encrypted"),
            (with(|f| f.flags = 1 << 5), "is a patch, not a file"),
            (with(|f| f.method = Some(12)), "is compressed by another method than deflate"),
            (with(|f| f.size = Some(1 << 20)), "has a size that its packed size cannot have"),
            (with(|f| f.smuggled = vec![0; 8192]), "has a size that its packed size cannot have"),
            (with(|f| f.method = Some(0)), "has a size that its packed size cannot have"),
            (with(|f| f.local.name = Some("pkg/ODD.py".into())), "has another name in its local header"),
            (with(|f| f.local.crc32 = Some(7)), "has a local header that contradicts the directory"),
            (with(|f| f.behind = b"hidden".to_vec()), "is followed by bytes that no record owns"),
            (with(|f| f.extra = unicode_path.clone()), "has a second name in its extra fields"),
            (with(|f| f.extra = vec![1, 0, 9]), "has malformed extra fields"),
            (
                with(|f| {
                    f.streamed = true;
                    f.local.crc32 = Some(7);
                }),
                "has a local header that contradicts the directory",
            ),
            (framed(|f| f.before = b"#!/bin/sh\n".to_vec()), "has data in front of its first member"),
            (framed(|f| f.before_directory = b"hidden".to_vec()), "is followed by bytes that no record owns"),
            (
                framed(|f| f.before_end = b"hidden".to_vec()),
                "has bytes around its directory that no record owns",
            ),
            (framed(|f| f.after = b"hidden".to_vec()), "no end-of-directory record at its end"),
            (framed(|f| f.entries = Some(1)), "has another number of members than its end record says"),
            (framed(|f| f.entries = Some(3)), "has another number of members than its end record says"),
            (end, "has two end-of-directory records"),
            (spliced, "no end-of-directory record at its end"),
            (Vec::new(), "no end-of-directory record at its end"),
        ] {
            let message = message(&archive);
            assert!(message.contains(rule), "expected {rule:?}, got {message:?}");
        }
    }

    #[test]
    fn odd_but_clear_archives_are_read() {
        for archive in [
            with(|_| {}),
            with(|f| f.stored = true),
            with(|f| f.streamed = true),
            with(|f| f.zip64 = true),
            with(|f| f.mode = 0o644),
            with(|f| f.mode = 0),
            with(|f| f.extra = vec![0x55, 0x54, 1, 0, 0]),
            framed(|f| f.comment = b"made by hand".to_vec()),
            framed(|f| f.zip64 = true),
        ] {
            let members = read(&archive).unwrap();
            assert!(members.windows(2).all(|pair| pair[0].path < pair[1].path));
            assert_eq!(members[0].path.as_str(), "pkg/a.py");
        }
        let with_directories = zip(&[file("pkg/", ""), file("pkg/a", "a")]);
        assert_eq!(read(&with_directories).unwrap().len(), 1);
        let twice = zip(&[file("pkg/", ""), file("pkg/", "")]);
        assert!(message(&twice).contains("is there twice"));
        let file_too = zip(&[file("pkg", "x"), file("pkg/", "")]);
        assert!(message(&file_too).contains("is both a file and a directory"));
    }

    #[test]
    fn overlapping_members_are_refused() {
        // The second member's record is made to point at the first member.
        let mut archive = zip(&[file("a", "same"), file("b", "same")]);
        let at = archive.windows(4).rposition(|bytes| bytes == CENTRAL.to_le_bytes()).unwrap();
        archive[at + 42..at + 46].copy_from_slice(&0_u32.to_le_bytes());
        assert!(message(&archive).contains("overlaps what follows it"));
    }

    #[test]
    fn no_byte_of_the_directory_can_be_changed_into_a_panic() {
        let archive = with(|f| f.zip64 = true);
        for at in 0..archive.len() {
            for value in [0, 0xff, archive[at] ^ 1] {
                let mut broken = archive.clone();
                broken[at] = value;
                let _ = read(&broken);
            }
            let _ = read(&archive[..at].to_vec());
        }
    }
}
