//! The trees under overlayfs, name by name as umoci unpacks the same image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mlbuild::digest::hash_reader;
use mlbuild::store::Trees;

use super::layout::{self, Layer};
use super::{in_layout, quiet};
use crate::faults::Namespace;
use crate::support::debs::{entry, owned};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::{is_root, tool};

/// Mounts the trees below `directory`, where [`Namespace::inside`] sees them.
pub fn mount(namespace: &Namespace, trees: &Trees, directory: &Path) -> Result<PathBuf, Skip> {
    let at = |name: &str| {
        let path = directory.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (on, empty) = (at("mounted"), at("empty"));
    let mut lower = vec![empty.display().to_string()];
    // Paths are long and the options of a mount are not.
    for (at, tree) in trees.layers.iter().enumerate().rev() {
        let link = directory.join(format!("{at}"));
        std::os::unix::fs::symlink(tree, &link).unwrap();
        lower.push(link.display().to_string());
    }
    let options = format!("userxattr,lowerdir={}", lower.join(":"));
    namespace.mount(&["-t", "overlay", "overlay", "-o", &options], &on)?;
    Ok(on)
}

/// All that a program could see of a file system, by path; owners where they are real.
pub fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut linked = BTreeMap::<u64, Vec<String>>::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            // A whiteout that can be listed and not be opened is a difference, too.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                found.insert(name, "listed, but not there".to_owned());
                continue;
            };
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                open.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                let (digest, size) = hash_reader(fs::File::open(&path).unwrap()).unwrap();
                format!("{size} {}", &digest.hex()[..12])
            } else {
                format!("fifo: {}, device: {:x}", kind.is_fifo(), metadata.rdev())
            };
            if kind.is_file() {
                linked.entry(metadata.ino()).or_default().push(name.clone());
            }
            let owner =
                if is_root() { format!("{}:{}", metadata.uid(), metadata.gid()) } else { String::new() };
            let time = format!("{}.{}", metadata.mtime(), metadata.mtime_nsec());
            found.insert(name, format!("{:o} {owner} {time} {what}", metadata.mode() & 0o7777));
        }
    }
    // Not by the number of names: one that a whiteout hides counts, too.
    for mut names in linked.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            found.get_mut(name).unwrap().push_str(&format!(" as {}", names[0]));
        }
    }
    found
}

/// What umoci makes of the layout.
pub fn umoci(layout: &Path, scratch: &Path) -> PathBuf {
    let bundle = scratch.join("bundle");
    let image = format!("{}:latest", layout.display());
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    let _ = Run::new("umoci")
        .args(&["unpack", "--image", &image])
        .args(rootless)
        .arg(&bundle)
        .env("HOME", scratch)
        .ok();
    bundle.join("rootfs")
}

/// One line for each name that is not the same.
pub fn differences(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Vec<String> {
    let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
    names
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| format!("{name}: ours {:?}, theirs {:?}", ours.get(name), theirs.get(name)))
        .collect()
}

/// Drops the times of directories that umoci leaves at the time of unpacking: those without an entry, and those out of
/// which a whiteout has removed something.
fn drop_new_times(ours: &mut BTreeMap<String, String>, theirs: &mut BTreeMap<String, String>) {
    for (name, entry) in theirs.iter_mut().filter(|(_, entry)| entry.ends_with(" directory")) {
        let timeless = |entry: &str| {
            let words: Vec<_> = entry.split(' ').collect();
            [words[0], words[1], "directory"].join(" ")
        };
        if !entry.contains(&format!(" {}", layout::EPOCH / 1_000_000)) {
            *entry = timeless(entry);
            if let Some(ours) = ours.get_mut(name).filter(|ours| ours.ends_with(" directory")) {
                *ours = timeless(ours);
            }
        }
    }
}

fn dir(name: &str) -> Vec<u8> {
    entry(name, b'5', 0o755, "", b"")
}

fn file(name: &str) -> Vec<u8> {
    entry(name, b'0', 0o644, "", name.as_bytes())
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(name, b'2', 0o777, target, b"")
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    entry(name, b'1', 0o644, target, b"")
}

