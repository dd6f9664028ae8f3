//! The caller's standard output, written to without waiting for whoever reads it.
//!
//! Its open file description belongs to others, too, who do not expect it to be non-blocking, so its flags stay. A pipe or
//! terminal is opened again; where that is forbidden, as it is somebody else's, little is written at a time when poll(2)
//! says that there is room. For a pipe that is as good while nobody else writes to it; a terminal may take less than it
//! says, and then waits until it is read or a signal comes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::termios::isatty;

/// What a pipe with any room takes at once (`PIPE_BUF`).
const LITTLE: usize = 4096;

pub enum Output {
    /// Ours alone, and non-blocking.
    Own(OwnedFd),
    Socket,
    /// A file or device, which nobody has to read.
    File,
    Shared,
}

impl Output {
    pub fn new() -> Self {
        let stdout = rustix::stdio::stdout();
        let kind = fstat(stdout).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            FileType::Socket => Self::Socket,
            FileType::Fifo => Self::again(),
            FileType::CharacterDevice if isatty(stdout) => Self::again(),
            _ => Self::File,
        }
    }

    fn again() -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        open("/proc/self/fd/1", flags, Mode::empty()).map_or(Self::Shared, Self::Own)
    }

    /// What it has room for; `AGAIN` if there is none.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let stdout = rustix::stdio::stdout();
        match self {
            Self::Own(own) => rustix::io::write(own, bytes),
            Self::Socket => send(stdout, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Self::File => rustix::io::write(stdout, bytes),
            Self::Shared => {
                let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
                match poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], Some(&at_once))? {
                    0 => Err(Errno::AGAIN),
                    _ => rustix::io::write(stdout, &bytes[..bytes.len().min(LITTLE)]),
                }
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(own) => own.as_fd(),
            _ => rustix::stdio::stdout(),
        }
    }
}
