//! A part of a file that is written from its beginning on, beside other threads that write other parts.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};

/// Bytes that are written before the kernel is asked to begin with their way to the disk. The call waits for other
/// processors' work on pages, so that it is not made for less.
const BEHIND: u64 = 64 << 20;

/// Writes to `file` from an offset on, unbuffered.
///
/// The kernel by itself lets gigabytes of dirty pages gather before it writes the first, which the final sync then has
/// to wait for. So it is told every [`BEHIND`] bytes that they are not needed in memory any more, which makes Linux
/// start to write them without waiting for the end. It is advice: where a file system does nothing about it the final
/// sync takes longer.
pub(super) struct Region<'a> {
    file: &'a File,
    at: u64,
    /// Up to here the advice was given.
    advised: u64,
    /// [`BEHIND`], less in tests.
    step: u64,
}

impl<'a> Region<'a> {
    pub(super) fn new(file: &'a File, offset: u64) -> Self {
        Self { file, at: offset, advised: offset, step: BEHIND }
    }
}

impl Write for Region<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        let behind = self.at - self.advised;
        if behind >= self.step {
            let _ = fadvise(self.file, self.advised, std::num::NonZero::new(behind), Advice::DontNeed);
            self.advised = self.at;
        }
        Ok(written)
    }

    /// Nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_one_file_are_written_side_by_side() {
        let file = tempfile::tempfile().unwrap();
        let size = 1_234_567;
        std::thread::scope(|scope| {
            for part in 0..3_u8 {
                let file = &file;
                scope.spawn(move || {
                    let mut region = Region::new(file, u64::from(part) * size as u64);
                    region.step = 300_000;
                    for piece in vec![part + 1; size].chunks(100_000) {
                        region.write_all(piece).unwrap();
                    }
                });
            }
        });
        let expected: Vec<u8> = (0..3_u8).flat_map(|part| vec![part + 1; size]).collect();
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
        assert_eq!(file.metadata().unwrap().len(), expected.len() as u64);
    }
}
