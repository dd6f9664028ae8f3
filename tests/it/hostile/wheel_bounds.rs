//! What an archive may cost that claims to be large: a few reads, whatever it claims.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use mlbuild::blob::ReadAt;
use mlbuild::wheel::Waivers;
use mlbuild::wheel::zip::{self, MAX_DIRECTORY, MAX_MEMBERS};

use crate::support::wheels::{File, Frame, file, framed_zip};

/// A file of which only the end exists, and a count of the bytes read from it.
struct Counted {
    size: u64,
    end: Vec<u8>,
    read: AtomicU64,
}

impl Counted {
    fn new(size: u64, end: Vec<u8>) -> Self {
        Self { size, end, read: AtomicU64::new(0) }
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn message(&self) -> String {
        zip::read(self, &mut Waivers::default()).unwrap_err().to_string()
    }
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let hole = self.size - self.end.len() as u64;
        let zeros = hole.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let from = offset.saturating_sub(hole) as usize;
        buffer[..zeros].fill(0);
        let rest = buffer.len() - zeros;
        buffer[zeros..].copy_from_slice(&self.end[from..from + rest]);
        Ok(())
    }
}

/// End records of an archive of `size` bytes, with zip64.
fn end(size: u64, entries: u64, directory: u64) -> Vec<u8> {
    let frame = Frame {
        zip64: true,
        entries: Some(entries),
        directory_size: Some(directory),
        directory_offset: Some(size - directory - END),
        // The locator counts from the first byte of the file.
        locator_off: size - END,
        ..Frame::default()
    };
    framed_zip(&[], &frame)
}

/// Length of the three end records.
const END: u64 = 56 + 20 + 22;

#[test]
fn a_million_members_cost_one_read() {
    let directory = 1_000_000 * 54;
    let size = 1_000_000 * 40 + directory + END;
    let archive = Counted::new(size, end(size, 1_000_000, directory));
    assert_eq!(archive.message(), "the archive has more than 250,000 members");
    assert!(archive.read() < 70_000, "{} bytes were read", archive.read());
    // Those that the end record does not own up to are not listed.
    let archive = Counted::new(size, end(size, 10, directory));
    assert!(archive.message().contains("has a malformed directory"));
    assert!(archive.read() < MAX_DIRECTORY + 70_000);
}

#[test]
fn a_directory_of_2_gib_costs_one_read() {
    let size = (3 << 30) + END;
    let archive = Counted::new(size, end(size, 1000, 2 << 30));
    assert_eq!(archive.message(), "the archive has a directory of more than 64 MiB");
    assert!(archive.read() < 70_000, "{} bytes were read", archive.read());
}

/// The twin of both: many members, and each read about once.
#[test]
fn seventy_thousand_members_are_read_once() {
    const MEMBERS: u64 = 70_000;
    assert!(MEMBERS > u64::from(u16::MAX) && MEMBERS < MAX_MEMBERS);
    let files: Vec<File> =
        (0..MEMBERS).map(|n| File { stored: true, ..file(&format!("pkg/{n}"), b"x") }).collect();
    let bytes = framed_zip(&files, &Frame { zip64: true, ..Frame::default() });
    let archive = Counted::new(bytes.len() as u64, bytes);
    assert_eq!(zip::read(&archive, &mut Waivers::default()).unwrap().len() as u64, MEMBERS);
    assert!(archive.read() < archive.size() + 70_000, "{} of {} bytes", archive.read(), archive.size());
}

/// More members in the directory than its end record says: reading stops at the first too many.
#[test]
fn members_beyond_the_count_are_not_read() {
    let files: Vec<File> =
        (0..5_000).map(|n| File { stored: true, ..file(&format!("pkg/{n}"), b"x") }).collect();
    let bytes = framed_zip(&files, &Frame { zip64: true, entries: Some(10), ..Frame::default() });
    let archive = Counted::new(bytes.len() as u64, bytes);
    assert_eq!(archive.message(), "the archive has another number of members than its end record says");
    // The directory, and no local header.
    assert!(
        archive.read() < archive.size() * 2 / 3 + 70_000,
        "{} of {} bytes",
        archive.read(),
        archive.size()
    );
}
