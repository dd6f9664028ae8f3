//! What a lock may say of the layers that its content makes: digest, size and diff ID under each layer's key.
//!
//! A seal decides nothing of a layer: it repeats what the locked files give, as somebody found who had them all. A build
//! that needs no layer's bytes takes the seal's word for them and downloads nothing; whoever has the files compares, and
//! a difference is an integrity error. The lock is reviewed and under version control, so a seal is as good as the
//! SHA-256 of a wheel: no cache and no registry has to be trusted.
//!
//! ```toml
//! [[seal]]
//! platform = "linux/amd64"
//! wheel-set = "5d0c…"
//!
//! [[seal.layer]]
//! title = "Debian bookworm, 12 packages"
//! key = "2f7a…"
//! digest = "sha256:9b1e…"
//! size = 7324970
//! diff-id = "sha256:c03d…"
//! unpacked = 24135680
//! links = [
//!   { path = "bin", target = "usr/bin" },
//! ]
//! directories = [
//!   { path = "tmp", mode = 0o1777 },
//! ]
//! ```
//!
//! The user's files are not locked and have no seal. Where they go depends on the layers below: a file for `/bin` lies in
//! `/usr/bin`, and `/tmp` keeps its mode. So a seal has the links that lead to a directory and the directories with
//! another mode than 0755: some thirty and seven of a Debian base.
//!
//! A lock may have seals of some layers only: what is gone from the lock is gone from its seals.

use std::collections::BTreeMap;

use super::rules::{Check, is_line};
use crate::digest::{DiffId, Digest};
use crate::oci::Platform;
use crate::tree::{PATH_MAX, TreePath};

/// The longest title, in characters: name and version of a package.
const MAX_TITLE: usize = 600;
/// What a tar is made of, in bytes.
const TAR_BLOCK: u64 = 512;
/// The mode of a directory that need not be said.
const PLAIN: u32 = 0o755;

/// What is known of the layers of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub platform: Platform,
    /// Names the wheels, and how they are installed, of which it was found that no two write one path with different
    /// bytes. None where that is not known, and without Python.
    pub wheel_set: Option<Digest>,
    /// In the order of the plan.
    pub layers: Vec<SealedLayer>,
}

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedLayer {
    /// What the layer is, for people.
    pub title: String,
    /// Names everything that decides the layer's bytes.
    pub key: Digest,
    /// Of the blob.
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub unpacked: u64,
    /// Paths and targets of the links that the user's files may go through.
    pub links: Vec<(String, String)>,
    /// Directories whose mode is not 0755, with their modes.
    pub directories: Vec<(String, u32)>,
}

/// How a breach names the layer.
pub(super) fn item(title: &str) -> String {
    format!("the sealed layer `{title}`")
}

impl Check<'_> {
    pub(super) fn seals(&mut self, seals: &[Seal]) {
        let platforms: Vec<_> = seals.iter().map(|seal| seal.platform).collect();
        self.platforms(&platforms, || "the list of seals".into());
        let layers = || seals.iter().flat_map(|seal| &seal.layers);
        for seal in seals {
            let item = || format!("the seal of {}", seal.platform);
            self.require(!seal.layers.is_empty(), item, "has no layer");
            let mut keys: Vec<_> = seal.layers.iter().map(|layer| layer.key).collect();
            keys.sort();
            for pair in keys.windows(2).filter(|pair| pair[0] == pair[1]) {
                self.require(false, item, format!("has the key {} twice", pair[0].hex()));
            }
        }
        layers().for_each(|layer| self.sealed_layer(layer));
        // A layer of several platforms is one layer, and a blob is one blob.
        let (mut by_key, mut by_digest) = (BTreeMap::new(), BTreeMap::new());
        for layer in layers() {
            let blob = (layer.size, layer.diff_id, layer.unpacked);
            let same = *by_key.entry(layer.key).or_insert(layer) == layer;
            let same_blob = *by_digest.entry(layer.digest).or_insert(blob) == blob;
            self.require(same, || item(&layer.title), "is another one under the same key elsewhere");
            self.require(same_blob, || item(&layer.title), "is another one under the same digest elsewhere");
        }
    }

    fn sealed_layer(&mut self, layer: &SealedLayer) {
        let item = || item(&layer.title);
        let title = is_line(&layer.title) && layer.title.chars().count() <= MAX_TITLE;
        self.require(title, || "a sealed layer".into(), "has no title, or one that cannot be printed");
        self.size(layer.size, item);
        self.size(layer.unpacked, item);
        self.require(
            layer.unpacked.is_multiple_of(TAR_BLOCK),
            item,
            format!("has a tar of {} bytes, which is none", layer.unpacked),
        );
        self.sorted(&layer.links.iter().map(|(path, _)| path).collect::<Vec<_>>(), item, |path| {
            format!("link `{path}`")
        });
        self.sorted(&layer.directories.iter().map(|(path, _)| path).collect::<Vec<_>>(), item, |path| {
            format!("directory `{path}`")
        });
        for (path, target) in &layer.links {
            let good = is_line(target) && target.len() <= PATH_MAX;
            self.require(
                TreePath::new(path).is_ok() && good,
                item,
                format!("has a link `{}` that is none", path.escape_debug()),
            );
        }
        for (path, mode) in &layer.directories {
            self.require(
                TreePath::new(path).is_ok() && *mode <= 0o7777 && *mode != PLAIN,
                item,
                format!("has a directory `{}` of mode {mode:o}", path.escape_debug()),
            );
            let link = layer.links.binary_search_by(|(link, _)| link.cmp(path)).is_ok();
            self.require(!link, item, format!("has `{}` as link and as directory", path.escape_debug()));
        }
    }
}
