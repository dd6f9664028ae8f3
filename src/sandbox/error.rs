//! Why a run did not come about.

use std::fmt::Display;
use std::io;

use super::cgroup::CgroupError;

/// What went wrong while a sandbox was set up. Exit statuses are those of other runtimes.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step of the set-up, in words, and the kernel's answer.
    #[error("{what}")]
    Setup { what: String, source: io::Error },
    /// Said by the process inside, which is no more.
    #[error("{message}")]
    Inside { message: String, status: u8 },
    #[error("the sandbox ended before it ran anything")]
    Vanished,
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// The sandbox could not be set up.
pub const FAILED: u8 = 125;
/// The program is there and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
pub const NOT_FOUND: u8 = 127;

impl SandboxError {
    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Cgroup(error) => error.hints(),
            _ => Vec::new(),
        }
    }

    pub fn status(&self) -> u8 {
        match self {
            Self::Inside { status, .. } => *status,
            _ => FAILED,
        }
    }
}

/// Says what was tried when the system says no.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError::Setup { what: what(), source: error.into() })
    }
}

/// `cannot X Y`.
pub(super) fn cannot(verb: &'static str, object: impl Display) -> impl FnOnce() -> String {
    move || format!("cannot {verb} {object}")
}
