//! What the maintainer scripts of the packages would have done and an image needs, done to a tree instead.
//!
//! One file an effect; each is a function of the tree and the packages, and leaves alone what a package ships. The
//! order below matters: the linker's cache is last, since alternatives make libraries appear.
//!
//! Not emulated, on purpose: debconf, caches that triggers rebuild (GLib schemas, GIO modules, fontconfig, MIME),
//! services and users of daemons, diversions.

mod accounts;
mod alternatives;
mod certificates;
mod database;
mod layout;
mod linker_cache;
mod python;
mod root;

use super::deb::Deb;
use crate::oci::Platform;
use crate::spec::model::Suite;
use crate::tree::PathError;
pub use root::{Root, contents_equal};

/// A package and what it was unpacked to.
pub struct Package<'a> {
    pub name: &'a str,
    pub deb: &'a Deb,
}

#[derive(Debug, thiserror::Error)]
pub enum EmulateError {
    #[error("`{path}`")]
    Read { path: String, source: std::io::Error },
    #[error("`{path}` is larger than 16 MiB")]
    Large { path: String },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("certificate `{path}` cannot be read: {rule}")]
    Certificate { path: String, rule: &'static str },
}

/// Effects of the base's packages on its tree.
pub fn base(
    root: &mut Root<'_>,
    packages: &[Package<'_>],
    platform: Platform,
    notes: &mut Vec<String>,
) -> Result<(), EmulateError> {
    layout::merged_usr(root);
    layout::directories(root)?;
    accounts::add(root)?;
    certificates::add(root)?;
    alternatives::add(root, packages, notes)?;
    database::add(root, packages)?;
    linker_cache::add(root, platform)
}

/// Effects of the packages of Python's layer on its tree, which lies on the base's.
pub fn python(
    root: &mut Root<'_>,
    packages: &[Package<'_>],
    suite: Suite,
    platform: Platform,
    notes: &mut Vec<String>,
) -> Result<(), EmulateError> {
    layout::merged_usr(root);
    python::add(root, suite)?;
    alternatives::add(root, packages, notes)?;
    database::add(root, packages)?;
    linker_cache::add(root, platform)
}
