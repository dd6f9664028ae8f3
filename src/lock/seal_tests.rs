//! Seals in the lock's text, and every rule of theirs by a lock that breaks it.

use super::fixtures::{broken_rules, lock};
use super::seal::{Seal, SealedLayer};
use super::{Lock, diff, read, write};
use crate::digest::{DiffId, Digest};
use crate::oci::Platform::{self, LinuxAmd64, LinuxArm64};

const TEXT: &str = "
[[seal]]
platform = \"linux/amd64\"
wheel-set = \"c2e2f75e20e59c6e1e72b1d69e3d90f4daa5c3a6d1e8c1c65ed6a5c3a7eb4ba0\"

[[seal.layer]]
title = \"Debian bookworm, 2 packages\"
key = \"KEY-BASE\"
digest = \"sha256:BLOB-BASE\"
size = 1000
diff-id = \"sha256:TAR-BASE\"
unpacked = 2048
links = [
  { path = \"bin\", target = \"usr/bin\" },
  { path = \"var/run\", target = \"/run\" },
]
directories = [
  { path = \"root\", mode = 0o700 },
  { path = \"tmp\", mode = 0o1777 },
]

[[seal.layer]]
title = \"numpy 2.1.0\"
key = \"KEY-NUMPY\"
digest = \"sha256:BLOB-NUMPY\"
size = 1000
diff-id = \"sha256:TAR-NUMPY\"
unpacked = 2048

[[seal]]
platform = \"linux/arm64\"

[[seal.layer]]
title = \"numpy 2.1.0\"
";

fn layer(title: &str, name: &str) -> SealedLayer {
    let of = |what: &str| Digest::of(format!("{what}-{name}"));
    SealedLayer {
        title: title.to_owned(),
        key: of("KEY"),
        digest: of("BLOB"),
        size: 1000,
        diff_id: DiffId(of("TAR")),
        unpacked: 2048,
        links: Vec::new(),
        directories: Vec::new(),
    }
}

fn sealed() -> Lock {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
    };
    let base = SealedLayer {
        links: pairs(&[("bin", "usr/bin"), ("var/run", "/run")]),
        directories: vec![("root".to_owned(), 0o700), ("tmp".to_owned(), 0o1777)],
        ..layer("Debian bookworm, 2 packages", "BASE")
    };
    let seal = |platform: Platform, wheel_set, layers| Seal { platform, wheel_set, layers };
    let numpy = || layer("numpy 2.1.0", "NUMPY");
    Lock {
        seals: vec![
            seal(LinuxAmd64, Some(Digest::of("wheels")), vec![base, numpy()]),
            seal(LinuxArm64, None, vec![numpy()]),
        ],
        ..lock()
    }
}

#[test]
fn a_seal_is_a_block_a_layer() {
    let text = write(&sealed());
    let mut expected = TEXT.replace(
        "c2e2f75e20e59c6e1e72b1d69e3d90f4daa5c3a6d1e8c1c65ed6a5c3a7eb4ba0",
        &Digest::of("wheels").hex(),
    );
    for name in ["KEY-BASE", "BLOB-BASE", "TAR-BASE", "KEY-NUMPY", "BLOB-NUMPY", "TAR-NUMPY"] {
        expected = expected.replace(name, &Digest::of(name).hex());
    }
    let plain = write(&lock());
    assert_eq!(&text[..plain.len()], plain, "a seal changes no other line");
    assert!(text[plain.len()..].starts_with(&expected), "{}", &text[plain.len()..]);
    assert_eq!(read(&text).unwrap(), sealed());
    let mut shuffled = sealed();
    shuffled.seals.reverse();
    shuffled.seals[1].layers[0].links.reverse();
    shuffled.seals[1].layers[0].directories.reverse();
    shuffled.normalise();
    assert_eq!(shuffled, sealed());
    assert!(diff(&lock(), &sealed()).is_empty(), "nothing else is locked");
}

/// What the reader says about the sealed lock once `change` has been at it.
fn broken(change: impl FnOnce(&mut Vec<Seal>)) -> Vec<String> {
    let mut lock = sealed();
    change(&mut lock.seals);
    broken_rules(&lock)
}

#[test]
fn broken_rules_are_named() {
    type Change = fn(&mut Vec<Seal>);
    let base = "the sealed layer `Debian bookworm, 2 packages`";
    let numpy = "the sealed layer `numpy 2.1.0`";
    let key = Digest::of("KEY-NUMPY").hex();
    let cases: &[(Change, &str)] = &[
        (|s| s.reverse(), "the list of seals is not sorted: `linux/amd64` comes after `linux/arm64`"),
        (|s| s[1].platform = LinuxAmd64, "the list of seals names `linux/amd64` twice"),
        (
            |s| s[0].layers.push(layer("numpy 2.1.0", "NUMPY")),
            &format!("the seal of linux/amd64 has the key {key} twice"),
        ),
        (|s| s[1].layers[0].size += 1, &format!("{numpy} is another one under the same key elsewhere")),
        (
            |s| s[0].layers[0].digest = Digest::of("BLOB-NUMPY"),
            &format!("{numpy} is another one under the same digest elsewhere"),
        ),
        (|s| s[0].layers[0].size = 0, &format!("{base} has a size of 0 bytes")),
        (|s| s[0].layers[0].unpacked = 1 << 50, &format!("{base} has a size of 1125899906842624 bytes")),
        (|s| s[0].layers[0].unpacked = 2047, &format!("{base} has a tar of 2047 bytes, which is none")),
        (
            |s| s[0].layers[0].title = "a\u{1b}[0m".into(),
            "a sealed layer has no title, or one that cannot be printed",
        ),
        (
            |s| s[0].layers[0].links.reverse(),
            &format!("{base} is not sorted: link `bin` comes after link `var/run`"),
        ),
        (|s| s[0].layers[0].links[1].0 = "bin".into(), &format!("{base} names link `bin` twice")),
        (
            |s| s[0].layers[0].links[0].0 = "../bin".into(),
            &format!("{base} has a link `../bin` that is none"),
        ),
        (|s| s[0].layers[0].links[0].1 = "\0".into(), &format!("{base} has a link `bin` that is none")),
        (|s| s[0].layers[0].links[0].1 = String::new(), &format!("{base} has a link `bin` that is none")),
        (
            |s| s[0].layers[0].directories.reverse(),
            &format!("{base} is not sorted: directory `root` comes after directory `tmp`"),
        ),
        (
            |s| s[0].layers[0].directories[0].0 = "/root".into(),
            &format!("{base} has a directory `/root` of mode 700"),
        ),
        (|s| s[0].layers[0].directories[0].1 = 0o755, &format!("{base} has a directory `root` of mode 755")),
        (
            |s| s[0].layers[0].directories[0].1 = 0o40755,
            &format!("{base} has a directory `root` of mode 40755"),
        ),
        (
            |s| s[0].layers[0].directories[0].0 = "bin".into(),
            &format!("{base} has `bin` as link and as directory"),
        ),
    ];
    for (change, message) in cases {
        let found = broken(change);
        assert!(found.iter().any(|violation| violation == message), "{found:#?}\n  expected: {message}");
    }
}

#[test]
fn a_platform_that_is_not_locked_has_no_seal() {
    let mut lock = sealed();
    lock.inputs.platforms.pop();
    lock.python.as_mut().unwrap().archives.pop();
    lock.debs.retain(|deb| deb.platform == LinuxAmd64);
    for package in &mut lock.packages {
        package.wheels.retain(|wheel| wheel.platforms == [LinuxAmd64]);
    }
    let error = read(&write(&lock)).unwrap_err().to_string();
    let rule = "the list of seals names platform `linux/arm64`, which is not among those of the inputs";
    assert!(error.contains(rule), "{error}");
}

#[test]
fn other_forms_are_refused() {
    let text = write(&sealed());
    let seal = text.find("[[seal]]").unwrap();
    let edit = |from: &str, to: &str| {
        assert!(text[seal..].contains(from), "{from}");
        format!("{}{}", &text[..seal], text[seal..].replacen(from, to, 1))
    };
    let blob = format!("sha256:{}", Digest::of("BLOB-BASE").hex());
    let arm64 = text.find("[[seal]]\nplatform = \"linux/arm64\"\n").unwrap();
    let bare = format!("{}[[seal]]\nplatform = \"linux/arm64\"\n", &text[..arm64]);
    for (edited, message) in [
        (format!("{bare}layer = []\n"), "the seal of linux/arm64 has no layer"),
        (bare, "missing field `layer`"),
        (edit("size = 1000", "size = 1000\nmode = 1"), "unknown field `mode`"),
        (edit("wheel-set", "wheels"), "unknown field `wheels`"),
        (edit("target = ", "to = "), "unknown field `to`"),
        (edit("mode = 0o700 }", "mode = 0o700, owner = 0 }"), "unknown field `owner`"),
        (edit("unpacked = 2048\n", ""), "missing field `unpacked`"),
        (edit("platform = \"linux/amd64\"\n", ""), "missing field `platform`"),
        (edit("size = 1000", "size = -1000"), "not in the form of version 1"),
        (edit("mode = 0o700", "mode = 0o0700"), "it was edited or damaged"),
        (edit("mode = 0o700", "mode = 448"), "it was edited or damaged"),
        (edit(&blob, &blob[7..]), "has a digest that is not `sha256:` and 64"),
        (edit(&blob, &format!("sha512:{}", &blob[7..])), "has a digest that is not `sha256:` and 64"),
        (edit(&blob, &blob.to_uppercase()), "has a digest that is not `sha256:` and 64"),
        (edit("key = \"", "key = \"sha256:"), "has a SHA-256 that is not 64"),
        (edit("wheel-set = \"", "wheel-set = \"0"), "the seal of linux/amd64 has a SHA-256 that is not 64"),
        (edit("size = 1000\n", "size = 1000\n\n"), "it was edited or damaged"),
    ] {
        let error = read(&edited).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n  expected: {message}");
    }
}
