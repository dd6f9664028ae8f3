//! Layers as a whole: golden digests, second opinions, lies.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use proptest::prelude::*;

use super::check::read_layer;
use super::*;
use crate::blob::{BlobSource, MemoryBlobs, ReadAt};
use crate::digest::Digest;
use crate::epoch::Epoch;
use crate::spec::model::Prune;
use crate::tree::{Content, Node, Tree, TreePath};
use crate::wheel::{self, Scheme, testing};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn layer_of(recipe: &Recipe, blobs: &MemoryBlobs) -> Vec<u8> {
    let mut layer = Vec::new();
    recipe.write_to(blobs, &mut layer).unwrap();
    assert_eq!(layer.len() as u64, recipe.size());
    layer
}

/// [`super::measure`] on one thread and on two, with and without blobs to be verified: always the same.
fn measure(
    recipe: &Recipe,
    tree: &Tree,
    record: &BTreeMap<TreePath, Digest>,
    blobs: &MemoryBlobs,
) -> Result<LayerFacts, LayerError> {
    let alone = super::measure(recipe, tree, record, blobs, &[], Threads::One);
    let helped = super::measure(recipe, tree, record, blobs, &recipe.blobs(), Threads::Two);
    assert_eq!(format!("{alone:?}"), format!("{helped:?}"));
    alone
}

#[test]
fn a_damaged_source_is_found_whatever_is_made_of_it() {
    let mut archive = testing::demo();
    let digest = Digest::of(&archive);
    // A byte that no layer holds: the last of the end record is the length of a comment.
    *archive.last_mut().unwrap() = 1;
    let damaged = Damaged(digest, archive.into());
    let (installed, blobs) = demo();
    let recipe = Recipe::build(&installed.tree, Epoch::default()).unwrap();
    measure(&recipe, &installed.tree, &installed.record, &blobs).unwrap();
    for threads in [Threads::One, Threads::Two] {
        let measured =
            super::measure(&recipe, &installed.tree, &installed.record, &damaged, &[digest], threads);
        assert!(
            matches!(measured, Err(LayerError::Source { digest: at, .. }) if at == digest),
            "{measured:?}"
        );
    }
}

/// Says that its bytes have this digest.
struct Damaged(Digest, Arc<[u8]>);

impl BlobSource for Damaged {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        assert_eq!(*digest, self.0);
        Ok(Arc::new(Arc::clone(&self.1)))
    }
}

fn demo() -> (wheel::Installed, MemoryBlobs) {
    let archive = testing::demo();
    let mut blobs = MemoryBlobs::default();
    let digest = blobs.insert(archive.clone());
    let scheme = Scheme {
        site_packages: path("usr/local/lib/python3.11/dist-packages"),
        scripts: path("usr/local/bin"),
        prefix: path("usr/local"),
        executable: "/usr/bin/python3.11".to_owned(),
        python: (3, 11),
    };
    let wheel =
        wheel::open("demo-1.0-py3-none-any.whl", digest, &archive, wheel::Waivers::default()).unwrap();
    (wheel::install(&wheel, &archive, &scheme, Prune::default()).unwrap(), blobs)
}

/// A tree with its contents in memory and its parents in it, as a reader of the layer sees it.
fn resolved(tree: &Tree, blobs: &MemoryBlobs) -> BTreeMap<String, String> {
    use crate::blob::BlobSource;
    let bytes = |content: &Content| match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Slice { from, offset, size } => from.read_vec_at(*offset, *size as usize).unwrap(),
        Content::Stored { blob, offset, size, .. } => {
            blobs.open(blob).unwrap().read_vec_at(*offset, *size as usize).unwrap()
        }
        Content::Deflated { blob, offset, packed, .. } => {
            let packed = blobs.open(blob).unwrap().read_vec_at(*offset, *packed as usize).unwrap();
            let mut bytes = Vec::new();
            flate2::read::DeflateDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
            bytes
        }
    };
    tar::entries(tree)
        .unwrap()
        .iter()
        .map(|entry| {
            let what = match &entry.kind {
                tar::Kind::Dir => "dir".to_owned(),
                tar::Kind::File(content) => format!("{:o} {}", entry.mode, Digest::of(bytes(content))),
                tar::Kind::Symlink(target) => format!("-> {target}"),
                tar::Kind::Hardlink(target) => format!("= {target}"),
            };
            (entry.path.to_string(), what)
        })
        .collect()
}

