//! What is known of a layer, by the key of what it is made from.
//!
//! A record is one file: a line with the format, the length and the SHA-256 of a JSON head, the head, then the recipe
//! as it is. The facts are read without reading the recipe, which has some megabytes for a large wheel:
//! ```text
//! "mlbuild-layer 1\n"  u32le length  [32] SHA-256 of head  head (JSON)  recipe
//! ```
//! The head holds the recipe's own length and SHA-256. A record that does not fit these is treated as absent.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::oci::MediaType;

use super::{Store, StoreError, layout, write};

const MAGIC: &[u8] = b"mlbuild-layer 1\n";
/// Magic, length and checksum.
const PREFIX: usize = MAGIC.len() + 4 + 32;
/// The longest head accepted: a layer of tens of thousands of sources.
const LONGEST_HEAD: usize = 16 << 20;
/// Read at once: nearly every head fits.
const FIRST_READ: u64 = 16 * 1024;

/// A layer without the bytes it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// SHA-256 of the layer's blob.
    pub digest: Digest,
    /// Bytes of the layer's blob.
    pub size: u64,
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub unpacked: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Blobs that the recipe takes ranges of; kept as long as an image names the layer. Empty for a stored blob.
    pub sources: Vec<Digest>,
    /// Of the blob.
    #[serde(default = "gzip", skip_serializing_if = "is_gzip")]
    pub media_type: MediaType,
    /// Repositories, as `registry.example/team/base`, that have the blob of a layer that was not made here. Its bytes are in
    /// the store once somebody has needed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Whatever the engine wants to remember beside it, as JSON.
    pub extra: String,
}

const fn gzip() -> MediaType {
    MediaType::LayerTarGzip
}

fn is_gzip(media_type: &MediaType) -> bool {
    *media_type == gzip()
}

/// Repositories that are remembered of one layer.
const MOST_ORIGINS: usize = 8;

impl LayerFacts {
    /// Remembers that this repository has the blob, as the first to be asked.
    pub fn add_origin(&mut self, origin: String) {
        self.origins.retain(|known| *known != origin);
        self.origins.insert(0, origin);
        self.origins.truncate(MOST_ORIGINS);
    }

    /// Nobody here has made it: all that is known of it is what a registry says.
    pub fn is_hearsay(&self) -> bool {
        self.sources.is_empty() && !self.origins.is_empty()
    }
}

/// Where a layer's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerSource {
    /// They are made from this recipe when somebody reads them.
    Recipe(Vec<u8>),
    /// They are the blob [`LayerFacts::digest`], of the store or of one of its [`LayerFacts::origins`].
    Blob,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRecord {
    pub facts: LayerFacts,
    pub source: LayerSource,
}

#[derive(Serialize, Deserialize)]
struct Head {
    facts: LayerFacts,
    /// SHA-256 and length; none for a stored blob.
    recipe: Option<(Digest, u64)>,
}

impl Store {
    /// Remembers a layer under its key, and the key under the layer's digest.
    pub fn put_layer(&self, key: &Digest, record: &LayerRecord) -> Result<(), StoreError> {
        let refused = |rule| StoreError::Record { name: format!("layer {key}"), rule };
        let recipe: &[u8] = match &record.source {
            LayerSource::Recipe(recipe) => recipe,
            LayerSource::Blob => &[],
        };
        let promise = matches!(record.source, LayerSource::Recipe(_))
            .then(|| (Digest::of(recipe), recipe.len() as u64));
        let head = serde_json::to_vec(&Head { facts: record.facts.clone(), recipe: promise })
            .map_err(|_| refused("it cannot be written as JSON"))?;
        let length = u32::try_from(head.len()).ok().filter(|_| head.len() <= LONGEST_HEAD);
        let length = length.ok_or_else(|| refused("its facts are larger than 16 MiB"))?.to_le_bytes();
        let checksum = Digest::of(&head);
        let parts = [MAGIC, &length, checksum.as_bytes(), &head, recipe];
        self.write_record(&self.layer_path(key), &parts, false)?;
        self.write_record(&self.layer_digest_path(&record.facts.digest), &[key.hex().as_bytes()], false)
    }