fn base() -> Layer {
    vec![
        dir("etc/"),
        file("etc/a"),
        file("etc/b"),
        dir("etc/dir"),
        file("etc/dir/f"),
        owned(entry("etc/owned", b'0', 0o4750, "", b"x"), 0o41, 0o42),
        dir("usr"),
        dir("usr/lib"),
        file("usr/lib/old"),
        link("lib", "usr/lib"),
        entry("tmp", b'5', 0o1777, "", b""),
        entry("root", b'5', 0o700, "", b""),
        file("file"),
        link("link", "file"),
        hard("usr/hard", "file"),
        entry("fifo", b'6', 0o640, "", b""),
    ]
}

#[test]
fn hand_made_layers_are_what_umoci_makes_of_them() {
    or_skip!("umoci", tool("umoci"));
    let namespace = or_skip!("an overlay", Namespace::new());
    let images: Vec<(&str, Vec<Layer>)> = vec![
        ("one layer", vec![base()]),
        ("whiteout of a file", vec![base(), vec![dir("etc"), file("etc/.wh.a")]]),
        ("whiteout of a directory", vec![base(), vec![file("etc/.wh.dir"), file(".wh.usr"), dir("etc")]]),
        ("whiteout of a link", vec![base(), vec![file(".wh.lib"), file(".wh.link"), file(".wh.fifo")]]),
        ("opaque, before", vec![base(), vec![dir("etc"), file("etc/.wh..wh..opq"), file("etc/c")]]),
        ("opaque, after", vec![base(), vec![dir("etc"), file("etc/c"), file("etc/.wh..wh..opq")]]),
        (
            "opaque and deeper",
            vec![base(), vec![dir("etc"), dir("etc/dir"), file("etc/dir/g"), file("etc/.wh..wh..opq")]],
        ),
        (
            "whiteouts of nothing",
            vec![
                base(),
                vec![
                    dir("etc"),
                    file("etc/.wh.nothing"),
                    dir("new"),
                    file("new/.wh.nothing"),
                    file("new/f"),
                    file(".wh.no"),
                ],
            ],
        ),
        (
            "whiteouts of nothing in the lowest layer",
            vec![vec![dir("d"), file("d/.wh.x"), file("d/f"), file(".wh.y")]],
        ),
        ("whiteout, then the file", vec![base(), vec![dir("etc"), file("etc/.wh.a"), file("etc/a")]]),
        ("the file, then the whiteout", vec![base(), vec![dir("etc"), file("etc/a"), file("etc/.wh.a")]]),
        ("whiteout, then the directory", vec![base(), vec![file(".wh.etc"), dir("etc"), file("etc/new")]]),
        (
            "the directory, then the whiteout",
            vec![base(), vec![dir("etc"), file("etc/new"), file(".wh.etc")]],
        ),
        ("hidden and back", vec![base(), vec![file(".wh.etc")], vec![dir("etc"), file("etc/a")]]),
        ("a file for a directory and back", vec![base(), vec![file("etc")], vec![dir("etc"), file("etc/a")]]),
        ("a link for a directory", vec![base(), vec![link("etc", "usr")]]),
        ("a directory for a link", vec![base(), vec![dir("lib"), file("lib/new")]]),
        ("a directory for a file", vec![base(), vec![dir("file"), file("file/new")]]),
        ("a file for a link", vec![base(), vec![file("link"), file("lib")]]),
        (
            "hard links of an upper layer",
            vec![base(), vec![file("x"), hard("y", "x"), dir("etc"), hard("etc/a", "y")]],
        ),
        ("links to a file below", vec![base(), vec![hard("x", "etc/a"), hard("y", "etc/a"), hard("z", "x")]]),
        ("a link to a file far below", vec![base(), vec![file("m")], vec![hard("usr/x", "/etc/owned")]]),
        ("a link to a file below, through a link", vec![base(), vec![hard("x", "lib/old")]]),
        (
            "a link in place of its target's directory",
            vec![base(), vec![hard("x", "etc/dir/f"), file("etc")]],
        ),
        ("a link to a file below, and a whiteout", vec![base(), vec![hard("x", "etc/a"), file("etc/.wh.a")]]),
        (
            "a link to a file below, hidden with its directory",
            vec![base(), vec![hard("x", "etc/a"), dir("etc"), file("etc/.wh..wh..opq")]],
        ),
        ("a link to a file below, and a new one", vec![base(), vec![hard("x", "etc/a"), file("etc/a")]]),
        ("a link to a file below, replaced", vec![base(), vec![hard("x", "etc/a"), file("x")]]),
        ("a link in place of a file below", vec![base(), vec![hard("etc/b", "etc/a")]]),
        (
            "types replaced in one layer",
            vec![
                base(),
                vec![
                    file("a"),
                    dir("a"),
                    file("a/f"),
                    link("b", "etc"),
                    file("b"),
                    dir("c"),
                    file("c/f"),
                    file("c"),
                ],
            ],
        ),
        (
            "a file and a directory for a directory",
            vec![base(), vec![file("etc"), dir("etc"), file("etc/only")]],
        ),
        ("a linked directory of the layer", vec![base(), vec![dir("d"), link("e", "d"), file("e/f")]]),
        ("parents of below", vec![base(), vec![file("tmp/x"), file("root/y"), file("etc/dir/z")]]),
        ("a linked parent of below", vec![base(), vec![file("lib/new"), file("lib/.wh.old")]]),
        ("a linked parent of below, through a layer", vec![base(), vec![dir("opt")], vec![file("lib/new")]]),
        ("a root that hides all below", vec![base(), vec![file(".wh..wh..opq"), file("only"), dir("etc")]]),
        ("a layer twice", vec![base(), vec![file("etc/.wh.a"), file("x")], base()]),
        ("new parents", vec![base(), vec![file("a/b/c")], vec![file("a/b/d")]]),
    ];
    let mut all = Vec::new();
    for (what, layers) in images {
        let scratch = tempfile::tempdir().unwrap();
        let layout = scratch.path().join("layout");
        layout::write(&layout, &layers);
        let engine = quiet(&scratch.path().join("store"));
        let trees =
            engine.trees(&in_layout(&layout)).unwrap_or_else(|error| panic!("{what}: {error}: {error:?}"));
        let on = or_skip!("an overlay", mount(&namespace, &trees, scratch.path()));
        let mut ours = everything(&namespace.inside(&on));
        let mut theirs = everything(&umoci(&layout, scratch.path()));
        drop_new_times(&mut ours, &mut theirs);
        all.extend(differences(&ours, &theirs).into_iter().map(|line| format!("{what}: {line}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// umoci fails, too.
#[test]
fn a_link_to_nothing_is_refused_wherever_its_layer_stands() {
    let linking = || vec![hard("x", "etc/a")];
    let images = [
        ("the lowest layer", vec![linking()]),
        ("nothing there", vec![vec![file("f")], linking()]),
        ("hidden", vec![base(), vec![file("etc/.wh.a")], linking()]),
    ];
    let scratch = tempfile::tempdir().unwrap();
    // One store: the same layer is good and is known.
    let engine = quiet(&scratch.path().join("store"));
    let trees = |name: &str, layers: &[Layer]| {
        let layout = scratch.path().join(name);
        layout::write(&layout, layers);
        engine.trees(&in_layout(&layout))
    };
    assert_eq!(trees("good", &[base(), linking()]).unwrap().layers.len(), 2);
    for (what, layers) in images {
        for _ in 0..2 {
            let error = trees(what, &layers).unwrap_err();
            let said = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(said.contains("`x` points to `etc/a`, which is no file"), "{what}: {error}: {said}");
        }
    }
}

#[test]
fn owners_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = scratch.path().join("layout");
    layout::write(&layout, &[base(), vec![file("x")]]);
    let engine = quiet(&scratch.path().join("store"));
    assert_eq!(engine.trees(&in_layout(&layout)).unwrap().owners, [(0o41, 0o42)]);
}
