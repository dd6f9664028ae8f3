//! Sealed locks and registries: what is pushed where nobody has a wheel.

use std::fs;

use mlbuild::digest::Digest;
use mlbuild::lock;

use super::peer::{Auth, Peer};
use crate::support::skip::or_skip;
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

/// A project with a sealed lock, pushed to `team/app:1` with its layer store; then the machine loses everything.
fn pushed(peer: &Peer) -> (Tiny, String) {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .wheel("two", "2.0", &[file("two/__init__.py", "y = 2\n")])
        .spec("[[copy]]\nfrom = \"app\"\nto = \"/var/run/app\"\n");
    tiny.project.write("app/main.py", "print(1)\n");
    let tiny = tiny.locked();
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    let name = format!("{}/team/app:1", peer.host);
    let digest = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok().digest();
    fs::remove_dir_all(tiny.project.store()).unwrap();
    (tiny, digest)
}

fn outcomes(built: &serde_json::Value) -> Vec<String> {
    let blobs = built["pushed"][0]["blobs"].as_array().unwrap();
    blobs.iter().map(|blob| blob["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_machine_with_a_sealed_lock_pushes_without_a_file() {
    let peer = or_skip!("a_machine_with_a_sealed_lock_pushes_without_a_file", Peer::start(None, Auth::None));
    let (tiny, digest) = pushed(&peer);
    let asked = tiny.server.requests().len();
    let build = |name: &str, more: &[&str]| {
        let name = format!("{}/{name}", peer.host);
        tiny.mlbuild(&[&["build", "--push", "-t", &name, "--json"], more].concat())
    };
    // Another tag where the layers are; then another repository, to which they are mounted.
    let built = build("team/app:2", &[]).ok().json();
    assert_eq!(built["digest"], digest.as_str());
    assert_eq!(outcomes(&built), ["there"; 6], "{built}");
    fs::remove_dir_all(tiny.project.store()).unwrap();
    let built = build("team/other:1", &["--layer-store"]).ok().json();
    assert_eq!(built["digest"], digest.as_str());
    assert_eq!(
        outcomes(&built),
        ["sent", "mounted", "mounted", "mounted", "mounted", "sent"],
        "config and files: {built}"
    );
    assert_eq!(tiny.server.requests().len(), asked, "a file was asked for");
    for (repository, tag) in [("team/app", "2"), ("team/other", "1")] {
        assert_eq!(peer.manifest(repository, tag).unwrap(), digest);
    }
    // Where no registry has them they are made, which needs their files.
    fs::remove_dir_all(tiny.project.store()).unwrap();
    let built = build("elsewhere/app:1", &[]).ok().json();
    assert_eq!(
        (built["digest"].as_str(), outcomes(&built)),
        (Some(digest.as_str()), vec!["sent".to_owned(); 6])
    );
    assert_eq!(tiny.server.requests().len(), asked + 4, "two .debs and two wheels");
}

#[test]
fn what_a_registry_says_is_neither_sealed_nor_preferred_to_a_seal() {
    let peer = or_skip!("what_a_registry_says_is_neither_sealed", Peer::start(None, Auth::None));
    let (tiny, digest) = pushed(&peer);
    let name = format!("{}/team/other:1", peer.host);
    let text = tiny.project.read("mlbuild.lock");
    let mut lock = lock::read(&text).unwrap();
    // All that is known of layers and of wheels that agree comes from the layer store: it is made again to be sealed.
    lock.seals.clear();
    tiny.project.write("mlbuild.lock", lock::write(&lock));
    let built = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok();
    assert_eq!(built.digest(), digest);
    let asked = tiny.server.requests().len();
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    assert_eq!(tiny.server.requests().len(), asked + 4, "two .debs and two wheels");
    assert_eq!(tiny.project.read("mlbuild.lock"), text);
    // A seal that is not what the layer store says: the layer is made, and then it shows who lies.
    fs::remove_dir_all(tiny.project.store()).unwrap();
    let mut lock = lock::read(&text).unwrap();
    lock.seals[0].layers[2].digest = Digest::of("another layer");
    tiny.project.write("mlbuild.lock", lock::write(&lock));
    let failed = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).run().expect(4);
    assert!(failed.stderr().contains("/team/mlbuild-layers is not believed"), "{}", failed.stderr());
    assert!(failed.stderr().contains("not what was said of it"), "{}", failed.stderr());
}
