//! What stands between an index's page and a lock, compiled anew for fuzzing: `resolve::uv::answer` and what it uses.

#![allow(dead_code, reason = "the rest of mlbuild uses it")]

#[path = "../../../src/digest/mod.rs"]
pub mod digest;
pub mod oci;
pub mod resolve;
pub mod spec;
