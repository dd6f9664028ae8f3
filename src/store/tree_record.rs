//! What a tree says of itself: JSON of one line, with a version and a checksum of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{StoreError, touch};
use crate::digest::{DiffId, Digest};

const VERSION: u32 = 1;
/// The longest record read, in bytes.
const LONGEST: u64 = 1 << 20;

/// What is known of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeRecord {
    pub diff_id: DiffId,
    /// Names in it.
    pub entries: u64,
    /// Of all its files.
    pub bytes: u64,
    /// What [`survey`](crate::unpack::survey) finds in it.
    pub content: Digest,
    /// Owners other than 0:0 that the layer names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<(u32, u32)>,
    /// Directories that the layers below decide: upon others than none the tree is another one, by its chain ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<String>,
    /// A hard link to what only a layer below can have, and its target: the same holds, and as the lowest layer it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<(String, String)>,
    /// Nothing of the layers below is to be seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    /// Of the rest without version and checksum, as JSON.
    checksum: Digest,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Rest {
    #[serde(flatten)]
    pub record: TreeRecord,
    /// The boot in which it was made; none once it is on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// None if it is absent, damaged, or of a newer version.
pub(super) fn read_record(path: &Path) -> Result<Option<Rest>, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        touch(&file);
        // One read, where it is as short as it is.
        bytes.reserve(1024);
        file.take(LONGEST).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Read { path: path.to_owned(), source }),
    }
    let wire = serde_json::from_slice::<Wire>(&bytes).ok();
    Ok(wire
        .filter(|wire| wire.version == VERSION && wire.checksum == checksum(&wire.rest))
        .map(|wire| wire.rest))
}

pub(super) fn encode(rest: Rest) -> Vec<u8> {
    let wire = Wire { version: VERSION, checksum: checksum(&rest), rest };
    let mut bytes = serde_json::to_vec(&wire).expect("texts and numbers");
    bytes.push(b'\n');
    bytes
}

fn checksum(rest: &Rest) -> Digest {
    Digest::of(serde_json::to_vec(rest).expect("texts and numbers"))
}
