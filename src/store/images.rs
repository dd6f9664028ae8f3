//! The images made on this machine, by reference. They are what [`super::gc`] keeps things for.
//!
//! One JSON file per reference, `version` 1; a newer one is an error of its own, so that pruning by an older mlbuild
//! does not take an image's content away. `checksum` is the SHA-256 of the record's JSON without version and checksum; a
//! record that it does not fit is an error too.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

use super::{Store, StoreError, layout};

const VERSION: u32 = 1;

/// One named image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub reference: String,
    /// Of the manifest, or of the index of several platforms.
    pub digest: Digest,
    pub media_type: String,
    /// `linux/amd64`, as the platform prints itself.
    pub platforms: Vec<String>,
    /// The spec that it was built from, for a person to find it again.
    pub spec: Option<String>,
    /// Layers, by digest, of all platforms.
    pub layers: Vec<Digest>,
    /// Manifests, index and configs.
    pub blobs: Vec<Digest>,
    /// Sum of the layers' sizes, in bytes.
    pub size: u64,
    /// Present where a build has made it; absent in records of earlier builds too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<MadeFrom>,
}

/// What a build has read. The files that it copied are not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFrom {
    /// Of the spec's text.
    pub spec: Digest,
    /// Of the lock as it is written without its seals, which change no image.
    pub lock: Digest,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    /// Absent in records of the first development versions.
    checksum: Option<Digest>,
    #[serde(flatten)]
    image: ImageRecord,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Store {
    /// Names an image; the same reference before it is replaced.
    pub fn put_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let wire = Wire { version: VERSION, checksum: Some(checksum(image)), image: image.clone() };
        let mut json = serde_json::to_vec_pretty(&wire).map_err(|_| StoreError::Record {
            name: image.reference.clone(),
            rule: "it cannot be written as JSON",
        })?;
        json.push(b'\n');
        let path = self.image_path(&image.reference);
        // A build that changes nothing need not wait for the disk.
        if fs::read(&path).is_ok_and(|there| there == json) {
            return Ok(());
        }
        self.write_record(&path, &[&json], true)
    }

    /// The image of that reference.
    pub fn image(&self, reference: &str) -> Result<Option<ImageRecord>, StoreError> {
        let path = self.image_path(reference);
        match fs::read(&path) {
            Ok(bytes) => parse(&bytes, &path.display().to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// All images, by reference.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut images = Vec::new();
        for path in self.image_files()? {
            match fs::read(&path) {
                Ok(bytes) => images.push(parse(&bytes, &path.display().to_string())?),
                // Removed since the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::Read { path, source }),
            }
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Forgets a reference, and says whether there was one. Its content stays until it is pruned.
    pub fn remove_image(&self, reference: &str) -> Result<bool, StoreError> {
        let path = self.image_path(reference);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Remove { path, source }),
        }
    }

    pub(super) fn image_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.root().join(layout::IMAGES);
        let failed = |source| StoreError::Read { path: directory.clone(), source };
        let mut paths = Vec::new();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(paths),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        Ok(paths)
    }

    fn image_path(&self, reference: &str) -> PathBuf {
        self.root().join(layout::IMAGES).join(format!("{}.json", Digest::of(reference).hex()))
    }
}

pub(super) fn parse(bytes: &[u8], name: &str) -> Result<ImageRecord, StoreError> {
    let refused = |rule| StoreError::Record { name: name.to_owned(), rule };
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { version: VERSION }) => {}
        Ok(_) => return Err(refused("it was written by a newer mlbuild")),
        Err(_) => return Err(refused("it is not the JSON of an image")),
    }
    let wire = serde_json::from_slice::<Wire>(bytes);
    let wire = wire.map_err(|_| refused("it is not the JSON of an image"))?;
    match wire.checksum.is_none_or(|promised| promised == checksum(&wire.image)) {
        true => Ok(wire.image),
        false => Err(refused("its checksum does not fit: build the image again")),
    }
}

fn checksum(image: &ImageRecord) -> Digest {
    Digest::of(serde_json::to_vec(image).expect("texts and numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{image, store};

    #[test]
    fn images_are_listed_by_reference() {
        let (_home, store) = store();
        for reference in ["b.example/x:1", "a.example/x:V", "a.example/x:v", &"n".repeat(300)] {
            store.put_image(&image(reference, &[], &[])).unwrap();
        }
        let mut newer = image("b.example/x:1", &[], &[]);
        newer.size = 9;
        store.put_image(&newer).unwrap();
        let references: Vec<_> = store.images().unwrap().into_iter().map(|image| image.reference).collect();
        assert_eq!(references[..3], ["a.example/x:V", "a.example/x:v", "b.example/x:1"]);
        assert_eq!(references.len(), 4);
        assert_eq!(store.image("b.example/x:1").unwrap(), Some(newer));
        assert!(store.remove_image("b.example/x:1").unwrap());
        assert!(!store.remove_image("b.example/x:1").unwrap());
        assert_eq!(store.image("b.example/x:1").unwrap(), None);
    }

    #[test]
    fn a_flipped_byte_is_noticed() {
        let (_home, store) = store();
        let image = image("a.example/x:1", &[Digest::of(b"layer")], &[Digest::of(b"config")]);
        store.put_image(&image).unwrap();
        let path = store.image_path(&image.reference);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            // A flip in the word `checksum` or in white space changes nothing that is said.
            assert!(
                store.image(&image.reference).is_ok_and(|found| found.as_ref() == Some(&image))
                    || store.image(&image.reference).is_err(),
                "byte {at} flipped"
            );
        }
    }

    #[test]
    fn records_without_what_they_were_made_from_are_read() {
        let (_home, store) = store();
        let older = image("a.example/x:1", &[Digest::of(b"layer")], &[]);
        store.put_image(&older).unwrap();
        let path = store.image_path(&older.reference);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("made_from"), "as it was written before: {text}");
        assert_eq!(store.image(&older.reference).unwrap(), Some(older.clone()));
        let made_from = Some(MadeFrom { spec: Digest::of("spec"), lock: Digest::of("lock") });
        let newer = ImageRecord { made_from, ..older };
        store.put_image(&newer).unwrap();
        assert_eq!(store.image(&newer.reference).unwrap(), Some(newer.clone()));
        let other = fs::read_to_string(&path)
            .unwrap()
            .replace(&Digest::of("lock").to_string(), &Digest::of("x").to_string());
        fs::write(&path, other).unwrap();
        assert!(store.image(&newer.reference).is_err(), "its checksum covers it");
    }

    #[test]
    fn a_newer_or_foreign_record_is_an_error() {
        let (_home, store) = store();
        for text in ["{\"version\": 2}", "{\"version\": 1}", "", "[]"] {
            fs::write(store.image_path("x"), text).unwrap();
            assert!(store.images().is_err(), "{text:?}");
        }
    }
}
