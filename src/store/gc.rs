//! What the store holds, and what of it nothing needs any more.
//!
//! Kept is what images reach: their manifests and configs, their layers' records, and the blobs these layers are made
//! of. Everything else may go once it is old enough, since it can be downloaded or made again; images themselves go
//! only where the caller asks for it, at any age. Deciding is a pure
//! function over a listing; removing holds the store's exclusive lock, so that no build loses what it has just fetched,
//! and goes from what refers to what is referred to, so that a kill in between leaves nothing dangling.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;

use super::{ImageRecord, LayerFacts, Store, StoreError, layout, trees, write};

/// Memos have no owner; without an age given, and while there are images, they go after this time without use.
const MEMO_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a file of the store is. The order is the order of removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Image,
    LayerDigest,
    Layer,
    Tree,
    Memo,
    Blob,
    Partial,
    Temporary,
    Corrupt,
    Index,
}

impl Kind {
    /// In the plural, for a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::LayerDigest => "layer digests",
            Self::Layer => "layer recipes",
            Self::Tree => "unpacked layers",
            Self::Memo => "memos",
            Self::Blob => "blobs",
            Self::Partial => "partial downloads",
            Self::Temporary => "temporary files",
            Self::Corrupt => "damaged blobs",
            Self::Index => "index cache",
        }
    }
}

/// One file, or an unpacked layer with all its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    pub path: PathBuf,
    pub files: u64,
    pub bytes: u64,
    /// When it was written or, for a blob, last used (to the day).
    pub used: SystemTime,
}

/// From where on things are kept: by default the images of the store, and the resolver's cache.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    pub blobs: BTreeSet<Digest>,
    /// Layers by digest.
    pub layers: BTreeSet<Digest>,
    /// Remove every image, so that none keeps anything.
    pub drop_images: bool,
    /// Remove the resolver's cache too.
    pub drop_index: bool,
}

/// What can go. Nothing is removed by making it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// In the order of removal.
    pub remove: Vec<Item>,
    pub kept: Usage,
}

impl GcPlan {
    /// Bytes that removing gives back.
    pub fn freed(&self) -> u64 {
        self.remove.iter().map(|item| item.bytes).sum()
    }

