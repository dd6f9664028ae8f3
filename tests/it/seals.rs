//! Sealed locks: builds that move no bytes, and seals that are not true. All of it on a project of a few kilobytes, served
//! on 127.0.0.1, so that every file that is asked for is counted.

use std::fs;

use mlbuild::digest::Digest;
use mlbuild::lock::model::DebLayer;
use mlbuild::lock::{self, Lock};

use crate::support::mlbuild::Run;
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

/// A base with directories of their own modes, two wheels and user files that go through links of the base.
fn project() -> Tiny {
    let mut tiny = Tiny::new();
    tiny.deb("tiny-data", DebLayer::Base, &[("./usr/share/data/a", 0o644, "a")]);
    let tiny = tiny
        .wheel("alpha", "1.0", &[file("alpha/__init__.py", "a = 1\n")])
        .wheel("beta", "2.0", &[file("beta/__init__.py", "b = 1\n")])
        .spec(
            "[[copy]]\nfrom = \"app/\"\nto = \"/var/run/app/\"\n[[copy]]\nfrom = \"app/\"\nto = \"/tmp/app/\"\n\
             [[copy]]\nfrom = \"app/main.py\"\nto = \"/bin/main\"\n",
        );
    tiny.project.write("app/main.py", "import alpha\n");
    tiny.locked()
}

fn sealed() -> (Tiny, String) {
    let tiny = project();
    let digest = tiny.mlbuild(&["build"]).ok().digest();
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    (tiny, digest)
}

fn read(tiny: &Tiny) -> Lock {
    lock::read(&tiny.project.read("mlbuild.lock")).unwrap()
}

fn rewrite(tiny: &Tiny, change: impl FnOnce(&mut Lock)) {
    let mut lock = read(tiny);
    change(&mut lock);
    tiny.project.write("mlbuild.lock", lock::write(&lock));
}

/// The program with a store that has nothing.
fn afresh(tiny: &Tiny, arguments: &[&str]) -> Run {
    let store = tiny.project.store();
    if store.exists() {
        fs::remove_dir_all(&store).unwrap();
    }
    tiny.mlbuild(arguments)
}

#[test]
fn a_sealed_build_needs_no_file() {
    let (tiny, digest) = sealed();
    let text = tiny.project.read("mlbuild.lock");
    let seals = read(&tiny).seals;
    assert_eq!(seals.len(), 1);
    assert_eq!(seals[0].layers.len(), 4, "base, Python and two groups of wheels: {text}");
    let links: Vec<_> = seals[0].layers[0].links.iter().map(|(path, _)| path.as_str()).collect();
    assert!(links.contains(&"bin") && links.contains(&"var/run"), "{links:?}");
    assert!(seals[0].layers[0].directories.contains(&("tmp".to_owned(), 0o1777)));
    assert!(seals[0].layers[2..].iter().all(|layer| layer.links.is_empty() && layer.directories.is_empty()));

    let asked = tiny.server.requests().len();
    let built = afresh(&tiny, &["build", "--offline"]).ok();
    assert_eq!(built.digest(), digest, "files go through the links of the seal as through those of the base");
    assert!(built.stderr().contains("4 known by their seals alone"), "{}", built.stderr());
    let report = afresh(&tiny, &["build", "--json"]).ok().json();
    assert_eq!(report["digest"], digest.as_str());
    let sealed = |at: usize| report["images"][0]["layers"][at]["sealed"].as_bool().unwrap();
    assert!((0..4).all(sealed) && !(4..7).any(sealed), "{report}");
    assert!(report["images"][0]["pruned_files"].is_null());
    assert_eq!(tiny.server.requests().len(), asked, "no file was asked for");
    assert!(tiny.mlbuild(&["inspect", "--json"]).ok().stdout().contains(&digest));

    // Who needs the bytes makes them.
    let without = tiny.mlbuild(&["build", "--offline", "-o", "oci:out"]).run().expect(5);
    assert!(without.stderr().contains("offline"), "{}", without.stderr());
    assert_eq!(tiny.mlbuild(&["build", "-o", "oci:out"]).ok().digest(), digest);
    assert_eq!(tiny.server.requests().len(), asked + 5, "three .debs and two wheels");
    assert_eq!(tiny.project.read("mlbuild.lock"), text);
}

