//! A writer that lets through exactly the bytes of one digest.

use std::io::{self, Write};

use super::{ExportError, Progress};
use crate::digest::{Digest, HashingWriter, Mismatch};

/// Passes on at most `size` bytes, and knows at the end whether they were the ones promised.
pub(super) struct Verifier<'a, W> {
    inner: HashingWriter<W>,
    digest: Digest,
    size: u64,
    seen: u64,
    inner_failed: bool,
    progress: &'a Progress<'a>,
}

impl<'a, W: Write> Verifier<'a, W> {
    pub(super) fn new(inner: W, digest: Digest, size: u64, progress: &'a Progress<'a>) -> Self {
        Self { inner: HashingWriter::new(inner), digest, size, seen: 0, inner_failed: false, progress }
    }

    /// The bytes beyond the promised size: the stream was cut there.
    pub(super) fn is_too_long(&self) -> bool {
        self.seen > self.size
    }

    /// An error came from below, not from the stream.
    pub(super) fn has_inner_failed(&self) -> bool {
        self.inner_failed
    }

    /// The inner writer, if everything came that was promised.
    pub(super) fn finish(self) -> Result<W, Mismatch> {
        let (expected, expected_size, seen) = (self.digest, self.size, self.seen);
        let (inner, actual, written) = self.inner.finish();
        let actual_size = written.max(seen);
        match actual == expected && actual_size == expected_size {
            true => Ok(inner),
            false => Err(Mismatch { expected, expected_size, actual, actual_size }),
        }
    }
}

impl<W: Write> Write for Verifier<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.seen + bytes.len() as u64 > self.size {
            self.seen += bytes.len() as u64;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than the layer has"));
        }
        let written = self.inner.write(bytes).inspect_err(|_| self.inner_failed = true)?;
        self.seen += written as u64;
        (self.progress)(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether the blob is good: writing it failed, its stream failed, or it has more or other bytes than promised.
pub(super) fn settle<W: Write>(
    verifier: Verifier<'_, W>,
    produced: io::Result<()>,
    digest: Digest,
    failed: impl FnOnce(io::Error) -> ExportError,
) -> Result<W, ExportError> {
    match produced {
        Err(error) if verifier.has_inner_failed() => Err(failed(error)),
        Err(source) if !verifier.is_too_long() => Err(ExportError::Layer { digest, source }),
        _ => verifier.finish().map_err(|source: Mismatch| ExportError::Integrity { digest, source }),
    }
}