#[test]
fn a_wheel_passes_through() {
    let (installed, blobs) = demo();
    let recipe = Recipe::build(&installed.tree, Epoch::default()).unwrap();
    let facts = measure(&recipe, &installed.tree, &installed.record, &blobs).unwrap();
    let layer = layer_of(&recipe, &blobs);
    assert_eq!((facts.digest, facts.size), (Digest::of(&layer), layer.len() as u64));
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(&*layer).read_to_end(&mut tar).unwrap();
    assert_eq!((facts.diff_id.0, facts.unpacked), (Digest::of(&tar), tar.len() as u64));
    // A decoder that stops after the first member sees next to nothing: readers must take the multi-member forms.
    let mut first = Vec::new();
    flate2::read::GzDecoder::new(&*layer).read_to_end(&mut first).unwrap();
    assert!(first.len() < tar.len() / 2);
    let read = read_layer(&layer, Epoch::default()).unwrap();
    assert_eq!(resolved(&read, &blobs), resolved(&installed.tree, &blobs));
    assert_eq!(recipe.blobs().len(), 1);
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<LayerFacts>(&text).unwrap(), facts);
}

/// A change here is a change of the layer format: think, then say so in the changelog and in `FORMAT`.
#[test]
fn bytes_are_frozen() {
    let (installed, blobs) = demo();
    let recipe = Recipe::build(&installed.tree, Epoch::default()).unwrap();
    let facts = measure(&recipe, &installed.tree, &installed.record, &blobs).unwrap();
    let encoded = encode(&odd_tree(), Epoch::default(), &mut Vec::new()).unwrap();
    let digests = [
        ("diff ID of the wheel's layer", facts.diff_id.0),
        ("wheel's layer", facts.digest),
        ("recipe", Digest::of(recipe.encode())),
        ("diff ID of the encoded layer", encoded.diff_id.0),
        ("encoded layer", encoded.digest),
    ];
    let shown: Vec<String> =
        digests.iter().map(|(name, digest)| format!("{} {name}", digest.hex())).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    d2600da44f638158e495047ae092b2109a2807185984dd13948bd1ad44cd288a diff ID of the wheel's layer
    0abf8e55b8b1db44b27e404e88e10c326a1ff8e2b124bbe5ef54db5d578310b4 wheel's layer
    2073fe5b9934106d98d9ee0adeaa68e19510c68bd64401b43265e20c11c4949b recipe
    53e9c1cf344d8aac193a81cd3bfa6b1b6cbd9d225d683ceb0b085983fd1e4594 diff ID of the encoded layer
    fad826acbf1e1ccb0a9e81e4c2322e2ab757586c78ac224b1b93b0fad4c9e73e encoded layer
    ");
    assert_eq!(FORMAT, "g1");
}

/// Names and contents at the limits of the tar form, and several members' worth of content.
fn odd_tree() -> Tree {
    let file = |bytes: Vec<u8>| Node::File { mode: 0o644, content: Content::bytes(bytes) };
    let large: Arc<dyn ReadAt> =
        Arc::new((0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect::<Vec<u8>>());
    let deep = format!("{0}/{0}/{0}/{0}", "directory".repeat(6));
    Tree::from([
        (path("bin/tool"), Node::File { mode: 0o755, content: Content::bytes(b"\x7fELF".as_slice()) }),
        (path("bin/hard"), Node::Hardlink { target: path("bin/tool") }),
        (path("bin/soft"), Node::Symlink { target: "tool".into() }),
        (path(&format!("links/{}", "l".repeat(120))), Node::Symlink { target: "t/".repeat(90) }),
        (path("blocks/511"), file(vec![1; 511])),
        (path("blocks/512"), file(vec![2; 512])),
        (path("blocks/513"), file(vec![3; 513])),
        (path("empty"), file(Vec::new())),
        (
            path("large"),
            Node::File { mode: 0o644, content: Content::Slice { from: large, offset: 7, size: 2_999_990 } },
        ),
        (path(&format!("{deep}/zażółć gęślą jaźń")), file(b"pax".to_vec())),
        (path("tmp"), Node::Dir { mode: 0o1777 }),
    ])
}

#[test]
fn encoding_does_not_depend_on_threads() {
    let tree = odd_tree();
    let encoded = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut layer = Vec::new();
        let facts = pool.install(|| encode(&tree, Epoch(1_700_000_000), &mut layer)).unwrap();
        assert_eq!(facts.digest, Digest::of(&layer));
        (layer, facts)
    };
    let (layer, facts) = encoded(1);
    assert_eq!(encoded(7), (layer.clone(), facts));
    let read = read_layer(&layer, Epoch(1_700_000_000)).unwrap();
    assert_eq!(resolved(&read, &MemoryBlobs::default()), resolved(&tree, &MemoryBlobs::default()));
}

