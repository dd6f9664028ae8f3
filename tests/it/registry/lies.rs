//! A layer store that lies, and `mlbuild verify`: what the files give is kept, believed before any hint, and told to others.

use std::fs;

use super::layer_store::tell;
use super::push_faults::{built, digest};
use crate::support::testregistry::TestRegistry;
use crate::support::tiny::Tiny;

fn lie(registry: &TestRegistry) {
    let change = |facts: &mut serde_json::Value| {
        facts["diffId"] = digest(facts["key"].as_str().unwrap().as_bytes()).into();
    };
    tell(&mut registry.stored.lock().unwrap(), change);
}

fn lose_store(tiny: &Tiny) {
    fs::remove_dir_all(tiny.project.store()).unwrap();
}

/// An image, and the layer store that its build has filled; the digest.
fn honest(registry: &TestRegistry) -> (Tiny, String, String) {
    let tiny = built();
    let name = format!("{}/team/app:1", registry.host());
    let digest = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok().digest();
    (tiny, name, digest)
}

#[test]
fn a_lie_is_found_survives_no_proof_and_is_mended() {
    let registry = TestRegistry::start(digest, |_| None);
    let (tiny, name, honest) = honest(&registry);
    let build = ["build", "--push", "--layer-store", "-t", &name];
    let built = || tiny.mlbuild(&build).ok().digest();
    lie(&registry);
    lose_store(&tiny);
    assert_ne!(built(), honest, "a hint is believed by who asks for it");
    // What this machine has heard is told by the name of who said it.
    let failed = tiny.mlbuild(&["verify"]).run().expect(4);
    let who = format!("diff ID: layer store {}/team/mlbuild-layers says", registry.host());
    assert_eq!(failed.stderr().matches(&who).count(), 2, "both groups of wheels: {}", failed.stderr());
    assert_eq!(failed.stdout().matches(": NOT as in the layer store\n").count(), 2, "{}", failed.stdout());
    assert!(!failed.stderr().contains("the store's record"), "{}", failed.stderr());
    assert!(failed.stderr().contains("mends the layer store"), "{}", failed.stderr());
    // The same lie is still there to be heard.
    for _ in 0..2 {
        assert_eq!(built(), honest);
    }
    let verified = tiny.mlbuild(&["verify", "--layer-store", "-t", &name]).ok();
    let said = |words: &str| verified.stdout().matches(words).count();
    // The first build has mended it; of the base and the Python this machine has still only heard.
    let found = (said(": as in the store, as in the layer store\n"), said(": as in the layer store\n"));
    assert_eq!(found, (2, 2), "{}", verified.stdout());
    lose_store(&tiny);
    assert_eq!(built(), honest, "who believes it now is not deceived");
}

#[test]
fn a_machine_that_has_heard_nothing_asks_the_layer_store() {
    let registry = TestRegistry::start(digest, |_| None);
    let (tiny, name, honest) = honest(&registry);
    let verify = |more: &[&str]| tiny.mlbuild(&[&["verify", "-t", &name][..], more].concat());
    lose_store(&tiny);
    let verified = verify(&["--layer-store"]).ok();
    assert_eq!(verified.stdout().matches(": as in the layer store\n").count(), 4, "{}", verified.stdout());
    assert!(!tiny.project.store().join("layers").read_dir().unwrap().any(|_| true), "nothing is kept");
    lie(&registry);
    lose_store(&tiny);
    assert!(verify(&[]).ok().stdout().contains("nothing to compare with"), "nobody has asked for it");
    let failed = verify(&["--layer-store", "--json"]).run().expect(4).json();
    let differences = failed["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 2, "{failed}");
    assert_eq!(differences[0]["witness"], "layer-store");
    assert_eq!(differences[0]["place"], format!("{}/team/mlbuild-layers", registry.host()));
    let wrong = failed["layers"].as_array().unwrap().iter();
    assert_eq!(wrong.filter(|layer| layer["as_in_layer_store"] == false).count(), 2);
    let built = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok();
    assert_eq!(built.digest(), honest);

    // By the user's settings; one of two is among any three of four.
    lie(&registry);
    lose_store(&tiny);
    let path = tiny.project.home().join(".config/mlbuild/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let setting = "layer-store = \"<namespace>/mlbuild-layers\"\n";
    fs::write(&path, format!("[registries.\"{}\"]\n{setting}", registry.host())).unwrap();
    let _ = verify(&["--sample", "3"]).run().expect(4);

    // Who is asked for and cannot be asked is missed; who is only set is gone on without.
    drop(registry);
    let _ = verify(&["--layer-store"]).run().expect(5);
    let without = verify(&[]).ok();
    assert!(without.stderr().contains("going on without the layer store"), "{}", without.stderr());
    let nameless = tiny.mlbuild(&["verify", "-t", "app", "--layer-store"]).run().expect(2);
    assert!(nameless.stderr().contains("says which"), "{}", nameless.stderr());
}

/// This machine has told it the truth before.
#[test]
fn who_has_filled_a_layer_store_mends_it() {
    let registry = TestRegistry::start(digest, |_| None);
    let (tiny, name, honest) = honest(&registry);
    lie(&registry);
    let failed = tiny.mlbuild(&["verify", "--layer-store", "-t", &name]).run().expect(4);
    assert!(failed.stdout().contains(": NOT as in the layer store\n"), "{}", failed.stdout());
    let mended = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok();
    assert!(mended.stderr().contains("2 layers are new in the layer store"), "{}", mended.stderr());
    lose_store(&tiny);
    assert_eq!(tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok().digest(), honest);
}
