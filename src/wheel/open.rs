//! A wheel understood: its members, and the metadata that must agree with its file name.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use flate2::bufread::DeflateDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::filename::{FileName, normal_name, same_version, tags_meet};
use super::metadata::{Metadata, WheelFile};
use super::record::{self, Rows};
use super::waivers::Waivers;
use super::zip::{self, Member, Method};
use super::{WheelError, entry_points};
use crate::blob::{RangeReader, ReadAt};
use crate::digest::{Digest, Hasher};
use crate::spec::model::WheelRule;
use crate::tree::{Content, TreePath};

/// The largest member read into memory: `RECORD` of torch is 1.2 MB.
const MAX_TEXT: u64 = 32 << 20;
const CHUNK: usize = 256 << 10;

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
    pub(super) waivers: Waivers,
}

/// Reads the wheel `name` from `blob`, whose digest has been verified by whoever hands it out.
pub fn open(
    name: &str,
    blob_digest: Digest,
    blob: &dyn ReadAt,
    mut waivers: Waivers,
) -> Result<Wheel, WheelError> {
    let expected = FileName::parse(name).ok_or_else(|| WheelError::FileName(name.to_owned()))?;
    let members = zip::read(blob, &mut waivers)?;
    let dist_info = dist_info(&members)?;
    let stem = dist_info.strip_suffix(".dist-info").unwrap_or(&dist_info);
    agree(&dist_info, stem.split_once('-').unwrap_or((stem, "")), &expected, &mut waivers)?;

    let text = |file: &str| -> Result<Option<String>, WheelError> {
        let path = TreePath::new(&format!("{dist_info}/{file}"))?;
        let Ok(at) = members.binary_search_by(|member| member.path.cmp(&path)) else { return Ok(None) };
        let bytes = inflate(&members[at], blob, MAX_TEXT)?;
        String::from_utf8(bytes).map(Some).map_err(|_| WheelError::NotText(path))
    };
    let needed = |file: &str| text(file)?.ok_or_else(|| WheelError::Missing(format!("{dist_info}/{file}")));

    let wheel = WheelFile::parse(&needed("WHEEL")?);
    if wheel.major != Some(1) {
        return Err(WheelError::Version);
    }
    check_tags(&wheel, &expected, &mut waivers)?;
    let metadata = Metadata::parse(&needed("METADATA")?);
    let said =
        (metadata.name.as_deref().unwrap_or_default(), metadata.version.as_deref().unwrap_or_default());
    agree("METADATA", said, &expected, &mut waivers)?;
    let version = said.1.to_owned();
    let rows = record::parse(&needed("RECORD")?, members.len(), &mut waivers)?;
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
        pure: wheel.pure,
        rows,
        entry_points,
        waivers,
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

fn agree(
    file: &str,
    (name, version): (&str, &str),
    expected: &FileName,
    waivers: &mut Waivers,
) -> Result<(), WheelError> {
    let (file, found) = (file.to_owned(), name.to_owned());
    if normal_name(name) != expected.name {
        return Err(WheelError::Disagrees { file, found, expected: expected.name.clone() });
    }
    if version.is_empty() {
        return Err(WheelError::Missing(format!("version in {file}")));
    }
    if !same_version(&expected.version, version) && !waivers.take(WheelRule::Version) {
        let (found, expected) = (version.to_owned(), expected.version.clone());
        return Err(WheelError::OtherVersion { file, found, expected });
    }
    Ok(())
}

/// `WHEEL` repeats the tags and the build of the file name. Some tools leave them out.
fn check_tags(wheel: &WheelFile, expected: &FileName, waivers: &mut Waivers) -> Result<(), WheelError> {
    let tags = wheel.tags.is_empty() || wheel.tags.iter().any(|tag| tags_meet(tag, &expected.tags));
    let build = wheel.build.is_empty() || expected.build.is_empty() || wheel.build == expected.build;
    if tags && build || waivers.take(WheelRule::Tags) {
        return Ok(());
    }
    let (found, expected) = match tags {
        false => (wheel.tags.join(" "), expected.tags.clone()),
        true => (format!("build {}", wheel.build), format!("build {}", expected.build)),
    };
    Err(WheelError::Tags { file: "WHEEL".to_owned(), found, expected })
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
        return Err(fail(unlike_directory()));
    }
    Ok(bytes)
}

/// The SHA-256 of a whole member, whatever its size, its length and CRC proved.
pub(super) fn digest(member: &Member, blob: &dyn ReadAt) -> Result<Digest, WheelError> {
    let fail = |source| WheelError::Read { path: member.path.clone(), source };
    let packed = BufReader::with_capacity(CHUNK, RangeReader::new(blob, member.offset, member.packed));
    let mut reader: Box<dyn Read + '_> = match member.method {
        Method::Stored => Box::new(packed),
        Method::Deflated => Box::new(DeflateDecoder::new(packed)),
    };
    let (mut hasher, mut crc32, mut buffer) = (Hasher::new(), crc32fast::Hasher::new(), vec![0; CHUNK]);
    // One byte more than claimed is enough to know.
    while hasher.bytes() <= member.size {
        match reader.read(&mut buffer).map_err(fail)? {
            0 => break,
            len => {
                hasher.update(&buffer[..len]);
                crc32.update(&buffer[..len]);
            }
        }
    }
    if hasher.bytes() != member.size || crc32.finalize() != member.crc32 {
        return Err(fail(unlike_directory()));
    }
    Ok(hasher.finish())
}

fn unlike_directory() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its CRC-32 or length is not the directory's")
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
