//! What a run in the sandbox does, as data: an image's config, the user's options and what the host can do go in, a
//! [`Launch`] comes out, which can be printed (`mlbuild run --dry-run`), compared and tested without any privilege.
//! `sandbox` carries it out, step by step, and decides nothing.
//!
//! ```text
//! RunConfig + Options + HostFacts => Launch ~> sandbox
//! ```
//!
//! The order of [`Launch::steps`] is the order in which they are carried out. Every target is a path of the sandbox; it is
//! resolved below the sandbox's root and nowhere else, whatever symbolic links the image has there.

pub mod cdi;
pub mod gpu;

mod env_file;
mod host;
mod identity;
mod model;
mod options;
mod overlap;
mod plan;
mod text;
mod users;

pub use env_file::{EnvFileError, env_file};
pub use host::*;
pub use identity::{Extent, plain_identity};
pub use model::*;
pub use options::{Device, Mount, OptionError, Options, Tmpfs, Volume, bytes, memory, milli_cpus, pids};
pub use plan::{Image, LaunchError, only_local_servers, plan};
pub use users::{Accounts, User, UserError};
