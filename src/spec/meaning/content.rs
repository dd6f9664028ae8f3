//! `[[copy]]`: files of the project.

use ignore::gitignore::GitignoreBuilder;

use super::super::check::quoted;
use super::super::source::Place;
use super::super::{model, wire};
use super::words;
use crate::diagnostic::Diagnostic;

/// The copies from the project; those from build stages are `later`'s.
pub(super) fn copies(
    copies: Vec<wire::Copy>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<model::Copy> {
    copies
        .into_iter()
        .enumerate()
        .filter(|(_, copy)| copy.stage.is_none())
        .map(|(at, copy)| project_copy(copy, &place.at(at), found))
        .collect()
}

pub(super) fn project_copy(copy: wire::Copy, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> model::Copy {
    check_patterns(&copy.exclude, &place.get("exclude"), found);
    model::Copy {
        from: words::project_path(&copy.from, "path", false, &place.get("from"), found),
        to: destination(&copy.to, &place.get("to"), found),
        exclude: copy.exclude,
    }
}

/// The trailing slash stays: of a single file it says "into".
pub(super) fn destination(to: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> String {
    let path = words::image_path(to, "path", place, found);
    if to.ends_with('/') && path != "/" { format!("{path}/") } else { path }
}

pub(super) fn check_patterns(patterns: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    for (at, pattern) in patterns.iter().enumerate() {
        if let Err(error) = GitignoreBuilder::new("").add_line(None, pattern) {
            let error = error.to_string();
            let reason = error.rsplit(": ").next().unwrap_or_default();
            let message = format!("pattern {} cannot be read: {reason}", quoted(pattern));
            found.push(Diagnostic::error(message, place.at(at).span()));
        }
    }
}
