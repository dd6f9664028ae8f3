//! The sandbox: carries a [`Launch`](crate::launch::Launch) out, in namespaces of its own and without root.
//!
//! ```text
//! supervise     makes the first process (clone3: user, mount, PID, network, IPC, UTS), writes its ID maps, publishes ports,
//!               then waits: signals, terminal, time
//! child         the first process: mounts (root, steps), terminal, pivot_root, then the program's parent and reaper
//! program       the last steps before execve: limits, user, confinement
//! signals       from the caller, and to the program (held: those that are passed on only); output: the caller's, which may be read slowly
//! cgroup        limits of memory, processor time and processes; ports: the way in and out of a network of its own
//! discover      GPUs, their driver and CDI files; probe: what the host can do (`mlbuild doctor`)
//! ```
//!
//! The three are one program in memory, copied by `clone3` and never executed again; so the process that calls [`run`] has one
//! thread. They talk over a pair of sockets ([`channel`]). When the supervisor goes, however that happens, the
//! first process is killed, and with it every process, mount and file of the sandbox.
//!
//! It is a boundary against the image, as far as a kernel that both share allows. Nothing of the host's programs runs
//! with the image's environment; no path is followed on the host that the image controls ([`steps`]); nothing below `/proc`
//! is opened after `pivot_root`. A GPU widens the boundary by the driver's whole interface.

pub mod cgroup;
mod channel;
mod child;
pub mod confine;
pub mod discover;
mod error;
mod held;
mod identity;
mod kernel;
mod output;
mod ports;
pub mod probe;
mod program;
mod root;
mod signals;
mod steps;
mod supervise;
mod terminal;

pub use error::{FAILED, SandboxError};
pub use kernel::take_memory;
pub use program::resource;
pub use signals::{Caught, Ignored, asks_to_end};
pub use supervise::{Listener, run};
