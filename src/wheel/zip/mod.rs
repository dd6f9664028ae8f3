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

mod cursor;
mod end;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use cursor::Cursor;
use end::End;
use record::Record;

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
    let (records, directory_offset) = directory(blob, waivers)?;
    let members = tile(blob, records, directory_offset, waivers)?;
    let members = without_collisions(members, blob, waivers)?;
    check_ratio(&members, blob.size(), waivers)?;
    Ok(members)
}

/// The members whose names are `wanted`, in the order of their places, each proved by its local header. Of the others only
/// the directory is looked at, so that a few reads will do where reading is dear; nothing may be installed on its word.
pub fn find(
    blob: &dyn ReadAt,
    wanted: impl Fn(&str) -> bool,
    waivers: &mut Waivers,
) -> Result<Vec<Member>, ZipError> {
    let (mut records, directory_offset) = directory(blob, waivers)?;
    let limits = limits(&mut records, directory_offset);
    let mut found = Vec::new();
    for (record, limit) in records.into_iter().zip(limits) {
        if !wanted(&record.name) {
            continue;
        }
        if record.local >= limit {
            return Err(record.refuse("overlaps what follows it"));
        }
        found.extend(record.member(blob, limit, waivers)?);
    }
    Ok(found)
}

/// The records of the directory, and where it begins.
fn directory(blob: &dyn ReadAt, waivers: &mut Waivers) -> Result<(Vec<Record>, u64), ZipError> {
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
    Ok((records, end.directory_offset))
}

/// Sorts `records` by their places and says of each where the next thing of the archive begins.
fn limits(records: &mut [Record], directory_offset: u64) -> Vec<u64> {
    records.sort_by_key(|record| record.local);
    records.iter().skip(1).map(|record| record.local).chain([directory_offset]).collect()
}

/// Proves that the members, in the order of their places, fill the file from its first byte to the directory.
fn tile(
    blob: &dyn ReadAt,
    mut records: Vec<Record>,
    directory_offset: u64,
    waivers: &mut Waivers,
) -> Result<Vec<Option<Member>>, ZipError> {
    let limits = limits(&mut records, directory_offset);
    match records.first() {
        Some(first) if first.local != 0 && !may_stray(blob, 0..first.local, waivers)? => {
            return Err(ZipError::Stray("has data in front of its first member"));
        }
        None if directory_offset != 0 => {
            return Err(ZipError::Archive("has data in front of its directory"));
        }
        _ => {}
    }
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

fn to_usize(value: u64) -> Result<usize, ZipError> {
    if value > MAX_DIRECTORY {
        return Err(ZipError::Archive("has a directory of more than 64 MiB"));
    }
    usize::try_from(value).map_err(|_| ZipError::Archive("has a directory of more than 64 MiB"))
}
