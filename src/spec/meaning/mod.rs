//! From the types of `wire` to the model: defaults, and everything that no schema can say.
//!
//! Every function here takes a part of the spec and its place in the text, adds what is wrong with it to `found`, and
//! yields its meaning as well as it can, so that the next mistake is found too. A model is handed out only when
//! nothing was found but warnings.

mod apart;
mod base;
mod content;
mod image;
mod later;
mod python;
mod wheel;
mod words;

use toml::de::DeTable;

pub use words::normalise_name;
pub(super) use words::{is_index_url, is_python_name};

use super::source::Place;
use super::{form, model, schema, wire};
use crate::diagnostic::Diagnostic;

/// A spec understood, and what is worth saying about it nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub spec: model::Spec,
    pub warnings: Vec<Diagnostic>,
}

/// Understands the text of a spec, or says everything that is wrong with it, in the order of the text.
pub fn parse(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let (spec, warnings) =
        form::parse(text, "spec", schema::value(), spec, |table, found| apart::check(text, table, found))?;
    Ok(Parsed { spec, warnings })
}

fn spec(wire: wire::Spec, table: &DeTable<'_>, found: &mut Vec<Diagnostic>) -> model::Spec {
    let root = Place::root(table);
    if wire.python.is_none() {
        for (used, key) in [
            (!wire.index.is_empty(), "index"),
            (!wire.wheel.is_empty(), "wheel"),
            (root.has("prune"), "prune"),
        ] {
            if used {
                let message = format!("`{key}` says nothing to an image without [python]");
                found.push(Diagnostic::warning(message, root.get(key).key_span()));
            }
        }
    }
    later::check(&wire, &root, found);
    let base = base::base(wire.base, &root.get("base"), found);
    let python = wire.python.map(|python| python::python(python, &base, &root.get("python"), found));
    model::Spec {
        image: image::image(wire.image, Some(&base), &root.get("image"), found),
        indexes: python::indexes(wire.index, &root.get("index"), found),
        wheels: wheel::exceptions(wire.wheel, &root.get("wheel"), found),
        copies: content::copies(wire.copy, &root.get("copy"), found),
        prune: model::Prune {
            tests: wire.prune.tests,
            headers: wire.prune.headers,
            static_libraries: wire.prune.static_libraries,
            stubs: wire.prune.stubs,
        },
        base,
        python,
    }
}
