//! Where the content of unpacked files is kept until the layer is encoded: in memory while there is room, else in a
//! temporary file that has no name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::{FileBlob, ReadAt};

/// Bytes of unpacked files that all packages together may keep in memory.
const MEMORY_MAX: u64 = 96 << 20;

/// What is left of the memory for one composition, and where the rest goes.
pub struct Budget {
    left: AtomicU64,
    spill: PathBuf,
}

impl Budget {
    /// Files without a name are made in the directory `spill`.
    pub fn new(spill: &Path) -> Self {
        Self { left: AtomicU64::new(MEMORY_MAX), spill: spill.to_owned() }
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Copies `reader` into the nameless `file`.
    fn spill_from(&self, reader: &mut impl Read, file: &mut File) -> io::Result<u64> {
        let mut buffer = vec![0; 64 * 1024];
        let mut copied = 0;
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(copied);
            }
            file.write_all(&buffer[..read]).map_err(|error| self.blame(error))?;
            copied += read as u64;
        }
    }

    /// A file without a name cannot say which disk is full.
    fn blame(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot write a file in {}: {error}", self.spill.display()))
    }
}

/// The files of one package, one behind the other.
pub struct Spool<'a> {
    budget: &'a Budget,
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl<'a> Spool<'a> {
    pub fn new(budget: &'a Budget) -> Self {
        Self { budget, memory: Vec::new(), file: None, len: 0 }
    }

    /// Appends `size` bytes of `reader` and says where they begin.
    pub fn append(&mut self, reader: &mut impl Read, size: u64) -> io::Result<u64> {
        let offset = self.len;
        if self.file.is_none() && !self.budget.take(size) {
            let mut file = tempfile::tempfile_in(&self.budget.spill)?;
            file.write_all(&self.memory).map_err(|error| self.budget.blame(error))?;
            self.budget.give_back(self.memory.len() as u64);
            self.memory = Vec::new();
            self.file = Some(file);
        }
        let mut reader = reader.take(size);
        let copied = match &mut self.file {
            Some(file) => self.budget.spill_from(&mut reader, file)?,
            None => reader.read_to_end(&mut self.memory)? as u64,
        };
        self.len += copied;
        if copied == size { Ok(offset) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    pub fn finish(self) -> io::Result<Arc<dyn ReadAt>> {
        Ok(match self.file {
            Some(file) => Arc::new(FileBlob::new(file)?),
            None => Arc::new(self.memory.into_boxed_slice()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spills_when_memory_is_used_up() {
        let budget = Budget { left: AtomicU64::new(6), spill: tempfile::env::temp_dir() };
        let mut spool = Spool::new(&budget);
        assert_eq!(spool.append(&mut &b"abcd"[..], 4).unwrap(), 0);
        assert_eq!(spool.append(&mut &b"efgh"[..], 4).unwrap(), 4);
        assert_eq!(budget.left.load(Ordering::Relaxed), 6);
        assert!(spool.file.is_some());
        assert_eq!(spool.finish().unwrap().read_vec_at(2, 4).unwrap(), b"cdef");
        let mut other = Spool::new(&budget);
        assert!(other.append(&mut &b"ab"[..], 3).is_err());
    }
}