#[test]
fn sealing_is_the_same_from_everywhere() {
    let (tiny, _) = sealed();
    let text = tiny.project.read("mlbuild.lock");
    let asked = tiny.server.requests().len();
    let again = tiny.mlbuild(&["lock", "--seal"]).ok();
    assert!(again.stdout().contains("up to date"), "{}", again.stdout());
    let _ = tiny.mlbuild(&["lock"]).ok();
    let _ = afresh(&tiny, &["lock", "--seal", "--offline"]).ok();
    assert_eq!(tiny.project.read("mlbuild.lock"), text);
    assert_eq!(tiny.server.requests().len(), asked, "what is sealed is not made to be sealed");
    // From a lock without seals and a store without layers.
    rewrite(&tiny, |lock| lock.seals.clear());
    let report = afresh(&tiny, &["lock", "--seal", "--json"]).ok().json();
    assert_eq!((&report["changed"], &report["sealed"]), (&true.into(), &4.into()));
    assert_eq!(tiny.project.read("mlbuild.lock"), text);
}

#[test]
fn the_image_and_its_files_may_change_below_a_seal() {
    let (tiny, digest) = sealed();
    let text = tiny.project.read("mlbuild.lock");
    let spec = tiny.project.read("mlbuild.toml");
    tiny.project.write("mlbuild.toml", spec.replace("[base]", "env = { A = \"1\" }\n[base]"));
    tiny.project.write("app/main.py", "import beta\n");
    let _ = tiny.mlbuild(&["lock"]).ok();
    assert_eq!(tiny.project.read("mlbuild.lock"), text);
    let other = afresh(&tiny, &["build", "--offline"]).ok().digest();
    assert_ne!(other, digest);
    assert_eq!(tiny.mlbuild(&["build", "-o", "oci:out"]).ok().digest(), other);
}

#[test]
fn seals_go_with_their_layers() {
    let (tiny, _) = sealed();
    let before = read(&tiny);
    let beta = before.packages.iter().position(|package| package.name == "beta").unwrap();
    // Beta's wheel has become another file, as `mlbuild lock --upgrade-package beta` would find it.
    rewrite(&tiny, |lock| lock.packages[beta].wheels[0].sha256 = Digest::of("another file"));
    let check = tiny.mlbuild(&["lock", "--check"]).run().expect(3);
    assert!(
        check.stderr().contains("`beta` of linux/amd64 is sealed, but is no layer of this lock"),
        "{}",
        check.stderr()
    );
    assert!(check.stderr().contains("mlbuild lock --seal"), "{}", check.stderr());
    let stale = tiny.mlbuild(&["lock", "--check", "--json"]).run().expect(3).json();
    assert_eq!(
        stale["seals"]["stale"].as_array().unwrap().len(),
        2,
        "the layer and the set of wheels: {stale}"
    );
    let relocked = tiny.mlbuild(&["lock"]).ok();
    assert!(
        relocked.stderr().contains("1 of 4 layers is not sealed: `mlbuild lock --seal` seals it"),
        "{}",
        relocked.stderr()
    );
    let after = read(&tiny);
    let others: Vec<_> =
        before.seals[0].layers.iter().filter(|layer| layer.title != "beta").cloned().collect();
    assert!(others.len() == 3 && after.seals[0].layers == others, "the others stay: {:?}", after.seals);
    assert_eq!(after.seals[0].wheel_set, None);
    // The other way round, with --seal: only what has no seal is made.
    rewrite(&tiny, |lock| lock.packages[beta].wheels[0].sha256 = before.packages[beta].wheels[0].sha256);
    let asked = tiny.server.requests().len();
    let _ = afresh(&tiny, &["lock", "--seal"]).ok();
    assert_eq!(read(&tiny), before);
    let files: Vec<_> = tiny.server.requests()[asked..].to_vec();
    assert!(
        files.iter().all(|file| file.ends_with(".whl")),
        "the check of all wheels needs them, nothing the base: {files:?}"
    );
}