#[test]
fn both_ways_make_one_tar() {
    let mut tree = odd_tree();
    tree.remove(&path("large"));
    let recipe = Recipe::build(&tree, Epoch::default()).unwrap();
    let passed = measure(&recipe, &tree, &BTreeMap::new(), &MemoryBlobs::default()).unwrap();
    let encoded = encode(&tree, Epoch::default(), &mut Vec::new()).unwrap();
    assert_eq!(
        (passed.diff_id, passed.unpacked, passed.entries),
        (encoded.diff_id, encoded.unpacked, encoded.entries)
    );
}

/// A tree of two files around one whose content claims are changed by `lie`.
fn lying(lie: impl FnOnce(&mut Vec<u8>, &mut u64, &mut u32)) -> Result<LayerFacts, LayerError> {
    let content = b"the content of the file ".repeat(40_000);
    let mut packed = miniz_oxide::deflate::compress_to_vec(&content, 6);
    let (mut size, mut crc32) = (content.len() as u64, crc32fast::hash(&content));
    lie(&mut packed, &mut size, &mut crc32);
    let len = packed.len() as u64;
    let mut blobs = MemoryBlobs::default();
    let blob = blobs.insert(packed);
    let deflated = Content::Deflated { blob, offset: 0, packed: len, size, crc32 };
    let tree = Tree::from([
        (path("a"), Node::File { mode: 0o644, content: Content::bytes(b"before".as_slice()) }),
        (path("lie"), Node::File { mode: 0o644, content: deflated }),
        (path("z"), Node::File { mode: 0o644, content: Content::bytes(b"after".as_slice()) }),
    ]);
    let record = BTreeMap::from([(path("lie"), Digest::of(&content))]);
    let recipe = Recipe::build(&tree, Epoch::default()).unwrap();
    measure(&recipe, &tree, &record, &blobs)
}

