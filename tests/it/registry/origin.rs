//! Which image `mlbuild push` takes for that of the spec, what it says of it, and which names and digits mean an image.

use std::fs;

use crate::support::mlbuild::{Finished, Project};
use crate::support::testregistry::TestRegistry;
use crate::support::tiny::Tiny;
use crate::support::wheels::file;
use mlbuild::digest::Digest;
use mlbuild::store::{ImageRecord, Store};

fn registry() -> TestRegistry {
    TestRegistry::start(|bytes| Digest::of(bytes).to_string(), |_| None)
}

/// A project of one file whose image has that name.
fn project(name: &str, more: &str) -> Project {
    let project = Project::new("");
    project.write("mlbuild.toml", spec(name, more));
    project.write("app", "x");
    project
}

fn spec(name: &str, more: &str) -> String {
    format!(
        "[image]\nname = \"{name}\"\n{more}[base]\nscratch = true\n[[copy]]\nfrom = \"app\"\nto = \"/app\"\n"
    )
}

/// What the registry has under a tag of `team/app`.
fn served(registry: &TestRegistry, tag: &str) -> Option<String> {
    registry.stored.lock().unwrap().tags.get(&("team/app".to_owned(), tag.to_owned())).cloned()
}

fn refused(done: Finished, words: &[&str]) {
    let said = done.expect(3).stderr();
    for words in words {
        assert!(said.contains(words), "`{words}` is missing in\n{said}");
    }
}

#[test]
fn what_was_built_from_something_else_is_not_pushed_as_the_specs() {
    let registry = registry();
    let name = format!("{}/team/app:1", registry.host());
    let project = project(&name, "");
    let push = |arguments: &[&str]| project.mlbuild(&[&["push"][..], arguments].concat()).run();
    let first = project.mlbuild(&["build"]).ok().digest();
    assert_eq!(push(&[]).expect(0).digest(), first);
    assert_eq!(push(&[&name]).expect(0).digest(), first);

    let label = format!("{name} in the store is not the image of mlbuild.toml as it stands");
    let as_it_is = format!("`mlbuild push --image {name} REF`");
    let both = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    project.write("mlbuild.toml", spec(&name, both));
    let hint = "`mlbuild build --push --update-lock`";
    refused(
        push(&[]),
        &[&label, "mlbuild.lock does not satisfy the spec any more", "linux/arm64", hint, &as_it_is],
    );
    let _ = project.mlbuild(&["lock"]).ok();
    refused(
        push(&[]),
        &[
            &label,
            "mlbuild.lock is another lock than the one that it was built from",
            "`mlbuild build --push`",
        ],
    );
    // Named, and under another name there: it is the spec's all the same.
    refused(push(&[&name]), &[&label]);
    refused(push(&[&format!("{}/team/app:other", registry.host())]), &[&label]);
    project.write("mlbuild.toml", spec(&name, "entrypoint = [\"/app\"]\n"));
    let _ = project.mlbuild(&["lock"]).ok();
    refused(push(&[]), &[&label, "mlbuild.toml has changed since it was built"]);
    fs::remove_file(project.path().join("mlbuild.lock")).unwrap();
    refused(push(&[]), &[&label, "there is no lock mlbuild.lock"]);
    assert_eq!(served(&registry, "1"), Some(first.clone()));
    assert_eq!(served(&registry, "other"), None);
    // As it is, if that is what is wanted.
    let sent = push(&["--image", &name, &format!("{}/team/app:kept", registry.host())]).expect(0);
    assert_eq!(sent.digest(), first);
    let built = project.mlbuild(&["build"]).ok().digest();
    assert_ne!(built, first);
    assert_eq!(push(&[]).expect(0).digest(), built);
}

/// Seals say what the layers are, which decides nothing of the image.
#[test]
fn sealing_the_lock_makes_no_image_old() {
    let registry = registry();
    let tiny = Tiny::new().wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")]);
    let name = format!("{}/team/app:1", registry.host());
    let tiny = tiny.locked();
    tiny.project
        .write("mlbuild.toml", tiny.project.read("mlbuild.toml").replace("registry.example/tiny", &name));
    let digest = tiny.mlbuild(&["build"]).ok().digest();
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    assert!(tiny.project.read("mlbuild.lock").contains("[[seal"), "it is sealed");
    assert_eq!(tiny.mlbuild(&["push"]).ok().digest(), digest);
    tiny.relock(|lock| lock.suites[0].date = "2026-11-02T00:00:00Z".to_owned());
    refused(tiny.mlbuild(&["push"]).run(), &["another lock than the one that it was built from"]);
}

#[test]
fn the_image_of_another_project_is_not_pushed_for_the_specs() {
    let registry = registry();
    let name = format!("{}/team/app:1", registry.host());
    let other = project(&name, "");
    let own = project(&name, "").with_store(&other.store());
    other.write("app", "other");
    let digest = other.mlbuild(&["build", "-t", &name, "-t", "kept:1"]).ok().digest();
    let _ = own.mlbuild(&["lock"]).ok();
    let from = other.path().canonicalize().unwrap().join("mlbuild.toml");
    refused(own.mlbuild(&["push"]).run(), &[&format!("it was built from {}", from.display())]);
    let _ = other.mlbuild(&["push"]).ok();
    let _ = own.mlbuild(&["rmi", &name]).ok();
    let _ = own.mlbuild(&["pull", &name]).ok();
    refused(own.mlbuild(&["push"]).run(), &["it was not built here: it was pulled"]);
    assert_eq!(served(&registry, "1"), Some(digest));

    // What an older program has written does not say from which lock it was built.
    let _ = own.mlbuild(&["build"]).ok();
    own.write("mlbuild.toml", spec(&name, "entrypoint = [\"/app\"]\n"));
    refused(own.mlbuild(&["push"]).run(), &["has changed since"]);
    let store = Store::open(own.store()).unwrap();
    let record = store.image(&name).unwrap().unwrap();
    store.put_image(&ImageRecord { made_from: None, ..record.clone() }).unwrap();
    assert_eq!(own.mlbuild(&["push"]).ok().digest(), record.digest.to_string());
}