#[test]
fn seals_are_proved_by_files() {
    let (tiny, _) = sealed();
    let check = tiny.mlbuild(&["lock", "--check"]).ok();
    assert!(check.stdout().contains("all 4 layers are sealed; 4 seals proved\n"), "{}", check.stdout());
    let check = afresh(&tiny, &["lock", "--check"]).ok();
    let said = "0 seals proved, 4 not: their files are not in the store";
    assert!(check.stdout().contains(said), "{}", check.stdout());
    // One wheel alone.
    let alpha = tiny.site("wheels/alpha-1.0-py3-none-any.whl");
    let digest = Digest::of(fs::read(&alpha).unwrap()).hex();
    let blob = tiny.project.store().join("blobs/sha256").join(&digest[..2]).join(&digest);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::copy(&alpha, &blob).unwrap();
    let asked = tiny.server.requests().len();
    let check = tiny.mlbuild(&["lock", "--check", "--json"]).ok().json();
    assert_eq!((&check["seals"]["proved"], &check["seals"]["unproved"]), (&1.into(), &3.into()), "{check}");
    assert_eq!(tiny.server.requests().len(), asked, "--check asks no network");
    // Not the wheel that is locked: it proves nothing, and is no longer in the way.
    fs::write(&blob, "other").unwrap();
    let check = tiny.mlbuild(&["lock", "--check", "--json"]).ok().json();
    assert_eq!(check["seals"]["unproved"], 4, "{check}");

    let verified = tiny.mlbuild(&["verify"]).ok();
    assert_eq!(verified.stdout().matches(": as sealed\n").count(), 4, "{}", verified.stdout());
    let _ = tiny.mlbuild(&["build", "-o", "oci:out"]).ok();
    let verified = tiny.mlbuild(&["verify", "--offline"]).ok();
    assert_eq!(
        verified.stdout().matches(": as sealed, as in the store\n").count(),
        4,
        "{}",
        verified.stdout()
    );
}

#[test]
fn a_sample_downloads_what_it_needs_and_can_be_repeated() {
    let (tiny, _) = sealed();
    let asked = tiny.server.requests().len();
    let verified = afresh(&tiny, &["verify", "--sample", "1", "--json"]).ok().json();
    let layers = verified["layers"].as_array().unwrap();
    assert_eq!((layers.len(), &verified["of"]), (1, &4.into()));
    assert_eq!((&layers[0]["as_sealed"], &layers[0]["as_stored"]), (&true.into(), &serde_json::Value::Null));
    assert!(tiny.server.requests().len() - asked <= 3, "{:?}", tiny.server.requests());
    let seed = verified["seed"].as_u64().unwrap().to_string();
    let again = afresh(&tiny, &["verify", "--sample", "1", "--seed", &seed, "--json"]).ok().json();
    assert_eq!(again, verified);
    let titles = (0..20).map(|seed: u32| {
        let verified =
            tiny.mlbuild(&["verify", "--sample", "1", "--seed", &seed.to_string(), "--json"]).ok().json();
        verified["layers"][0]["title"].as_str().unwrap().to_owned()
    });
    assert_eq!(titles.collect::<std::collections::BTreeSet<_>>().len(), 4, "each layer has its turn");
    assert!(!tiny.project.store().join("layers").read_dir().unwrap().any(|_| true), "nothing is kept");
    let _ = tiny.mlbuild(&["verify", "--sample", "0"]).run().expect(2);
    let _ = tiny.mlbuild(&["verify", "--seed", "1"]).run().expect(2);
}

/// What a hostile hand changes of one seal, and what is then said to differ.
type Lie = (&'static str, fn(&mut Lock), &'static str);

