//! The lock over time: what moves it and what does not.

use std::collections::BTreeMap;
use std::fs;

use crate::support::mlbuild::Project;
use crate::support::reference::Reference;
use crate::support::skip::or_skip;

/// A project with the shared store and a spec that asks for these packages; Debian and Python as in `hello`.
fn project(reference: &Reference, dependencies: &str) -> Project {
    let project = Project::empty().with_store(&reference.store);
    write(&project, dependencies);
    project
}

fn write(project: &Project, dependencies: &str) {
    let spec = format!(
        "[image]\nname = \"registry.example/check\"\n[base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"\ndependencies = [{dependencies}]\n"
    );
    project.write("mlbuild.toml", spec);
}

fn versions(project: &Project) -> BTreeMap<String, String> {
    let lock: toml::Table = project.read("mlbuild.lock").parse().unwrap();
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
    lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(package, "name"), text(package, "version")))
        .collect()
}

#[test]
fn nothing_changed_is_the_same_bytes() {
    let reference = or_skip!("lock", Reference::get("hello"));
    let project = project(&reference, "\"numpy\"");
    let _ = project.mlbuild(&["lock"]).ok();
    let first = project.read("mlbuild.lock");
    let _ = project.mlbuild(&["lock"]).ok();
    assert_eq!(project.read("mlbuild.lock"), first);
    let _ = project.mlbuild(&["lock", "--check"]).ok();
    let _ = project.mlbuild(&["lock", "--offline"]).ok();
    assert_eq!(project.read("mlbuild.lock"), first);
    // From nothing, too: the world has not moved in between, or this fails once in a blue moon.
    fs::remove_file(project.path().join("mlbuild.lock")).unwrap();
    let _ = project.mlbuild(&["lock"]).ok();
    assert_eq!(project.read("mlbuild.lock"), first);
}

#[test]
fn an_edit_is_seen_and_changes_little() {
    let reference = or_skip!("lock", Reference::get("hello"));
    let project = project(&reference, "\"python-dateutil<2.9\"");
    let _ = project.mlbuild(&["lock"]).ok();
    let before = versions(&project);
    write(&project, "\"python-dateutil\", \"idna\"");
    let stale = project.read("mlbuild.lock");
    let check = project.mlbuild(&["lock", "--check"]).run().expect(3);
    assert!((check.stdout() + &check.stderr()).contains("idna"), "{}{}", check.stdout(), check.stderr());
    assert_eq!(project.read("mlbuild.lock"), stale, "--check writes nothing");
    let _ = project.mlbuild(&["build"]).run().expect(3);
    let _ = project.mlbuild(&["lock"]).ok();
    let mut after = versions(&project);
    assert!(after.remove("idna").is_some());
    assert_eq!(after, before, "what need not move does not");
    let _ = project.mlbuild(&["lock", "--check"]).ok();

    let _ = project.mlbuild(&["lock", "--upgrade-package", "six"]).ok();
    assert_eq!(versions(&project)["python-dateutil"], before["python-dateutil"]);
    let _ = project.mlbuild(&["lock", "--upgrade-package", "python_dateutil"]).ok();
    assert_ne!(versions(&project)["python-dateutil"], before["python-dateutil"]);
    let moved = project.read("mlbuild.lock");
    let _ = project.mlbuild(&["lock", "--upgrade"]).ok();
    assert_eq!(project.read("mlbuild.lock"), moved, "everything was at its newest");
}

#[test]
fn what_cannot_be_is_explained() {
    let reference = or_skip!("lock", Reference::get("hello"));
    let project = project(&reference, "\"numpy==0.0.999\"");
    let failed = project.mlbuild(&["lock"]).run();
    assert!(matches!(failed.status(), 1 | 2), "{}", failed.status());
    assert!(failed.stderr().contains("numpy"), "{}", failed.stderr());
    assert!(!project.path().join("mlbuild.lock").exists());
}

#[test]
fn a_lock_edited_by_hand_is_refused() {
    let reference = or_skip!("lock", Reference::get("hello"));
    let project = project(&reference, "\"numpy\"");
    let _ = project.mlbuild(&["lock"]).ok();
    let lock = project.read("mlbuild.lock");
    project.write("mlbuild.lock", lock.replacen("version = 1", "version = 99", 1));
    let newer = project.mlbuild(&["build"]).run();
    assert!(matches!(newer.status(), 2 | 3), "{}", newer.status());
    assert!(newer.stderr().contains("99"), "{}", newer.stderr());
    // Another wheel's hash: the bytes do not match it, whoever serves them.
    let hash = lock[lock.find("[[package]]").unwrap()..]
        .split('"')
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .unwrap();
    project.write("mlbuild.lock", lock.replace(hash, &"0".repeat(64)));
    let _ = project.mlbuild(&["build"]).run().expect(4);
}
