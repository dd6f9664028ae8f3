//! Signals: those that the caller sends, from before a sandbox is set up until nothing of it is left, and the one by which
//! an image wants to be stopped.
//!
//! What the caller had ignored when mlbuild was started stays so (`nohup mlbuild run`, a job in the background of a
//! script): nobody means mlbuild by it. The program in the sandbox starts with no signal ignored, as from any other
//! runtime.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::{flag, low_level};

/// What is caught unless it is ignored.
const ALL: [i32; 8] = [SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// Those that ask to end.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Nobody looks: signals that ask to end do so.
static NOBODY_LOOKS: AtomicBool = AtomicBool::new(true);

/// While there is one, signals wait to be looked at; one at a time. Afterwards those that ask to end do so again, and so
/// does one that came and was not taken. The others stay without effect.
pub struct Caught {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    came: Vec<i32>,
}

impl Caught {
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let ignored = Ignored::now();
        let caught = ALL.into_iter().filter(|signal| !ignored.has(*signal));
        let delivery = SignalDelivery::with_pipe(reader, writer, SignalOnly, caught)?;
        // signal-hook never gives a signal its default effect back: this is an action beside the other, for good.
        static REGISTERED: OnceLock<()> = OnceLock::new();
        if REGISTERED.set(()).is_ok() {
            for signal in ENDING.into_iter().filter(|signal| !ignored.has(*signal)) {
                flag::register_conditional_default(signal, &NOBODY_LOOKS)?;
            }
        }
        NOBODY_LOOKS.store(false, Ordering::SeqCst);
        Ok(Self { delivery, came: Vec::new() })
    }

    /// Those that have come since the last time.
    pub fn take(&mut self) -> Vec<i32> {
        self.look();
        std::mem::take(&mut self.came)
    }

    /// One that asks to end, and stays to be taken.
    pub fn ending(&mut self) -> Option<i32> {
        self.look();
        self.came.iter().copied().find(|signal| asks_to_end(*signal))
    }

    fn look(&mut self) {
        self.came.extend(self.delivery.pending());
    }
}

/// Can be read from when one has come since the last look.
impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        NOBODY_LOOKS.store(true, Ordering::SeqCst);
        if let Some(signal) = self.ending() {
            // Does not come back.
            let _ = low_level::emulate_default_handler(signal);
        }
    }
}

/// Signals without effect on this process: those that it was started with so, as it makes none so but SIGPIPE.
#[derive(Debug, Clone, Copy)]
pub struct Ignored(u64);

impl Ignored {
    /// Those of now. Where the kernel does not tell, none is.
    pub fn now() -> Self {
        Self::of(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// `status` is a process's in `/proc`: signal N is the bit N - 1.
    fn of(status: &str) -> Self {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        Self(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
    }

    pub fn has(self, signal: i32) -> bool {
        (1..=64).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }
}

pub fn asks_to_end(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// The number of the first real-time signal that glibc, for which images name them, leaves to programs, and of the last.
const REAL_TIME: (i32, i32) = (34, 64);

/// The number of `SIGTERM`, `TERM`, `SIGRTMIN+3` or a number, as images have it. None if there is no such signal.
pub fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = REAL_TIME;
    let beside = |offset: &str, sign: char| match offset {
        "" => Some(0),
        offset => {
            offset.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=last - first).contains(offset))
        }
    };
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        return beside(offset, '+').map(|offset| first + offset);
    }
    if let Some(offset) = bare.strip_prefix("RTMAX") {
        return beside(offset, '-').map(|offset| last - offset);
    }
    Some(named(bare)?.as_raw())
}

/// signal(7)
fn named(bare: &str) -> Option<Signal> {
    Some(match bare {
        "ABRT" | "IOT" => Signal::ABORT,
        "ALRM" => Signal::ALARM,
        "BUS" => Signal::BUS,
        "CHLD" | "CLD" => Signal::CHILD,
        "CONT" => Signal::CONT,
        "FPE" => Signal::FPE,
        "HUP" => Signal::HUP,
        "ILL" => Signal::ILL,
        "INT" => Signal::INT,
        "IO" | "POLL" => Signal::IO,
        "KILL" => Signal::KILL,
        "PIPE" => Signal::PIPE,
        "PROF" => Signal::PROF,
        "PWR" => Signal::POWER,
        "QUIT" => Signal::QUIT,
        "SEGV" => Signal::SEGV,
        "STKFLT" => Signal::STKFLT,
        "STOP" => Signal::STOP,
        "SYS" => Signal::SYS,
        "TERM" => Signal::TERM,
        "TRAP" => Signal::TRAP,
        "TSTP" => Signal::TSTP,
        "TTIN" => Signal::TTIN,
        "TTOU" => Signal::TTOU,
        "URG" => Signal::URG,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "VTALRM" => Signal::VTALARM,
        "WINCH" => Signal::WINCH,
        "XCPU" => Signal::XCPU,
        "XFSZ" => Signal::XFSZ,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_of_images() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SIGKILL", Some(9)),
            ("CONT", Some(18)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+30", Some(64)),
            ("SIGRTMAX-14", Some(50)),
            ("RTMAX", Some(64)),
            ("37", Some(37)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN-1", None),
            ("SIGRTMIN+-1", None),
            ("SIG", None),
            ("SIGNONE", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }

    #[test]
    fn ignored_signals_of_a_process() {
        let ignored =
            Ignored::of("SigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n");
        let found: Vec<i32> = (-1..70).filter(|signal| ignored.has(*signal)).collect();
        assert_eq!(found, [SIGHUP, 13]);
        for status in ["", "SigIgn:\n", "SigIgn:\tx\n"] {
            assert!((1..65).all(|signal| !Ignored::of(status).has(signal)), "{status}");
        }
    }

    /// What came and was looked at has no effect; the next `Caught` is as good as the first.
    #[test]
    fn a_signal_waits_to_be_taken() {
        for _ in 0..2 {
            let mut caught = Caught::new().unwrap();
            low_level::raise(SIGUSR1).unwrap();
            assert_eq!(caught.ending(), None);
            low_level::raise(SIGTERM).unwrap();
            assert_eq!(caught.ending(), Some(SIGTERM));
            assert_eq!(caught.take(), [SIGUSR1, SIGTERM]);
            assert!(caught.take().is_empty());
        }
    }
}
