//! Verifying the blobs that a layer is made of while the layer itself is hashed.
//!
//! A wheel's bytes lie in another order than those of its layer, so each needs a pass of its own; but two digests at a time
//! cost little more than one ([`update_pair`]), and the second pass finds the bytes in the page cache.

use std::sync::Arc;

use super::LayerError;
use crate::blob::{BlobSource, ReadAt};
use crate::digest::{Digest, Hasher, update_pair};

/// Bytes read at once when no layer sets the pace.
const CHUNK: usize = 256 * 1024;

/// Blobs whose digests are to be verified, one after the other: one of them is open at a time.
pub(super) struct Shadow<'a> {
    blobs: &'a dyn BlobSource,
    waiting: std::slice::Iter<'a, Digest>,
    file: Option<File>,
    buffer: Vec<u8>,
}

struct File {
    digest: Digest,
    blob: Arc<dyn ReadAt>,
    hasher: Hasher,
}

impl<'a> Shadow<'a> {
    pub fn new(digests: &'a [Digest], blobs: &'a dyn BlobSource) -> Self {
        Self { blobs, waiting: digests.iter(), file: None, buffer: Vec::new() }
    }

    /// Hashes `chunk` with `layer`, and about as many bytes of the blobs.
    pub fn hash_beside(&mut self, layer: &mut Hasher, chunk: &[u8]) -> Result<(), LayerError> {
        self.open_next()?;
        let Some(file) = &mut self.file else {
            layer.update(chunk);
            return Ok(());
        };
        file.read(&mut self.buffer, chunk.len())?;
        update_pair(layer, chunk, &mut file.hasher, &self.buffer);
        Ok(())
    }

    /// Verifies what is left.
    pub fn finish(mut self) -> Result<(), LayerError> {
        loop {
            self.open_next()?;
            let Some(file) = &mut self.file else { return Ok(()) };
            file.read(&mut self.buffer, CHUNK)?;
            file.hasher.update(&self.buffer);
        }
    }

    /// Sees to it that the file at hand is one with bytes to come, if there is any such.
    fn open_next(&mut self) -> Result<(), LayerError> {
        while self.file.as_ref().is_none_or(File::is_complete) {
            if let Some(file) = self.file.take() {
                file.verify()?;
            }
            let Some(&digest) = self.waiting.next() else { break };
            let blob = self.blobs.open(&digest).map_err(LayerError::ReadBlob)?;
            self.file = Some(File { digest, blob, hasher: Hasher::new() });
        }
        Ok(())
    }
}

impl File {
    fn is_complete(&self) -> bool {
        self.hasher.bytes() == self.blob.size()
    }

    fn verify(self) -> Result<(), LayerError> {
        let (digest, actual) = (self.digest, self.hasher.finish());
        if actual == digest { Ok(()) } else { Err(LayerError::Source { digest, actual }) }
    }

    /// Fills `buffer` with the next bytes, `len` of them except at the end.
    fn read(&self, buffer: &mut Vec<u8>, len: usize) -> Result<(), LayerError> {
        let left = self.blob.size() - self.hasher.bytes();
        buffer.resize(left.min(len as u64) as usize, 0);
        self.blob.read_exact_at(buffer, self.hasher.bytes()).map_err(LayerError::ReadBlob)
    }
}
