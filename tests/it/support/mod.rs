//! Shared by the tests: the program in a cleared environment, other tools, and the reference images.

pub mod loopback;
pub mod mlbuild;
pub mod reference;
pub mod skip;
pub mod tool;
pub mod tree;

use std::path::PathBuf;

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
