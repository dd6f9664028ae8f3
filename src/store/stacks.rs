//! What the trees of an image come to, remembered under its diff IDs, so that a run reads one file and not several a layer.
//!
//! It is a memo (see [`memo`](super::memo)) and says nothing that the trees do not. It is remembered once they are known to be
//! on the disk, counts while they are all there, and is asked for an hour at most: after that the trees are looked at again
//! one by one, which notes that they were used. A tree that was made again is another one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};

use super::{Store, StoreError, Trees};

const KEY: &str = "mlbuild stack 1\n";
const FRESH: Duration = Duration::from_secs(3600);

/// The trees of an image, and what every run asks them for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    pub trees: Trees,
    /// `/etc/passwd` of the image; empty where it has none.
    pub passwd: String,
    /// `/etc/group` likewise.
    pub group: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    layers: Vec<(Digest, Inode)>,
    owners: Vec<(u32, u32)>,
    passwd: String,
    group: String,
}

/// Which directory it is: number and time of the last change, which a directory that is made again does not have.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Inode(u64, i64, i64);

impl Inode {
    fn of(root: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(root).ok()?;
        Some(Self(found.ino(), found.ctime(), found.ctime_nsec()))
    }
}

impl Store {
    /// What [`Store::remember_stack`] has remembered of these layers, the lowest first, if it still holds at `now`.
    pub fn stack(&self, layers: &[DiffId], now: SystemTime) -> Result<Option<Stack>, StoreError> {
        let Some((bytes, written)) = self.memo_get_dated(&key(layers))? else { return Ok(None) };
        // A time in the future counts as now.
        let fresh = now.duration_since(written).unwrap_or_default() < FRESH;
        let Some(wire) = serde_json::from_slice::<Wire>(&bytes).ok().filter(|_| fresh) else {
            return Ok(None);
        };
        let mut trees = Trees { owners: wire.owners, ..Trees::default() };
        for (id, inode) in wire.layers {
            let root = self.tree_root(&id);
            if Inode::of(&root) != Some(inode) {
                return Ok(None);
            }
            trees.ids.push(id);
            trees.layers.push(root);
        }
        Ok(Some(Stack { trees, passwd: wire.passwd, group: wire.group }))
    }

    /// Remembers it, unless some tree of it may not be on the disk yet.
    pub fn remember_stack(&self, layers: &[DiffId], stack: &Stack) -> Result<(), StoreError> {
        if self.has_unsynced(&stack.trees.ids) {
            return Ok(());
        }
        let Stack { trees: Trees { ids, layers: roots, owners }, passwd, group } = stack.clone();
        let inodes: Option<Vec<_>> = roots.iter().map(|root| Inode::of(root)).collect();
        let Some(inodes) = inodes else { return Ok(()) };
        let wire = Wire { layers: ids.into_iter().zip(inodes).collect(), owners, passwd, group };
        self.memo_put(&key(layers), &serde_json::to_vec(&wire).expect("texts and numbers"))
    }
}

fn key(layers: &[DiffId]) -> Digest {
    let mut text = KEY.to_owned();
    for layer in layers {
        text.push_str(&layer.0.hex());
        text.push('\n');
    }
    Digest::of(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the age of a memo is tested")]

    use super::*;
    use crate::store::tests::store;
    use crate::store::{Claim, TreeRecord};

    fn make(store: &Store, name: &str) -> DiffId {
        let diff_id = DiffId(Digest::of(name));
        let record = TreeRecord {
            diff_id,
            entries: 1,
            bytes: 2,
            content: Digest::of("content"),
            owners: Vec::new(),
            implied: Vec::new(),
            linked: None,
            opaque: false,
        };
        let Claim::Mine(writer) = store.claim_tree(&diff_id.0).unwrap() else {
            panic!("it is there or busy")
        };
        writer.commit(record).unwrap();
        diff_id
    }

    #[test]
    fn a_stack_holds_while_its_trees_are_there_and_on_the_disk() {
        let (_home, store) = store();
        let layers = ["lower", "upper"].map(|name| make(&store, name));
        let now = SystemTime::now();
        let trees = store.trees_ready(&layers).unwrap().unwrap();
        let stack =
            Stack { trees, passwd: "root:x:0:0::/root:/bin/sh\n".into(), group: "root:x:0:\n".into() };
        // Made in this boot, and nothing says that the disk has them.
        store.remember_stack(&layers, &stack).unwrap();
        assert_eq!(store.stack(&layers, now).unwrap(), None);
        store.sync_trees().unwrap();
        store.remember_stack(&layers, &stack).unwrap();
        assert_eq!(store.stack(&layers, now).unwrap(), Some(stack.clone()));
        let reversed: Vec<_> = layers.iter().rev().copied().collect();
        assert_eq!(store.stack(&reversed, now).unwrap(), None);
        // Used for so long that the trees have to be told.
        assert_eq!(store.stack(&layers, now + 2 * FRESH).unwrap(), None);
        let (there, gone) = (&stack.trees.layers[1], stack.trees.layers[1].with_extension("gone"));
        fs::rename(there, &gone).unwrap();
        assert_eq!(store.stack(&layers, now).unwrap(), None);
        fs::create_dir(there).unwrap();
        assert_eq!(store.stack(&layers, now).unwrap(), None, "another directory of that name");
    }
}
