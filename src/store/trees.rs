//! Unpacked layers: what runs mount, each once for all images that have it.
//!
//! ```text
//! trees/<64 hex>/        by the layer's diff ID; one that depends on the layers below it, by the chain ID up to it
//! ├── record             JSON with a checksum of its own
//! └── root/…             the layer in the form of overlayfs (see `unpack`); nobody ever writes to it
//! trees/<64 hex>.part/   the same while it is made; its writer holds the flock of the directory
//! ```
//!
//! A tree is made in its `.part` and renamed when it is whole. Who wants a tree that another process is making waits for
//! the flock, and then finds the tree; who gets the flock of a `.part` that a killed process has left empties it and goes on.
//! [`Store::sweep_trees`] removes those that nobody wants any more.
//!
//! **Power cuts.** Gigabytes are not synchronised for the sake of one tree. Its record has the kernel's boot ID instead: a
//! tree of an earlier boot counts only if [`Store::sync_trees`] has noted in its record that the file system was
//! synchronised since. Any other is made again.
//!
//! Finding all trees of an image is one small read a layer and starts no thread ([`Store::trees_ready`]); once they are on the
//! disk it is one small read for all ([`Store::stack`]).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use crate::digest::{ChainId, DiffId, Digest};
use crate::unpack::remove_tree;

use super::tree_record::{Rest, TreeRecord, encode, read_record};
use super::{Store, StoreError, layout};

const RECORD: &str = "record";
const ROOT: &str = "root";
const PART: &str = ".part";
/// After this time the kernel has written everything that it was given (30 s, `vm.dirty_expire_centisecs`), with room.
const SETTLED: Duration = Duration::from_secs(60);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Trees of an image, as overlayfs takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trees {
    /// The lowest first, each once; those that a layer above hides as a whole are left out.
    pub ids: Vec<Digest>,
    /// Where they are, in the same order.
    pub layers: Vec<PathBuf>,
    /// Owners other than 0:0 that the layers name, in order.
    pub owners: Vec<(u32, u32)>,
}

/// What became of the wish to make a tree.
pub enum Claim {
    /// It is there.
    Ready,
    /// Another writer is at it.
    Busy,
    Mine(TreeWriter),
}

/// A tree that is being made. Dropped without [`TreeWriter::commit`] it leaves nothing.
pub struct TreeWriter {
    store: Store,
    id: Digest,
    /// Its flock is ours.
    part: File,
    path: PathBuf,
    renamed: bool,
}

impl Store {
    /// The trees of these layers, the lowest first, if all are there. Cheap: no thread, five calls a layer.
    pub fn trees_ready(&self, layers: &[DiffId]) -> Result<Option<Trees>, StoreError> {
        let (mut ids, mut owners) = (Vec::new(), Vec::new());
        for at in 0..layers.len() {
            let Some(mut found) = self.tree(&layers[at].0)? else { return Ok(None) };
            if at == 0 && found.linked.is_some() {
                return Ok(None);
            }
            let mut id = layers[at].0;
            if let Some(chain) = chain_of(&found, layers, at) {
                id = chain;
                match self.tree(&chain)? {
                    Some(upon_others) => found = upon_others,
                    None => return Ok(None),
                }
            }
            if found.opaque {
                ids.clear();
                owners.clear();
            }
            ids.push(id);
            owners.extend(found.owners);
        }
        // overlayfs takes no directory twice. What a layer says it says again where it stands once more: that hides all that
        // it has said before.
        let mut seen = BTreeSet::new();
        ids.reverse();
        ids.retain(|id| seen.insert(*id));
        ids.reverse();
        let layers = ids.iter().map(|id| self.tree_root(id)).collect();
        owners.sort_unstable();
        owners.dedup();
        Ok(Some(Trees { ids, layers, owners }))
    }

    /// Whether this process knows a tree of these that may not be on the disk yet.
    pub(super) fn has_unsynced(&self, ids: &[Digest]) -> bool {
        let unsynced = self.0.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().any(|id| unsynced.contains(id))
    }

