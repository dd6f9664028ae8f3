//! Real images from the real index and the real Debian archive, under the eyes of other tools.

mod base;
mod build;
mod determinism;
mod installers;
mod locking;
mod oracles;
mod readme;
mod run;
mod sealed;
mod standalone;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mlbuild::digest::{Digest, hash_reader};
use serde_json::Value;

use crate::support::reference::Reference;

/// Where a store keeps a blob.
fn blob(store: &Path, hex: &str) -> PathBuf {
    store.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// Every SHA-256 that a lock names.
fn hashes(lock: &str) -> Vec<String> {
    let words = lock.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned).collect()
}

/// Wheels of the lock for a platform: file name and path in the store.
fn wheels(reference: &Reference, platform: &str) -> BTreeMap<String, PathBuf> {
    let lock = reference.lock();
    let mut wheels = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        for wheel in package["wheels"].as_array().unwrap() {
            let here = match wheel.get("platforms") {
                Some(platforms) => {
                    platforms.as_array().unwrap().iter().any(|on| on.as_str() == Some(platform))
                }
                None => true,
            };
            if here {
                let hex = wheel["hashes"]["sha256"].as_str().unwrap();
                wheels.insert(wheel["name"].as_str().unwrap().to_owned(), blob(&reference.store, hex));
            }
        }
    }
    assert!(!wheels.is_empty(), "the lock names no wheel for {platform}");
    wheels
}

/// A document of an OCI layout, by digest; its own digest is checked.
fn document(layout: &Path, digest: &str) -> Value {
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(Digest::of(&bytes).to_string(), digest);
    serde_json::from_slice(&bytes).unwrap()
}

/// Layers of the image that a layout's manifest describes: their descriptors.
fn layers(layout: &Path, digest: &str) -> Vec<Value> {
    document(layout, digest)["layers"].as_array().unwrap().clone()
}

/// Every blob of a layout is what its name says.
fn check_layout(layout: &Path) {
    let mut blobs = 0;
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let (digest, _) = hash_reader(fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(digest.hex(), path.file_name().unwrap().to_str().unwrap());
        blobs += 1;
    }
    assert!(blobs >= 3, "a layout holds at least a manifest, a config and a layer");
}
