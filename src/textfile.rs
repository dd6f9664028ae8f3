//! Texts that people write (spec, lock, requirements), read whole and only if they are what they should be.
//!
//! A project may be a stranger's: a FIFO in a file's place never gets one to wait, a device or a file that grows never
//! fills the memory. Documents of image layouts are read likewise. Why a file is no text is an [`io::Error`] of kind `InvalidData`, as for bytes that are not UTF-8.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The text of the file at `path`, of at most `max` bytes.
pub fn read(path: &Path, max: usize) -> io::Result<String> {
    read_open(open(path)?, max)
}

/// The bytes of the file at `path`, at most `max`.
pub fn read_bytes(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    bytes_of(open(path)?, max)
}

/// The text of a file that was opened without waiting.
pub fn read_open(file: File, max: usize) -> io::Result<String> {
    String::from_utf8(bytes_of(file, max)?).map_err(|_| refused("it is not UTF-8".to_owned()))
}

/// Whether a file of the user's that could not be read is none of theirs: it is not there, or in a directory that is closed
/// to them.
pub fn is_away(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => true,
        io::ErrorKind::PermissionDenied => path.symlink_metadata().is_err(),
        _ => false,
    }
}

/// Opens a file for reading; what is none is refused by name, and never waited for.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    refuse_others(&file)?;
    Ok(file)
}

fn refuse_others(file: &File) -> io::Result<()> {
    match file.metadata()?.file_type() {
        file if file.is_file() => Ok(()),
        other => Err(refused(format!("it is {}, not a file", kind(other)))),
    }
}

/// The bytes of a regular file, at most `max`.
fn bytes_of(file: File, max: usize) -> io::Result<Vec<u8>> {
    refuse_others(&file)?;
    let too_long = || refused(format!("it is longer than {max} bytes"));
    // What is longer already need not be read; what grows meanwhile is cut below.
    if file.metadata()?.len() > max as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max { Err(too_long()) } else { Ok(bytes) }
}

/// What something that is no file is, with its article.
fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else if kind.is_symlink() {
        "a symlink"
    } else {
        "of an unknown kind"
    }
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_of_bounded_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let said = |path: &Path| read(path, 4).unwrap_err().to_string();
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), "four");
        std::fs::write(&path, "fifth").unwrap();
        assert_eq!(said(&path), "it is longer than 4 bytes");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(said(&path), "it is not UTF-8");
        assert_eq!(said(dir.path()), "it is a directory, not a file");
        assert_eq!(said(Path::new("/dev/zero")), "it is a device, not a file");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(said(&fifo), "it is a FIFO, not a file");
        assert_eq!(open(&fifo).unwrap_err().to_string(), "it is a FIFO, not a file");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_bytes(&path, 4).unwrap(), b"\xff");
    }

    #[test]
    fn what_cannot_be_read_may_be_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let away = |path: &Path| is_away(path, &read(path, 4).unwrap_err());
        assert!(away(&path));
        std::fs::write(&path, "longer").unwrap();
        assert!(away(&path.join("below")) && !away(&path) && !away(dir.path()));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(!is_away(&path, &denied) && is_away(&dir.path().join("closed/text"), &denied));
    }

    /// A file of `/proc` has no length and yet a content, as one has that grows between a look and the reading.
    #[test]
    fn what_is_longer_than_it_looks_is_cut() {
        let path = Path::new("/proc/self/mounts");
        if path.exists() {
            assert_eq!(read(path, 4).unwrap_err().to_string(), "it is longer than 4 bytes");
        }
    }
}
