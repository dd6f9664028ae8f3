//! Trees as a whole: what layers say, the same both ways (`both_ways`), and layers that mean harm (`hostile`).

mod both_ways;
mod hostile;
mod links;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use super::*;
use crate::blob::MemoryBlobs;
use crate::debian::testing::{entry, owned, pax, seal, tar};
use crate::digest::DiffId;
use crate::epoch::Epoch;
use crate::layer::Recipe;
use crate::oci::media_type::Codec;
use crate::tree::{Content, Node, Tree, TreePath};

const ALWAYS: Context<'static> = Context { go_on: &|| Ok(()), progress: &|_| () };

/// A name, and what is done to a tree.
type Change = (&'static str, fn(&Path));

/// A tree in a directory of its own, beside which nothing may change.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        fs::create_dir(place.0.path().join("outside")).unwrap();
        fs::write(place.0.path().join("outside/file"), "untouched").unwrap();
        place
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    fn open(&self) -> OwnedFd {
        fs::File::open(self.root()).unwrap().into()
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(names(self.0.path()), ["outside", "root"]);
        assert_eq!(names(&self.0.path().join("outside")), ["file"]);
        assert_eq!(fs::read_to_string(self.0.path().join("outside/file")).unwrap(), "untouched");
        assert_eq!(fs::metadata(self.0.path().join("outside/file")).unwrap().nlink(), 1);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Unpacks a tar as if it were a layer of that codec.
fn unpack_as(codec: Codec, bytes: &[u8], place: &Place, below: &dyn Below) -> Result<Summary, UnpackError> {
    let blob = match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => {
            // Two members.
            let (a, b) = bytes.split_at(bytes.len() / 2);
            [a, b].map(gzip).concat()
        }
        Codec::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    };
    let packed = Packed {
        digest: Digest::of(&blob),
        size: blob.len() as u64,
        diff_id: DiffId(Digest::of(bytes)),
        blob: Box::new(&blob[..]),
        codec,
    };
    unpack(packed, place.open(), below, Limits::default(), ALWAYS)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(entries: &[Vec<u8>]) -> (Place, Summary) {
    let place = Place::new();
    let summary = unpack_as(Codec::None, &tar(entries), &place, &Nothing).unwrap();
    place.is_untouched();
    match survey(&place.root(), ALWAYS) {
        Ok(found) => assert_eq!(found.content, summary.content),
        // Root alone can look into a directory that is closed.
        Err(error) => assert!(error.kind() == io::ErrorKind::PermissionDenied && !is_root(), "{error}"),
    }
    (place, summary)
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

/// Everything below `root`, as one line each.
fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let shown = path.strip_prefix(root).unwrap().display();
            let mut value = [0; 8];
            let has =
                |name: &str, value: &mut [u8; 8]| rustix::fs::lgetxattr(&path, name, &mut value[..]).is_ok();
            if kind.is_dir() {
                let opaque = if has("user.overlay.opaque", &mut value) { " opaque" } else { "" };
                lines.push(format!("{shown}/{opaque}"));
                open.push(path);
            } else if kind.is_symlink() {
                lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_char_device() && metadata.rdev() == 0 {
                assert!(
                    rustix::fs::lgetxattr(&directory, "user.overlay.origin", &mut value[..]) == Ok(0)
                        || directory == root
                );
                lines.push(format!("{shown} whiteout"));
            } else if kind.is_fifo() {
                lines.push(format!("{shown} fifo"));
            } else {
                assert!(kind.is_file(), "{shown}");
                lines.push(format!("{shown}={}", fs::read_to_string(&path).unwrap_or_else(|_| "?".into())));
            }
        }
    }
    lines.sort();
    lines
}

#[track_caller]
fn check(entries: &[Vec<u8>], expected: &[&str]) {
    let (place, _) = unpacked(entries);
    assert_eq!(list(&place.root()), expected);
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    check(&[dir("d"), file("d/.wh.gone"), file(".wh.top")], &["d/", "d/gone whiteout", "top whiteout"]);
    // What the layer has itself is there, whichever comes first; a directory shows nothing of those below.
    check(&[file("a"), file(".wh.a"), file(".wh.b"), file("b")], &["a=a", "b=b"]);
    check(
        &[dir("a"), file("a/f"), file(".wh.a"), file(".wh.b"), dir("b"), file("b/f")],
        &["a/ opaque", "a/f=a/f", "b/ opaque", "b/f=b/f"],
    );
    check(&[file(".wh.l"), link("l", "x"), link("m", "x"), file(".wh.m")], &["l -> x", "m -> x"]);
    // Opaque, before and after the entries of the directory.
    check(&[dir("d"), file("d/.wh..wh..opq"), file("d/f")], &["d/ opaque", "d/f=d/f"]);
    check(&[file("d/f"), dir("d"), file("d/.wh..wh..opq")], &["d/ opaque", "d/f=d/f"]);
    // AUFS's own files.
    check(&[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("f")], &["f=f"]);
    let (_, summary) = unpacked(&[file(".wh..wh..opq"), file("f")]);
    assert!(summary.opaque);
    assert!(!unpacked(&[file("f")]).1.opaque);
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    check(&[entry("a", b'0', 0o644, "", b"first"), entry("a", b'0', 0o644, "", b"second")], &["a=second"]);
    // Below what was a file, nothing of the layers below is to be seen.
    check(&[file("a"), dir("a"), file("a/b")], &["a/ opaque", "a/b=a/b"]);
    check(&[link("a", "b"), dir("a"), file("a/f"), dir("b")], &["a/ opaque", "a/f=a/f", "b/"]);
    check(&[dir("a"), dir("a/b"), file("a/b/c"), file("a0"), file("a")], &["a0=a0", "a=a"]);
    check(&[dir("a"), file("a/.wh.x"), file("a"), dir("a"), file("a/x")], &["a/ opaque", "a/x=a/x"]);
    // A link is replaced, never written through.
    check(&[file("target"), link("a", "target"), file("a")], &["a=a", "target=target"]);
    check(&[file("b"), hard("a", "b"), entry("a", b'0', 0o644, "", b"new")], &["a=new", "b=b"]);
    check(&[file("b"), hard("b", "b"), hard("a", "./b"), hard("/c", "/a")], &["a=b", "b=b", "c=b"]);
    check(&[link("l", "t"), hard("m", "l"), dir("t"), file("m/f")], &["l -> t", "m -> t", "t/", "t/f=m/f"]);
    check(&[entry("p", b'6', 0o600, "", b""), entry("dev", b'3', 0o600, "", b"")], &["p fifo"]);
}

#[test]
fn names_are_taken_as_the_root_is_theirs() {
    check(
        &[dir("./"), file("/etc/passwd"), file("./usr//bin/./x")],
        &["etc/", "etc/passwd=/etc/passwd", "usr/", "usr/bin/", "usr/bin/x=./usr//bin/./x"],
    );
    // A link of the layer leads where it would in the image.
    check(
        &[
            dir("usr"),
            dir("usr/lib"),
            link("lib", "usr/lib"),
            link("abs", "/usr/lib"),
            file("lib/a"),
            file("abs/b"),
        ],
        &["abs -> /usr/lib", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a=lib/a", "usr/lib/b=abs/b"],
    );
    check(
        &[link("up", "../../.."), file("up/f"), link("self", "."), file("self/g")],
        &["f=up/f", "g=self/g", "self -> .", "up -> ../../.."],
    );
    check(
        &[dir("a"), link("a/out", "../../b/./c"), file("a/out/f")],
        &["a/", "a/out -> ../../b/./c", "b/", "b/c/", "b/c/f=a/out/f"],
    );
}

#[test]
fn modes_times_owners_and_attributes() {
    let mut closed = entry("closed", b'5', 0o111, "", b"");
    closed[136..148].copy_from_slice(b"00000000123\0");
    seal(&mut closed);
    let records = [
        pax("mtime", b"7.5"),
        pax("SCHILY.xattr.user.kept", b"1"),
        pax("SCHILY.xattr.user.overlay.opaque", b"y"),
        pax("SCHILY.xattr.user.overlay.metacopy", b""),
        pax("SCHILY.xattr.user.overlay.redirect", b"/closed"),
        pax("SCHILY.xattr.security.capability", b"x"),
    ]
    .concat();
    let extended = |what: Vec<u8>| [entry("x", b'x', 0, "", &records), what].concat();
    let (place, summary) = unpacked(&[
        closed,
        owned(entry("closed/suid", b'0', 0o4755, "", b"x"), 0o41, 0o42),
        extended(entry("d", b'5', 0o1777, "", b"")),
        extended(entry("f", b'0', 0o400, "", b"")),
    ]);
    let at = |name: &str| fs::symlink_metadata(place.root().join(name)).unwrap();
    assert_eq!((at("closed").mode() & 0o7777, at("closed").mtime()), (0o111, 0o123));
    assert_eq!((at("d").mode() & 0o7777, at("d").mtime(), at("d").mtime_nsec()), (0o1777, 7, 500_000_000));
    assert_eq!(at("f").mode() & 0o7777, 0o400);
    assert_eq!(summary.owners, [(0o41, 0o42)]);
    if is_root() {
        let suid = at("closed/suid");
        assert_eq!((suid.mode() & 0o7777, suid.uid(), suid.gid()), (0o4755, 0o41, 0o42));
    }
    for name in ["d", "f"] {
        let mut list = [0; 200];
        let len = rustix::fs::llistxattr(place.root().join(name), &mut list[..]).unwrap();
        assert_eq!(&list[..len], b"user.kept\0", "{name}");
    }
    remove_tree(&place.root()).unwrap();
}

#[test]
fn every_codec_gives_the_tree_that_both_digests_promise() {
    let bytes =
        tar(&[dir("d"), file("d/f"), link("l", "d/f"), entry("big", b'0', 0o644, "", &vec![7; 700_000])]);
    let mut trees = Vec::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let place = Place::new();
        trees.push(unpack_as(codec, &bytes, &place, &Nothing).unwrap());
        assert_eq!(list(&place.root()).len(), 4);
    }
    assert!(trees.iter().all(|summary| *summary == trees[0]));
    let blob = gzip(&bytes);
    let wrong = |change: &dyn Fn(&mut Packed<'_>), blob: &[u8]| {
        let place = Place::new();
        let (digest, size) = (Digest::of(gzip(&bytes)), gzip(&bytes).len() as u64);
        let mut packed = Packed {
            blob: Box::new(blob),
            codec: Codec::Gzip,
            digest,
            size,
            diff_id: DiffId(Digest::of(&bytes)),
        };
        change(&mut packed);
        unpack(packed, place.open(), &Nothing, Limits::default(), ALWAYS)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(wrong(&|_| {}, &blob), Ok(()));
    let other = DiffId(Digest::of("other"));
    assert_eq!(
        wrong(&|packed| packed.diff_id = other, &blob).unwrap_err(),
        "the layer's diff ID is not what its image says"
    );
    assert_eq!(
        wrong(&|packed| packed.size += 1, &blob).unwrap_err(),
        "the layer's blob is not what its image says"
    );
    for at in (0..blob.len()).step_by(97) {
        let mut damaged = blob.clone();
        damaged[at] ^= 4;
        assert_eq!(
            wrong(&|_| {}, &damaged).unwrap_err(),
            "the layer's blob is not what its image says",
            "byte {at}"
        );
    }
    assert_eq!(
        wrong(&|_| {}, &blob[..blob.len() - 9]).unwrap_err(),
        "the layer's blob is not what its image says"
    );
}

#[test]
fn parents_that_a_layer_does_not_mention_are_those_below() {
    let base = Place::new();
    let entries = [
        dir("usr"),
        dir("usr/bin"),
        link("bin", "usr/bin"),
        entry("tmp", b'5', 0o1777, "", b""),
        entry("old", b'5', 0o700, "", b""),
        entry("hidden", b'5', 0o700, "", b""),
        file("file"),
    ];
    unpack_as(Codec::None, &tar(&entries), &base, &Nothing).unwrap();
    let middle = Place::new();
    unpack_as(
        Codec::None,
        &tar(&[file(".wh.old"), dir("hidden"), file("hidden/.wh..wh..opq")]),
        &middle,
        &Nothing,
    )
    .unwrap();
    let below = Stack(vec![base.root(), middle.root()]);
    let layer = [file("bin/x"), file("tmp/y"), file("old/z"), dir("own"), file("own/a"), file("hidden/b/c")];
    let (alone, summary) = unpacked(&layer);
    assert_eq!(summary.implied, ["bin", "hidden", "hidden/b", "old", "tmp"]);
    assert_eq!(names(&alone.root().join("bin")), ["x"]);
    let place = Place::new();
    let summary = unpack_as(Codec::None, &tar(&layer), &place, &below).unwrap();
    assert_eq!(summary.implied, [""; 0]);
    let expected =
        ["hidden/", "hidden/b/", "hidden/b/c=hidden/b/c", "old/", "old/z=old/z", "own/", "own/a=own/a"];
    let expected = [&expected[..], &["tmp/", "tmp/y=tmp/y", "usr/", "usr/bin/", "usr/bin/x=bin/x"]].concat();
    assert_eq!(list(&place.root()), expected);
    let mode = |name: &str| fs::metadata(place.root().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("old"), mode("hidden")), (0o1777, 0o755, 0o755));
    let place = Place::new();
    let error = unpack_as(Codec::None, &tar(&[file("file/x")]), &place, &below).unwrap_err().to_string();
    assert!(error.contains("no directory in the layers below"), "{error}");
}

#[test]
fn work_stops_when_it_is_to() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let bytes = tar(&(0..50).map(|at| file(&at.to_string())).collect::<Vec<_>>());
    let place = Place::new();
    let asked = AtomicU32::new(0);
    let go_on = || match asked.fetch_add(1, Ordering::Relaxed) {
        0..20 => Ok(()),
        _ => Err(io::Error::other("stopped")),
    };
    let packed = Packed {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        diff_id: DiffId(Digest::of(&bytes)),
        blob: Box::new(&bytes[..]),
        codec: Codec::None,
    };
    let error =
        unpack(packed, place.open(), &Nothing, Limits::default(), Context { go_on: &go_on, ..ALWAYS })
            .unwrap_err();
    assert!(matches!(&error, UnpackError::Read(source) if source.to_string() == "stopped"), "{error:?}");
    assert!(names(&place.root()).len() < 50);
}

#[test]
fn a_survey_finds_any_change() {
    let entries = [dir("d"), file("d/f"), link("l", "d"), file(".wh.w")];
    let changes: [Change; 6] = [
        ("content", |root| fs::write(root.join("d/f"), "D/F").unwrap()),
        ("time", |root| {
            fs::File::open(root.join("d"))
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9))
                .unwrap()
        }),
        ("mode", |root| {
            fs::set_permissions(root.join("d/f"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap()
        }),
        ("name", |root| fs::rename(root.join("l"), root.join("m")).unwrap()),
        ("whiteout", |root| fs::remove_file(root.join("w")).unwrap()),
        ("more", |root| fs::write(root.join("more"), "").unwrap()),
    ];
    for (what, change) in changes {
        let (place, summary) = unpacked(&entries);
        change(&place.root());
        assert_ne!(survey(&place.root(), ALWAYS).unwrap().content, summary.content, "{what}");
    }
}
