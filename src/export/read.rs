//! An OCI layout opened again: its images by tag, and the documents of one of them.
//!
//! The layout may be anybody's: only regular files are read, documents are bounded and verified against their digest,
//! blobs are only looked for under their hexadecimal digest, depth, number and size of documents are limited, and one that
//! is named again and again is read once. A name stands for one image, and for the one that it was given to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::failed;
use super::{ExportError, entry};
use crate::digest::{Digest, Mismatch};
use crate::image::annotation;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MAX_DOCUMENT, MediaType};
use crate::textfile;

/// A layout that exists.
#[derive(Debug, Clone)]
pub struct Layout {
    directory: PathBuf,
    index: ImageIndex,
}

/// One image of a layout with all its documents.
#[derive(Debug, Clone)]
pub struct OpenedImage {
    pub root: Descriptor,
    /// The root, and the manifests and configs that it points to.
    pub documents: BTreeMap<Digest, Vec<u8>>,
    /// Every layer with its size, each once.
    pub layers: Vec<(Digest, u64)>,
}

/// How deep indexes may point to indexes.
const MAX_DEPTH: usize = 3;
/// Documents that an image may have, and their bytes. One with attestations for ten platforms has some 60, of 10 KB each.
const MAX_DOCUMENTS: usize = 1000;
const MAX_BYTES: usize = 64 << 20;

/// What has been collected.
#[derive(Default)]
struct Collected {
    /// Indexes and manifests by digest and by what they were said to be.
    seen: BTreeSet<(Digest, String)>,
    bytes: usize,
}

impl Layout {
    pub fn open(directory: &Path) -> Result<Self, ExportError> {
        let no_layout =
            |problem: &str| ExportError::NoLayout { path: directory.to_owned(), problem: problem.to_owned() };
        let marker = read_bounded(&directory.join("oci-layout"))?;
        let marker: serde_json::Value =
            serde_json::from_slice(&marker).map_err(|_| no_layout("its file oci-layout is not JSON"))?;
        match marker["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => {}
            Some(version) => return Err(no_layout(&format!("it has version `{}`", version.escape_debug()))),
            None => return Err(no_layout("its file oci-layout says no version")),
        }
        Self::with_index(directory, &read_bounded(&directory.join("index.json"))?)
    }

    /// One that has this `index.json`.
    pub(super) fn with_index(directory: &Path, bytes: &[u8]) -> Result<Self, ExportError> {
        let index = ImageIndex::parse(bytes)
            .map_err(|source| ExportError::Document { path: directory.join("index.json"), source })?;
        if index.schema_version != 2 || !index.media_type.as_ref().is_none_or(MediaType::is_index) {
            let problem = "its index.json is no image index".to_owned();
            return Err(ExportError::NoLayout { path: directory.to_owned(), problem });
        }
        Ok(Self { directory: directory.to_owned(), index })
    }

