//! A recipe of ours gives the tree that its tar gives.

use proptest::prelude::*;

use super::*;

/// Unpacks the layer of a tree from its recipe, all jobs at once.
fn pass_through(recipe: &Recipe, blobs: &MemoryBlobs, place: &Place) -> Result<Summary, UnpackError> {
    let passthrough = Passthrough::begin(recipe, place.open(), ALWAYS)?;
    let jobs = passthrough.jobs();
    std::thread::scope(|threads| {
        let running: Vec<_> =
            jobs.iter().map(|job| threads.spawn(|| passthrough.run(job, blobs, ALWAYS))).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    passthrough.finish(ALWAYS)
}

/// Names, modes, times, content and links of a tree.
fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let all = names(&directory)
            .into_iter()
            .map(|name| directory.join(name))
            .chain((directory == root).then(|| root.to_owned()));
        for path in all {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            let content = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_file() {
                Digest::of(fs::read(&path).unwrap()).to_string()
            } else {
                if path != root {
                    open.push(path.clone());
                }
                String::new()
            };
            let first = match metadata.is_file() {
                true => inodes.entry(metadata.ino()).or_insert_with(|| shown.clone()).clone(),
                false => String::new(),
            };
            let time = (metadata.mtime(), metadata.mtime_nsec());
            found.insert(shown, format!("{:o} {time:?} {first} {content}", metadata.mode()));
        }
    }
    found
}

