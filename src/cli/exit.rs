//! Exit statuses: a documented contract for scripts and CI.

use std::process::ExitCode;

/// How a run of `mlbuild` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The work failed.
    Failure = 1,
    /// The request is wrong: usage, spec, or a file it names.
    Request = 2,
    /// The lock does not satisfy the spec.
    LockOutOfDate = 3,
    /// Bytes are not what their digest, signature or format says.
    Integrity = 4,
    /// Network, index, mirror or registry.
    Network = 5,
    /// This host cannot do it.
    Host = 6,
    /// Stopped by a signal: 128 + SIGHUP.
    HungUp = 129,
    /// 128 + SIGINT.
    Interrupted = 130,
    /// 128 + SIGQUIT.
    Quit = 131,
    /// 128 + SIGTERM.
    Terminated = 143,
}

/// The exit status of a program that `mlbuild run` has run, or the runtime's own: 124 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunStatus(pub u8);

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Own(Exit),
    Run(RunStatus),
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        Self::Own(exit)
    }
}

impl From<RunStatus> for Ending {
    fn from(status: RunStatus) -> Self {
        Self::Run(status)
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Own(exit) => exit.into(),
            Ending::Run(RunStatus(status)) => Self::from(status),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