    /// The facts of the layer with that key.
    pub fn layer_facts(&self, key: &Digest) -> Result<Option<LayerFacts>, StoreError> {
        Ok(open_record(&self.layer_path(key))?.map(|(head, _)| head.facts))
    }

    /// The facts of the layer with that key, if it can also be found by its digest: a build that was killed between the
    /// two records, or a power cut that kept one of them, has not formed the layer.
    pub fn formed_layer(&self, key: &Digest) -> Result<Option<LayerFacts>, StoreError> {
        let Some(facts) = self.layer_facts(key)? else { return Ok(None) };
        let found = match self.layer_key(&facts.digest)? {
            Some(other) if other != *key => self.layer_facts(&other)?.map(|other| other.digest),
            same => same.map(|_| facts.digest),
        };
        Ok((found == Some(facts.digest)).then_some(facts))
    }

    /// Whether the layer's bytes can be had here: as a blob, or by a recipe whose sources are all there.
    pub fn can_read_layer(&self, facts: &LayerFacts) -> bool {
        let is_made = !facts.sources.is_empty() && facts.sources.iter().all(|source| self.has(source));
        is_made || self.has(&facts.digest)
    }

    /// Lets the layer with that digest be formed again, whatever is known of it.
    pub fn forget_layer(&self, digest: &Digest) -> Result<(), StoreError> {
        write::remove(self.layer_digest_path(digest))
    }

    /// The layer with that key, with its recipe.
    pub fn layer(&self, key: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        read_layer(&self.layer_path(key))
    }

    /// The layer with that digest, and where its bytes can be read: by its recipe, or as a blob if a source of the recipe is
    /// gone and the blob is there.
    pub fn layer_by_digest(&self, digest: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        let Some((_, mut record)) = self.record_by_digest(digest)? else { return Ok(None) };
        let sources = &record.facts.sources;
        if matches!(record.source, LayerSource::Recipe(_))
            && !sources.iter().all(|source| self.has(source))
            && self.has(digest)
        {
            record.source = LayerSource::Blob;
        }
        Ok(Some(record))
    }

    fn record_by_digest(&self, digest: &Digest) -> Result<Option<(Digest, LayerRecord)>, StoreError> {
        let Some(key) = self.layer_key(digest)? else { return Ok(None) };
        let record = self.layer(&key)?.filter(|record| record.facts.digest == *digest);
        Ok(record.map(|record| (key, record)))
    }

    /// Remembers what a registry, the first of its origins, says of a layer. A layer that was made here stays what it is, and
    /// gains an origin. Gives what is known from now on.
    pub fn put_hearsay(&self, key: &Digest, mut said: LayerFacts) -> Result<LayerFacts, StoreError> {
        let origin = said.origins.first().cloned();
        let (key, record) = match self.record_by_digest(&said.digest)? {
            Some((own, mut made)) if matches!(made.source, LayerSource::Recipe(_)) => {
                if made.facts.origins.first() == origin.as_ref() {
                    return Ok(made.facts);
                }
                origin.into_iter().for_each(|origin| made.facts.add_origin(origin));
                (own, made)
            }
            heard => {
                if let Some((at, heard)) = heard {
                    said.origins = heard.facts.origins.clone();
                    origin.into_iter().for_each(|origin| said.add_origin(origin));
                    if at == *key && said == heard.facts {
                        return Ok(said);
                    }
                }
                (*key, LayerRecord { facts: said, source: LayerSource::Blob })
            }
        };
        match self.put_layer(&key, &record) {
            Err(error) if error.is_read_only() => {}
            done => done?,
        }
        Ok(record.facts)
    }