#[test]
fn a_directory_that_lies_is_caught() {
    assert!(lying(|_, _, _| ()).is_ok());
    let damaged = "the packed content of lie is damaged";
    let other = "lie has the SHA-256 sha256:";
    // A right trailer and a second member behind a stream that ends early: what a lax reader takes for more files.
    let smuggle = |packed: &mut Vec<u8>, _: &mut u64, _: &mut u32| {
        packed.extend([0; 8]);
        packed.extend(gzip::HEADER);
        packed.extend([3, 0]);
    };
    for (name, result, message) in [
        ("crc", lying(|_, _, crc| *crc ^= 1), damaged),
        ("longer", lying(|_, size, _| *size += 1), damaged),
        ("shorter", lying(|_, size, _| *size -= 1), other),
        ("a block shorter", lying(|_, size, _| *size -= 512), other),
        ("junk behind", lying(|packed, _, _| packed.extend(b"junk")), damaged),
        ("smuggled member", lying(smuggle), damaged),
        ("cut off", lying(|packed, _, _| packed.truncate(packed.len() - 3)), other),
        ("no deflate", lying(|packed, _, _| packed[0] = 0xff), damaged),
        (
            "other content",
            lying(|packed, size, crc| {
                let other = b"x".repeat(*size as usize);
                *packed = miniz_oxide::deflate::compress_to_vec(&other, 6);
                *crc = crc32fast::hash(&other);
            }),
            other,
        ),
    ] {
        let error = result.expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let tree =
        Tree::from([(path("a"), Node::File { mode: 0o644, content: Content::bytes(b"a".as_slice()) })]);
    let recipe = Recipe::build(&tree, Epoch::default()).unwrap();
    let blobs = MemoryBlobs::default();
    let record = BTreeMap::from([(path("b"), Digest::of(b""))]);
    let error = measure(&recipe, &tree, &record, &blobs).unwrap_err();
    assert_eq!(error.to_string(), "RECORD has a hash for b, which is no file of the layer");
    // Another tree than the recipe's.
    let other =
        Tree::from([(path("a"), Node::File { mode: 0o755, content: Content::bytes(b"a".as_slice()) })]);
    assert!(measure(&recipe, &other, &BTreeMap::new(), &blobs).is_err());
    let more = Tree::from([
        (path("a"), Node::File { mode: 0o644, content: Content::bytes(b"a".as_slice()) }),
        (path("b"), Node::Dir { mode: 0o755 }),
    ]);
    assert!(measure(&recipe, &more, &BTreeMap::new(), &blobs).is_err());
    assert!(matches!(Recipe::build(&Tree::new(), Epoch::default()), Err(LayerError::Empty)));
    let slice = Content::Slice { from: Arc::new(b"a".to_vec()), offset: 0, size: 1 };
    let sliced = Tree::from([(path("a"), Node::File { mode: 0o644, content: slice })]);
    assert_eq!(
        Recipe::build(&sliced, Epoch::default()).unwrap_err().to_string(),
        "content of a is in no blob"
    );
    let short = Content::Slice { from: Arc::new(b"a".to_vec()), offset: 0, size: 2 };
    let cut = Tree::from([(path("a"), Node::File { mode: 0o644, content: short })]);
    let error = encode(&cut, Epoch::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the content of a");
    let (installed, _) = demo();
    let recipe = Recipe::build(&installed.tree, Epoch::default()).unwrap();
    assert!(matches!(recipe.write_to(&blobs, &mut Vec::new()), Err(LayerError::ReadBlob(_))));
}

#[test]
fn recipes_survive_their_binary_form_and_nothing_else_does() {
    let (installed, _) = demo();
    let recipe = Recipe::build(&installed.tree, Epoch::default()).unwrap();
    let bytes = recipe.encode();
    assert_eq!(Recipe::decode(&bytes).unwrap(), recipe);
    for len in 0..bytes.len() {
        assert!(Recipe::decode(&bytes[..len]).is_err(), "{len}");
    }
    assert!(Recipe::decode(&[bytes.as_slice(), b"x"].concat()).is_err());
    let newer = String::from_utf8_lossy(&bytes[..17]).replace('1', "2").into_bytes();
    assert!(
        Recipe::decode(&[&newer, &bytes[17..]].concat()).unwrap_err().to_string().contains("its first line")
    );
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]{1,2}", 1 => "[ -.0-~]{1,100}", 1 => "\\PC{1,20}"]
        .prop_filter("a usable name", |name| TreePath::new(name).is_ok() && !name.contains('/'))
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let node = prop_oneof![
        6 => (any::<bool>(), prop_oneof![Just(0), 0..2000_usize, Just(512)], any::<u8>()).prop_map(|(x, len, byte)| {
            let bytes: Vec<u8> = (0..len).map(|n| byte.wrapping_mul(n as u8)).collect();
            Node::File { mode: if x { 0o755 } else { 0o644 }, content: Content::bytes(bytes) }
        }),
        1 => Just(Node::Dir { mode: 0o750 }),
        1 => "[a-z/.]{1,150}".prop_map(|target| Node::Symlink { target }),
    ];
    let place = proptest::collection::vec(any_name(), 1..5).prop_map(|parts| parts.join("/"));
    proptest::collection::vec((place, node), 1..20).prop_map(|nodes| {
        let mut tree = Tree::new();
        for (place, node) in nodes {
            let Ok(place) = TreePath::new(&place) else { continue };
            let blocked =
                place.parents().any(|parent| !matches!(tree.get(&parent), None | Some(Node::Dir { .. })));
            let blocks = tree.keys().any(|known| known.as_str().starts_with(&format!("{place}/")));
            if !blocked && (!blocks || matches!(node, Node::Dir { .. })) {
                tree.insert(place, node);
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_tree_survives_its_layer(tree in any_tree()) {
        prop_assume!(!tree.is_empty());
        let blobs = MemoryBlobs::default();
        let recipe = Recipe::build(&tree, Epoch::default()).unwrap();
        let facts = measure(&recipe, &tree, &BTreeMap::new(), &blobs).unwrap();
        let read = read_layer(&layer_of(&recipe, &blobs), Epoch::default()).unwrap();
        prop_assert_eq!(resolved(&read, &blobs), resolved(&tree, &blobs));
        let mut layer = Vec::new();
        prop_assert_eq!(encode(&tree, Epoch::default(), &mut layer).unwrap().diff_id, facts.diff_id);
        prop_assert_eq!(Recipe::decode(&recipe.encode()).unwrap(), recipe);
    }

    #[test]
    fn decoding_takes_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Recipe::decode(&[b"mlbuild recipe 1\n".as_slice(), &bytes].concat());
    }
}
