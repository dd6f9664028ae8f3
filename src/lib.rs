//! mlbuild makes reproducible OCI images for machine learning: one TOML file, one lock, one digest.
//!
//! ```text
//! mlbuild.toml => Spec ~> Resolution => Lock => Plan ~> layers => Image ~> store | export
//!                      (resolve, archive)           (fetch)               =>  a pure function, ~>  passes an edge
//! ```
//!
//! # Levels
//!
//! Arrows point one way, from the shell to the vocabulary; a module may use those of its own line that stand to its
//! left, and everything below. `tests/it/architecture.rs` reads every `crate::` path and compares it with this table.
//!
//! | level | modules |
//! |---|---|
//! | shell | `cli` |
//! | engine | `engine` |
//! | edges | `scratch` `unpack` `http` `registry` `context` `archive` `store` `fetch` `export` `sandbox` |
//! | stages | `spec` `wheel` `resolve` `elf` `debian` `python` `base` `layer` `lock` `plan` `image` `launch` |
//! | vocabulary | `digest` `blob` `diagnostic` `epoch` `size` `tarblocks` `textfile` `tree` `oci` |
//!
//! `spec::model` and `lock::model` are plain values that every stage may use. `resolve` is a stage by its types (plain
//! values in, plain values out) and does network through uv's own client; it alone names uv.
//!
//! # Invariants
//!
//! - A layer's bytes are a pure function of its key: no clock, environment, locale, hash-map order, thread count or
//!   compressor version takes part. [`layer`] owns the format and its version, [`plan`] the keys.
//! - Every byte from outside is checked against a SHA-256 of the lock before it is used ([`fetch`], [`store`]).
//! - Nothing is half-written: the store and the exports rename what is complete.
//! - Async is for network only; hashing, inflating and encoding run on a bounded pool; results never depend on the
//!   order in which work finishes ([`engine`]).
//! - Secrets live in URLs, environment and netrc only: no type that is written to disk has a field for them.
//! - Deliberately absent: a container engine, a host Python, maintainer scripts, source builds, and `unsafe`
//!   but for the calls of SHA-256's machine instructions (`digest::lanes`) and of the kernel (`sandbox::kernel`).

#![deny(unsafe_code)]

// vocabulary
pub mod blob;
pub mod diagnostic;
pub mod digest;
pub mod epoch;
pub mod oci;
pub mod size;
pub mod tarblocks;
pub mod textfile;
pub mod tree;

// stages
pub mod base;
pub mod debian;
pub mod elf;
pub mod image;
pub mod launch;
pub mod layer;
pub mod lock;
pub mod plan;
pub mod python;
pub mod resolve;
pub mod spec;
pub mod wheel;

// edges
pub mod archive;
pub mod context;
pub mod export;
pub mod fetch;
pub mod http;
pub mod registry;
pub mod sandbox;
pub mod scratch;
pub mod store;
pub mod unpack;

// engine and shell
pub mod cli;
pub mod engine;
