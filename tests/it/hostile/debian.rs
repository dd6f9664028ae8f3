//! Hostile .debs through the real program, whose lock has the right hash of each: exit status 4, a message that names package,
//! member and rule, and nothing left behind. `debian::deb::tests` and `archive::resolve::tests` have all cases.

use std::fs;
use std::path::Path;

use mlbuild::digest::Digest;

use crate::support::debs::{ar, control, deb, entry, file, pax, tar};
use crate::support::tiny::Tiny;

const FILE: &str = "debian/pool/main/t/tiny-base_1_amd64.deb";

fn base(entries: &[Vec<u8>]) -> Vec<u8> {
    deb(&control("tiny-base", ""), "", entries)
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let own = tar(&[file("./control", &control("tiny-base", ""))]);
    let packed = zstd::encode_all(data, 1).unwrap();
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &own), ("data.tar.zst", &packed)])
}

/// Puts `bytes` where the base is, and their hash into the lock.
fn exchange(tiny: &Tiny, bytes: &[u8]) {
    tiny.serve(FILE, bytes);
    tiny.relock(|lock| {
        let deb = lock.debs.iter_mut().find(|deb| deb.name == "tiny-base").unwrap();
        (deb.size, deb.sha256) = (bytes.len() as u64, Digest::of(bytes));
    });
}

/// Files below `directory`, without those that every store has.
fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn hostile_packages_are_refused_and_leave_nothing() {
    let good = || base(&[file("./etc/a", "1")]);
    let link = |target: &str| entry("./usr/a", b'2', 0o777, target, b"");
    let deep = |parts: usize| {
        let name = format!("./{}f", "d/".repeat(parts - 1));
        base(&[entry("././@LongLink", b'L', 0, "", name.as_bytes()), file("./x", "1")])
    };
    let zeros = |mib: usize| zstd(&tar(&[entry("./zeros", b'0', 0o644, "", &vec![0; mib << 20])]));
    for (name, hostile, wanted, twin) in [
        ("an escape", base(&[file("./../etc/a", "1")]), "path \"../etc/a\" has a `.` or `..` part", good()),
        (
            "a link out",
            base(&[link("../../etc/shadow")]),
            "file `usr/a` is a link out of the root",
            base(&[link("../etc/shadow")]),
        ),
        (
            "a file below a link",
            base(&[link("/etc"), file("./usr/a/b", "1")]),
            "brings `usr/a/b`, but `usr/a` is not a directory",
            base(&[link("/etc"), file("./usr/b/b", "1")]),
        ),
        (
            "a device",
            base(&[entry("./dev/sda", b'4', 0o644, "", b"")]),
            "tar entry `./dev/sda`: it is a device or a FIFO",
            good(),
        ),
        (
            "two names",
            base(&[
                entry("x", b'x', 0, "", &[pax("path", b"./b"), pax("path", b"./c")].concat()),
                file("./a", ""),
            ]),
            "its extended headers say one thing twice",
            good(),
        ),
        (
            "another package",
            deb(&control("other", ""), "", &[]),
            "control file says Package `other`, the lock `tiny-base`",
            good(),
        ),
        ("a deep name", deep(65), "d/f\" has more than 64 parts", deep(64)),
        ("a bomb", zeros(70), "content of `zeros`", zeros(60)),
        ("no package", b"<html>Please log in</html>".to_vec(), "it does not begin with `!<arch>`", good()),
    ] {
        let tiny = Tiny::new().locked();
        exchange(&tiny, &hostile);
        let refused = tiny.mlbuild(&["build", "-o", "oci:out"]).run().expect(4);
        let said = refused.stderr();
        assert!(said.contains(wanted) && said.contains("tiny-base"), "{name}: {said}");
        assert!(refused.stdout().is_empty() && !tiny.project.path().join("out").exists(), "{name}");
        for place in ["partial", "tmp"] {
            assert_eq!(entries(&tiny.project.store().join(place)), [""; 0], "{name}");
        }
        assert!(tiny.mlbuild(&["images"]).ok().stdout().lines().count() <= 1, "{name}");
        exchange(&tiny, &twin);
        let _ = tiny.mlbuild(&["build", "-o", "oci:out"]).ok();
    }
}
