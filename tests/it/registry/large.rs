//! A layer of 12 GB through `mlbuild push`: the memory that it takes is not the layer's.

use std::collections::BTreeMap;
use std::fs;

use mlbuild::digest::Digest;
use mlbuild::oci::{Descriptor, ImageManifest, MediaType, canonical};
use mlbuild::store::Store;

use super::push_faults::{digest, is};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;
use crate::support::testregistry::TestRegistry;
use crate::support::testserver::Reply;
use crate::support::tool::tool;

const SIZE: u64 = 12_000_000_000;
/// SHA-256 of so many zeros.
const ZEROS: &str = "sha256:f6674c39f7a03b41bc41457472a244d34e99bd7c3952b53ac29113074a666114";
/// In KiB.
const MOST_MEMORY: u64 = 200 << 10;

#[test]
fn twelve_gigabytes_take_no_memory() {
    let time = or_skip!("peak memory of a push", tool("time"));
    // It takes every byte of the layer, and keeps none.
    let registry = TestRegistry::start_early(
        digest,
        |request| {
            let large = request.header("content-length") == Some(&SIZE.to_string());
            (large && is(request, "PUT", "/blobs/uploads/")).then(|| (usize::MAX, Reply::status(201)))
        },
        |_| None,
    );
    let project = Project::empty();
    let store = Store::open(project.store()).unwrap();
    let config = Descriptor::of(MediaType::Config, b"{}");
    store.put_bytes(b"{}").unwrap();
    let layer: Digest = ZEROS.parse().unwrap();
    let manifest = Descriptor::new(MediaType::LayerTar, layer, SIZE);
    let manifest = canonical::to_bytes(&ImageManifest::new(config, vec![manifest], BTreeMap::new())).unwrap();
    let image = store.put_bytes(&manifest).unwrap().to_string();
    // A file of holes.
    let path = project.store().join("blobs/sha256").join(&layer.hex()[..2]).join(layer.hex());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path).unwrap().set_len(SIZE).unwrap();

    let peak = project.home().join("peak");
    let under = [time.to_str().unwrap(), "-f", "%M", "-q", "-o", peak.to_str().unwrap()];
    let name = format!("{}/team/large:1", registry.host());
    let pushed = project.mlbuild(&["push", "--image", &image, &name, "--json"]).under(&under).ok().json();
    assert_eq!(pushed[0]["sent"], SIZE + 2);
    assert!(pushed[0]["seconds"].as_f64().unwrap() > 0.0, "{pushed}");
    let tag = ("team/large".to_owned(), "1".to_owned());
    assert_eq!(registry.stored.lock().unwrap().tags.get(&tag), Some(&image));
    let peak: u64 = fs::read_to_string(&peak).unwrap().trim().parse().unwrap();
    println!("{} MiB", peak >> 10);
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 10);
}
