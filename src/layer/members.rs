//! A recipe read as what it stands for: the tar without the contents that come from blobs, and where those are.
//!
//! Each gzip member of a pass-through layer is a part of the tar that we wrote, and then at most one content, which is a
//! range of a blob ([`recipe`](super::recipe)). Whoever wants the files and not the layer takes the contents from their
//! blobs, and makes neither gzip nor tar.

use flate2::{Decompress, FlushDecompress, Status};

use super::recipe::{Piece, Recipe};
use super::{LayerError, gzip};
use crate::digest::Digest;

/// Ends our part of a member: the empty stored block that [`deflate`](super::deflate) aligns with.
const ALIGNED: [u8; 4] = [0, 0, 0xff, 0xff];
/// Header of a stored block that begins on a byte. Its length is never 0, so it cannot end as [`ALIGNED`] does.
const STORED_HEAD: usize = 5;
const TRAILER: usize = 8;

/// The tar of a recipe, without the contents that members bring.
#[derive(Debug, Default)]
pub struct Members {
    /// Headers, padding and what content we wrote, one behind the other.
    pub tar: Vec<u8>,
    /// In order; each begins in [`Members::tar`] where the one before ends.
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where its part of [`Members::tar`] ends, which is where its content would follow.
    pub end: usize,
    /// None for the last.
    pub content: Option<Packed>,
    /// CRC-32 of all that the member holds, and its length modulo 2^32.
    crc32: u32,
    len: u32,
}

/// A content as a range of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    pub blob: Digest,
    pub offset: u64,
    pub len: u64,
    /// A DEFLATE stream; else the content itself.
    pub deflated: bool,
}

impl Members {
    pub fn of(recipe: &Recipe) -> Result<Self, LayerError> {
        let mut members = Self::default();
        let mut inflate = Decompress::new(false);
        let mut pieces = recipe.pieces().peekable();
        let mut literal = take_literal(pieces.next())?;
        loop {
            let body = literal.strip_prefix(&gzip::HEADER[..]).ok_or(FORM)?;
            let Some(range) = pieces.next() else {
                let (body, trailer) = body.split_last_chunk::<TRAILER>().ok_or(FORM)?;
                members.inflate(&mut inflate, body)?;
                members.push(None, trailer);
                return Ok(members);
            };
            let Piece::Range { blob, offset, len } = range else { return Err(FORM) };
            let mut packed = Packed { blob, offset, len, deflated: body.ends_with(&ALIGNED) };
            if packed.deflated {
                members.inflate(&mut inflate, body)?;
                literal = take_literal(pieces.next())?;
            } else {
                let (body, head) = body.split_last_chunk::<STORED_HEAD>().ok_or(FORM)?;
                members.inflate(&mut inflate, body)?;
                let mut last = head[0] & 1 == 1;
                literal = take_literal(pieces.next())?;
                while !last {
                    let Some(Piece::Range { blob: same, offset, len }) = pieces.next() else {
                        return Err(FORM);
                    };
                    if same != blob || offset != packed.offset + packed.len || literal.len() != STORED_HEAD {
                        return Err(FORM);
                    }
                    packed.len += len;
                    last = literal[0] & 1 == 1;
                    literal = take_literal(pieces.next())?;
                }
            }
            let (trailer, rest) = literal.split_first_chunk::<TRAILER>().ok_or(FORM)?;
            members.push(Some(packed), trailer);
            literal = rest;
        }
    }

    /// The part of the tar that the member brings before its content.
    pub fn before(&self, member: usize) -> &[u8] {
        let start = member.checked_sub(1).map_or(0, |before| self.members[before].end);
        &self.tar[start..self.members[member].end]
    }

    /// Whether a content of that CRC-32 and length is what the member promises.
    pub fn fits(&self, member: usize, crc32: u32, len: u64) -> bool {
        let before = self.before(member);
        let mut crc = crc32fast::Hasher::new();
        crc.update(before);
        crc.combine(&crc32fast::Hasher::new_with_initial_len(crc32, len));
        let Member { crc32, len: promised, .. } = self.members[member];
        crc.finalize() == crc32 && (before.len() as u64).wrapping_add(len) as u32 == promised
    }

