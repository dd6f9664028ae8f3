//! The spec: `mlbuild.toml`, from text to [`model::Spec`].
//!
//! The way of a text, each step in a file of its own:
//!
//! 1. `source` reads TOML and keeps the place of every key and value; all syntax errors at once.
//! 2. `check` compares its shape with the JSON Schema that [`schema_json`] makes of the types in `wire`: unknown and
//!    missing keys, wrong types, unknown words. All of them at once, with the mistakes that its good parts have whatever was
//!    meant by the others (`meaning::apart`).
//! 3. serde fills the types of `wire`; after step 2 this cannot fail.
//! 4. `meaning` turns them into the model: defaults, and what no schema can say (a path that leaves its root, a
//!    Python that the suite does not have). Again all mistakes at once, each with its place.
//!
//! `form` takes these steps; the user's configuration, another text of TOML, takes them too.
//!
//! Pure: no file is opened here, not even to see whether `requirements.txt` exists. [`starter`] writes new specs.

pub(crate) mod check;
pub(crate) mod form;
mod meaning;
pub mod model;
pub(crate) mod schema;
pub(crate) mod source;
pub mod starter;
mod wire;

pub use meaning::{Parsed, normalise_name, parse};
pub use schema::schema_json;
pub use source::MAX_BYTES;

/// Name of the spec in a project's directory.
pub const FILE_NAME: &str = "mlbuild.toml";

#[cfg(test)]
mod tests;
