//! The bytes of a recipe, in order, as they are read.

use std::borrow::Borrow;
use std::io::{self, Read};
use std::sync::Arc;

use super::recipe::{Part, Recipe};
use crate::blob::{BlobSource, ReadAt};

/// Bytes handed on at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// Yields a recipe's bytes. One blob is open at a time, since a layer may have more of them than a process may have open files;
/// the ranges of one wheel follow each other.
pub struct Reader<R, S> {
    recipe: R,
    source: S,
    open: Option<(usize, Arc<dyn ReadAt>)>,
    /// The part that is next, and what of it is done.
    part: usize,
    done: u64,
    /// Literals that are done.
    literals: usize,
}

impl<R: Borrow<Recipe>, S: BlobSource> Reader<R, S> {
    pub const fn new(recipe: R, source: S) -> Self {
        Self { recipe, source, open: None, part: 0, done: 0, literals: 0 }
    }

    /// Replaces `chunk` by the next bytes, [`CHUNK`] of them except at the end; false when there are none.
    pub(super) fn fill(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
        // Not cleared first: to fill memory with zeros that are overwritten at once takes as long as to copy it.
        chunk.resize(CHUNK, 0);
        let filled = self.fill_slice(chunk)?;
        chunk.truncate(filled);
        Ok(filled > 0)
    }

    /// How many bytes there were: less than `buffer` has room for at the end only.
    fn fill_slice(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(part) = self.recipe.borrow().parts.get(self.part).copied() else { break };
            let room = &mut buffer[filled..];
            let len = match part {
                Part::Literal { len } => len as u64,
                Part::Range { len, .. } => len,
            };
            let taken = (len - self.done).min(room.len() as u64) as usize;
            match part {
                Part::Literal { .. } => {
                    let literals = &self.recipe.borrow().literals[self.literals..];
                    room[..taken].copy_from_slice(&literals[..taken]);
                    self.literals += taken;
                }
                Part::Range { blob, offset, .. } => {
                    let offset = offset + self.done;
                    self.blob(blob)?.read_exact_at(&mut room[..taken], offset)?;
                }
            }
            self.done += taken as u64;
            if self.done == len {
                self.part += 1;
                self.done = 0;
            }
            filled += taken;
        }
        Ok(filled)
    }

    fn blob(&mut self, at: usize) -> io::Result<&dyn ReadAt> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            self.open = None;
            self.open = Some((at, self.source.open(&self.recipe.borrow().blobs[at])?));
        }
        Ok(&*self.open.as_ref().expect("it was opened above").1)
    }
}

impl<R: Borrow<Recipe>, S: BlobSource> Read for Reader<R, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill_slice(buffer)
    }
}
