//! A file of which some ranges are here, and which of them its reader misses.
//!
//! Who reads does not know of ranges: it fails where bytes are missing, they are fetched, and it reads once more.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::blob::ReadAt;

/// Bytes fetched at least, since the reader will want what follows, too.
const READ_AHEAD: u64 = 64 << 10;

pub(super) struct Parts {
    size: u64,
    /// By their first byte; none overlaps another.
    here: BTreeMap<u64, Vec<u8>>,
    missing: Mutex<Option<Range<u64>>>,
}

impl Parts {
    /// Of a file of `size` bytes, none of which is here.
    pub(super) fn new(size: u64) -> Self {
        Self { size, here: BTreeMap::new(), missing: Mutex::default() }
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> u64 {
        self.here.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// What the last reading lacked. Nothing of it is here, and it lies within the file.
    pub(super) fn missing(&self) -> Option<Range<u64>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// `bytes` of a range that was missing.
    pub(super) fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        self.here.insert(offset, bytes);
    }

    /// The bytes from `at` on, as many as lie together.
    fn from(&self, at: u64) -> Option<&[u8]> {
        let (start, bytes) = self.here.range(..=at).next_back()?;
        bytes.get(usize::try_from(at - start).ok()?..).filter(|bytes| !bytes.is_empty())
    }

    fn lacks(&self, at: u64, end: u64) -> io::Error {
        let next = self.here.range(at..).next().map_or(self.size, |(start, _)| *start);
        let end = end.max(at.saturating_add(READ_AHEAD)).min(next);
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = Some(at..end);
        io::ErrorKind::WouldBlock.into()
    }
}

impl ReadAt for Parts {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let Some(here) = self.from(at) else { return Err(self.lacks(at, end)) };
            let len = here.len().min(rest.len());
            rest[..len].copy_from_slice(&here[..len]);
            at += len as u64;
            rest = &mut rest[len..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_read_when_it_came() {
        let file: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let mut parts = Parts::new(file.len() as u64);
        let mut read = |offset: u64, len: usize| {
            let mut asked = Vec::new();
            loop {
                match parts.read_vec_at(offset, len) {
                    Ok(bytes) => {
                        assert_eq!(bytes, file[offset as usize..][..len]);
                        return asked;
                    }
                    Err(_) => {
                        let Some(Range { start, end }) = parts.missing() else { return asked };
                        parts.add(start, file[start as usize..end as usize].to_vec());
                        asked.push((start, end));
                    }
                }
            }
        };
        assert_eq!(read(299_990, 10), [(299_990, 300_000)]);
        assert_eq!(read(100_000, 10), [(100_000, 165_536)]);
        assert_eq!(read(100_010, 65_526), []);
        // What is here is not fetched again.
        assert_eq!(read(90_000, 100_000), [(90_000, 100_000), (165_536, 231_072)]);
        assert_eq!(read(0, 300_000), [(0, 90_000), (231_072, 299_990)]);
        assert_eq!(read(300_000, 1), []);
        assert_eq!(read(u64::MAX, 1), []);
        assert_eq!(parts.held(), 300_000);
        // A size that no file has is nothing but a number.
        let parts = Parts::new(u64::MAX);
        assert!(parts.read_vec_at(u64::MAX - 10, 10).is_err());
        assert_eq!(parts.missing(), Some(u64::MAX - 10..u64::MAX));
    }
}