const LIES: [Lie; 7] = [
    ("digest", |l| l.seals[0].layers[2].digest = Digest::of("x"), "digest: the lock's seal says"),
    ("size", |l| l.seals[0].layers[2].size += 1, "size: the lock's seal says"),
    ("diff ID", |l| l.seals[0].layers[2].diff_id.0 = Digest::of("x"), "diff ID: the lock's seal says"),
    ("tar", |l| l.seals[0].layers[2].unpacked += 512, "size of the tar: the lock's seal says"),
    (
        "link",
        |l| l.seals[0].layers[0].links[0].1 = "/etc".into(),
        "links: the lock's seal says `bin -> /etc`, found `bin -> usr/bin`",
    ),
    (
        "directory",
        |l| drop(l.seals[0].layers[0].directories.pop()),
        "directories: the lock's seal says no other",
    ),
    (
        "two layers' facts exchanged",
        |l| {
            let layers = &mut l.seals[0].layers;
            let (a, b) = (layers[2].key, layers[3].key);
            (layers[2].key, layers[3].key) = (b, a);
            layers.swap(2, 3);
            let titles = (layers[2].title.clone(), layers[3].title.clone());
            (layers[3].title, layers[2].title) = titles;
        },
        "digest: the lock's seal says",
    ),
];

#[test]
fn a_seal_that_lies_is_found_by_everyone_who_has_the_files() {
    for (what, lie, said) in LIES {
        let (tiny, _) = sealed();
        rewrite(&tiny, lie);
        let text = tiny.project.read("mlbuild.lock");
        // With the store's records and the files, with the files alone, and with a network.
        for arguments in [&["build"][..], &["lock", "--check"], &["lock", "--seal"]] {
            let failed = tiny.mlbuild(arguments).run().expect(4);
            assert!(failed.stderr().contains(said), "{what}, {arguments:?}: {}", failed.stderr());
            assert!(failed.stderr().contains("version control"), "{what}: {}", failed.stderr());
        }
        let json = tiny.mlbuild(&["lock", "--check", "--json"]).run().expect(4).json();
        assert_eq!(json["seals"]["differences"][0]["witness"], "seal", "{what}: {json}");
        let failed = tiny.mlbuild(&["verify", "--offline"]).run().expect(4);
        assert!(
            failed.stdout().contains("NOT as sealed") && failed.stderr().contains(said),
            "{what}: {}",
            failed.stderr()
        );
        let json = tiny.mlbuild(&["verify", "--offline", "--json"]).run().expect(4).json();
        assert!(!json["differences"].as_array().unwrap().is_empty(), "{what}: {json}");
        let failed = afresh(&tiny, &["build", "-o", "oci:out"]).run().expect(4);
        assert!(failed.stderr().contains(said), "{what}: {}", failed.stderr());
        assert!(!tiny.project.path().join("out/index.json").exists(), "{what}: nothing was exported");
        assert_eq!(tiny.project.read("mlbuild.lock"), text, "{what}: never silently replaced");
    }
}

#[test]
fn a_seal_of_something_else_is_found() {
    let edits: [Lie; 5] = [
        ("key", |l| l.seals[0].layers[2].key = Digest::of("x"), "is sealed, but is no layer of this lock"),
        ("title", |l| l.seals[0].layers[2].title = "torch 2.9.1".into(), "is sealed as `torch 2.9.1`"),
        ("order", |l| l.seals[0].layers.swap(1, 2), "the seals of linux/amd64 are in another order"),
        ("wheels", |l| l.seals[0].wheel_set = Some(Digest::of("x")), "is about another set of wheels"),
        (
            "links of wheels",
            |l| l.seals[0].layers[2].links = vec![("app".into(), "etc".into())],
            "is sealed with links, which wheels have not",
        ),
    ];
    for (what, edit, said) in edits {
        let (tiny, digest) = sealed();
        rewrite(&tiny, edit);
        let failed = tiny.mlbuild(&["lock", "--check"]).run().expect(3);
        assert!(failed.stderr().contains(said), "{what}: {}", failed.stderr());
        assert_eq!(afresh(&tiny, &["build"]).ok().digest(), digest, "{what}: it decides nothing");
    }
}

