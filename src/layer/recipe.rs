//! A pass-through layer as a value: literal bytes and ranges of blobs, in order.
//!
//! Each file whose content is a range of a blob makes one gzip member: our DEFLATE blocks for what comes before it in
//! the tar (padding, entries without content, its own header), ended on a byte boundary, then the wheel's stream as it
//! is. A stored member goes in stored blocks. The member's CRC is combined from ours and the wheel's. A last member
//! holds the end of the archive.
//!
//! The binary form ([`Recipe::encode`]) is kept by the store and versioned by its first bytes:
//!
//! ```text
//! "mlbuild recipe 1\n"
//! epoch
//! count, then 32 bytes each    blobs
//! count, then each of          pieces: len*2 for a literal; len*2+1, blob, offset for a range
//! bytes                        all literals, one behind the other
//! ```
//! where numbers are LEB128.

use std::io::Write;

use super::reader::{CHUNK, Reader};
use super::{LayerError, deflate, gzip, tar};
use crate::blob::BlobSource;
use crate::digest::Digest;
use crate::epoch::Epoch;
use crate::tree::{Content, Tree};

const MAGIC: &[u8] = b"mlbuild recipe 1\n";
/// The most that one stored block can hold.
const STORED_MAX: u64 = 0xffff;

/// How to make a layer's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    pub(super) blobs: Vec<Digest>,
    pub(super) literals: Vec<u8>,
    pub(super) parts: Vec<Part>,
    size: u64,
    epoch: Epoch,
}

/// One step of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Literal(&'a [u8]),
    Range { blob: Digest, offset: u64, len: u64 },
}

/// As [`Piece`]; literals follow each other in [`Recipe::literals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Literal { len: usize },
    Range { blob: usize, offset: u64, len: u64 },
}

impl Recipe {
    /// The recipe of a tree whose contents are bytes or parts of blobs.
    pub fn build(tree: &Tree, epoch: Epoch) -> Result<Self, LayerError> {
        if tree.is_empty() {
            return Err(LayerError::Empty);
        }
        let mut recipe = Self { epoch, ..Self::default() };
        let mut pending = Vec::new();
        for entry in tar::entries(tree)? {
            tar::header(&mut pending, &entry, epoch);
            let tar::Kind::File(content) = entry.kind else { continue };
            match content {
                Content::Bytes(bytes) => pending.extend_from_slice(bytes),
                Content::Slice { .. } => {
                    return Err(LayerError::Content { path: entry.path, rule: "is in no blob" });
                }
                Content::Stored { size: 0, .. } | Content::Deflated { size: 0, .. } => {}
                Content::Stored { blob, offset, size, crc32 } => {
                    recipe.begin_member(&pending);
                    let (mut offset, mut left) = (*offset, *size);
                    while left > 0 {
                        let len = left.min(STORED_MAX);
                        let mut head = Vec::new();
                        deflate::stored(&mut head, len as u16, len == left);
                        recipe.literal(&head);
                        recipe.range(*blob, offset, len);
                        offset += len;
                        left -= len;
                    }
                    recipe.end_member(&pending, *crc32, *size);
                    pending.clear();
                }
                Content::Deflated { blob, offset, packed, size, crc32 } => {
                    recipe.begin_member(&pending);
                    recipe.range(*blob, *offset, *packed);
                    recipe.end_member(&pending, *crc32, *size);
                    pending.clear();
                }
            }
            pending.resize(pending.len() + tar::padding(content.size()), 0);
        }
        pending.extend_from_slice(&tar::END);
        recipe.literal(&gzip::HEADER);
        let mut end = Vec::new();
        deflate::encode(&mut end, &pending, true);
        recipe.literal(&end);
        recipe.end_member(&pending, 0, 0);
        Ok(recipe)
    }

    /// Length of the layer.
    pub const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The blobs it needs, each once, in the order of first use.
    pub fn blobs(&self) -> Vec<Digest> {
        self.blobs.clone()
    }