    /// The entries of its `index.json`.
    pub fn images(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// The image of this tag or digest; without one, the only image there is.
    pub fn find(&self, wanted: Option<&str>) -> Result<&Descriptor, ExportError> {
        let name = |entry: &Descriptor| entry.annotation(annotation::REF_NAME).map(str::to_owned);
        let found =
            || self.images().iter().map(|entry| name(entry).unwrap_or(entry.digest.to_string())).collect();
        let path = || self.directory.clone();
        match (wanted, self.images()) {
            (None, [only]) => Ok(only),
            (None, []) => Err(ExportError::NoLayout { path: path(), problem: "it has no image".to_owned() }),
            (None, _) => Err(ExportError::SeveralImages { path: path(), found: found() }),
            (Some(wanted), images) => {
                let is_wanted = |entry: &&Descriptor| {
                    name(entry).as_deref() == Some(wanted)
                        || entry.annotation(annotation::CONTAINERD_NAME) == Some(wanted)
                        || entry.digest.to_string() == wanted
                };
                let matching: Vec<_> = images.iter().filter(is_wanted).collect();
                let Some((first, rest)) = matching.split_first() else {
                    return Err(ExportError::NoImage {
                        path: path(),
                        wanted: wanted.to_owned(),
                        found: found(),
                    });
                };
                if rest.iter().any(|other| other.digest != first.digest) {
                    let found = matching.iter().map(|entry| entry.digest.to_string()).collect();
                    return Err(ExportError::SeveralOfThatName {
                        path: path(),
                        wanted: wanted.to_owned(),
                        found,
                    });
                }
                if first.digest.to_string() != wanted && self.all_changed(&matching) {
                    let (name, digest) = (wanted.to_owned(), first.digest);
                    return Err(ExportError::Changed { path: path(), name, digest });
                }
                Ok(first)
            }
        }
    }

    /// Whether none of these entries says what was written there.
    fn all_changed(&self, some: &[&Descriptor]) -> bool {
        let value = |entry| serde_json::to_value(entry).expect("a descriptor has string keys");
        let entries: Vec<_> = self.images().iter().map(value).collect();
        some.iter().all(|some| entry::is_changed(&value(some), &entries))
    }

    /// All documents of the image `root`.
    pub fn image(&self, root: &Descriptor) -> Result<OpenedImage, ExportError> {
        let mut image = OpenedImage { root: root.clone(), documents: BTreeMap::new(), layers: Vec::new() };
        self.collect(root, 0, &mut image, &mut Collected::default())?;
        image.layers.sort();
        image.layers.dedup();
        Ok(image)
    }

    /// A blob for reading; whoever reads it verifies it.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        textfile::open(&self.blob_path(digest))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    fn collect(
        &self,
        node: &Descriptor,
        depth: usize,
        image: &mut OpenedImage,
        collected: &mut Collected,
    ) -> Result<(), ExportError> {
        if !collected.seen.insert((node.digest, node.media_type.to_string())) {
            return Ok(());
        }
        let bytes = self.document(node, collected)?;
        let source = |source| ExportError::Document { path: self.blob_path(&node.digest), source };
        if node.media_type.is_index() {
            if depth == MAX_DEPTH {
                let problem = "its indexes are nested too deeply".to_owned();
                return Err(ExportError::NoLayout { path: self.directory.clone(), problem });
            }
            for entry in &ImageIndex::parse(&bytes).map_err(source)?.manifests {
                self.collect(entry, depth + 1, image, collected)?;
            }
        } else if node.media_type.is_manifest() {
            let manifest = ImageManifest::parse(&bytes).map_err(source)?;
            image.documents.insert(manifest.config.digest, self.document(&manifest.config, collected)?);
            image.layers.extend(manifest.layers.iter().map(|layer| (layer.digest, layer.size)));
        } else if depth == 0 {
            let problem = format!("what it calls an image is `{}`", node.media_type.as_str().escape_debug());
            return Err(ExportError::NoLayout { path: self.directory.clone(), problem });
        }
        image.documents.insert(node.digest, bytes);
        Ok(())
    }

    fn document(&self, descriptor: &Descriptor, collected: &mut Collected) -> Result<Vec<u8>, ExportError> {
        let bytes = read_bounded(&self.blob_path(&descriptor.digest))?;
        collected.bytes += bytes.len();
        if collected.seen.len() > MAX_DOCUMENTS || collected.bytes > MAX_BYTES {
            let problem = "its image has more than 1,000 documents, or 64 MiB of them".to_owned();
            return Err(ExportError::NoLayout { path: self.directory.clone(), problem });
        }
        let (actual, actual_size) = (Digest::of(&bytes), bytes.len() as u64);
        let (expected, expected_size) = (descriptor.digest, descriptor.size);
        match (actual, actual_size) == (expected, expected_size) {
            true => Ok(bytes),
            false => Err(ExportError::Integrity {
                digest: expected,
                source: Mismatch { expected, expected_size, actual, actual_size },
            }),
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ExportError> {
    textfile::read_bytes(path, MAX_DOCUMENT).map_err(failed("read", path))
}
