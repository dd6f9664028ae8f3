//! Trees in the store: made once, by anybody, found by all, listed, pruned and verified.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlbuild::digest::Digest;
use mlbuild::engine::{Cancel, Event, LayeredImage, Phase, Reporter};
use mlbuild::store::Store;

use super::process;
use super::{PLATFORM, engine, in_layout, named, of_store, quiet};
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

const NAME: &str = "registry.example/tiny";

/// A small image of all kinds of layers: Debian's, wheels of different sizes, files.
pub fn built() -> Tiny {
    let noise: Vec<u8> = (0..6_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let tiny = Tiny::new()
        .wheel("large", "1.0", &[file("large/data", &noise), file("large/__init__.py", "")])
        .wheel("alpha", "1.0", &[file("alpha/__init__.py", "a = 1\n"), file("alpha/data", "a".repeat(5000))])
        .wheel("beta", "2.0", &[file("beta/__init__.py", "b = 1\n")])
        .spec("[[copy]]\nfrom = \"app/\"\nto = \"/app/\"\n");
    tiny.project.write("app/main.py", "import alpha\n");
    let tiny = tiny.locked();
    let _ = tiny.mlbuild(&["build"]).ok();
    tiny
}

fn trees_in(home: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(home.join("trees"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The file in the tree that has it.
fn find(trees: &[PathBuf], path: &str) -> PathBuf {
    let found = trees.iter().map(|tree| tree.join(path)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no tree has {path}"))
}

#[test]
fn an_image_of_the_store_and_its_export_have_the_same_trees() {
    let tiny = built();
    let home = tiny.project.store();
    let trees = of_store(&home, NAME);
    let text = |path: &str| fs::read_to_string(find(&trees.layers, path)).unwrap();
    let site = "usr/local/lib/python3.11/dist-packages";
    assert_eq!(text(&format!("{site}/alpha/data")), "a".repeat(5000));
    assert_eq!(text("app/main.py"), "import alpha\n");
    assert_eq!(trees.owners, []);
    assert_eq!(of_store(&home, NAME), trees);

    let layout = tempfile::tempdir().unwrap();
    let _ = tiny.mlbuild(&["build", "-o", &format!("oci:{}", layout.path().display())]).ok();
    let image = in_layout(layout.path());
    let fresh = tempfile::tempdir().unwrap();
    let other = quiet(fresh.path());
    assert_eq!(other.trees(&image).unwrap().layers.len(), trees.layers.len());
    let ours = Store::open(&home).unwrap();
    for diff_id in image.diff_ids() {
        let (a, b) = (ours.tree(&diff_id.0).unwrap(), other.store().tree(&diff_id.0).unwrap());
        assert!(a.is_some() && a == b, "{a:?} from the recipe, {b:?} from the layer");
    }
    // The store of the recipes knows the layers of the export, too.
    assert_eq!(quiet(&home).trees(&image).unwrap(), trees);
    assert_eq!(named(&ours, NAME).diff_ids(), image.diff_ids());
    assert!(LayeredImage::in_store(&ours, Digest::of("none"), PLATFORM).is_err());
}

struct CancelAt(Cancel, std::sync::atomic::AtomicU64, u64);

impl Reporter for CancelAt {
    fn event(&self, event: Event) {
        if let Event::Unpacked { .. } = event
            && self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == self.2
        {
            self.0.cancel();
        }
    }
}

#[test]
fn a_cancelled_unpacking_leaves_whole_trees_only() {
    let tiny = built();
    let home = tiny.project.store();
    for at in [0, 3, 10, 20] {
        let cancel = Cancel::default();
        let reporter = Arc::new(CancelAt(cancel.clone(), Default::default(), at));
        let engine = engine(&home, reporter, &cancel);
        let image = named(engine.store(), NAME);
        let error = engine.trees(&image).unwrap_err();
        assert_eq!(error.to_string(), "cancelled");
        assert!(trees_in(&home).iter().all(|name| name.len() == 64), "{:?}", trees_in(&home));
        let _ = tiny.mlbuild(&["cache", "verify"]).ok();
    }
    of_store(&home, NAME);
}

#[test]
fn what_happens_is_told() {
    #[derive(Default)]
    struct Told(std::sync::Mutex<(Vec<Phase>, u64, u64)>);
    impl Reporter for Told {
        fn event(&self, event: Event) {
            let mut told = self.0.lock().unwrap();
            match event {
                Event::Phase(phase) => told.0.push(phase),
                Event::Unpacks { bytes, .. } => told.1 = bytes,
                Event::Unpacked { bytes } => told.2 += bytes,
                _ => {}
            }
        }
    }
    let tiny = built();
    let told = Arc::new(Told::default());
    let engine = engine(&tiny.project.store(), told.clone(), &Cancel::default());
    let image = named(engine.store(), NAME);
    engine.trees(&image).unwrap();
    let (phases, all, done) = std::mem::take(&mut *told.0.lock().unwrap());
    assert_eq!(phases, [Phase::Unpack]);
    assert!(done > 6_000_000 && done <= all && all < done + 100_000, "{done} of {all}");
    engine.trees(&image).unwrap();
    assert_eq!(told.0.lock().unwrap().0, [], "nothing was to be done");
}

#[test]
fn two_processes_unpack_an_image_once() {
    let tiny = built();
    let home = tiny.project.store();
    let run = || process::unpack(&home, NAME).command().stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut processes: Vec<_> = (0..4).map(|_| run()).collect();
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
    }
    assert!(trees_in(&home).iter().all(|name| name.len() == 64));
    let _ = tiny.mlbuild(&["cache", "verify"]).ok();
}

#[test]
fn trees_are_listed_verified_and_pruned() {
    let tiny = built();
    let home = tiny.project.store();
    let trees = of_store(&home, NAME);
    let kinds = || tiny.mlbuild(&["cache", "du", "--json"]).ok().json();
    let (files, bytes) =
        (kinds()["unpacked layers"]["files"].as_u64().unwrap(), &kinds()["unpacked layers"]["bytes"]);
    assert!(files > 20 && bytes.as_u64().unwrap() > 6_000_000, "{}", kinds());
    let _ = tiny.mlbuild(&["cache", "verify"]).ok();
    let _ = tiny.mlbuild(&["cache", "prune"]).ok();
    assert_eq!(trees_in(&home).len(), trees.layers.len(), "an image needs them");

    let main = find(&trees.layers, "app/main.py");
    fs::set_permissions(&main, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&main, "import alphA\n").unwrap();
    let verified = tiny.mlbuild(&["cache", "verify"]).run().expect(4).stdout();
    assert!(verified.contains("its files are not those of its layer"), "{verified}");
    let _ = tiny.mlbuild(&["cache", "verify", "--repair"]).ok();
    assert_eq!(trees_in(&home).len(), trees.layers.len() - 1);
    assert_eq!(of_store(&home, NAME), trees);
    assert_eq!(fs::read_to_string(&main).unwrap(), "import alpha\n");

    // Of an image that is in no store, and what a killed process has left.
    let other = tempfile::tempdir().unwrap();
    super::layout::write(other.path(), &[vec![crate::support::debs::file("foreign", "x")]]);
    quiet(&home).trees(&in_layout(other.path())).unwrap();
    fs::create_dir_all(home.join("trees").join("0".repeat(64) + ".part").join("root").join("left")).unwrap();
    assert_eq!(trees_in(&home).len(), trees.layers.len() + 2);
    let _ = tiny.mlbuild(&["cache", "prune"]).ok();
    assert_eq!(trees_in(&home).len(), trees.layers.len());
    let _ = tiny.mlbuild(&["cache", "prune", "--all"]).ok();
    assert_eq!(trees_in(&home), [""; 0]);
    assert_eq!(kinds().get("unpacked layers"), None);
}

#[test]
fn damaged_sources_are_found_and_no_tree_is_made_of_them() {
    let tiny = built();
    let home = tiny.project.store();
    // A wheel whose bytes are others, though its CRC-32s may fit.
    let large = fs::read_dir(home.join("blobs/sha256"))
        .unwrap()
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&large).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::set_permissions(&large, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&large, bytes).unwrap();
    let engine = quiet(&home);
    let image = named(engine.store(), NAME);
    let error = engine.trees(&image).unwrap_err();
    assert_eq!(error.kind(), mlbuild::engine::ErrorKind::Integrity, "{error:?}");
    assert!(trees_in(&home).iter().all(|name| name.len() == 64));
    assert!(trees_in(&home).len() < image.diff_ids().len());
    // The next build fetches it again.
    drop(engine);
    let _ =
        tiny.mlbuild(&["build", "-o", &format!("oci:{}", tiny.project.home().join("out").display())]).ok();
    of_store(&home, NAME);
}
