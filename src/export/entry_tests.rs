//! Every wrong bit that an index of three images can have, and what other tools do to its entries.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::export::layout::{Extended, extended, parse_index};
use crate::export::{ExportError, Layout};
use crate::oci::{Descriptor, MediaType, canonical};

/// The entry of an image of these bytes.
fn image(bytes: &str, tag: Option<&str>, reference: Option<&str>) -> Descriptor {
    let mut entry = Descriptor::of(MediaType::Manifest, bytes.as_bytes());
    for (key, name) in [(REF_NAME, tag), (CONTAINERD_NAME, reference)] {
        entry.annotations.extend(name.map(|name| (key.to_owned(), name.to_owned())));
    }
    entry
}

/// What stands in a directory after exports of these, one after the other.
fn exported(images: &[Descriptor]) -> Vec<u8> {
    images.iter().fold(Vec::new(), |before, image| {
        let (after, changed) = export(&before, image).unwrap();
        assert!(changed.is_empty(), "{changed:?}");
        after
    })
}

fn export(before: &[u8], image: &Descriptor) -> Result<(Vec<u8>, Vec<String>), String> {
    let index = if before.is_empty() { None } else { Some(parse_index(before)?) };
    let Extended { index, changed } = extended(index, image);
    Ok((canonical::to_bytes(&index).unwrap(), changed))
}

fn opened(index: &[u8]) -> Result<Layout, ExportError> {
    Layout::with_index("out".as_ref(), index)
}

/// Each name with the digest that it stands for.
fn names(index: &[u8]) -> Vec<(String, String)> {
    let index: Value = serde_json::from_slice(index).unwrap();
    let mut names = Vec::new();
    for entry in index["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap_or_default();
        names.extend(
            [REF_NAME, CONTAINERD_NAME]
                .into_iter()
                .filter_map(|key| Some((name(entry, key)?.to_owned(), digest.to_owned()))),
        );
    }
    names
}

fn three() -> (Descriptor, Vec<u8>) {
    let first = image("A", Some("1.0"), Some("registry.example/app:1.0"));
    let second = image("B", Some("1.1"), Some("registry.example/app:1.1"));
    let third = image("C", Some("blue"), None);
    let index = exported(&[first.clone(), second, third]);
    (first, index)
}

/// A name gives the image that it was given to, or none; and the next export leaves no wrong name without a word.
#[test]
fn no_wrong_bit_gives_another_image() {
    let (first, index) = three();
    let meant: BTreeMap<String, Descriptor> = names(&index)
        .into_iter()
        .map(|(name, _)| (name.clone(), opened(&index).unwrap().find(Some(&name)).unwrap().clone()))
        .collect();
    assert_eq!(meant.len(), 5);
    let check = |index: &[u8], what: &str| {
        let Ok(layout) = opened(index) else { return };
        for name in names(index).into_iter().map(|(name, _)| name).chain(meant.keys().cloned()) {
            if let Ok(found) = layout.find(Some(&name)) {
                let meant = meant.get(&name).map(|entry| (entry.digest, entry.size, &entry.media_type));
                assert_eq!(Some((found.digest, found.size, &found.media_type)), meant, "{what}: `{name}`");
            }
        }
        assert!(layout.find(None).is_err(), "{what}");
    };
    let (mut exports, mut told) = (0, 0);
    for at in 0..index.len() {
        for bit in 0..8 {
            let mut index = index.clone();
            index[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            check(&index, &what);
            let Ok((after, changed)) = export(&index, &first) else { continue };
            (exports, told) = (exports + 1, told + usize::from(!changed.is_empty()));
            check(&after, &format!("{what}, after an export"));
            let wrong = names(&after).into_iter().find(|(name, digest)| {
                meant.get(name).is_none_or(|entry| entry.digest.to_string() != *digest)
            });
            assert!(wrong.is_none() || !changed.is_empty(), "{what}: {wrong:?} without a word");
            // What was exported is there, whatever was wrong with it.
            let found = opened(&after).and_then(|layout| layout.find(Some("1.0")).map(|entry| entry.digest));
            assert!(found.is_err() || found.unwrap() == first.digest, "{what}");
        }
    }
    assert!(exports > 4000 && told > 1000, "{told} of {exports}");
}

#[test]
fn what_is_changed_is_told_by_its_name() {
    let (first, index) = three();
    let text = String::from_utf8(index).unwrap();
    let renamed = text.replace("\"blue\"", "\"glue\"");
    let error = opened(renamed.as_bytes()).unwrap().find(Some("glue")).unwrap_err();
    assert!(error.is_integrity());
    let digest = Digest::of("C").to_string();
    assert!(error.to_string().contains("of `glue` is not what mlbuild wrote there"), "{error}");
    assert!(error.to_string().ends_with(&format!("it can be had as it is: `{digest}`")), "{error}");
    let layout = opened(renamed.as_bytes()).unwrap();
    assert_eq!(layout.find(Some(&digest)).unwrap().digest.to_string(), digest);
    assert_eq!(export(renamed.as_bytes(), &first).unwrap().1, ["glue"]);
    // Its own name again, as often as it is exported.
    let (after, _) = export(renamed.as_bytes(), &image("C", Some("glue"), None)).unwrap();
    assert_eq!(export(&after, &first).unwrap().1, [""; 0]);
    let two = text.replace("\"1.1\"", "\"1.0\"");
    let error = opened(two.as_bytes()).unwrap().find(Some("1.0")).unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("has several images `1.0`"), "{error}");
    let (after, changed) = export(two.as_bytes(), &first).unwrap();
    assert_eq!(changed, ["1.0"], "the other one, which gives way");
    assert_eq!(opened(&after).unwrap().find(Some("1.0")).unwrap().digest, first.digest);
}

