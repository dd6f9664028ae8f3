//! How bytes are asked for: random access to one blob, and a place where blobs are found by digest.
//!
//! The pure stages see only these two traits; the store, a directory of wheels or a test's map implement them.
//! Whoever hands out a [`ReadAt`] for a digest has verified that digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::digest::Digest;

/// Bytes that can be read at any offset, from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; fewer bytes than that is an `UnexpectedEof` error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// `len` bytes from `offset`, as a vector. The caller bounds `len`; past the end is `UnexpectedEof`.
    fn read_vec_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// A file opened for reading; its length is taken once, when it is opened.
pub struct FileBlob {
    file: File,
    size: u64,
}

impl FileBlob {
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl<T: AsRef<[u8]> + Send + Sync> ReadAt for T {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.as_ref();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of a blob, read as a blob of its own. Past its end is `UnexpectedEof`, wherever the blob ends.
#[derive(Clone)]
pub struct Slice {
    pub from: Arc<dyn ReadAt>,
    pub offset: u64,
    pub size: u64,
}

impl ReadAt for Slice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inside = offset.checked_add(buffer.len() as u64).is_some_and(|end| end <= self.size);
        match self.offset.checked_add(offset) {
            Some(start) if inside => self.from.read_exact_at(buffer, start),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Where blobs are found by their digest. A blob that is not there is an error of kind `NotFound`.
pub trait BlobSource: Send + Sync {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>>;
}

impl<S: BlobSource + ?Sized> BlobSource for &S {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        (**self).open(digest)
    }
}

/// Blobs in memory, for tests and for content made on the spot.
#[derive(Default, Clone)]
pub struct MemoryBlobs(BTreeMap<Digest, Arc<[u8]>>);

impl MemoryBlobs {
    pub fn insert(&mut self, bytes: impl Into<Arc<[u8]>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes);
        digest
    }
}

impl BlobSource for MemoryBlobs {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        match self.0.get(digest) {
            Some(bytes) => Ok(Arc::new(Arc::clone(bytes))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no blob {digest}"))),
        }
    }
}

/// Sequential reading over a part of a [`ReadAt`].
pub struct RangeReader<'a> {
    blob: &'a dyn ReadAt,
    offset: u64,
    left: u64,
}

impl<'a> RangeReader<'a> {
    pub fn new(blob: &'a dyn ReadAt, offset: u64, len: u64) -> Self {
        Self { blob, offset, left: len }
    }

    pub fn all(blob: &'a dyn ReadAt) -> Self {
        Self::new(blob, 0, blob.size())
    }
}

impl io::Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        self.blob.read_exact_at(&mut buffer[..len], self.offset)?;
        self.offset += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn ranges_are_bounded() {
        let blob = b"abcdef".to_vec();
        assert_eq!(blob.read_vec_at(2, 3).unwrap(), b"cde");
        assert!(blob.read_vec_at(4, 3).is_err());
        assert!(blob.read_vec_at(u64::MAX, 3).is_err());
        let mut text = String::new();
        RangeReader::new(&blob, 1, 4).read_to_string(&mut text).unwrap();
        assert_eq!(text, "bcde");
    }

    #[test]
    fn slices_end_where_they_end() {
        let slice = Slice { from: Arc::new(b"abcdef".to_vec()), offset: 2, size: 3 };
        assert_eq!(slice.read_vec_at(0, 3).unwrap(), b"cde");
        assert_eq!(slice.read_vec_at(2, 1).unwrap(), b"e");
        for (offset, len) in [(0, 4), (3, 1), (u64::MAX, 1), (u64::MAX - 1, 2)] {
            assert!(slice.read_exact_at(&mut vec![0; len], offset).is_err(), "{len} from {offset}");
        }
    }
}