    /// The record of a tree that is there and can be used.
    pub fn tree(&self, id: &Digest) -> Result<Option<TreeRecord>, StoreError> {
        let path = self.tree_path(id).join(RECORD);
        let Some(rest) = read_record(&path)? else { return Ok(None) };
        if let Some(boot) = &rest.boot {
            let mut unsynced = self.0.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            if !unsynced.contains(id) {
                if self.boot_id() != Some(boot) {
                    return Ok(None);
                }
                unsynced.insert(*id);
            }
        }
        Ok(Some(rest.record))
    }

    /// Where the root of the tree is, or would be.
    pub fn tree_root(&self, id: &Digest) -> PathBuf {
        self.tree_path(id).join(ROOT)
    }

    /// The right to make a tree.
    pub fn claim_tree(&self, id: &Digest) -> Result<Claim, StoreError> {
        let path = self.tree_path(id).with_extension(&PART[1..]);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        loop {
            if self.tree(id)?.is_some() {
                return Ok(Claim::Ready);
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
            let part = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            match part.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Claim::Busy),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // The last writer may have renamed or removed it between the opening and the lock.
            let same = |there: fs::Metadata| {
                part.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
            };
            if !fs::metadata(&path).is_ok_and(same) {
                continue;
            }
            let writer =
                TreeWriter { store: self.clone(), id: *id, part, path: path.clone(), renamed: false };
            // Another may have made it before this directory was.
            if self.tree(id)?.is_some() {
                return Ok(Claim::Ready);
            }
            for left in fs::read_dir(&path).map_err(failed)? {
                remove_any(&left.map_err(failed)?.path())?;
            }
            // A tree that does not count: of another boot, or with a damaged record.
            let stale = path.join("stale");
            match fs::rename(self.tree_path(id), &stale) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => {
                    moved.map_err(failed)?;
                    remove_any(&stale)?;
                }
            }
            DirBuilder::new().mode(0o700).create(path.join(ROOT)).map_err(failed)?;
            return Ok(Claim::Mine(writer));
        }
    }

    /// Brings the trees that this process has made or used to the disk, if that is not known of all of them. To be called
    /// when nobody waits: it may take as long as the disk does.
    pub fn sync_trees(&self) -> Result<(), StoreError> {
        let unsynced = std::mem::take(&mut *self.0.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        if unsynced.is_empty() {
            return Ok(());
        }
        let path = self.root().join(layout::TREES);
        let synced = File::open(&path).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        synced.map_err(|source| StoreError::Write { path, source })?;
        for id in unsynced {
            let path = self.tree_path(&id).join(RECORD);
            if let Some(rest) = read_record(&path)? {
                let bytes = encode(Rest { boot: None, ..rest });
                match self.write_record(&path, &[&bytes], false) {
                    Err(error) if error.is_read_only() => return Ok(()),
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// As [`Store::sync_trees`], if all of them were made a while before `now`: then the kernel has written them already, and
    /// nobody waits for gigabytes.
    pub fn sync_settled_trees(&self, now: SystemTime) -> Result<(), StoreError> {
        let settled = {
            let unsynced = self.0.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            unsynced.iter().all(|id| {
                let made = fs::metadata(self.tree_path(id).join(RECORD)).and_then(|record| record.modified());
                made.is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age > SETTLED))
            })
        };
        if settled { self.sync_trees() } else { Ok(()) }
    }

    /// Removes what killed writers have left. What cannot be removed is left to the next sweep.
    pub fn sweep_trees(&self) {
        let Ok(entries) = fs::read_dir(self.root().join(layout::TREES)) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_part(&path)
                && let Ok(part) = File::open(&path)
                && part.try_lock().is_ok()
            {
                let _ = remove_tree(&path);
            }
        }
    }

    /// The kernel's name of this boot, read once.
    fn boot_id(&self) -> Option<&String> {
        let read = || {
            let id = layout::read_small(Path::new(BOOT_ID)).ok()?;
            Some(id.trim().to_owned()).filter(|id| !id.is_empty())
        };
        self.0.boot.get_or_init(read).as_ref()
    }

    fn tree_path(&self, id: &Digest) -> PathBuf {
        self.root().join(layout::TREES).join(id.hex())
    }
}

/// The name of the tree of layer `at` upon those below it, if it needs one of its own.
pub fn chain_of(record: &TreeRecord, layers: &[DiffId], at: usize) -> Option<Digest> {
    let depends = at > 0 && (!record.implied.is_empty() || record.linked.is_some());
    depends.then(|| ChainId::of(&layers[..=at]).expect("it has one layer at least").0)
}

impl TreeWriter {
    /// The empty directory for the layer's files.
    pub fn root(&self) -> Result<OwnedFd, StoreError> {
        let path = self.path.join(ROOT);
        File::open(&path).map(OwnedFd::from).map_err(|source| StoreError::Write { path, source })
    }

    /// Where that directory is, for messages.
    pub fn path(&self) -> PathBuf {
        self.path.join(ROOT)
    }

    /// The tree is whole.
    pub fn commit(mut self, record: TreeRecord) -> Result<(), StoreError> {
        let boot = self.store.boot_id().cloned();
        let failed = |source| StoreError::Write { path: self.path.clone(), source };
        if boot.is_none() {
            rustix::fs::syncfs(&self.part).map_err(|error| failed(error.into()))?;
        }
        let unsynced = boot.is_some();
        self.store.write_record(&self.path.join(RECORD), &[&encode(Rest { record, boot })], false)?;
        fs::rename(&self.path, self.store.tree_path(&self.id)).map_err(failed)?;
        self.renamed = true;
        if unsynced {
            self.store.0.unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id);
        }
        Ok(())
    }
}

