//! Shared by the tests: the program in a cleared environment, other tools, and the reference images.

#[path = "../../../src/debian/testing.rs"]
pub mod debs;
#[path = "../../../src/elf/samples.rs"]
pub mod elfs;
pub mod gpu;
pub mod libraries;
pub mod loopback;
pub mod machine;
pub mod mlbuild;
pub mod reference;
pub mod skip;
#[path = "../../../src/registry/testregistry.rs"]
pub mod testregistry;
#[path = "../../../src/http/testserver.rs"]
#[expect(dead_code, reason = "the unit tests of downloads use all of it")]
pub mod testserver;
pub mod tiny;
pub mod tool;
pub mod tree;
#[path = "../../../src/wheel/testing.rs"]
#[expect(dead_code, reason = "the unit tests of `wheel` use all of it")]
pub mod wheels;

use std::path::PathBuf;

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