/// A copy of an entry under another name, as umoci and oras make it, is theirs, also when ours goes on to another image.
#[test]
fn other_tools_may_add_names() {
    let (_, index) = three();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let mut copy = entries.iter().find(|entry| name(entry, REF_NAME) == Some("1.1")).unwrap().clone();
    copy["annotations"][REF_NAME] = json!("stable");
    entries.push(copy);
    let foreign = json!({"mediaType": "text/plain", "digest": Digest::of("D"), "size": 1, "x": 1,
        "annotations": {REF_NAME: "theirs", "y": "1"}});
    entries.push(foreign.clone());
    let bytes = serde_json::to_vec(&index).unwrap();
    let found = |bytes: &[u8], wanted: &str| opened(bytes).unwrap().find(Some(wanted)).unwrap().digest;
    assert_eq!(found(&bytes, "stable"), Digest::of("B"));
    let next = image("E", Some("1.1"), Some("registry.example/app:1.1"));
    let (after, changed) = export(&bytes, &next).unwrap();
    assert_eq!(changed, [""; 0]);
    assert_eq!((found(&after, "stable"), found(&after, "1.1")), (Digest::of("B"), Digest::of("E")));
    assert_eq!(found(&after, "registry.example/app:1.1"), Digest::of("E"));
    let (again, changed) = export(&after, &next).unwrap();
    assert_eq!((again == after, changed.len()), (true, 0));
    let after: Value = serde_json::from_slice(&after).unwrap();
    assert!(after["manifests"].as_array().unwrap().contains(&foreign));
}

/// The last export of a whole reference has it, whatever tags it and others have.
#[test]
fn a_reference_is_the_last_export_of_it() {
    let reference = Some("registry.example/app:1.0");
    let index = exported(&[image("A", Some("old"), reference), image("B", Some("new"), reference)]);
    let layout = opened(&index).unwrap();
    let found = |wanted: &str| layout.find(Some(wanted)).unwrap().digest;
    assert_eq!((found("old"), found("new")), (Digest::of("A"), Digest::of("B")));
    assert_eq!(found("registry.example/app:1.0"), Digest::of("B"));
    // Two tags of one image share it.
    let index = exported(&[image("A", Some("old"), reference), image("A", Some("new"), reference)]);
    assert_eq!(names(&index).len(), 4);
}