    /// The steps, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut literals = self.literals.as_slice();
        self.parts.iter().map(move |part| match *part {
            Part::Literal { len } => {
                let (literal, rest) = literals.split_at(len);
                literals = rest;
                Piece::Literal(literal)
            }
            Part::Range { blob, offset, len } => Piece::Range { blob: self.blobs[blob], offset, len },
        })
    }

    /// Writes the layer's bytes.
    pub fn write_to(&self, blobs: &dyn BlobSource, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut reader = Reader::new(self, blobs);
        let mut chunk = Vec::with_capacity(CHUNK);
        while reader.fill(&mut chunk).map_err(LayerError::ReadBlob)? {
            out.write_all(&chunk).map_err(LayerError::Write)?;
        }
        Ok(())
    }

    fn begin_member(&mut self, pending: &[u8]) {
        self.literal(&gzip::HEADER);
        let mut encoded = Vec::new();
        deflate::encode(&mut encoded, pending, false);
        self.literal(&encoded);
    }

    /// `crc32` and `size` are those of what follows `pending` in the member.
    fn end_member(&mut self, pending: &[u8], crc32: u32, size: u64) {
        let mut crc = crc32fast::Hasher::new();
        crc.update(pending);
        crc.combine(&crc32fast::Hasher::new_with_initial_len(crc32, size));
        self.literal(&gzip::trailer(crc.finalize(), (pending.len() as u64).wrapping_add(size)));
    }

    fn literal(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.literals.extend_from_slice(bytes);
        match self.parts.last_mut() {
            Some(Part::Literal { len }) => *len += bytes.len(),
            _ => self.parts.push(Part::Literal { len: bytes.len() }),
        }
    }

    fn range(&mut self, digest: Digest, offset: u64, len: u64) {
        // Files of one wheel follow each other, and a layer has few wheels.
        let blob = self.blobs.iter().rposition(|known| *known == digest).unwrap_or_else(|| {
            self.blobs.push(digest);
            self.blobs.len() - 1
        });
        self.size += len;
        self.parts.push(Part::Range { blob, offset, len });
    }
}

impl Recipe {
    /// The binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.epoch.0);
        put(&mut out, self.blobs.len() as u64);
        self.blobs.iter().for_each(|digest| out.extend_from_slice(digest.as_bytes()));
        put(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            match *part {
                Part::Literal { len } => put(&mut out, (len as u64) << 1),
                Part::Range { blob, offset, len } => {
                    put(&mut out, len << 1 | 1);
                    put(&mut out, blob as u64);
                    put(&mut out, offset);
                }
            }
        }
        out.extend_from_slice(&self.literals);
        out
    }

    /// From the binary form; whatever `bytes` are, no memory beyond a small multiple of their length is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayerError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(LayerError::Recipe("its first line is another"))?;
        let short = LayerError::Recipe;
        let mut recipe = Self { epoch: Epoch(take(&mut rest)?), ..Self::default() };
        for _ in 0..take(&mut rest)? {
            let (digest, after) = rest.split_first_chunk().ok_or(short("it is cut off"))?;
            recipe.blobs.push(Digest::from_bytes(*digest));
            rest = after;
        }
        let mut literals = 0_usize;
        for _ in 0..take(&mut rest)? {
            let tag = take(&mut rest)?;
            let len = tag >> 1;
            if len == 0 {
                return Err(short("a piece is empty"));
            }
            recipe.size = recipe.size.checked_add(len).ok_or(short("it is too long"))?;
            recipe.parts.push(if tag & 1 == 0 {
                let len = usize::try_from(len).map_err(|_| short("it is too long"))?;
                literals = literals.checked_add(len).ok_or(short("it is too long"))?;
                Part::Literal { len }
            } else {
                let (blob, offset) = (take(&mut rest)?, take(&mut rest)?);
                if blob >= recipe.blobs.len() as u64 {
                    return Err(short("a piece names a blob that is not listed"));
                }
                offset.checked_add(len).ok_or(short("a range is too long"))?;
                Part::Range { blob: blob as usize, offset, len }
            });
        }
        if rest.len() != literals {
            return Err(short("its literals have another length than its pieces"));
        }
        recipe.literals = rest.to_vec();
        Ok(recipe)
    }
}

/// Unsigned LEB128.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Result<u64, LayerError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(LayerError::Recipe("it is cut off"))?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(LayerError::Recipe("a number is too large"))
}
