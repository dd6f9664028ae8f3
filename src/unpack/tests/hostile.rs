//! Layers that mean harm.

use super::*;

/// A name, the entries of a hostile tar, those of its harmless twin.
type Case = (&'static str, Vec<Vec<u8>>, Vec<Vec<u8>>);
/// Each hostile layer, what is said of it, and a harmless one that differs in nothing but that.
#[test]
fn hostile_layers_are_refused_and_their_harmless_twins_are_not() {
    let long = |name: &str| [entry("L", b'L', 0, "", name.as_bytes()), file("short")].concat();
    let deep = |levels: usize| long(&"d/".repeat(levels));
    let cases: [Case; 13] = [
        ("has a `..` part", vec![file("../outside/file")], vec![file("outside/file")]),
        ("has a `..` part", vec![dir("a"), file("a/../../x")], vec![dir("a"), file("a/x")]),
        (
            "which is no file of its layer",
            vec![hard("a", "../outside/file")],
            vec![file("f"), hard("a", "f")],
        ),
        (
            "which is no file of its layer",
            vec![hard("a", "/etc/passwd")],
            vec![file("etc/passwd"), hard("a", "/etc/passwd")],
        ),
        (
            "which is no file of its layer",
            vec![link("l", "/../outside"), hard("a", "l/file")],
            vec![file("d/file"), link("l", "/d"), hard("a", "l/file")],
        ),
        (
            "which is no file of its layer",
            vec![dir("d"), hard("a", "d")],
            vec![link("d", "x"), hard("a", "d")],
        ),
        (
            "which is no file of its layer",
            vec![file(".wh.f"), hard("a", "f")],
            vec![file("f"), hard("a", "f")],
        ),
        (
            "lies below what is no directory",
            vec![file("a"), file("a/b")],
            vec![file("a"), dir("a"), file("a/b")],
        ),
        (
            "a loop of links",
            vec![link("a", "b"), link("b", "a"), file("a/f")],
            vec![link("a", "b"), link("b", "c"), file("a/f")],
        ),
        ("longer than 4095 bytes", vec![long(&"d/".repeat(2048))], vec![long(&"d/".repeat(100))]),
        ("a part longer than 255 bytes", vec![long(&"n".repeat(256))], vec![long(&"n".repeat(255))]),
        ("a whiteout of no name", vec![file(".wh...")], vec![file(".wh....")]),
        ("more than 256 levels", vec![deep(300)], vec![deep(200)]),
    ];
    for (said, hostile, harmless) in cases {
        let place = Place::new();
        let error =
            unpack_as(Codec::None, &tar(&hostile), &place, &Stack(Vec::new())).unwrap_err().to_string();
        assert!(error.contains(said), "{said}: {error}");
        place.is_untouched();
        unpacked(&harmless);
    }
}

#[test]
fn links_out_of_the_tree_lead_nowhere() {
    let place = Place::new();
    let outside = place.0.path().join("outside");
    let target = outside.to_str().unwrap();
    let entries = [
        link("a", target),
        link("b", "../outside"),
        file("a/file"),
        file("b/file"),
        file("b/.wh.x"),
        dir("a/d"),
    ];
    unpack_as(Codec::None, &tar(&entries), &place, &Nothing).unwrap();
    place.is_untouched();
    assert_eq!(fs::read_to_string(place.root().join("outside/file")).unwrap(), "b/file");
    // Not even when somebody has put a link there that the writer knows nothing of.
    let place = Place::new();
    symlink(&outside, place.root().join("planted")).unwrap();
    unpack_as(Codec::None, &tar(&[file("planted/file")]), &place, &Nothing).unwrap();
    place.is_untouched();
    assert!(fs::symlink_metadata(place.root().join("planted")).unwrap().is_dir());
}

#[test]
fn what_never_ends_is_ended() {
    let unpack_with = |bytes: &[u8], limits: Limits| {
        let place = Place::new();
        let blob = gzip(bytes);
        let (digest, size) = (Digest::of(&blob), blob.len() as u64);
        let packed = Packed {
            blob: Box::new(&blob[..]),
            codec: Codec::Gzip,
            digest,
            size,
            diff_id: DiffId(Digest::of(bytes)),
        };
        unpack(packed, place.open(), &Nothing, limits, ALWAYS).map_err(|error| error.to_string())
    };
    let zeros = tar(&[entry("zeros", b'0', 0o644, "", &vec![0; 1 << 20])]);
    let limits = Limits { entries: 10, names: 100, free: 1000, ratio: 100 };
    assert!(unpack_with(&zeros, limits).unwrap_err().contains("far more than its size explains"));
    assert!(unpack_with(&zeros, Limits { ratio: 1000, ..limits }).is_ok());
    assert!(unpack_with(&zeros, Limits { free: 2 << 20, ..limits }).is_ok());
    let many = |count: usize| tar(&(0..count).map(|at| file(&at.to_string())).collect::<Vec<_>>());
    let free = Limits { free: 1 << 20, ..limits };
    assert!(unpack_with(&many(11), free).unwrap_err().contains("more than 10 entries"));
    assert!(unpack_with(&many(10), free).is_ok());
    let named = |length: usize| tar(&[file(&"x".repeat(50)), file(&"y".repeat(length))]);
    assert!(unpack_with(&named(51), free).unwrap_err().contains("more than 100 bytes in the names"));
    assert!(unpack_with(&named(50), free).is_ok());
}