#[test]
fn wheels_that_clash_are_found_though_their_layers_are_sealed() {
    let tiny = Tiny::new()
        .wheel("alpha", "1.0", &[file("same.py", "a = 1\n")])
        .wheel("beta", "2.0", &[file("same.py", "b = 1\n")])
        .locked();
    let failed = tiny.mlbuild(&["lock", "--seal"]).run().expect(2);
    assert!(failed.stderr().contains("same.py"), "{}", failed.stderr());
    assert!(read(&tiny).seals.is_empty());
    // Seals of two other locks, put together by hand or by a merge.
    let mut seals = Vec::new();
    for other in ["alpha", "beta"] {
        let text = tiny.project.read("mlbuild.lock");
        let spec = tiny.project.read("mlbuild.toml");
        let gone = if other == "alpha" { "beta==2.0" } else { "alpha==1.0" };
        tiny.project.write(
            "mlbuild.toml",
            spec.replace(&format!("\"{gone}\""), "").replace(", ]", "]").replace("[, ", "["),
        );
        rewrite(&tiny, |lock| {
            lock.packages.retain(|package| package.name == other);
            lock.inputs.requirements.retain(|requirement| requirement.starts_with(other));
        });
        let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
        seals.extend(read(&tiny).seals);
        tiny.project.write("mlbuild.toml", &spec);
        tiny.project.write("mlbuild.lock", &text);
    }
    let beta = seals.pop().unwrap().layers.pop().unwrap();
    let mut seal = seals.pop().unwrap();
    seal.layers.push(beta);
    rewrite(&tiny, |lock| lock.seals = vec![seal]);
    let failed = afresh(&tiny, &["build"]).run().expect(2);
    assert!(failed.stderr().contains("same.py"), "{}", failed.stderr());
}

#[test]
fn a_record_of_the_store_that_lies_is_found_and_forgotten() {
    let (tiny, digest) = sealed();
    // The record of one layer under the key of another.
    let layers = tiny.project.store().join("layers");
    let keys: Vec<_> = read(&tiny).seals[0].layers.iter().map(|layer| layer.key.hex()).collect();
    fs::copy(layers.join(&keys[2]), layers.join(&keys[3])).unwrap();
    rewrite(&tiny, |lock| lock.seals.clear());
    let failed = tiny.mlbuild(&["verify", "--offline"]).run().expect(4);
    assert!(failed.stderr().contains("digest: the store's record says"), "{}", failed.stderr());
    assert!(failed.stdout().contains("NOT as in the store"), "{}", failed.stdout());
    let _ = tiny.mlbuild(&["build"]).ok();
    let verified = tiny.mlbuild(&["verify", "--offline"]).ok();
    assert_eq!(verified.stdout().matches(": as in the store\n").count(), 4, "{}", verified.stdout());
    assert_eq!(tiny.mlbuild(&["build"]).ok().digest(), digest);
}

#[test]
fn a_run_makes_what_a_seal_left_out_or_says_how() {
    let (tiny, digest) = sealed();
    assert_eq!(afresh(&tiny, &["build", "--offline"]).ok().digest(), digest);
    let failed = tiny.mlbuild(&["prepare", "--", "registry.example/tiny"]).run().expect(1);
    for said in ["is not in the store", "built from a sealed lock", "mlbuild run"] {
        assert!(failed.stderr().contains(said), "{}", failed.stderr());
    }
    assert_eq!(tiny.mlbuild(&["prepare", "--file", "mlbuild.toml"]).ok().digest(), digest);
    assert_eq!(tiny.mlbuild(&["prepare", "--", "registry.example/tiny"]).ok().digest(), digest);
}