    fn push(&mut self, content: Option<Packed>, trailer: &[u8; TRAILER]) {
        let (crc32, len) = trailer.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().expect("half of eight bytes"));
        self.members.push(Member { end: self.tar.len(), content, crc32: number(crc32), len: number(len) });
    }

    fn inflate(&mut self, inflate: &mut Decompress, mut body: &[u8]) -> Result<(), LayerError> {
        inflate.reset(false);
        loop {
            self.tar.reserve(body.len() * 2 + 1024);
            let before = inflate.total_in();
            let made = self.tar.len();
            let status =
                inflate.decompress_vec(body, &mut self.tar, FlushDecompress::None).map_err(|_| FORM)?;
            let used = (inflate.total_in() - before) as usize;
            body = &body[used..];
            let stuck = used == 0 && self.tar.len() == made;
            if status == Status::StreamEnd || (body.is_empty() && self.tar.len() < self.tar.capacity()) {
                return if body.is_empty() { Ok(()) } else { Err(FORM) };
            }
            if stuck {
                return Err(FORM);
            }
        }
    }
}

const FORM: LayerError = LayerError::Recipe("its pieces are no gzip members of ours");

fn take_literal(piece: Option<Piece<'_>>) -> Result<&[u8], LayerError> {
    match piece {
        Some(Piece::Literal(literal)) => Ok(literal),
        _ => Err(FORM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlobs;
    use crate::epoch::Epoch;
    use crate::layer::tar;
    use crate::tree::{Content, Node, Tree, TreePath};

    /// Contents between the parts give the tar again, whatever the contents look like.
    #[test]
    fn parts_and_contents_are_the_tar() {
        let mut blobs = MemoryBlobs::default();
        // Also contents that look like the end of our part, and one of several stored blocks.
        let contents: [Vec<u8>; 5] =
            [b"a".to_vec(), ALIGNED.to_vec(), vec![7; 65_535], vec![8; 65_536], vec![9; 200_000]];
        let mut tree = Tree::new();
        let mut expected = Vec::new();
        let path = |text: &str| TreePath::new(text).unwrap();
        tree.insert(path("0/inline"), Node::File { mode: 0o755, content: Content::bytes(&b"launcher"[..]) });
        tree.insert(path("9"), Node::Symlink { target: "0".to_owned() });
        for (at, content) in contents.iter().enumerate() {
            let crc32 = crc32fast::hash(content);
            let size = content.len() as u64;
            let blob = blobs.insert([b"zip", &content[..]].concat());
            let stored = Content::Stored { blob, offset: 3, size, crc32 };
            tree.insert(path(&format!("{}/stored", at + 1)), Node::File { mode: 0o644, content: stored });
            expected.push((Packed { blob, offset: 3, len: size, deflated: false }, crc32, size));
            let stream = miniz_oxide::deflate::compress_to_vec(content, 6);
            let blob = blobs.insert(stream.clone());
            let packed = stream.len() as u64;
            let deflated = Content::Deflated { blob, offset: 0, packed, size, crc32 };
            tree.insert(path(&format!("{}/z", at + 1)), Node::File { mode: 0o644, content: deflated });
            expected.push((Packed { blob, offset: 0, len: packed, deflated: true }, crc32, size));
        }
        let recipe = Recipe::build(&tree, Epoch(5)).unwrap();
        let members = Members::of(&recipe).unwrap();
        let found: Vec<_> = members.members.iter().filter_map(|member| member.content).collect();
        assert_eq!(found, expected.iter().map(|(packed, ..)| *packed).collect::<Vec<_>>());
        for (at, (_, crc32, size)) in expected.iter().enumerate() {
            assert!(members.fits(at, *crc32, *size));
            assert!(!members.fits(at, crc32 ^ 1, *size) && !members.fits(at, *crc32, size + 1));
        }
        let mut whole = Vec::new();
        for (at, member) in members.members.iter().enumerate() {
            whole.extend_from_slice(members.before(at));
            if member.content.is_some() {
                whole.extend_from_slice(&contents[at / 2]);
            }
        }
        let mut headers = Vec::new();
        for entry in tar::entries(&tree).unwrap() {
            tar::header(&mut headers, &entry, Epoch(5));
        }
        assert!(whole.starts_with(&headers[..512]) && whole.ends_with(&tar::END));
        let mut layer = Vec::new();
        recipe.write_to(&blobs, &mut layer).unwrap();
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(&layer[..]);
        std::io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
        assert!(whole == unpacked, "{} bytes, not {}", whole.len(), unpacked.len());
    }
}
