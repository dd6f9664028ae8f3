//! Sealed locks of real images: `hello` on Debian's own Python, with files that go through links of the real base.

use std::fs;

use crate::support::mlbuild::Project;
use crate::support::reference::Reference;
use crate::support::skip::or_skip;

/// Below links and odd directories of Debian's base and of its Python, as `[[copy]]` may put files.
const PLACES: [&str; 8] = [
    "/bin/tool",
    "/lib64/x/y",
    "/var/run/app/x",
    "/var/spool/mail/x",
    "/usr/share/zoneinfo/posix/Europe/x",
    "/usr/share/doc/libpython3.11-stdlib/x",
    "/tmp/a/b/x",
    "/home/nonroot/x",
];

/// The lock's part of `hello`, with its pins, and files of ours.
fn project(reference: &Reference) -> Project {
    let project = Project::empty().with_store(&reference.store);
    let mut spec = fs::read_to_string(reference.directory.join("mlbuild.toml")).unwrap();
    for place in PLACES {
        spec += &format!("\n[[copy]]\nfrom = \"x\"\nto = \"{place}\"\n");
    }
    project.write("mlbuild.toml", spec);
    project.write("mlbuild.lock", fs::read(reference.directory.join("mlbuild.lock")).unwrap());
    project.write("x", "x");
    project
}

#[test]
fn a_sealed_build_of_a_real_image_is_the_same_without_a_file() {
    let reference = or_skip!("sealed", Reference::get("hello"));
    let project = project(&reference);
    let digest = project.mlbuild(&["build"]).ok().digest();
    let plain = project.read("mlbuild.lock");
    let _ = project.mlbuild(&["lock", "--seal"]).ok();
    let sealed = project.read("mlbuild.lock");
    assert!(
        sealed.starts_with(&plain) && sealed.len() - plain.len() < 6_000,
        "{}",
        sealed.len() - plain.len()
    );
    let _ = project.mlbuild(&["lock", "--seal"]).ok();
    let _ = project.mlbuild(&["lock"]).ok();
    assert_eq!(project.read("mlbuild.lock"), sealed, "sealed again, and locked again");

    let empty = project.home().join("empty store");
    let with_nothing = |arguments: &[&str]| project.mlbuild(arguments).env("MLBUILD_HOME", &empty);
    assert_eq!(with_nothing(&["build", "--offline"]).ok().digest(), digest);
    let blobs = walk(&empty.join("blobs"));
    assert_eq!(blobs, PLACES.len() + 2, "layers of files, a config and a manifest");
    let check = with_nothing(&["lock", "--check"]).ok();
    assert!(check.stdout().contains("0 seals proved, 3 not"), "{}", check.stdout());

    let check = project.mlbuild(&["lock", "--check"]).ok();
    assert!(check.stdout().contains("all 3 layers are sealed; 3 seals proved\n"), "{}", check.stdout());
    let verified = project.mlbuild(&["verify", "--offline"]).ok();
    assert_eq!(
        verified.stdout().matches(": as sealed, as in the store\n").count(),
        3,
        "{}",
        verified.stdout()
    );

    // One digit of the diff ID of the base.
    let at = sealed.find("diff-id = \"sha256:").unwrap() + 18;
    let digit = if sealed.as_bytes()[at] == b'0' { "1" } else { "0" };
    project.write("mlbuild.lock", format!("{}{digit}{}", &sealed[..at], &sealed[at + 1..]));
    for arguments in [&["build", "-o", "oci:out"][..], &["lock", "--check"], &["verify", "--sample", "3"]] {
        let failed = project.mlbuild(arguments).run().expect(4);
        assert!(failed.stderr().contains("diff ID: the lock's seal says sha256:"), "{}", failed.stderr());
    }
}

/// Files below a directory.
fn walk(directory: &std::path::Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[test]
fn a_layer_of_several_platforms_is_sealed_and_proved_for_each() {
    let reference = or_skip!("sealed", Reference::get("hello"));
    let project = Project::empty().with_store(&reference.store);
    project.write(
        "mlbuild.toml",
        "[image]\nname = \"registry.example/two\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         [base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"\ndependencies = [\"idna\", \"markupsafe\"]\n",
    );
    let _ = project.mlbuild(&["lock", "--seal"]).ok();
    let check = project.mlbuild(&["lock", "--check"]).ok();
    assert!(check.stdout().contains("all 8 layers are sealed; 8 seals proved\n"), "{}", check.stdout());
    let verified = project.mlbuild(&["verify", "--offline", "--sample", "99", "--json"]).ok().json();
    assert_eq!(
        (&verified["of"], verified["layers"].as_array().unwrap().len()),
        (&7.into(), 7),
        "idna is one layer"
    );
    let digest = project.mlbuild(&["build", "-o", "oci:out"]).ok().digest();
    let empty = project.home().join("empty store");
    let build = project.mlbuild(&["build", "--offline"]).env("MLBUILD_HOME", empty);
    assert_eq!(build.ok().digest(), digest);
}
