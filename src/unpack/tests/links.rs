//! Hard links to files of the layers below.

use super::*;

/// The tree of a layer upon that of these entries, which nothing changes.
fn upon(base: &[Vec<u8>], layer: &[Vec<u8>]) -> Result<(Place, Summary), String> {
    let below = Place::new();
    unpack_as(Codec::None, &tar(base), &below, &Nothing).unwrap();
    let before = list(&below.root());
    let place = Place::new();
    let stack = Stack(vec![below.root()]);
    let summary = unpack_as(Codec::None, &tar(layer), &place, &stack);
    place.is_untouched();
    below.is_untouched();
    assert_eq!(list(&below.root()), before);
    let summary = summary.map_err(|error| error.to_string())?;
    assert_eq!(survey(&place.root(), ALWAYS).unwrap().content, summary.content);
    assert_eq!((summary.linked.as_ref(), summary.implied.len()), (None, 0));
    Ok((place, summary))
}

fn base() -> Vec<Vec<u8>> {
    vec![
        dir("d"),
        file("d/f"),
        file("d/g"),
        dir("d/sub"),
        file("d/sub/deep"),
        link("l", "d"),
        file("top"),
        link("out", "../outside"),
        entry("p", b'6', 0o600, "", b""),
    ]
}

#[test]
fn a_file_of_below_has_a_copy_under_both_names() {
    type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);
    let table: [Case; 14] = [
        ("once", vec![hard("x", "d/f")], &["d/", "d/f=d/f", "x=d/f"]),
        (
            "several",
            vec![hard("x", "d/f"), hard("y", "/d/f"), hard("z", "x")],
            &["d/", "d/f=d/f", "x=d/f", "y=d/f", "z=d/f"],
        ),
        ("at the top", vec![hard("x", "top")], &["top=top", "x=top"]),
        ("through a link", vec![hard("x", "l/f")], &["d/", "d/f=d/f", "x=d/f"]),
        ("itself", vec![hard("top", "./top")], &[]),
        ("in place of another", vec![hard("d/g", "d/f")], &["d/", "d/f=d/f", "d/g=d/f"]),
        ("hidden after", vec![hard("x", "d/f"), file("d/.wh.f")], &["d/", "d/f whiteout", "x=d/f"]),
        (
            "replaced after",
            vec![hard("x", "d/f"), entry("d/f", b'0', 0o644, "", b"new")],
            &["d/", "d/f=new", "x=d/f"],
        ),
        ("opaque after", vec![hard("x", "d/f"), dir("d"), file("d/.wh..wh..opq")], &["d/ opaque", "x=d/f"]),
        (
            "no directory after",
            vec![hard("x", "d/sub/deep"), file("d/sub")],
            &["d/", "d/sub=d/sub", "x=d/sub/deep"],
        ),
        ("another directory after", vec![hard("x", "d/f"), link("d", "l2")], &["d -> l2", "x=d/f"]),
        ("a hidden directory after", vec![hard("x", "d/f"), file(".wh.d")], &["d whiteout", "x=d/f"]),
        ("the link replaced", vec![hard("x", "d/f"), file("x")], &["x=x"]),
        ("twice the same", vec![hard("x", "d/f"), hard("x", "d/f")], &["d/", "d/f=d/f", "x=d/f"]),
    ];
    for (what, layer, expected) in table {
        let (place, _) = upon(&base(), &layer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(list(&place.root()), expected, "{what}");
        let inode = |name: &str| fs::metadata(place.root().join(name)).map(|at| at.ino()).ok();
        if expected.contains(&"d/f=d/f") {
            let names = ["x", "y", "z", "d/g"].into_iter().filter_map(inode);
            assert!(names.eq(names_of(&place).map(|_| inode("d/f").unwrap())), "{what}");
        }
        // Alone it is without the link, and says so.
        let (_, alone) = unpacked(&layer);
        let known = layer.iter().any(|entry| entry[156] == b'1');
        assert_eq!(alone.linked.is_some(), known, "{what}");
    }
}

/// Of those that are links in the table.
fn names_of(place: &Place) -> impl Iterator<Item = &'static str> {
    let root = place.root();
    ["x", "y", "z", "d/g"].into_iter().filter(move |name| root.join(name).exists())
}

#[test]
fn the_copy_is_like_the_file() {
    let records = [pax("mtime", b"7.5"), pax("SCHILY.xattr.user.kept", b"1")].concat();
    let suid = owned(entry("f", b'0', 0o4750, "", b"content"), 0o41, 0o42);
    let base = [entry("x", b'x', 0, "", &records), suid].concat();
    let (place, summary) = upon(&[base], &[owned(entry("x", b'1', 0o644, "f", b""), 0, 0)]).unwrap();
    let at = fs::symlink_metadata(place.root().join("x")).unwrap();
    assert_eq!((at.mode() & 0o7777, at.mtime(), at.mtime_nsec()), (0o4750, 7, 500_000_000));
    if is_root() {
        assert_eq!((at.uid(), at.gid()), (0o41, 0o42));
    }
    let mut value = [0; 8];
    assert_eq!(rustix::fs::lgetxattr(place.root().join("x"), "user.kept", &mut value[..]), Ok(1));
    assert_eq!((summary.entries, summary.bytes, summary.owners), (2, 14, Vec::new()));
}

#[test]
fn links_to_what_is_no_file_below_are_refused() {
    let nothing = "which is no file of its layer or of those below";
    for (said, layer) in [
        (nothing, vec![hard("x", "nothing")]),
        (nothing, vec![hard("x", "d")]),
        (nothing, vec![hard("x", "l")]),
        (nothing, vec![hard("x", "p")]),
        (nothing, vec![hard("x", "d/none/f")]),
        (nothing, vec![hard("x", "out/file")]),
        (nothing, vec![hard("x", "../outside/file")]),
        (nothing, vec![file("d/.wh.f"), hard("x", "d/f")]),
        (nothing, vec![file(".wh.d"), hard("x", "d/f")]),
        (nothing, vec![dir("d"), file("d/.wh..wh..opq"), hard("x", "d/f")]),
        (nothing, vec![link("d", "elsewhere"), hard("x", "d/f")]),
        ("no directory in the layers below", vec![hard("x", "top/f")]),
        // A layer of some kilobytes must not hold thousands of copies.
        (
            "whose first link it has replaced",
            vec![hard("x", "top"), hard("y", "x"), file("x"), hard("x", "top")],
        ),
    ] {
        let error = upon(&base(), &layer).map(|(place, _)| list(&place.root())).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
}
