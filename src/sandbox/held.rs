//! Signals that mean nothing to a run itself: held back from this process, and read to be passed on.
//!
//! [`Caught`](super::Caught) has those that are looked at before and after a run, too, by handlers. The other forty would cost a
//! tenth of a millisecond so; all of them together are blocked by one call and read from one descriptor. Those that
//! this process was started to ignore are left alone.
//!
//! Not among them, so with the effect that they always have: what a process does to itself (`SIGSEGV` and its like), what
//! asks nothing of another process (`SIGCHLD`, `SIGPIPE`, `SIGURG`, `SIGTTIN`, `SIGTTOU`), and the two that the C library
//! keeps for itself (32, 33).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;

use super::kernel;

const NAMED: [Signal; 10] = [
    Signal::ABORT,
    Signal::ALARM,
    Signal::STKFLT,
    Signal::TSTP,
    Signal::XCPU,
    Signal::XFSZ,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
];
/// The real-time ones that are left to programs.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
/// Bytes of what the kernel tells of one: `struct signalfd_siginfo`, of which the first number is the signal's.
const RECORD: usize = 128;

/// While there is one, they wait to be read. One that is not read has its effect afterwards.
pub struct Held(OwnedFd);

impl Held {
    pub fn new() -> io::Result<Self> {
        kernel::hold(all()).map(Self)
    }

    /// Those that have come since the last time.
    pub fn take(&mut self) -> impl Iterator<Item = i32> {
        std::iter::from_fn(|| {
            let mut record = [0; RECORD];
            let length = rustix::io::read(&self.0, &mut record);
            (length == Ok(RECORD)).then(|| i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))
        })
    }
}

/// Can be read from when one has come.
impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        kernel::release(all());
    }
}

fn all() -> impl Iterator<Item = i32> {
    NAMED.into_iter().map(Signal::as_raw).chain(REAL_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    /// Blocked on this thread, which is sent them alone.
    #[test]
    fn signals_wait_to_be_read() {
        let mut held = Held::new().unwrap();
        assert_eq!(held.take().count(), 0);
        for signal in [Signal::ALARM.as_raw(), Signal::TSTP.as_raw(), 37, 64] {
            raise(signal).unwrap();
            assert_eq!(held.take().collect::<Vec<_>>(), [signal]);
        }
        // In the order of their numbers; real-time ones as often as they came.
        [64, 40, 14, 14, 40].into_iter().for_each(|signal| raise(signal).unwrap());
        assert_eq!(held.take().collect::<Vec<_>>(), [14, 40, 40, 64]);
    }
}
