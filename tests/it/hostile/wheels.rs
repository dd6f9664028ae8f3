//! Hostile wheels through the program: one of each kind of failure, from a server that has just the bytes that the lock
//! promises, and downloads that are not what was promised.

use std::fs;
use std::path::Path;

use super::wheel_cases::{Case, Parts, cases};
use crate::support::skip::or_skip;
use crate::support::tiny::Tiny;
use crate::support::tool::tool;
use crate::support::wheels::{file, row, wheel_files, zip};

/// Peak memory of a build that meets a bomb, in KiB. A build of nothing takes some 30 MiB.
const PEAK_KIB: u64 = 64 << 10;

fn find(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

fn project(parts: &Parts) -> Tiny {
    Tiny::new().wheel_bytes(parts.file_name, &parts.pack()).locked()
}

/// Builds, expects an integrity error that says all of `says`, and that nothing of it stays; gives the message.
#[track_caller]
fn refused(tiny: &Tiny, says: &[&str]) -> String {
    let refused = tiny.mlbuild(&["build", "-o", "oci:out"]).run().expect(4);
    let text = refused.stderr();
    for said in says {
        assert!(text.contains(said), "no {said:?} in\n{text}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "control characters in {text:?}");
    assert_eq!(refused.stdout(), "");
    let store = tiny.project.store();
    for directory in ["tmp", "partial", "images", "corrupt"] {
        assert_eq!(entries(&store.join(directory)), Vec::<String>::new(), "{directory} of the store");
    }
    // Those of the base and of Python may have been made meanwhile.
    assert!(entries(&store.join("layers")).len() <= 2, "a layer of the wheel was recorded");
    assert_eq!(entries(&tiny.project.path()), ["mlbuild.lock", "mlbuild.toml"]);
    text
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(directory) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> =
        directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn one_of_each_kind_is_refused_and_its_twin_is_built() {
    for name in [
        "parent",
        "twice, other bytes",
        "symbolic link",
        "set-uid",
        "CRC of other bytes",
        "local size",
        "overlap of two members",
        "bytes before",
        "two end records",
        "zip64 record missing",
        "no RECORD",
        "unlisted",
        "wrong hash",
        "weak hash",
        "another name",
        "another file's name",
        "two dist-infos",
        "escape from data",
        "another's metadata as data",
        "entry point that escapes",
    ] {
        let case = find(name);
        let hostile = case.hostile();
        let says: Vec<_> = case.says.iter().copied().chain([hostile.file_name]).collect();
        let refused = refused(&project(&hostile), &says);
        assert_eq!(refused.contains("[[wheel]]"), case.waivable.is_some(), "{name}: {}", refused);
        let twin = project(&case.benign());
        assert_eq!(twin.mlbuild(&["build"]).run().status(), 0, "{name}: the twin is refused");
    }
}

/// `RECORD` is right about content that the archive lies about: no exception for `RECORD` would help.
#[test]
fn an_exception_is_offered_only_where_it_helps() {
    let mut parts = Parts::new();
    parts.files[1].size = Some(10);
    let refused = refused(&project(&parts), &["RECORD gives pkg/odd.py 74 bytes, the archive 10"]);
    assert!(refused.contains("[[wheel]]"));
    parts.record = |text| Some(text.replace(",74\n", ",\n"));
    let refused =
        self::refused(&project(&parts), &["pkg/odd.py", "its CRC-32 or length is not the directory's"]);
    assert!(!refused.contains("[[wheel]]"), "{}", refused);
}

#[test]
fn names_do_not_steer_the_terminal() {
    let steering = "pkg/\u{1b}[31mred\u{7}\r\u{9b}2J\u{202e}/../x.py";
    refused(&Tiny::new().wheel("m", "1.0", &[file(steering, "x")]).locked(), &["has a `.` or `..` part"]);
    // This one is a good name for a file; that `RECORD` lacks it is told without quotes.
    let unlisted = "pkg/\u{1b}[31mred\u{7}\r\u{9b}2J\u{202e}.py";
    let mut files = wheel_files("m", "1.0", &[]);
    files.push(file(unlisted, "x"));
    let tiny = Tiny::new().wheel_bytes("m-1.0-py3-none-any.whl", &zip(&files)).locked();
    refused(&tiny, &["RECORD does not list pkg/\u{fffd}[31mred"]);
    let lines = ["", "[console_scripts]", "\u{1b}[31m;x = m", ""].join("\n");
    let tiny = Tiny::new().wheel("m", "1.0", &[file("m-1.0.dist-info/entry_points.txt", lines)]).locked();
    refused(&tiny, &["invalid entry point `\u{fffd}[31m;x = m`"]);
}

#[test]
fn bombs_take_no_memory() {
    let time = or_skip!("peak memory", tool("time"));
    for name in ["bomb", "bomb that claims little", "METADATA of 33 MiB", "RECORD of a million rows"] {
        let case = find(name);
        let tiny = project(&case.hostile());
        let peak = tiny.project.home().join("peak");
        let under = [time.to_str().unwrap(), "-f", "%M", "-q", "-o", peak.to_str().unwrap()];
        let _ = tiny.mlbuild(&["build"]).under(&under).run().expect(4);
        let peak: u64 = fs::read_to_string(&peak).unwrap().trim().parse().unwrap();
        println!("{name}: {peak} KiB");
        assert!(peak < PEAK_KIB, "{name}: {peak} KiB");
        refused(&tiny, case.says);
    }
}

#[test]
fn downloads_are_what_was_promised_or_nothing() {
    const NAME: &str = "m-1.0-py3-none-any.whl";
    let good = Parts::new().pack();
    let mut other = good.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let longer = [&good[..], b"x"].concat();
    for (served, says) in [
        (&good[..good.len() - 1], "bytes where"),
        (&longer, "bytes where"),
        (&other, "is not the file that was promised"),
        (b"", "bytes where"),
    ] {
        let tiny = project(&Parts::new());
        tiny.serve(&format!("wheels/{NAME}"), served);
        refused(&tiny, &[NAME, says]);
        // The same project once the server has come to its senses.
        tiny.serve(&format!("wheels/{NAME}"), &good);
        let _ = tiny.mlbuild(&["build"]).ok();
    }
    // Bytes that are promised, of another project than the lock says.
    let renamed = Tiny::new().wheel_bytes("n-1.0-py3-none-any.whl", &good).locked();
    refused(&renamed, &["n-1.0-py3-none-any.whl", "says name `m`, the file name says `n`"]);
}

#[test]
fn an_exception_is_for_one_file_and_is_locked() {
    let case = find("unlisted");
    let parts = case.hostile();
    let refusal = refused(&project(&parts), case.says);
    // The very lines that the message tells.
    let lines: Vec<_> =
        refusal.lines().skip_while(|line| !line.contains("[[wheel]]")).map(str::trim).collect();
    let lines = lines.join("\n");
    assert!(lines.contains("allow = [\"record-unlisted\"]"), "{refusal}");

    let tiny = Tiny::new().wheel_bytes(parts.file_name, &parts.pack()).spec(&format!("\n{lines}\n")).locked();
    assert!(tiny.project.read("mlbuild.lock").contains("allow = [\"record-unlisted\"] }"));
    let built = tiny.mlbuild(&["build", "-o", "oci:out"]).ok();
    let note = "m-1.0-py3-none-any.whl breaks rules, as its [[wheel]] allows: record-unlisted";
    assert!(built.stderr().contains(note), "{}", built.stderr());
    // It is told again when the layer is known.
    assert!(tiny.mlbuild(&["build"]).ok().stderr().contains(note));
    let inspected = tiny.mlbuild(&["inspect", "oci:out"]).ok().stdout();
    assert!(inspected.contains("m 1.0"), "{inspected}");
    // In the image, RECORD is right.
    let layer = layer_with(&tiny, "m-1.0.dist-info/RECORD");
    let odd = &parts.files[1];
    assert!(layer.contains(&row(&odd.name, &odd.bytes)), "{layer}");

    // Without it in the lock, or without it in the spec, the lock does not satisfy the spec.
    let spec = tiny.project.read("mlbuild.toml");
    tiny.project.write("mlbuild.toml", spec.replace(&lines, ""));
    let failed = tiny.mlbuild(&["build"]).run().expect(3);
    assert!(failed.stderr().contains("record-unlisted` is in the lock but no longer in the spec"));
    tiny.relock(|_| ());
    let _ = tiny.mlbuild(&["build"]).run().expect(4);
    tiny.project.write("mlbuild.toml", &spec);
    let failed = tiny.mlbuild(&["lock", "--check"]).run().expect(3);
    assert!(failed.stderr().contains("record-unlisted` is in the spec but not in the lock"));
    // `lock` takes it in without asking anybody.
    let locked = tiny.mlbuild(&["lock", "--offline"]).ok().stdout();
    assert!(locked.contains("record-unlisted` is asked for"), "{locked}");
    let _ = tiny.mlbuild(&["build"]).ok();
}

#[test]
fn an_exception_that_nothing_needs_is_told() {
    let spec =
        |sha256: &str| format!("\n[[wheel]]\nsha256 = \"{sha256}\"\nallow = [\"tags\"]\nreason = \"none\"\n");
    let parts = Parts::new();
    let sha256 = mlbuild::digest::Digest::of(parts.pack()).hex();
    let tiny = Tiny::new().wheel_bytes(parts.file_name, &parts.pack()).spec(&spec(&sha256)).locked();
    let note = "m-1.0-py3-none-any.whl does not need all that its [[wheel]] allows: tags";
    assert!(tiny.mlbuild(&["build"]).ok().stderr().contains(note));
    let other = "0".repeat(64);
    let tiny = Tiny::new().wheel_bytes(parts.file_name, &parts.pack()).spec(&spec(&other)).locked();
    let locked = tiny.mlbuild(&["lock"]).ok();
    assert!(
        locked.stderr().contains(&format!("[[wheel]] {other}: the lock has no such wheel")),
        "{}",
        locked.stderr()
    );
}

/// Text of the layer of the exported image that has the file.
fn layer_with(tiny: &Tiny, name: &str) -> String {
    let blobs = tiny.project.path().join("out/blobs/sha256");
    for blob in entries(&blobs) {
        let mut text = Vec::new();
        let bytes = fs::read(blobs.join(blob)).unwrap();
        let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
        if std::io::Read::read_to_end(&mut reader, &mut text).is_ok() {
            let text = String::from_utf8_lossy(&text).into_owned();
            if text.contains(name) {
                return text;
            }
        }
    }
    panic!("no layer has {name}");
}