    /// The key of the layer with that digest.
    pub fn layer_key(&self, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let path = self.layer_digest_path(digest);
        match layout::read_small(&path) {
            Ok(text) => Ok(Digest::from_hex(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn layer_path(&self, key: &Digest) -> PathBuf {
        self.root().join(layout::LAYERS).join(key.hex())
    }

    fn layer_digest_path(&self, digest: &Digest) -> PathBuf {
        self.root().join(layout::LAYER_DIGESTS).join(digest.hex())
    }
}

/// The whole record in that file; none if it is absent or damaged.
pub(super) fn read_layer(path: &Path) -> Result<Option<LayerRecord>, StoreError> {
    let Some((head, mut rest)) = open_record(path)? else { return Ok(None) };
    let source = match head.recipe {
        None => LayerSource::Blob,
        Some((digest, size)) => {
            let mut recipe = Vec::new();
            // The length was written by us, yet a damaged file must not make us allocate it.
            let read = rest.by_ref().take(size).read_to_end(&mut recipe);
            read.map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
            if recipe.len() as u64 != size || Digest::of(&recipe) != digest {
                return Ok(None);
            }
            LayerSource::Recipe(recipe)
        }
    };
    Ok(Some(LayerRecord { facts: head.facts, source }))
}

/// The head, and what follows it.
fn open_record(path: &Path) -> Result<Option<(Head, impl Read + use<>)>, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut start = Vec::with_capacity(FIRST_READ as usize);
    file.by_ref().take(FIRST_READ).read_to_end(&mut start).map_err(failed)?;
    let Some((length, checksum)) = prefix(&start) else { return Ok(None) };
    let end = PREFIX + length;
    if start.len() < end {
        file.by_ref().take((end - start.len()) as u64).read_to_end(&mut start).map_err(failed)?;
    }
    let Some(head) = start.get(PREFIX..end).filter(|head| Digest::of(head) == checksum) else {
        return Ok(None);
    };
    let Ok(head) = serde_json::from_slice::<Head>(head) else { return Ok(None) };
    let rest = start.split_off(end);
    Ok(Some((head, io::Cursor::new(rest).chain(file))))
}

fn prefix(start: &[u8]) -> Option<(usize, Digest)> {
    let rest = start.strip_prefix(MAGIC)?;
    let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    let checksum = Digest::from_bytes(*rest.get(4..)?.first_chunk()?);
    (length <= LONGEST_HEAD).then_some((length, checksum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    fn record(recipe: Option<&[u8]>, sources: usize) -> LayerRecord {
        let sources = (0..sources).map(|i| Digest::of(i.to_string())).collect();
        let facts = LayerFacts {
            digest: Digest::of(b"layer"),
            size: u64::MAX,
            diff_id: DiffId(Digest::of(b"tar")),
            unpacked: 2,
            entries: 3,
            sources,
            media_type: MediaType::LayerTarZstd,
            origins: vec!["registry.example/team/base".to_owned()],
            extra: "{\"name\":\"ü\"}".to_owned(),
        };
        let source = recipe.map_or(LayerSource::Blob, |recipe| LayerSource::Recipe(recipe.to_vec()));
        LayerRecord { facts, source }
    }

    #[test]
    fn records_come_back_whole() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        assert_eq!(store.layer(&key).unwrap(), None);
        assert_eq!(store.layer_by_digest(&key).unwrap(), None);
        let long = vec![7; 100_000];
        // 1,000 sources make a head longer than the first read.
        for record in
            [record(None, 0), record(Some(b""), 1), record(Some(&long), 3), record(Some(&long), 1_000)]
        {
            store.put_layer(&key, &record).unwrap();
            assert_eq!(store.layer(&key).unwrap().as_ref(), Some(&record));
            assert_eq!(store.layer_facts(&key).unwrap().as_ref(), Some(&record.facts));
            assert_eq!(store.layer_by_digest(&record.facts.digest).unwrap().as_ref(), Some(&record));
            assert_eq!(store.layer_key(&record.facts.digest).unwrap(), Some(key));
        }
    }

    #[test]
    fn a_damaged_record_is_as_good_as_none() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        let record = record(Some(b"recipe"), 2);
        store.put_layer(&key, &record).unwrap();
        let path = store.layer_path(&key);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(store.layer(&key).unwrap(), None, "byte {at} flipped");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(store.layer(&key).unwrap(), None, "cut at {at}");
        }
    }

    #[test]
    fn a_layer_is_formed_when_both_records_are_there() {
        let (_home, store) = store();
        let (key, layer) = (Digest::of(b"key"), record(Some(b"recipe"), 1));
        assert_eq!(store.formed_layer(&key).unwrap(), None);
        store.put_layer(&key, &layer).unwrap();
        assert_eq!(store.formed_layer(&key).unwrap().as_ref(), Some(&layer.facts));
        // The same layer by another key counts as well.
        let other = Digest::of(b"other key");
        store.put_layer(&other, &layer).unwrap();
        assert_eq!(store.formed_layer(&key).unwrap().as_ref(), Some(&layer.facts));
        std::fs::write(store.layer_path(&other), "torn").unwrap();
        assert_eq!(store.formed_layer(&key).unwrap(), None);
        store.put_layer(&key, &layer).unwrap();
        store.forget_layer(&layer.facts.digest).unwrap();
        assert_eq!(store.formed_layer(&key).unwrap(), None);
        assert_eq!(store.layer_facts(&key).unwrap(), Some(layer.facts));
    }

    #[test]
    fn what_a_registry_says_takes_the_place_of_nothing_that_was_made_here() {
        let (_home, store) = store();
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other key"));
        let mut made = record(Some(b"recipe"), 1);
        store.put_layer(&key, &made).unwrap();
        let facts = made.facts.clone();
        let said = |origin: &str| LayerFacts {
            size: 7,
            sources: Vec::new(),
            origins: vec![origin.to_owned()],
            ..facts.clone()
        };
        let known = store.put_hearsay(&other, said("b.example/x")).unwrap();
        made.facts.add_origin("b.example/x".to_owned());
        assert_eq!(known, made.facts);
        assert!(!known.is_hearsay() && said("b.example/x").is_hearsay());
        assert_eq!(store.layer_by_digest(&made.facts.digest).unwrap().as_ref(), Some(&made));
        assert_eq!(store.layer_facts(&other).unwrap(), None);

        let digest = Digest::of(b"unknown");
        for origin in ["a.example/x", "b.example/x"] {
            store.put_hearsay(&other, LayerFacts { digest, ..said(origin) }).unwrap();
        }
        let heard = store.layer_by_digest(&digest).unwrap().unwrap();
        assert_eq!((heard.source, heard.facts.size), (LayerSource::Blob, 7));
        assert_eq!(heard.facts.origins, ["b.example/x", "a.example/x"]);
    }

    #[test]
    fn a_recipe_without_its_sources_is_read_as_the_blob() {
        let (_home, store) = store();
        let source = Digest::of(b"source");
        let digest = store.put_bytes(b"layer").unwrap();
        let mut made = record(Some(b"recipe"), 0);
        (made.facts.digest, made.facts.sources) = (digest, vec![source]);
        store.put_layer(&Digest::of(b"key"), &made).unwrap();
        assert_eq!(store.layer_by_digest(&digest).unwrap().unwrap().source, LayerSource::Blob);
        store.put_bytes(b"source").unwrap();
        assert_eq!(store.layer_by_digest(&digest).unwrap().unwrap().source, made.source);
    }

    #[test]
    fn a_digest_does_not_lead_to_another_layer() {
        let (_home, store) = store();
        let (key, first) = (Digest::of(b"key"), record(Some(b"1"), 0));
        store.put_layer(&key, &first).unwrap();
        let mut second = first.clone();
        second.facts.digest = Digest::of(b"other layer");
        store.put_layer(&key, &second).unwrap();
        assert_eq!(store.layer_by_digest(&first.facts.digest).unwrap(), None);
        assert_eq!(store.layer_by_digest(&second.facts.digest).unwrap(), Some(second));
    }
}