impl Drop for TreeWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // With the lock held, so that it is nobody else's.
            let _ = remove_tree(&self.path);
        }
    }
}

pub(super) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == &PART[1..])
}

fn remove_any(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        true => remove_tree(path),
        false => fs::remove_file(path),
    };
    removed.map_err(|source| StoreError::Remove { path: path.to_owned(), source })
}

/// Removes a tree so that none of it is ever seen as whole.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Remove { path: path.to_owned(), source };
    let mut gone = path.to_owned();
    if !is_part(path) {
        gone = path.with_extension(&PART[1..]);
        remove_tree(&gone).map_err(failed)?;
        match fs::rename(path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved.map_err(failed)?,
        }
    }
    remove_tree(&gone).map_err(failed)
}

/// What the record of the tree in that directory says, whatever the boot.
pub(super) fn record_in(tree: &Path) -> Result<Option<TreeRecord>, StoreError> {
    Ok(read_record(&tree.join(RECORD))?.map(|rest| rest.record))
}

pub(super) fn record_path(tree: &Path) -> PathBuf {
    tree.join(RECORD)
}

pub(super) fn root_in(tree: &Path) -> PathBuf {
    tree.join(ROOT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    fn record(name: &str) -> TreeRecord {
        TreeRecord {
            diff_id: DiffId(Digest::of(name)),
            entries: 1,
            bytes: 2,
            content: Digest::of("content"),
            owners: vec![(33, 33)],
            implied: Vec::new(),
            linked: None,
            opaque: false,
        }
    }

    fn make(store: &Store, id: &Digest, record: &TreeRecord) {
        let Claim::Mine(writer) = store.claim_tree(id).unwrap() else { panic!("it is there or busy") };
        fs::write(writer.path().join("file"), "x").unwrap();
        writer.commit(record.clone()).unwrap();
    }

    fn names(store: &Store) -> Vec<String> {
        let entries = fs::read_dir(store.root().join(layout::TREES)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_tree_is_there_when_it_is_whole() {
        let (home, store) = store();
        let record = record("layer");
        let DiffId(id) = record.diff_id;
        assert_eq!(store.trees_ready(&[record.diff_id]).unwrap(), None);
        let Claim::Mine(writer) = store.claim_tree(&id).unwrap() else { panic!() };
        let other = Store::open(home.path()).unwrap();
        assert!(matches!(other.claim_tree(&id).unwrap(), Claim::Busy));
        other.sweep_trees();
        assert_eq!(names(&store).len(), 1, "a living writer's tree was swept");
        drop(writer);
        assert_eq!(names(&store), [""; 0]);
        make(&store, &id, &record);
        assert!(matches!(other.claim_tree(&id).unwrap(), Claim::Ready));
        let trees = other.trees_ready(&[record.diff_id]).unwrap().unwrap();
        assert_eq!(
            trees,
            Trees { ids: vec![id], layers: vec![store.tree_root(&id)], owners: vec![(33, 33)] }
        );
        assert_eq!(fs::read_to_string(trees.layers[0].join("file")).unwrap(), "x");
        assert_eq!(names(&store), [id.hex()]);
    }

    #[test]
    fn what_a_killed_writer_leaves_is_used_or_swept() {
        let (_home, store) = store();
        let record = record("layer");
        let DiffId(id) = record.diff_id;
        for _ in 0..2 {
            // A kill closes the directory, and with it the lock, but leaves the files.
            let part = store.tree_path(&id).with_extension("part");
            fs::create_dir_all(part.join("root/left")).unwrap();
            fs::write(part.join("record"), "half").unwrap();
            make(&store, &id, &record);
            assert_eq!(fs::read_dir(store.tree_root(&id)).unwrap().count(), 1);
            fs::create_dir_all(part.join("root")).unwrap();
            store.sweep_trees();
            assert_eq!(names(&store), [id.hex()]);
            // A damaged record is as good as none.
            fs::write(store.tree_path(&id).join(RECORD), "{}").unwrap();
            assert_eq!(store.tree(&id).unwrap(), None);
        }
    }

    #[test]
    fn a_tree_of_another_boot_counts_once_it_is_on_the_disk() {
        let (home, store) = store();
        let record = record("layer");
        let DiffId(id) = record.diff_id;
        make(&store, &id, &record);
        let path = store.tree_path(&id).join(RECORD);
        assert!(fs::read_to_string(&path).unwrap().contains("boot"));
        let another = Rest { record: record.clone(), boot: Some("another".to_owned()) };
        fs::write(&path, encode(another)).unwrap();
        let reopened = || Store::open(home.path()).unwrap();
        assert_eq!(reopened().tree(&id).unwrap(), None);
        let next = reopened();
        make(&next, &id, &record);
        assert!(reopened().tree(&id).unwrap().is_some());
        next.sync_trees().unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("boot"));
        assert_eq!(reopened().tree(&id).unwrap(), Some(record));
    }

    #[test]
    fn layers_that_depend_on_others_have_trees_of_their_own() {
        let (_home, store) = store();
        let (base, mut upper, mut opaque) = (record("base"), record("upper"), record("opaque"));
        upper.implied = vec!["bin".to_owned()];
        opaque.opaque = true;
        for record in [&base, &upper, &opaque] {
            make(&store, &record.diff_id.0, record);
        }
        let roots = |layers: &[&TreeRecord]| {
            let ids: Vec<_> = layers.iter().map(|record| record.diff_id).collect();
            store.trees_ready(&ids).unwrap().map(|trees| trees.layers)
        };
        let root = |record: &TreeRecord| store.tree_root(&record.diff_id.0);
        assert_eq!(roots(&[&upper]), Some(vec![root(&upper)]));
        assert_eq!(roots(&[&base, &upper]), None);
        let chain = ChainId::of(&[base.diff_id, upper.diff_id]).unwrap().0;
        make(&store, &chain, &upper);
        assert_eq!(roots(&[&base, &upper]), Some(vec![root(&base), store.tree_root(&chain)]));
        assert_eq!(roots(&[&base, &opaque]), Some(vec![root(&opaque)]));
        let mut linking = record("linking");
        linking.linked = Some(("a".to_owned(), "b".to_owned()));
        make(&store, &linking.diff_id.0, &linking);
        assert_eq!((roots(&[&linking]), roots(&[&base, &linking])), (None, None));
        let chain = ChainId::of(&[base.diff_id, linking.diff_id]).unwrap().0;
        linking.linked = None;
        make(&store, &chain, &linking);
        assert_eq!(roots(&[&base, &linking]), Some(vec![root(&base), store.tree_root(&chain)]));
        // An image may have a layer twice.
        let other = record("other");
        make(&store, &other.diff_id.0, &other);
        assert_eq!(roots(&[&base, &other, &base]), Some(vec![root(&other), root(&base)]));
    }

    #[test]
    fn flipped_bytes_are_noticed() {
        let (_home, store) = store();
        let record = record("layer");
        make(&store, &record.diff_id.0, &record);
        let path = store.tree_path(&record.diff_id.0).join(RECORD);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let found = store.tree(&record.diff_id.0).unwrap();
            assert!(found.is_none() || found.as_ref() == Some(&record), "byte {at} flipped");
        }
    }
}