    /// Files that removing removes.
    pub fn files(&self) -> u64 {
        self.remove.iter().map(|item| item.files).sum()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub files: u64,
    pub bytes: u64,
}

impl Usage {
    fn add(&mut self, item: &Item) {
        self.files += item.files;
        self.bytes += item.bytes;
    }
}

/// Everything the decision rests on.
struct Listing {
    items: Vec<Item>,
    images: Vec<ImageRecord>,
    /// By key.
    layers: BTreeMap<Digest, LayerFacts>,
}

/// How much there is of each kind.
pub fn du(store: &Store) -> Result<BTreeMap<Kind, Usage>, StoreError> {
    let mut usage = BTreeMap::<Kind, Usage>::new();
    for item in list(store)? {
        usage.entry(item.kind).or_default().add(&item);
    }
    Ok(usage)
}

/// What [`prune`] would remove now: what nothing reaches and, with an age given, has not been used for that long. An
/// image has no age.
pub fn plan(
    store: &Store,
    keep: &Roots,
    now: SystemTime,
    older_than: Option<Duration>,
) -> Result<GcPlan, StoreError> {
    let items = list(store)?;
    let mut layers = BTreeMap::new();
    for item in items.iter().filter(|item| item.kind == Kind::Layer) {
        if let Some(key) = digest_of(&item.path)
            && let Some(facts) = store.layer_facts(&key)?
        {
            layers.insert(key, facts);
        }
    }
    // A record that cannot be read must not keep one from dropping it.
    let images = if keep.drop_images { Vec::new() } else { store.images()? };
    let listing = Listing { items, images, layers };
    Ok(decide(listing, keep, now, older_than))
}

/// Removes what nothing needs. The store is locked for it; `waiting` is called once if others are using it.
pub fn prune(
    store: &Store,
    keep: &Roots,
    now: SystemTime,
    older_than: Option<Duration>,
    waiting: &mut dyn FnMut(),
) -> Result<GcPlan, StoreError> {
    alone(store, waiting, || {
        // The plan is made under the lock: what a build put a moment before is in it.
        let plan = plan(store, keep, now, older_than)?;
        apply(&plan)?;
        Ok(plan)
    })
}

/// Does it while nobody else has the store; `waiting` is called once if others are using it.
pub(super) fn alone<T>(
    store: &Store,
    waiting: &mut dyn FnMut(),
    run: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let lock = &store.0.lock;
    let failed = |source| StoreError::Lock { path: store.root().join(layout::LOCK), source };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waiting();
            lock.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let done = run();
    lock.lock_shared().map_err(failed)?;
    done
}

fn apply(plan: &GcPlan) -> Result<(), StoreError> {
    for item in &plan.remove {
        if item.path.is_dir() {
            trees::remove(&item.path)?;
        } else {
            write::remove(item.path.clone())?;
        }
    }
    Ok(())
}

fn decide(listing: Listing, keep: &Roots, now: SystemTime, older_than: Option<Duration>) -> GcPlan {
    let mut layers = keep.layers.clone();
    let mut blobs = keep.blobs.clone();
    for image in &listing.images {
        blobs.insert(image.digest);
        blobs.extend(&image.blobs);
        layers.extend(&image.layers);
    }
    // A layer without a record is a blob of that digest: a base's, passed on.
    blobs.extend(&layers);
    let (mut keys, mut diff_ids) = (BTreeSet::new(), BTreeSet::new());
    for (key, facts) in &listing.layers {
        if layers.contains(&facts.digest) {
            keys.insert(*key);
            diff_ids.insert(facts.diff_id.0);
            blobs.extend(&facts.sources);
        }
    }
    let reached = |item: &Item| {
        let in_set =
            |set: &BTreeSet<Digest>| digest_of(&item.path).is_some_and(|digest| set.contains(&digest));
        match item.kind {
            Kind::Image => !keep.drop_images,
            Kind::LayerDigest => in_set(&layers),
            Kind::Layer => in_set(&keys),
            Kind::Tree => in_set(&diff_ids),
            Kind::Blob => in_set(&blobs),
            Kind::Index => !keep.drop_index,
            Kind::Memo | Kind::Partial | Kind::Temporary | Kind::Corrupt => false,
        }
    };
    let recent = |item: &Item| {
        let least = match item.kind {
            Kind::Memo if !keep.drop_images => older_than.or(Some(MEMO_AGE)),
            Kind::Image => None,
            _ => older_than,
        };
        // A time in the future counts as now.
        least.is_some_and(|least| now.duration_since(item.used).unwrap_or_default() < least)
    };
    let mut plan = GcPlan::default();
    for item in listing.items {
        if reached(&item) || recent(&item) {
            plan.kept.add(&item);
        } else {
            plan.remove.push(item);
        }
    }
    plan.remove.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    plan
}

/// The digest or key that is the file's name.
fn digest_of(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?).ok()
}

/// Every file of the store but its version, tag and lock.
pub(super) fn list(store: &Store) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    for (directory, kind) in [
        (layout::BLOBS, Kind::Blob),
        (layout::LAYERS, Kind::Layer),
        (layout::LAYER_DIGESTS, Kind::LayerDigest),
        (layout::IMAGES, Kind::Image),
        (layout::MEMO, Kind::Memo),
        (layout::PARTIAL, Kind::Partial),
        (layout::TMP, Kind::Temporary),
        (layout::CORRUPT, Kind::Corrupt),
        (layout::INDEX, Kind::Index),
    ] {
        walk(store.root().join(directory), kind, &mut items)?;
    }
    list_trees(store, &mut items)?;
    items.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    Ok(items)
}

/// Each tree is one item, with the size that its record says; what is not yet one counts with all that it holds.
fn list_trees(store: &Store, items: &mut Vec<Item>) -> Result<(), StoreError> {
    let directory = store.root().join(layout::TREES);
    let failed = |source| StoreError::Read { path: directory.clone(), source };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let used = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let record = if trees::is_part(&path) { None } else { trees::record_in(&path)? };
        let kind = if trees::is_part(&path) { Kind::Temporary } else { Kind::Tree };
        let (files, bytes) = match record {
            Some(record) => (record.entries, record.bytes),
            None => {
                let mut inside = Vec::new();
                // Directories that are closed to their owner are counted when they are removed.
                let _ = walk(path.clone(), kind, &mut inside);
                (inside.len() as u64, inside.iter().map(|item| item.bytes).sum())
            }
        };
        let used =
            used(&trees::record_path(&path)).or_else(|_| used(&path)).unwrap_or(SystemTime::UNIX_EPOCH);
        items.push(Item { kind, path, files, bytes, used });
    }
    Ok(())
}

