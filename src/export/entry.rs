//! Entries of a layout's `index.json`, which no digest covers: one wrong byte in a name there would give another image
//! than the one that is meant, and in a digest none.
//!
//! So an entry of ours carries an annotation with the SHA-256 of what leads to its image and of its names ([`CHECK`]).
//! Where they do not agree, its names are not used to find an image, and an export into the layout says so.
//!
//! **Other tools** that give an image one more tag copy its entry with all annotations (`umoci tag`, `oras tag`): such a
//! copy, beside the entry that it is of, is a name like any that others gave. [`release`] takes the annotation from it
//! before an export may replace that other entry. One that was renamed, so that nothing is left of its old name, cannot
//! be told from one that is damaged: by its digest it can be had all the same.
//!
//! **Limits.** Entries of others, and those of an export before there was this annotation, are taken as they are. A wrong
//! byte in the key of the annotation, or in `annotations`, makes an entry one of these, with names that are right or with
//! none. Fields beside the entries are nobody's names.

use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::image::annotation::{CHECK, CONTAINERD_NAME, REF_NAME};

/// In place of the digest in an annotation that did not agree with its entry.
const DIFFERS: &str = "differs";

/// The tag, and the whole reference.
pub(super) fn name<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry["annotations"][key].as_str()
}

/// For people: the tag, or else the whole reference, or else the digest.
pub(super) fn shown(entry: &Value) -> &str {
    let digest = entry["digest"].as_str().unwrap_or("an image without a digest");
    name(entry, REF_NAME).or_else(|| name(entry, CONTAINERD_NAME)).unwrap_or(digest)
}

/// Writes into the entry what it says now.
pub(super) fn vouch(entry: &mut Value) {
    let check = check(entry);
    if let Some(annotations) = annotations(entry) {
        annotations.insert(CHECK.to_owned(), Value::from(check));
    }
}

/// Whether one of ours says something else than was written, and is no copy that another tool has made.
pub(super) fn is_changed(entry: &Value, entries: &[Value]) -> bool {
    state(entry, entries) == State::Changed
}

/// Makes copies that other tools have made entries of theirs.
pub(super) fn release(entries: &mut [Value]) {
    let copies: Vec<bool> = entries.iter().map(|entry| state(entry, entries) == State::Copied).collect();
    for (entry, _) in entries.iter_mut().zip(copies).filter(|(_, is_copy)| *is_copy) {
        if let Some(annotations) = annotations(entry) {
            annotations.remove(CHECK);
        }
    }
}

/// Makes an entry that is changed stay so, also beside a new one that it would be a copy of.
pub(super) fn mark_changed(entry: &mut Value) {
    if let Some(annotations) = annotations(entry) {
        annotations.insert(CHECK.to_owned(), Value::from(DIFFERS));
    }
}

/// Takes the whole reference from an entry that keeps another name.
pub(super) fn give_up_reference(entry: &mut Value, entries: &[Value]) {
    let intact = state(entry, entries) == State::Intact;
    if let Some(annotations) = annotations(entry) {
        annotations.remove(CONTAINERD_NAME);
    }
    if intact {
        vouch(entry);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing says what it was.
    Foreign,
    Intact,
    Copied,
    Changed,
}

fn state(entry: &Value, entries: &[Value]) -> State {
    let Some(written) = name(entry, CHECK) else { return State::Foreign };
    if written == check(entry) {
        return State::Intact;
    }
    let is_original = |other: &Value| {
        other["digest"] == entry["digest"] && name(other, CHECK) == Some(written) && check(other) == written
    };
    if entries.iter().any(is_original) { State::Copied } else { State::Changed }
}

fn check(entry: &Value) -> String {
    let annotations = &entry["annotations"];
    let covered = [
        &entry["digest"],
        &entry["mediaType"],
        &entry["size"],
        &annotations[REF_NAME],
        &annotations[CONTAINERD_NAME],
    ];
    Digest::of(serde_json::to_vec(&covered).expect("JSON has string keys")).to_string()
}

fn annotations(entry: &mut Value) -> Option<&mut Map<String, Value>> {
    entry.get_mut("annotations")?.as_object_mut()
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
