//! A wheel understood: its members, and the metadata that must agree with its file name.

use std::collections::BTreeSet;
use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use super::filename::{FileName, normal_name, same_version};
use super::metadata::{Metadata, WheelFile};
use super::record::{self, Rows};
use super::zip::{self, Member, Method};
use super::{WheelError, entry_points};
use crate::blob::ReadAt;
use crate::digest::Digest;
use crate::tree::{Content, TreePath};

/// The largest member read into memory: `RECORD` of torch is 1.2 MB.
const MAX_TEXT: u64 = 32 << 20;

/// A wheel whose directory and metadata have been read and agree with each other.
#[derive(Debug, Clone)]
pub struct Wheel {
    pub file_name: String,
    /// Normalised.
    pub name: String,
    /// As `METADATA` writes it.
    pub version: String,
    pub blob: Digest,
    /// Sorted by path.
    pub members: Vec<Member>,
    /// `torch-2.9.1.dist-info`.
    pub dist_info: String,
    /// `Root-Is-Purelib`.
    pub pure: bool,
    pub(super) rows: Rows,
    /// The text of `entry_points.txt`, empty when there is none.
    pub(super) entry_points: String,
}

/// Reads the wheel `name` from `blob`, whose digest has been verified by whoever hands it out.
pub fn open(name: &str, blob_digest: Digest, blob: &dyn ReadAt) -> Result<Wheel, WheelError> {
    let expected = FileName::parse(name).ok_or_else(|| WheelError::FileName(name.to_owned()))?;
    let members = zip::read(blob)?;
    let dist_info = dist_info(&members)?;
    let stem = dist_info.strip_suffix(".dist-info").unwrap_or(&dist_info);
    agree(&dist_info, stem.split_once('-').unwrap_or((stem, "")), &expected)?;

    let text = |file: &str| -> Result<Option<String>, WheelError> {
        let path = TreePath::new(&format!("{dist_info}/{file}"))?;
        let Ok(at) = members.binary_search_by(|member| member.path.cmp(&path)) else { return Ok(None) };
        let bytes = inflate(&members[at], blob, MAX_TEXT)?;
        String::from_utf8(bytes).map(Some).map_err(|_| WheelError::NotText(path))
    };
    let needed = |file: &str| text(file)?.ok_or_else(|| WheelError::Missing(format!("{dist_info}/{file}")));

    if WheelFile::parse(&needed("WHEEL")?).major != Some(1) {
        return Err(WheelError::Version);
    }
    let pure = WheelFile::parse(&needed("WHEEL")?).pure;
    let metadata = Metadata::parse(&needed("METADATA")?);
    let said =
        (metadata.name.as_deref().unwrap_or_default(), metadata.version.as_deref().unwrap_or_default());
    agree("METADATA", said, &expected)?;
    let version = said.1.to_owned();
    let rows = record::parse(&needed("RECORD")?)?;
    let entry_points = text("entry_points.txt")?.unwrap_or_default();
    // Only to refuse early what installing would refuse.
    entry_points::parse(&entry_points, (3, 0)).map_err(WheelError::EntryPoints)?;

    Ok(Wheel {
        file_name: name.to_owned(),
        name: expected.name,
        version,
        blob: blob_digest,
        members,
        dist_info,
        pure,
        rows,
        entry_points,
    })
}

/// The one top-level directory whose name ends in `.dist-info`.
fn dist_info(members: &[Member]) -> Result<String, WheelError> {
    let found: BTreeSet<&str> = members
        .iter()
        .filter_map(|member| Some(member.path.as_str().split_once('/')?.0))
        .filter(|top| top.ends_with(".dist-info"))
        .collect();
    match found.iter().collect::<Vec<_>>().as_slice() {
        [one] => Ok((**one).to_owned()),
        [] => Err(WheelError::DistInfo("none".to_owned())),
        several => Err(WheelError::DistInfo(format!("{} and {}", several[0], several[1]))),
    }
}

fn agree(file: &str, (name, version): (&str, &str), expected: &FileName) -> Result<(), WheelError> {
    let disagrees = |what, found: &str, expected: &str| {
        Err(WheelError::Disagrees {
            file: file.to_owned(),
            what,
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    };
    if normal_name(name) != expected.name {
        return disagrees("name", name, &expected.name);
    }
    if !same_version(&expected.version, version) {
        return disagrees("version", version, &expected.version);
    }
    Ok(())
}

impl Wheel {
    /// Where a member's bytes are, for a tree.
    pub(super) fn content(&self, member: &Member) -> Content {
        let Member { offset, packed, size, crc32, .. } = *member;
        match member.method {
            Method::Stored => Content::Stored { blob: self.blob, offset, size, crc32 },
            Method::Deflated => Content::Deflated { blob: self.blob, offset, packed, size, crc32 },
        }
    }
}

/// A whole member, its length and CRC proved.
pub(super) fn inflate(member: &Member, blob: &dyn ReadAt, limit: u64) -> Result<Vec<u8>, WheelError> {
    let path = || member.path.clone();
    let fail = |source| WheelError::Read { path: path(), source };
    if member.size > limit || member.packed > limit {
        return Err(WheelError::TooLarge { path: path(), size: member.size.max(member.packed), limit });
    }
    let bytes = begin(member, blob, member.size as usize).map_err(fail)?;
    if bytes.len() as u64 != member.size || crc32fast::hash(&bytes) != member.crc32 {
        return Err(fail(io::Error::new(
            io::ErrorKind::InvalidData,
            "its CRC-32 or length is not the directory's",
        )));
    }
    Ok(bytes)
}

/// The first `len` bytes of a member, or fewer when it ends before; nothing but the CRC remains unproved when `len`
/// is its whole size.
pub(super) fn begin(member: &Member, blob: &dyn ReadAt, len: usize) -> io::Result<Vec<u8>> {
    let whole = len as u64 >= member.size;
    if member.method == Method::Stored {
        return blob.read_vec_at(member.offset, len.min(member.size as usize));
    }
    // The first bytes of a member lie within its first bytes, unless somebody pads with empty blocks.
    let packed = if whole { member.packed } else { member.packed.min(len as u64 * 2 + 4096) };
    let packed = blob.read_vec_at(member.offset, packed as usize)?;
    let mut inflater = Decompress::new(false);
    // One byte more shows a stream that goes on.
    let mut bytes = Vec::with_capacity(len + 1);
    let status = inflater
        .decompress_vec(&packed, &mut bytes, FlushDecompress::Finish)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let ended = status == Status::StreamEnd && inflater.total_in() == member.packed;
    if whole && (!ended || bytes.len() as u64 != member.size) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its DEFLATE stream ends at another place than its member",
        ));
    }
    bytes.truncate(len);
    Ok(bytes)
}
