//! A terminal for the program: made in the sandbox's own devpts, its master handed to the supervisor, which connects it
//! with the caller's terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::{Doing, SandboxError};
use super::steps::open_inside;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// Bytes typed ahead, beyond which nothing more is read from the caller.
const TYPED_AHEAD: usize = 64 * 1024;

/// Master and slave, in the sandbox with that root.
pub fn open(root: &OwnedFd) -> Result<(OwnedFd, OwnedFd), SandboxError> {
    let doing = || "cannot make a terminal".to_owned();
    let master = open_inside(root, "/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).doing(doing)?;
    unlockpt(&master).doing(doing)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    Ok((master, slave))
}

/// The caller's terminal, connected with the sandbox's. Dropping it makes the caller's what it was.
pub struct Connection {
    master: OwnedFd,
    before: Option<Termios>,
    /// What is typed, on its way in.
    typed: VecDeque<u8>,
    input_open: bool,
    output_open: bool,
}

impl Connection {
    /// `interactive`: the caller's input goes in; without it only output comes out.
    pub fn new(master: OwnedFd, interactive: bool) -> io::Result<Self> {
        let flags = fcntl_getfl(&master)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let input = rustix::stdio::stdin();
        let mut before = None;
        if interactive && isatty(input) {
            let settings = tcgetattr(input)?;
            let mut raw = settings.clone();
            raw.make_raw();
            tcsetattr(input, OptionalActions::Flush, &raw)?;
            before = Some(settings);
        }
        let connection =
            Self { master, before, typed: VecDeque::new(), input_open: interactive, output_open: true };
        connection.resize();
        Ok(connection)
    }

    /// The window of the caller's terminal has this size now.
    pub fn resize(&self) {
        let outer = [rustix::stdio::stdin(), rustix::stdio::stdout()];
        if let Some(size) = outer.into_iter().find_map(|outer| tcgetwinsize(outer).ok()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for.
    pub fn interests(&self) -> Vec<PollFd<'_>> {
        let mut interests = Vec::new();
        if self.output_open {
            let mut flags = PollFlags::IN;
            if !self.typed.is_empty() {
                flags |= PollFlags::OUT;
            }
            interests.push(PollFd::new(&self.master, flags));
        }
        if self.input_open && self.typed.len() < TYPED_AHEAD {
            interests.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        interests
    }

    /// Is there something to read from the caller?
    fn is_typed(&self) -> bool {
        let mut input = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.input_open && self.typed.len() < TYPED_AHEAD && poll(&mut input, Some(&at_once)) == Ok(1)
    }

    /// Moves what can be moved without waiting for the sandbox.
    pub fn pump(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        if self.is_typed() {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) | Err(Errno::IO) => {
                    self.input_open = false;
                    // What Ctrl-D types: the end of a line discipline's input.
                    self.typed.push_back(4);
                }
                Ok(length) => self.typed.extend(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, self.typed.as_slices().0) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.show(&mut buffer)
    }

    /// What the sandbox has written and nobody has seen.
    pub fn drain(&mut self) -> io::Result<()> {
        self.show(&mut vec![0; PIECE])
    }

    fn show(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while self.output_open {
            match rustix::io::read(&self.master, &mut *buffer) {
                // No process has the other side open.
                Ok(0) | Err(Errno::IO) => self.output_open = false,
                Ok(length) => write_all(rustix::stdio::stdout(), &buffer[..length])?,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut wait = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                let _ = rustix::event::poll(&mut wait, None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
