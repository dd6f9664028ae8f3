//! Python from python-build-standalone: relocatable CPython archives, one for each exact version and platform.
//!
//! [`release`] reads what a release site publishes and chooses an archive; [`standalone`] makes an archive into a tree
//! below [`PREFIX`]; [`scheme`] asks that tree where packages go, instead of assuming it. None of them touches the
//! network: the engine brings the texts and the archive's bytes.
//!
//! An archive is used for its interpreter and standard library alone. What only works on a developer's machine is left
//! out (see [`standalone`]), and the packages it brings in `site-packages` too: what is installed there is the lock's
//! business.

mod error;
pub mod release;
mod relocate;
mod scheme;
mod select;
pub mod standalone;
#[cfg(test)]
mod tests;

pub use error::PythonError;
pub use release::{Found, Request, asset_url, choose, known, parse_latest, parse_sums};
pub use scheme::Probe;
pub use standalone::{Standalone, tree};

/// Version of what is done to an archive on its way into the image: part of the layer's key, changed with any rule.
pub const COMPOSE: u32 = 1;

/// Where the interpreter stands in the image.
pub const PREFIX: &str = "/usr/local";
