//! A terminal for the program: made in the sandbox's own devpts, its master handed to the supervisor, which connects it
//! with the caller's terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::{Doing, SandboxError};
use super::output::Output;
use super::steps::open_inside;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// Bytes on their way in or out, from which on nothing more is read there.
const AHEAD: usize = 64 * 1024;

/// Master and slave, in the sandbox with that root; with the window of the caller's terminal before anybody can ask for it.
pub fn open(root: &OwnedFd) -> Result<(OwnedFd, OwnedFd), SandboxError> {
    let doing = || "cannot make a terminal".to_owned();
    let master = open_inside(root, "/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).doing(doing)?;
    unlockpt(&master).doing(doing)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    fit(&master);
    Ok((master, slave))
}

/// The window of the caller's terminal, where there is one.
fn fit(master: &OwnedFd) {
    let outer = [rustix::stdio::stdin(), rustix::stdio::stdout()];
    if let Some(size) = outer.into_iter().find_map(|outer| tcgetwinsize(outer).ok()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// The caller's terminal, connected with the sandbox's. Dropping it makes the caller's what it was.
pub struct Connection {
    /// None once the terminal is hung up.
    master: Option<OwnedFd>,
    before: Option<Termios>,
    /// What is typed, on its way in.
    typed: VecDeque<u8>,
    /// What the sandbox has written, on its way out.
    written: VecDeque<u8>,
    output: Output,
    input_open: bool,
    output_open: bool,
    buffer: Vec<u8>,
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
            // What has been typed already is for the program.
            tcsetattr(input, OptionalActions::Now, &raw)?;
            before = Some(settings);
        }
        // It may have changed meanwhile, and be told of to whoever could do nothing yet.
        fit(&master);
        Ok(Self {
            master: Some(master),
            before,
            typed: VecDeque::new(),
            written: VecDeque::new(),
            output: Output::new(),
            input_open: interactive,
            output_open: true,
            buffer: vec![0; PIECE],
        })
    }

    /// The window of the caller's terminal has this size now.
    pub fn resize(&self) {
        self.master.iter().for_each(fit);
    }

    /// What to wait for.
    pub fn interests(&self) -> Vec<PollFd<'_>> {
        let mut interests: Vec<_> = self.unseen().into_iter().collect();
        let mut flags = PollFlags::empty();
        if self.output_open && self.written.len() < AHEAD {
            flags |= PollFlags::IN;
        }
        if self.output_open && !self.typed.is_empty() {
            flags |= PollFlags::OUT;
        }
        // Its end is reported whatever is asked for, again and again.
        if let Some(master) = &self.master
            && !flags.is_empty()
        {
            interests.push(PollFd::new(master, flags));
        }
        if self.input_open && self.typed.len() < AHEAD {
            interests.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        interests
    }

    /// Something is on its way out, and this is what to wait for.
    pub fn unseen(&self) -> Option<PollFd<'_>> {
        (!self.written.is_empty()).then(|| PollFd::new(&self.output, PollFlags::OUT))
    }

    /// Is there something to read from the caller?
    fn is_typed(&self) -> bool {
        let mut input = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.input_open && self.typed.len() < AHEAD && poll(&mut input, Some(&at_once)) == Ok(1)
    }

    /// Moves what can be moved without waiting for anybody, a piece of it each way.
    pub fn pump(&mut self) -> io::Result<()> {
        if self.is_typed() {
            match rustix::io::read(rustix::stdio::stdin(), &mut *self.buffer) {
                Ok(0) | Err(Errno::IO) => {
                    self.input_open = false;
                    // What Ctrl-D types: the end of a line discipline's input.
                    self.typed.push_back(4);
                }
                Ok(length) => self.typed.extend(&self.buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(master) = &self.master
            && !self.typed.is_empty()
        {
            match rustix::io::write(master, self.typed.as_slices().0) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // No process has the other side open.
                Err(_) => self.typed.clear(),
            }
        }
        self.take_written()?;
        self.show()
    }

    /// The program has ended, and nobody wants to know what is typed. Where the output goes elsewhere, the caller's
    /// terminal is what it was: Ctrl-C means something again.
    pub fn end(&mut self) {
        self.input_open = false;
        if !isatty(rustix::stdio::stdout()) {
            self.restore();
        }
    }

    /// Shows what is left, as far as that needs no waiting; false if not all could be shown.
    pub fn show_all(&mut self) -> io::Result<bool> {
        loop {
            let more = self.take_written()?;
            self.show()?;
            if !self.written.is_empty() {
                return Ok(false);
            }
            if !more {
                return Ok(true);
            }
        }
    }

    /// A piece of what the sandbox has written; false if there is none now.
    fn take_written(&mut self) -> io::Result<bool> {
        let Some(master) = &self.master else { return Ok(false) };
        if !self.output_open || self.written.len() >= AHEAD {
            return Ok(false);
        }
        match rustix::io::read(master, &mut *self.buffer) {
            // No process has the other side open.
            Ok(0) | Err(Errno::IO) => self.output_open = false,
            Ok(length) => {
                self.written.extend(&self.buffer[..length]);
                return Ok(true);
            }
            Err(Errno::INTR) => return Ok(true),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }

    fn show(&mut self) -> io::Result<()> {
        while !self.written.is_empty() {
            match self.output.write(self.written.as_slices().0) {
                Ok(length) => drop(self.written.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET) => self.hang_up(),
                // The caller's terminal is gone; of a file it is trouble.
                Err(Errno::IO) if !matches!(self.output, Output::File) => self.hang_up(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Nobody can see any more what the program writes (`| head -1`): its terminal is hung up (SIGHUP, and all that it
    /// still writes fails), as if its window had been closed. How it ends then is its own business.
    fn hang_up(&mut self) {
        self.master = None;
        (self.input_open, self.output_open) = (false, false);
        self.typed.clear();
        self.written.clear();
        self.restore();
    }

    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.restore();
    }
}
