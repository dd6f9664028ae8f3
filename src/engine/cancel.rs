//! Cancellation: one flag, set by a signal or by the first failure, looked at wherever bytes move.
//!
//! Work is stopped through its readers and writers: they fail with [`Cancel::error`], the caller unwinds, and every
//! temporary file is removed on the way, exactly as on any other error.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::blob::{BlobSource, ReadAt};
use crate::digest::Digest;

/// A flag that is set once and never cleared; clones share it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// The flag itself, for modules that stand below.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn error() -> io::Error {
        io::Error::other("cancelled")
    }

    /// An error once the flag is set.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_cancelled() { Err(Self::error()) } else { Ok(()) }
    }

    /// Ends soon after the flag is set. Signals set a flag and nothing else, so this looks at it now and then.
    pub async fn cancelled(&self) {
        while !self.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Blobs that cannot be read any more once the work is cancelled.
pub struct CancellableBlobs<B> {
    pub blobs: B,
    pub cancel: Cancel,
}

impl<B: BlobSource> BlobSource for CancellableBlobs<B> {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        self.cancel.check()?;
        Ok(Arc::new(CancellableBlob { blob: self.blobs.open(digest)?, cancel: self.cancel.clone() }))
    }
}

struct CancellableBlob {
    blob: Arc<dyn ReadAt>,
    cancel: Cancel,
}

impl ReadAt for CancellableBlob {
    fn size(&self) -> u64 {
        self.blob.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.cancel.check()?;
        self.blob.read_exact_at(buffer, offset)
    }
}

/// A reader that fails once the work is cancelled.
pub struct CancellableReader<R> {
    pub inner: R,
    pub cancel: Cancel,
}

impl<R: Read> Read for CancellableReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.inner.read(buffer)
    }
}

/// A writer that fails once the work is cancelled.
pub struct CancellableWriter<W> {
    pub inner: W,
    pub cancel: Cancel,
}

impl<W: Write> Write for CancellableWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::MemoryBlobs;

    #[test]
    fn reading_and_writing_stop_when_cancelled() {
        let mut blobs = MemoryBlobs::default();
        let digest = blobs.insert(b"abc".to_vec());
        let cancel = Cancel::default();
        let blobs = CancellableBlobs { blobs, cancel: cancel.clone() };
        let blob = blobs.open(&digest).unwrap();
        let mut reader = CancellableReader { inner: &b"abc"[..], cancel: cancel.clone() };
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 2);
        let mut writer = CancellableWriter { inner: Vec::new(), cancel: cancel.clone() };
        assert_eq!(blob.read_vec_at(0, 3).unwrap(), b"abc");
        writer.write_all(b"abc").unwrap();
        cancel.cancel();
        assert!(blob.read_vec_at(0, 3).is_err());
        assert!(blobs.open(&digest).is_err());
        assert!(writer.write_all(b"abc").is_err());
        assert!(reader.read(&mut [0; 2]).is_err());
    }
}
