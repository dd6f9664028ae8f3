//! The door to uv's crates. Nothing of theirs, nor of `reqwest`, appears in a signature that leaves this directory.
//!
//! uv's crates are internal to uv and change without notice: their versions are exact in `Cargo.toml`, and the surface
//! used is kept small. `solve` drives the resolver, `client` gives it a cache and a network, `guard` is what every answer of
//! that network passes, `inside` reads the metadata that only a wheel has, `parts` is what is here of such a wheel, `provider`
//! keeps uv from files that are not on the web, `context` stands where uv would build source distributions, `target`
//! describes the image's interpreter, `answer` reads the result, `requirement` reads single requirements, `words` rephrases
//! hints.

mod answer;
mod client;
mod context;
mod guard;
mod inside;
#[cfg(test)]
mod page_tests;
mod parts;
mod provider;
pub(super) mod requirement;
mod solve;
pub(super) mod target;
mod words;

pub use solve::resolve;