/// Files below `top`; what vanishes meanwhile is left out, links are not followed.
fn walk(top: PathBuf, kind: Kind, items: &mut Vec<Item>) -> Result<(), StoreError> {
    let mut directories = vec![top];
    while let Some(directory) = directories.pop() {
        let failed = |source| StoreError::Read { path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(failed(source)),
            };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                items.push(Item { kind, path: entry.path(), files: 1, bytes: metadata.len(), used });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "ages of files and waiting are tested")]

    use super::*;
    use crate::digest::DiffId;
    use crate::oci::MediaType;
    use crate::store::tests::{image, store};
    use crate::store::{LayerRecord, LayerSource};

    fn layer(store: &Store, name: &str, sources: &[Digest]) -> Digest {
        let digest = Digest::of(format!("layer {name}"));
        let facts = LayerFacts {
            digest,
            size: 1,
            diff_id: DiffId(digest),
            unpacked: 1,
            entries: 1,
            sources: sources.to_vec(),
            media_type: MediaType::LayerTarGzip,
            origins: Vec::new(),
            extra: String::new(),
        };
        let source = LayerSource::Recipe(name.as_bytes().to_vec());
        store.put_layer(&Digest::of(name), &LayerRecord { facts, source }).unwrap();
        digest
    }

    #[test]
    fn what_images_reach_is_kept() {
        let (_home, store) = store();
        let put = |text: &str| store.put_bytes(text.as_bytes()).unwrap();
        let (wheel, config, manifest, base) =
            (put("wheel"), put("config"), put("manifest"), put("base layer"));
        let (loose, orphan, named) = (put("loose"), put("orphan's wheel"), put("named by the caller"));
        let used = layer(&store, "used", &[wheel]);
        let unused = layer(&store, "unused", &[orphan]);
        store.put_image(&image("a.example/x:1", &[used, base], &[config, manifest])).unwrap();
        store.memo_put(&wheel, b"fact").unwrap();
        fs::write(store.root().join("partial/cut"), "abc").unwrap();
        fs::write(store.root().join("index/page"), "page").unwrap();

        let keep = Roots { blobs: [named].into(), ..Roots::default() };
        let now = SystemTime::now();
        let later = |days: u64| now + Duration::from_secs(days * 24 * 3600);
        assert_eq!(plan(&store, &keep, now, Some(MEMO_AGE)).unwrap().remove, []);
        let before: u64 = du(&store).unwrap().values().map(|usage| usage.bytes).sum();
        let mut waited = false;
        let plan = prune(&store, &keep, now, None, &mut || waited = true).unwrap();
        assert!(!waited, "the only user waited for itself");
        let left: u64 = du(&store).unwrap().values().map(|usage| usage.bytes).sum();
        assert_eq!((plan.freed(), plan.kept.bytes), (before - left, left));
        for kept in [wheel, config, manifest, base, named] {
            assert!(store.has(&kept));
        }
        assert!(!store.has(&loose) && !store.has(&orphan));
        assert!(store.layer_by_digest(&used).unwrap().is_some());
        assert_eq!(store.layer_by_digest(&unused).unwrap(), None);
        assert_eq!(store.layer_facts(&Digest::of("unused")).unwrap(), None);
        let du = du(&store).unwrap();
        assert_eq!(du.get(&Kind::Partial), None);
        assert_eq!(du[&Kind::Blob].files, 5);
        assert_eq!(du[&Kind::Index], Usage { files: 1, bytes: 4 });
        assert_eq!(du[&Kind::Memo].files, 1);

        let nothing = Roots { drop_images: true, drop_index: true, ..Roots::default() };
        prune(&store, &nothing, later(31), None, &mut || {}).unwrap();
        assert!(super::du(&store).unwrap().is_empty());
        // The store goes on working, and others can open it.
        put("again");
        Store::open(store.root()).unwrap();
    }

    #[test]
    fn images_go_at_any_age_and_only_when_asked() {
        let (_home, store) = store();
        let wheel = store.put_bytes(b"wheel").unwrap();
        let manifest = store.put_bytes(b"manifest").unwrap();
        let used = layer(&store, "used", &[wheel]);
        store.put_image(&image("a.example/x:1", &[used], &[manifest])).unwrap();
        fs::write(store.root().join("index/page"), "page").unwrap();
        let day = Duration::from_secs(24 * 3600);
        let later = SystemTime::now() + 100 * day;
        let kinds = |drop_images: bool, drop_index: bool, older_than: Option<Duration>| {
            let keep = Roots { drop_images, drop_index, ..Roots::default() };
            let plan = plan(&store, &keep, later, older_than).unwrap();
            plan.remove.iter().map(|item| item.kind).collect::<Vec<_>>()
        };
        let all = [Kind::Image, Kind::LayerDigest, Kind::Layer, Kind::Blob, Kind::Blob];
        for (drop_images, drop_index, older_than, removed) in [
            (false, false, None, &[][..]),
            (false, false, Some(30), &[]),
            (false, true, None, &[Kind::Index]),
            (false, true, Some(30), &[Kind::Index]),
            (false, true, Some(101), &[]),
            (true, false, None, &all),
            (true, false, Some(30), &all),
            // What the image alone kept is too young, the image is not.
            (true, false, Some(101), &[Kind::Image]),
        ] {
            let found = kinds(drop_images, drop_index, older_than.map(|days| days * day));
            assert_eq!(found, removed, "{drop_images} {drop_index} {older_than:?}");
        }
        store.memo_put(&wheel, b"fact").unwrap();
        let memos_go = |drop_images: bool| {
            let keep = Roots { drop_images, ..Roots::default() };
            let plan = plan(&store, &keep, SystemTime::now(), None).unwrap();
            plan.remove.iter().any(|item| item.kind == Kind::Memo)
        };
        assert!(memos_go(true) && !memos_go(false));
        // Planning removed nothing.
        assert_eq!(store.images().unwrap().len(), 1);
        let keep = Roots { drop_images: true, ..Roots::default() };
        prune(&store, &keep, later, None, &mut || {}).unwrap();
        assert_eq!(store.images().unwrap(), []);
        assert!(!store.has(&wheel) && !store.has(&manifest));
    }

    #[test]
    fn recipes_go_before_what_they_need() {
        let (_home, store) = store();
        let wheel = store.put_bytes(b"wheel").unwrap();
        layer(&store, "unused", &[wheel]);
        let plan = plan(&store, &Roots::default(), SystemTime::now(), None).unwrap();
        let kinds: Vec<_> = plan.remove.iter().map(|item| item.kind).collect();
        assert_eq!(kinds, [Kind::LayerDigest, Kind::Layer, Kind::Blob]);
    }

    #[test]
    fn pruning_waits_for_builds() {
        let (home, store) = store();
        let loose = store.put_bytes(b"loose").unwrap();
        let build = Store::open(home.path()).unwrap();
        let (waiting, waits) = std::sync::mpsc::channel();
        let pruner = std::thread::spawn(move || {
            let mut tell = || waiting.send(()).unwrap();
            prune(&store, &Roots::default(), SystemTime::now(), None, &mut tell).unwrap()
        });
        waits.recv().unwrap();
        assert!(build.has(&loose));
        drop(build);
        assert_eq!(pruner.join().unwrap().remove.len(), 1);
    }

    #[test]
    fn an_unreadable_image_stops_pruning() {
        let (_home, store) = store();
        let loose = store.put_bytes(b"loose").unwrap();
        fs::write(store.root().join("images/x.json"), "{\"version\": 2}").unwrap();
        assert!(prune(&store, &Roots::default(), SystemTime::now(), None, &mut || {}).is_err());
        assert!(store.has(&loose));
        let keep = Roots { drop_images: true, ..Roots::default() };
        prune(&store, &keep, SystemTime::now(), None, &mut || {}).unwrap();
        assert!(!store.has(&loose) && store.images().unwrap().is_empty());
    }
}