fn content(kind: u8, len: usize, fill: u8, blobs: &mut MemoryBlobs) -> Content {
    let bytes: Vec<u8> = (0..len).map(|at| fill.wrapping_add((at / 7) as u8)).collect();
    let (size, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
    match kind {
        0 => Content::bytes(bytes),
        1 => Content::Stored { blob: blobs.insert([b"zip", &bytes[..]].concat()), offset: 3, size, crc32 },
        _ => {
            let stream = miniz_oxide::deflate::compress_to_vec(&bytes, 1);
            let packed = stream.len() as u64;
            Content::Deflated {
                blob: blobs.insert([&stream[..], b"tail"].concat()),
                offset: 0,
                packed,
                size,
                crc32,
            }
        }
    }
}

fn same_both_ways(tree: &Tree, blobs: &MemoryBlobs, epoch: Epoch) {
    let recipe = Recipe::build(tree, epoch).unwrap();
    let mut layer = Vec::new();
    recipe.write_to(blobs, &mut layer).unwrap();
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&layer[..]), &mut bytes).unwrap();
    let (ours, theirs) = (Place::new(), Place::new());
    let from_recipe = pass_through(&recipe, blobs, &ours).unwrap();
    let packed = Packed {
        digest: Digest::of(&layer),
        size: layer.len() as u64,
        diff_id: DiffId(Digest::of(&bytes)),
        blob: Box::new(&layer[..]),
        codec: Codec::Gzip,
    };
    let from_tar = unpack(packed, theirs.open(), &Nothing, Limits::default(), ALWAYS).unwrap();
    assert_eq!(from_recipe, from_tar);
    assert_eq!(everything(&ours.root()), everything(&theirs.root()));
    assert_eq!(survey(&ours.root(), ALWAYS).unwrap().content, from_tar.content);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_recipe_and_its_tar_give_one_tree(
        files in prop::collection::btree_map("[abc](/[abc]){0,3}/[xyzü]{1,3}", (0..5_u8, prop_oneof![0..40_usize, 65_530..65_540_usize], any::<u8>()), 1..24),
        modes in prop::collection::vec(prop::sample::select(vec![0o644, 0o755, 0o400, 0o4755]), 24),
        directories in prop::collection::btree_map("[abc](/[abc]){0,2}", prop::sample::select(vec![0o755, 0o700, 0o555, 0o1777]), 0..4),
    ) {
        let mut blobs = MemoryBlobs::default();
        let mut tree = Tree::new();
        let path = |text: &str| TreePath::new(text).unwrap();
        let mut linkable: Option<String> = None;
        for ((name, (kind, len, fill)), mode) in files.iter().zip(modes) {
            let node = match (kind, &linkable) {
                (3, _) => Node::Symlink { target: format!("../{fill}") },
                (4, Some(target)) => Node::Hardlink { target: path(target) },
                _ => {
                    linkable = Some(name.clone());
                    Node::File { mode, content: content(*kind, *len, *fill, &mut blobs) }
                }
            };
            tree.insert(path(name), node);
        }
        for (name, mode) in directories {
            tree.insert(path(&name), Node::Dir { mode });
        }
        same_both_ways(&tree, &blobs, Epoch(1_700_000_000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Whatever a tar says, nothing outside of the tree changes, and the tree is what the summary says.
    #[test]
    fn no_tar_leaves_the_tree(
        entries in prop::collection::vec(
            (
                "(/|\\./)?(a|b|c|\\.wh\\.a|\\.wh\\.b|outside|\\.wh\\.\\.wh\\.\\.opq)(/(a|b|\\.\\.|\\.wh\\.b|file)){0,2}",
                prop::sample::select(vec![b'0', b'1', b'2', b'2', b'3', b'5', b'5', b'6']),
                prop::sample::select(vec!["a", "b", "b/a", "../outside", "/outside", "../../..", ".", "a/b", "outside/file"]),
                prop::sample::select(vec![0o644, 0o755, 0o000, 0o7777]),
            ),
            1..20,
        ),
        stacked in any::<bool>(),
    ) {
        let below = Place::new();
        unpack_as(Codec::None, &tar(&[dir("x"), link("a", "x"), file("b"), entry("c", b'5', 0o700, "", b"")]), &below, &Nothing).unwrap();
        let stack = Stack(vec![below.root()]);
        let bytes = tar(&entries.iter().map(|(name, kind, target, mode)| match kind {
            b'0' => entry(name, *kind, *mode, "", name.as_bytes()),
            b'1' | b'2' => entry(name, *kind, *mode, target, b""),
            _ => entry(name, *kind, *mode, "", b""),
        }).collect::<Vec<_>>());
        let place = Place::new();
        let unpacked = unpack_as(Codec::None, &bytes, &place, if stacked { &stack } else { &Nothing });
        place.is_untouched();
        if let Ok(summary) = unpacked {
            match survey(&place.root(), ALWAYS) {
                Ok(found) => {
                    let Summary { content, entries, bytes, .. } = summary;
                    prop_assert_eq!((found.content, found.entries, found.bytes), (content, entries, bytes));
                }
                Err(error) => prop_assert!(error.kind() == io::ErrorKind::PermissionDenied && !is_root(), "{}", error),
            }
        }
        remove_tree(&place.root()).unwrap();
    }
}

#[test]
fn large_files_and_long_names_are_the_same_both_ways() {
    let mut blobs = MemoryBlobs::default();
    let path = |text: &str| TreePath::new(text).unwrap();
    let mut tree = Tree::new();
    for (at, kind) in [1, 2, 2, 0].into_iter().enumerate() {
        let content = content(kind, 5_000_000 + at, at as u8, &mut blobs);
        tree.insert(path(&format!("large/{at}")), Node::File { mode: 0o644, content });
    }
    for at in 0..1200_usize {
        let content = content((at % 3) as u8, at % 5, at as u8, &mut blobs);
        let name = format!("many/{}/{}/{at}", "n".repeat(120), "ü".repeat(60));
        tree.insert(path(&name), Node::File { mode: 0o755, content });
    }
    same_both_ways(&tree, &blobs, Epoch::default());
}

#[test]
fn damaged_sources_make_no_file_pass() {
    let mut blobs = MemoryBlobs::default();
    let bytes = b"the content of a file, the content of a file".repeat(9);
    let (size, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
    let stream = miniz_oxide::deflate::compress_to_vec(&bytes, 6);
    let packed = stream.len() as u64;
    let blob = blobs.insert(stream.clone());
    let deflated = |packed, size, crc32| Content::Deflated { blob, offset: 0, packed, size, crc32 };
    let try_it = |content: Content| {
        let tree = Tree::from([(TreePath::new("f").unwrap(), Node::File { mode: 0o644, content })]);
        let place = Place::new();
        pass_through(&Recipe::build(&tree, Epoch(0)).unwrap(), &blobs, &place)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(try_it(deflated(packed, size, crc32)), Ok(()));
    for (content, said) in [
        (deflated(packed, size, crc32 ^ 1), "its CRC-32 or its length differs"),
        (deflated(packed, size + 1, crc32), "its CRC-32 or its length differs"),
        (deflated(packed, size - 1, crc32), "it is longer than its header says"),
        (deflated(packed - 1, size, crc32), "does not end"),
        (Content::Stored { blob, offset: 0, size: packed, crc32 }, "its CRC-32 or its length differs"),
        (Content::Stored { blob, offset: 1, size: packed, crc32 }, "cannot read the layer"),
    ] {
        let error = try_it(content).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
}