#[test]
fn what_is_pushed_under_another_name_is_said() {
    let registry = registry();
    let host = registry.host();
    let name = format!("{host}/team/app");
    let project = project(&name, "");
    let digest = project.mlbuild(&["build"]).ok().digest();
    let short = &digest["sha256:".len()..][..12];
    let said = |arguments: &[&str]| project.mlbuild(&[&["push"][..], arguments].concat()).ok().stderr();
    let own = said(&["--tag", "2"]);
    assert!(own.contains(&format!("pushed {name}:latest, {name}:2: 2 sent")), "{own}");
    assert!(own.contains("app -> /app\n"), "as the build has it: {own}");
    let slip = said(&[&format!("{host}/tem/ap:9")]);
    assert!(slip.contains(&format!("pushed {name}:latest ({short}) as {host}/tem/ap:9: ")), "{slip}");
    let by_digest = said(&["--image", &digest, &format!("{host}/third/app")]);
    assert!(by_digest.contains(&format!("pushed {short} as {host}/third/app:latest: ")), "{by_digest}");
    let exact = said(&[&format!("{host}/fourth/app@{digest}")]);
    assert!(exact.contains(&format!("pushed {host}/fourth/app@{digest}: ")), "{exact}");
    let report = project.mlbuild(&["push", "--json", &format!("{host}/tem/ap:9")]).ok().json();
    assert_eq!(report[0]["image"], format!("{name}:latest"));
    assert_eq!(report[0]["references"], serde_json::json!([format!("{host}/tem/ap:9")]));
    let dry = project.mlbuild(&["push", "--dry-run", &format!("{host}/fifth/app:1")]).ok();
    let sum = format!("would push {name}:latest ({short}) as {host}/fifth/app:1: 0 to send, 2 to mount (");
    let said = dry.stdout();
    assert!(said.contains(&sum) && dry.stderr().is_empty(), "{said}");
    assert!(said.ends_with(" B, if the registry does), 0 already there\n"), "{said}");
}

#[test]
fn a_tag_that_loses_platforms_is_warned_of() {
    let registry = registry();
    let name = format!("{}/team/app:1", registry.host());
    let project = project(&name, "platforms = [\"linux/amd64\", \"linux/arm64\"]\n");
    let all = project.mlbuild(&["build", "--push"]).ok();
    let warning = format!("warning: {name} is pushed for linux/arm64 alone, without linux/amd64 of the spec");
    assert!(!all.stderr().contains("warning"), "{}", all.stderr());
    let part = project.mlbuild(&["build", "--push", "--platform", "linux/arm64"]).ok();
    assert!(part.stderr().contains(&warning), "{}", part.stderr());
    assert_eq!(served(&registry, "1"), Some(part.digest()));
    // The store's name stands for the part, too.
    let pushed = project.mlbuild(&["push"]).ok();
    assert!(pushed.stderr().contains(&warning), "{}", pushed.stderr());
    let _ = project.mlbuild(&["build"]).ok();
    let pushed = project.mlbuild(&["push"]).ok();
    assert!(!pushed.stderr().contains("warning") && pushed.digest() == all.digest(), "{}", pushed.stderr());
}

#[test]
fn all_verbs_know_an_image_by_the_same_words() {
    let registry = registry();
    let project = project("app:1", "entrypoint = [\"/app\"]\n");
    let digest = project.mlbuild(&["build"]).ok().digest();
    let digits = &digest["sha256:".len()..];
    let there = format!("{}/team/app:1", registry.host());
    for image in ["app:1", &digest, digits, &digits[..12], &digest[..20], &digits[..6]] {
        for verb in [
            &["push", "--image", image, &there][..],
            &["inspect", image],
            &["tag", image, "other:1"],
            &["run", "--dry-run", image],
        ] {
            let _ = project.mlbuild(verb).ok();
        }
    }
    for (verb, status) in [
        (&["push", "--image", &digits[..5], &there][..], 2),
        (&["inspect", &digits[..5]], 2),
        (&["tag", &digits[..5], "other:1"], 2),
        (&["rmi", &digits[..5]], 2),
        (&["run", "--dry-run", &digits[..5]], 125),
    ] {
        let refused = project.mlbuild(verb).run().expect(status).stderr();
        assert!(refused.contains(&format!("no image `{}`", &digits[..5])), "{verb:?}: {refused}");
        assert!(refused.contains("needs 6 digits or more"), "{verb:?}: {refused}");
    }
    // A digest whose image has lost its names is known by all of it.
    let _ = project.mlbuild(&["rmi", "--force", &digits[..12]]).ok();
    for image in [digest.as_str(), digits] {
        let _ = project.mlbuild(&["push", "--image", image, &there]).ok();
        let _ = project.mlbuild(&["run", "--dry-run", image]).ok();
    }
    let _ = project.mlbuild(&["push", "--image", &digits[..12], &there]).run().expect(2);
}
