//! What can be said of a spec whose shape is wrong: mistakes that are mistakes whatever was meant by what is wrong.
//!
//! A key that has a value of another type, or a name that no key has, may be any other key, right or wrong. So nothing is
//! said here that follows from a key not being there, or from two keys together: of `[image]`, `[base]` and `[python]` each
//! good key is looked at by itself, and of `[[index]]`, `[[wheel]]`, `[[copy]]` and `[[model]]` each good element. The rest
//! is said when the shape is right.

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::super::check;
use super::super::source::Place;
use super::super::{schema, wire};
use super::{base, content, image, later, python, wheel};
use crate::diagnostic::Diagnostic;

/// Tables whose keys mean something each by itself.
const BY_KEY: [&str; 3] = ["image", "base", "python"];

/// Says what is wrong with the good parts of `table`.
pub(super) fn check(text: &str, table: &DeTable<'_>, found: &mut Vec<Diagnostic>) {
    let good = check::good_parts(schema::value(), table, text, &BY_KEY);
    let complete = Deserializer::from(Spanned::new(0..0, complete(&good)));
    // It lacks nothing any more. Should it ever, the shape alone is told.
    let Ok(mut spec) = wire::Spec::deserialize(complete) else { return };
    let root = Place::root(&good);
    // Which stages there are nobody knows, so that nothing is said of copies from them.
    let copies = std::mem::take(&mut spec.copy);
    content::copies(copies, &root.get("copy"), found);
    later::check(&spec, &root, found);
    base::apart(&spec.base, &root.get("base"), found);
    if let Some(python) = &spec.python {
        python::apart(python, &root.get("python"), found);
    }
    image::image(spec.image, None, &root.get("image"), found);
    python::indexes(spec.index, &root.get("index"), found);
    wheel::exceptions(spec.wheel, &root.get("wheel"), found);
}

/// The same table with what must be there, which means nothing.
fn complete<'t>(good: &DeTable<'t>) -> DeTable<'t> {
    let mut table = good.clone();
    let key = |name: &'static str| Spanned::new(0..0, name.into());
    if !table.contains_key("base") {
        table.insert(key("base"), Spanned::new(0..0, DeValue::Table(DeTable::new())));
    }
    if let Some(DeValue::Table(python)) = table.get_mut("python").map(Spanned::get_mut)
        && !python.contains_key("version")
    {
        python.insert(key("version"), Spanned::new(0..0, DeValue::String("".into())));
    }
    table
}
