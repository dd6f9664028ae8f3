//! What a registry has in another repository is mounted from there, also where this machine has the bytes.

use std::fs;

use serde_json::Value;

use super::push_faults::{built, digest};
use crate::support::mlbuild::Project;
use crate::support::testregistry::TestRegistry;

fn registry() -> TestRegistry {
    TestRegistry::start(digest, |_| None)
}

/// A project that copies a file of that content to where the name says.
fn project(base: &str, name: &str) -> Project {
    let copy = format!("[[copy]]\nfrom = \"app\"\nto = \"/{name}\"\n");
    let project = Project::new(&format!("[image]\nname = \"{name}\"\n[base]\n{base}\n{copy}"));
    project.write("app", name);
    project
}

fn mounted<'p>(pushed: &'p Value, from: &str) -> Vec<&'p str> {
    let blobs = pushed["blobs"].as_array().unwrap().iter();
    let blobs = blobs.filter(|blob| blob["outcome"] == "mounted" && blob["from"] == from);
    blobs.map(|blob| blob["digest"].as_str().unwrap()).collect()
}

#[test]
fn a_base_is_mounted_from_where_the_spec_names_it_wherever_its_bytes_came_from() {
    let (first, second) = (registry(), registry());
    let [there, here] = [&first, &second].map(|one| format!("{}/team/base:1", one.host()));
    let base = project("scratch = true", "base");
    let pushed = base.mlbuild(&["build", "--push", "-t", &there, "-t", &here, "--json"]).ok().json();
    let layer = pushed["images"][0]["layers"][0]["digest"].as_str().unwrap();
    let upon = project(&format!("oci = \"{here}\""), "upon");
    let _ = upon.mlbuild(&["pull", &there]).ok();
    let to = format!("{}/other/app:1", second.host());
    let pushed = upon.mlbuild(&["build", "--push", "-t", &to, "--json"]).ok().json();
    assert_eq!(mounted(&pushed["pushed"][0], "team/base"), [layer], "{pushed}");
}

#[test]
fn what_was_pulled_is_mounted_though_it_was_built_here_too() {
    let (tiny, registry) = (built(), registry());
    let [from, to] = ["a", "b"].map(|name| format!("{}/{name}/app:1", registry.host()));
    let _ = tiny.mlbuild(&["push", "--image", "image", &from]).ok();
    // Somebody else has pushed it.
    fs::remove_dir_all(tiny.project.store().join("memo")).unwrap();
    let _ = tiny.mlbuild(&["pull", &from]).ok();
    let pushed = tiny.mlbuild(&["push", "--image", &from, &to, "--json"]).ok().json();
    assert_eq!(mounted(&pushed[0], "a/app").len(), 5, "all layers: {pushed}");
    // That they were pulled makes them no hearsay: a build makes none of them anew.
    let built = tiny.mlbuild(&["build", "--offline", "--json"]).ok().json();
    let layers = built["images"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.iter().filter(|layer| layer["reused"] == true).count(), 5, "{built}");
}

#[test]
fn every_repository_that_is_known_is_tried() {
    let (tiny, registry) = (built(), registry());
    let name = |at: usize| format!("{}/r{at}/app:1", registry.host());
    for at in 0..7 {
        let _ = tiny.mlbuild(&["push", "--image", "image", &name(at)]).ok();
    }
    registry.stored.lock().unwrap().blobs.retain(|(repository, _), _| repository == "r0/app");
    let pushed = tiny.mlbuild(&["push", "--image", "image", &name(7), "--json"]).ok().json();
    assert_eq!(mounted(&pushed[0], "r0/app").len(), 6, "{pushed}");
    assert!(registry.stored.lock().unwrap().sessions.is_empty(), "sessions stay open");
    // Those that have it no more are not asked again.
    let asked = registry.requests().len();
    let _ = tiny.mlbuild(&["push", "--image", "image", &name(8)]).ok();
    let mounts = registry.requests()[asked..].iter().filter(|line| line.contains("mount=")).count();
    assert_eq!(mounts, 6);
}
