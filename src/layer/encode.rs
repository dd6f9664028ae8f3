//! Layers that we compress ourselves: bases, standalone Pythons, the user's files.
//!
//! The canonical tar is cut every [`MEMBER`] bytes, and each piece is one gzip member, so that pieces can be
//! compressed on all threads of rayon's pool at once and the bytes do not depend on how many there are. The encoder
//! is miniz_oxide, exactly 0.9.1, at [`LEVEL`]: pure Rust without SIMD. Member size, level and encoder are part of
//! [`FORMAT`](super::FORMAT). [`BATCH`] members are in memory at a time.

use std::io::{self, Write};

use rayon::prelude::*;

use super::{LayerError, LayerFacts, gzip, tar};
use crate::digest::{DiffId, Hasher, HashingWriter};
use crate::elf::{ElfFacts, Sniffer};
use crate::epoch::Epoch;
use crate::tree::{Content, Tree, TreePath};

const MEMBER: usize = 1 << 20;
const LEVEL: u8 = 6;
const BATCH: usize = 8;
/// Bytes read from a slice at once.
const CHUNK: u64 = 256 * 1024;

/// Writes the layer of `tree` to `out`. Contents are bytes or slices; parts of blobs belong into a
/// [`Recipe`](super::Recipe).
pub fn encode(tree: &Tree, epoch: Epoch, out: &mut dyn Write) -> Result<LayerFacts, LayerError> {
    if tree.is_empty() {
        return Err(LayerError::Empty);
    }
    let entries = tar::entries(tree)?;
    let mut members = Members::new(out);
    let mut elf = Vec::new();
    let mut header = Vec::new();
    for entry in &entries {
        header.clear();
        tar::header(&mut header, entry, epoch);
        members.push(&header)?;
        if let tar::Kind::File(content) = entry.kind {
            if let Some(facts) = push_content(&mut members, &entry.path, content)? {
                elf.push((entry.path.clone(), facts));
            }
            members.push(&[0; tar::BLOCK as usize][..tar::padding(content.size())])?;
        }
    }
    members.push(&tar::END)?;
    let (digest, size, tar) = members.finish()?;
    Ok(LayerFacts {
        digest,
        size,
        unpacked: tar.bytes(),
        diff_id: DiffId(tar.finish()),
        entries: entries.len() as u64,
        elf,
    })
}

fn push_content(
    members: &mut Members<'_>,
    path: &TreePath,
    content: &Content,
) -> Result<Option<ElfFacts>, LayerError> {
    let failed = |source| LayerError::ReadContent { path: path.clone(), source };
    match content {
        Content::Bytes(bytes) => {
            members.push(bytes)?;
            Sniffer::read(bytes.len() as u64, || Ok(&**bytes)).map_err(failed)
        }
        Content::Slice { from, offset, size } => {
            let mut buffer = Vec::new();
            let mut at = 0;
            let mut is_elf = false;
            while at < *size {
                buffer.resize(CHUNK.min(size - at) as usize, 0);
                let place =
                    offset.checked_add(at).ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
                from.read_exact_at(&mut buffer, place).map_err(failed)?;
                is_elf |= at == 0 && buffer.starts_with(b"\x7fELF");
                members.push(&buffer)?;
                at += buffer.len() as u64;
            }
            if !is_elf {
                return Ok(None);
            }
            Sniffer::read(*size, || Ok(crate::blob::RangeReader::new(&**from, *offset, *size)))
                .map_err(failed)
        }
        Content::Stored { .. } | Content::Deflated { .. } => Err(LayerError::Content {
            path: path.clone(),
            rule: "is part of a blob, which is not compressed again",
        }),
    }
}

/// Cuts a tar into members and writes them in order.
struct Members<'a> {
    out: HashingWriter<&'a mut dyn Write>,
    tar: Hasher,
    /// Full but for the last.
    batch: Vec<Vec<u8>>,
}

impl<'a> Members<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out: HashingWriter::new(out), tar: Hasher::new(), batch: Vec::new() }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            if self.batch.last().is_none_or(|member| member.len() == MEMBER) {
                if self.batch.len() == BATCH {
                    self.flush()?;
                }
                self.batch.push(Vec::with_capacity(MEMBER));
            }
            let member = self.batch.last_mut().expect("one was pushed when there was none");
            let (now, rest) = bytes.split_at(bytes.len().min(MEMBER - member.len()));
            member.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        let (batch, tar) = (std::mem::take(&mut self.batch), &mut self.tar);
        let (packed, ()) = rayon::join(
            || batch.par_iter().map(|member| pack(member)).collect::<Vec<_>>(),
            || batch.iter().for_each(|member| tar.update(member)),
        );
        packed.iter().try_for_each(|member| self.out.write_all(member)).map_err(LayerError::Write)
    }

    fn finish(mut self) -> Result<(crate::digest::Digest, u64, Hasher), LayerError> {
        self.flush()?;
        self.out.flush().map_err(LayerError::Write)?;
        let (_, digest, size) = self.out.finish();
        Ok((digest, size, self.tar))
    }
}

fn pack(member: &[u8]) -> Vec<u8> {
    let mut packed = gzip::HEADER.to_vec();
    packed.extend_from_slice(&miniz_oxide::deflate::compress_to_vec(member, LEVEL));
    packed.extend_from_slice(&gzip::trailer(crc32fast::hash(member), member.len() as u64));
    packed
}
