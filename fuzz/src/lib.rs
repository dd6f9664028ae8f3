//! The modules of mlbuild that read foreign bytes, compiled anew for fuzzing.
//!
//! The crate itself would bring uv's resolver: ten minutes of instrumented compilation for code that no target but
//! `simple_index` enters. So the same files are declared here as modules of the same names, to which their `crate::`
//! paths lead. Readers that are private where they belong are declared a second time, at the end, for the targets.

#![allow(dead_code, reason = "the rest of mlbuild uses it")]

#[path = "../../src/base/mod.rs"]
pub mod base;
#[path = "../../src/blob.rs"]
pub mod blob;
pub mod cli;
#[path = "../../src/debian/mod.rs"]
pub mod debian;
#[path = "../../src/diagnostic.rs"]
pub mod diagnostic;
#[path = "../../src/digest/mod.rs"]
pub mod digest;
#[path = "../../src/elf/mod.rs"]
pub mod elf;
#[path = "../../src/epoch.rs"]
pub mod epoch;
#[path = "../../src/image/mod.rs"]
pub mod image;
#[path = "../../src/layer/mod.rs"]
pub mod layer;
#[path = "../../src/lock/mod.rs"]
pub mod lock;
#[path = "../../src/oci/mod.rs"]
pub mod oci;
#[path = "../../src/plan/mod.rs"]
pub mod plan;
#[path = "../../src/python/mod.rs"]
pub mod python;
#[path = "../../src/size.rs"]
pub mod size;
#[path = "../../src/spec/mod.rs"]
pub mod spec;
#[path = "../../src/tarblocks.rs"]
pub mod tarblocks;
#[path = "../../src/tree.rs"]
pub mod tree;
#[path = "../../src/unpack/mod.rs"]
pub mod unpack;
#[path = "../../src/wheel/mod.rs"]
pub mod wheel;

#[path = "../../src/debian/ar.rs"]
pub mod ar;
#[path = "../../src/debian/deb.rs"]
pub mod deb;
#[path = "../../src/debian/deb822.rs"]
pub mod deb822;
#[path = "../../src/wheel/entry_points.rs"]
pub mod entry_points;
#[path = "../../src/wheel/filename.rs"]
pub mod filename;
#[path = "../../src/wheel/metadata.rs"]
pub mod metadata;
#[path = "../../src/wheel/record.rs"]
pub mod record;
#[path = "../../src/debian/spool.rs"]
pub mod spool;
#[path = "../../src/debian/tarfile.rs"]
pub mod tarfile;
#[path = "../../src/wheel/waivers.rs"]
pub mod waivers;
#[path = "../../src/wheel/testing.rs"]
pub mod wheel_maker;

pub mod checks;
