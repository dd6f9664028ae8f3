//! One wrong byte in the store or in a layout: what is built from it is right, or the damage is told. It never reaches an
//! image.
//!
//! No digest covers a layout's `index.json`. A wrong byte in what leads to an image there is found as the image is not; one
//! in a name, as mlbuild has written beside each name what it is of (`export::entry`, whose tests have every bit that
//! there is). What is not noticed: a wrong byte in a field that says nothing of an image of ours, which other tools may
//! have put there (a key that nobody knows), and any in names that others gave.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Place, Random, Small, blobs, each, times};

/// Files with their content, by their path below a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read(directory: &Path) -> Files {
    let files = blobs(directory).into_iter().filter(|path| path.metadata().unwrap().len() > 0);
    files.map(|path| (path.strip_prefix(directory).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

fn write(directory: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A file, an offset and what its byte is changed by. Half of them by the size of files, half by their number.
fn flips(files: &Files, count: usize, seed: u64) -> Vec<(PathBuf, usize, u8)> {
    let mut random = Random::new(seed);
    let all: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    let mut flips = Vec::new();
    for turn in 0..count {
        let (name, bytes) = if turn % 2 == 0 {
            let mut at = random.below(all);
            files.iter().find(|(_, bytes)| {
                let here = at < bytes.len() as u64;
                at = at.saturating_sub(bytes.len() as u64);
                here
            })
        } else {
            files.iter().nth(random.below(files.len() as u64) as usize)
        }
        .unwrap();
        let flip = 1 + random.below(255) as u8;
        flips.push((name.clone(), random.below(bytes.len() as u64) as usize, flip));
    }
    flips
}

fn flip(directory: &Path, (name, at, by): &(PathBuf, usize, u8)) {
    let path = directory.join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[*at] ^= by;
    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o644));
    fs::write(&path, bytes).unwrap();
}

/// What `inspect` says is about the image, or it says that something is wrong.
#[track_caller]
fn check_inspected(place: &Place<'_>, image: &str, what: &str) {
    check_is(place, image, &place.small.digest, what);
}

#[track_caller]
fn check_is(place: &Place<'_>, image: &str, digest: &str, what: &str) {
    let inspected = place.small.mlbuild(&place.store(), &["inspect", "--json", image]).run();
    match inspected.status() {
        0 => assert!(inspected.stdout().contains(digest), "{what}: {}", inspected.stdout()),
        _ => assert!(inspected.stderr().starts_with("error: "), "{what}: {}", inspected.stderr()),
    }
}

#[test]
fn in_the_store() {
    let small = Small::new();
    let original = small.place();
    let _ = original.build().ok();
    let files = read(&original.store());
    assert!(files.len() > 20, "{:?}", files.keys());
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let flips: Vec<_> = flips(&files, times(1000), 5).into_iter().enumerate().collect();
    each(&flips, |(turn, place_of_flip)| {
        let what = format!("{place_of_flip:?}");
        let place = small.place();
        write(&place.store(), &files);
        flip(&place.store(), place_of_flip);
        if turn % 2 == 0 {
            check_inspected(&place, "registry.example/tiny", &what);
        }
        let built = place.build().run();
        if built.status() == 0 {
            assert_eq!(built.digest(), small.digest, "{what}");
            place.check_layout(&what);
        } else {
            // Only a store whose version nobody understands cannot mend itself.
            let said = built.stderr();
            assert!(said.contains("has layout") && what.contains("version"), "{what}: {said}");
            refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(refused.into_inner() < times(100));
}

/// A file that is gone, empty or cut, as a power cut leaves one that was not synchronised.
#[test]
fn a_torn_file() {
    let small = Small::new();
    let original = small.place();
    let _ = original.build().ok();
    let files = read(&original.store());
    // The version is synchronised before it has its name.
    let torn = files.iter().filter(|(name, _)| name.as_os_str() != "version");
    let items: Vec<_> = torn
        .flat_map(|(name, bytes)| [None, Some(0), Some(bytes.len() / 2)].map(|len| (name, bytes, len)))
        .collect();
    each(&items, |(name, bytes, len)| {
        let place = small.place();
        write(&place.store(), &files);
        let path = place.store().join(name);
        match len {
            None => fs::remove_file(&path).unwrap(),
            Some(len) => fs::write(&path, &bytes[..*len]).unwrap(),
        }
        place.check(&format!("{name:?} cut to {len:?} bytes"));
    });
}

#[test]
fn in_a_layout() {
    let small = Small::new();
    let original = small.place();
    let _ = original.build().ok();
    let (store, files) = (read(&original.store()), read(&original.layout()));
    each(&flips(&files, times(1000), 6), |place_of_flip| {
        let what = format!("{place_of_flip:?}");
        let place = small.place();
        write(&place.store(), &store);
        write(&place.layout(), &files);
        flip(&place.layout(), place_of_flip);
        let layout = format!("oci:{}:latest", place.layout().display());
        check_inspected(&place, &layout, &what);
        let built = place.build().run();
        if built.status() == 0 {
            assert_eq!(built.digest(), small.digest, "{what}");
            place.check_layout(&what);
        } else {
            // What else is in an index that cannot be read is not ours to throw away.
            assert!(built.stderr().contains("is not an OCI image layout"), "{what}: {}", built.stderr());
            assert!(what.contains("index.json"), "{what}");
        }
    });
}

/// A layout of two images, each of which could be taken for the other by its name.
#[test]
fn in_the_index_of_a_layout() {
    let small = Small::new();
    let original = small.place();
    let output = format!("oci:{}", original.layout().display());
    small.tiny.project.write("app/main.py", "import beta\n");
    let arguments = ["build", "-t", "registry.example/tiny:newest", "-o", &output];
    let other = small.mlbuild(&original.store(), &arguments).ok().digest();
    small.tiny.project.write("app/main.py", "import alpha\n");
    assert_eq!(original.build().ok().digest(), small.digest);
    assert_ne!(other, small.digest);
    let (store, layout) = (read(&original.store()), read(&original.layout()));
    let index: Files = layout
        .iter()
        .filter(|(name, _)| name.ends_with("index.json"))
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    let meant = named(&index[Path::new("index.json")]);
    assert_eq!(meant.len(), 4, "{meant:?}");
    each(&flips(&index, times(200), 7), |place_of_flip| {
        let what = format!("{place_of_flip:?}");
        let place = small.place();
        write(&place.store(), &store);
        write(&place.layout(), &layout);
        flip(&place.layout(), place_of_flip);
        let check = |what: &str| {
            for (tag, digest) in [("latest", &small.digest), ("newest", &other)] {
                check_is(&place, &format!("oci:{}:{tag}", place.layout().display()), digest, what);
            }
        };
        check(&what);
        let built = place.build().run();
        let said = built.stderr();
        if built.status() != 0 {
            assert!(said.contains("is not an OCI image layout"), "{what}: {said}");
            return;
        }
        check(&format!("{what}, after a build"));
        let after = named(&fs::read(place.layout().join("index.json")).unwrap());
        assert!(after.contains(&("latest".to_owned(), small.digest.clone())), "{what}: {after:?}");
        let wrong = after.iter().find(|name| !meant.contains(name));
        assert!(wrong.is_none() || said.contains("warning: "), "{what}: {wrong:?} without a word: {said}");
    });
}

/// The names in an index with their images.
fn named(index: &[u8]) -> Vec<(String, String)> {
    let index: serde_json::Value = serde_json::from_slice(index).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let names = entries.flat_map(|entry| {
        let digest = entry["digest"].as_str().unwrap_or_default();
        ["org.opencontainers.image.ref.name", "io.containerd.image.name"]
            .map(|key| Some((entry["annotations"][key].as_str()?.to_owned(), digest.to_owned())))
    });
    names.flatten().collect()
}
