//! The check of a whole image against the rules that bind every consumer: each digest, size and media type, the
//! agreement of manifest, config and history, no empty and no repeated layer, and each diff ID computed again.
//!
//! Every violation is reported, not only the first. Layers are streamed through the *multi-member* gzip decoder: the
//! single-member ones stop silently after the first member, which for a pass-through layer is one tar header.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

use super::unpacker::Unpacker;
use super::{Descriptor, ImageConfig, ImageIndex, ImageManifest};
use crate::digest::{DiffId, Digest, HashingWriter};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The blob that breaks it, or that is pointed to wrongly.
    pub digest: Digest,
    /// The rest of the sentence: "has 12 bytes, its descriptor says 13".
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.digest, self.rule)
    }
}

/// Yields a document's bytes.
pub type ReadDocument<'a> = dyn Fn(&Digest) -> io::Result<Vec<u8>> + 'a;
/// Streams a layer's bytes, as stored, into the writer.
pub type StreamLayer<'a> = dyn Fn(&Digest, &mut dyn Write) -> io::Result<()> + 'a;

/// How deep indexes may point to indexes.
const MAX_DEPTH: usize = 3;

/// Every rule that the image (or index) `root` breaks. Without `layer`, the layers' bytes are not looked at.
pub fn validate(
    root: &Descriptor,
    read: &ReadDocument<'_>,
    layer: Option<&StreamLayer<'_>>,
) -> Vec<Violation> {
    let mut check = Check { read, layer, checked: BTreeSet::new(), violations: Vec::new() };
    check.node(root, 0);
    check.violations
}

struct Check<'a> {
    read: &'a ReadDocument<'a>,
    layer: Option<&'a StreamLayer<'a>>,
    /// Layers whose bytes have been looked at, with the diff ID they were to have.
    checked: BTreeSet<(Digest, DiffId)>,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn fail(&mut self, digest: Digest, rule: impl Into<String>) {
        self.violations.push(Violation { digest, rule: rule.into() });
    }

    fn node(&mut self, descriptor: &Descriptor, depth: usize) {
        if descriptor.media_type.is_index() {
            if depth == MAX_DEPTH {
                return self.fail(descriptor.digest, "is an index nested too deeply");
            }
            self.index(descriptor, depth);
        } else if descriptor.media_type.is_manifest() {
            self.manifest(descriptor);
        } else {
            self.fail(
                descriptor.digest,
                format!("is neither manifest nor index but `{}`", descriptor.media_type),
            );
        }
    }

    /// The bytes, if they can be had, are few enough and are those meant.
    fn document(&mut self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let digest = descriptor.digest;
        let bytes = match (self.read)(&digest) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.fail(digest, format!("cannot be read: {error}"));
                return None;
            }
        };
        let before = self.violations.len();
        if bytes.len() as u64 != descriptor.size {
            self.fail(digest, format!("has {} bytes, its descriptor says {}", bytes.len(), descriptor.size));
        }
        let actual = Digest::of(&bytes);
        if actual != digest {
            self.fail(digest, format!("has content of digest {actual}"));
        }
        (self.violations.len() == before).then_some(bytes)
    }

    /// A parsed document; why it is none is noted.
    fn parsed<T>(&mut self, digest: Digest, parsed: Result<T, super::DocumentError>) -> Option<T> {
        parsed
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                self.fail(digest, format!("is not well-formed: {error}{}", cause.unwrap_or_default()));
            })
            .ok()
    }

    fn index(&mut self, descriptor: &Descriptor, depth: usize) {
        let digest = descriptor.digest;
        let Some(bytes) = self.document(descriptor) else { return };
        let Some(index) = self.parsed(digest, ImageIndex::parse(&bytes)) else { return };
        if index.schema_version != 2 {
            self.fail(digest, format!("has schema version {}, not 2", index.schema_version));
        }
        if index.media_type.as_ref().is_some_and(|media_type| *media_type != descriptor.media_type) {
            self.fail(digest, "names another media type than its descriptor");
        }
        let mut platforms = Vec::new();
        for entry in &index.manifests {
            match &entry.platform {
                Some(platform) if platforms.contains(platform) => {
                    self.fail(digest, format!("has two entries for {platform}"));
                }
                Some(platform) => platforms.push(platform.clone()),
                None if entry.media_type.is_manifest() && entry.artifact_type.is_none() => {
                    self.fail(digest, format!("has entry {} without a platform", entry.digest));
                }
                None => {}
            }
            self.node(entry, depth + 1);
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor) {
        let digest = descriptor.digest;
        let Some(bytes) = self.document(descriptor) else { return };
        let Some(manifest) = self.parsed(digest, ImageManifest::parse(&bytes)) else { return };
        if manifest.schema_version != 2 {
            self.fail(digest, format!("has schema version {}, not 2", manifest.schema_version));
        }
        if manifest.media_type.as_ref().is_some_and(|media_type| *media_type != descriptor.media_type) {
            self.fail(digest, "names another media type than its descriptor");
        }
        if manifest.layers.is_empty() {
            self.fail(digest, "has no layer");
        }
        let mut seen = BTreeSet::new();
        for layer in &manifest.layers {
            if layer.media_type.codec().is_none() {
                self.fail(layer.digest, format!("is a layer of media type `{}`", layer.media_type));
            }
            if !seen.insert(layer.digest) {
                self.fail(layer.digest, "is a layer twice");
            }
        }
        if !manifest.config.media_type.is_config() {
            self.fail(
                manifest.config.digest,
                format!("is a config of type `{}`", manifest.config.media_type),
            );
            return;
        }
        let Some(bytes) = self.document(&manifest.config) else { return };
        let Some(config) = self.parsed(manifest.config.digest, ImageConfig::parse(&bytes)) else { return };
        self.config(descriptor, &manifest, &config);
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if let Some(stream) = self.layer
                && self.checked.insert((layer.digest, *diff_id))
            {
                self.layer(layer, *diff_id, stream);
            }
        }
    }

    fn config(&mut self, descriptor: &Descriptor, manifest: &ImageManifest, config: &ImageConfig) {
        let digest = manifest.config.digest;
        if config.rootfs.kind != "layers" {
            self.fail(digest, format!("has a rootfs of type `{}`, not `layers`", config.rootfs.kind));
        }
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            self.fail(digest, format!("has {diff_ids} diff IDs for {layers} layers"));
        }
        let unique: BTreeSet<_> = config.rootfs.diff_ids.iter().collect();
        if unique.len() != diff_ids {
            self.fail(digest, "has a diff ID twice");
        }
        let filled = config.history.iter().filter(|entry| !entry.empty_layer).count();
        if !config.history.is_empty() && filled != diff_ids {
            self.fail(digest, format!("has {filled} history entries with a layer for {diff_ids} diff IDs"));
        }
        if let Some(platform) = &descriptor.platform
            && (platform.os != config.os || platform.architecture != config.architecture)
        {
            self.fail(
                digest,
                format!("is for {}/{}, its index says {platform}", config.os, config.architecture),
            );
        }
        let is_nameless = |entry: &&String| entry.find('=').unwrap_or(0) == 0;
        for entry in config.config.env.iter().filter(is_nameless) {
            self.fail(digest, format!("has an environment entry `{}` without a name", entry.escape_debug()));
        }
    }

    fn layer(&mut self, descriptor: &Descriptor, diff_id: DiffId, stream: &StreamLayer<'_>) {
        let Some(codec) = descriptor.media_type.codec() else { return };
        let mut stored = HashingWriter::new(Unpacker::new(codec));
        if let Err(error) = stream(&descriptor.digest, &mut stored) {
            return self.fail(descriptor.digest, format!("cannot be read or unpacked: {error}"));
        }
        let (unpacker, digest, size) = stored.finish();
        if size != descriptor.size {
            self.fail(
                descriptor.digest,
                format!("has {size} bytes, its descriptor says {}", descriptor.size),
            );
        }
        if digest != descriptor.digest {
            self.fail(descriptor.digest, format!("has content of digest {digest}"));
        }
        match unpacker.finish() {
            Err(error) => self.fail(descriptor.digest, format!("cannot be unpacked: {error}")),
            Ok(tar) => {
                if DiffId(tar.digest) != diff_id {
                    self.fail(
                        descriptor.digest,
                        format!("unpacks to {}, the config says {diff_id}", tar.digest),
                    );
                }
                if !tar.has_entry {
                    self.fail(descriptor.digest, "is an empty layer");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::oci::config::{History, RootFs, RunConfig};
    use crate::oci::{MediaType, Platform, canonical};

    /// A tar of one empty file (its header is not looked at here), as one gzip member for each 100 bytes.
    fn tar() -> Vec<u8> {
        let mut tar = vec![0; 1536];
        tar[..5].copy_from_slice(b"hello");
        tar
    }

    fn members(tar: &[u8]) -> Vec<u8> {
        let member = |part: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap()
        };
        tar.chunks(100).flat_map(member).collect()
    }

    /// The blobs of an image with one layer, and its parts before they are written.
    struct Fixture {
        blobs: BTreeMap<Digest, Vec<u8>>,
        layer: Vec<u8>,
        layers: Vec<Descriptor>,
        config: ImageConfig,
        manifest_type: MediaType,
        platform: Platform,
    }

    impl Fixture {
        fn new() -> Self {
            let layer = members(&tar());
            let config = ImageConfig {
                created: None,
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                variant: None,
                config: RunConfig::default(),
                rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![DiffId(Digest::of(tar()))] },
                history: vec![History::default()],
            };
            let layers = vec![Descriptor::of(MediaType::LayerTarGzip, &layer)];
            let (manifest_type, platform) = (MediaType::Manifest, Platform::LinuxAmd64);
            Self { blobs: BTreeMap::new(), layer, layers, config, manifest_type, platform }
        }

        fn add(&mut self, media_type: MediaType, document: &impl serde::Serialize) -> Descriptor {
            let bytes = canonical::to_bytes(document).unwrap();
            let descriptor = Descriptor::of(media_type, &bytes);
            self.blobs.insert(descriptor.digest, bytes);
            descriptor
        }

        /// What is wrong once the image is written and `damage` has been at its blobs.
        fn violations(
            mut self,
            damage: impl FnOnce(&mut BTreeMap<Digest, Vec<u8>>, &mut Descriptor),
        ) -> Vec<String> {
            let config = self.add(MediaType::Config, &self.config.clone());
            let manifest = ImageManifest::new(config, self.layers.clone(), BTreeMap::new());
            let mut entry = self.add(self.manifest_type.clone(), &manifest);
            entry.platform = Some(self.platform.into());
            let mut index = self.add(MediaType::Index, &ImageIndex::new(vec![entry]));
            damage(&mut self.blobs, &mut index);
            let missing = || io::Error::new(io::ErrorKind::NotFound, "not there");
            let read = |digest: &Digest| self.blobs.get(digest).cloned().ok_or_else(missing);
            // Odd pieces, so that members and their headers are split anywhere.
            let stream = |_: &Digest, out: &mut dyn Write| {
                self.layer.chunks(7).try_for_each(|part| out.write_all(part))
            };
            validate(&index, &read, Some(&stream)).iter().map(|violation| violation.rule.clone()).collect()
        }
    }

    #[test]
    fn a_good_image_has_no_violation() {
        assert_eq!(Fixture::new().violations(|_, _| ()), Vec::<String>::new());
    }

    #[test]
    fn every_member_counts() {
        let mut fixture = Fixture::new();
        fixture.config.rootfs.diff_ids = vec![DiffId(Digest::of(&tar()[..100]))];
        let found = fixture.violations(|_, _| ());
        assert!(found[0].starts_with(&format!("unpacks to {}", Digest::of(tar()))), "{found:?}");
    }

    #[test]
    fn broken_rules_are_all_named() {
        type Change = fn(&mut Fixture);
        let cases: &[(Change, &[&str])] = &[
            (|f| f.config.rootfs.kind = "files".into(), &["has a rootfs of type `files`, not `layers`"]),
            (
                |f| f.config.history.push(History::default()),
                &["has 2 history entries with a layer for 1 diff IDs"],
            ),
            (
                |f| f.config.rootfs.diff_ids.clear(),
                &["has 0 diff IDs for 1 layers", "has 1 history entries with a layer for 0 diff IDs"],
            ),
            (|f| f.config.config.env = vec!["=x".into()], &["has an environment entry `=x` without a name"]),
            (|f| f.platform = Platform::LinuxArm64, &["is for linux/amd64, its index says linux/arm64"]),
            (
                |f| f.layers[0].media_type = MediaType::Config,
                &["is a layer of media type `application/vnd.oci.image.config.v1+json`"],
            ),
            (|f| f.layers.clear(), &["has no layer", "has 1 diff IDs for 0 layers"]),
            (
                |f| f.manifest_type = MediaType::DockerManifest,
                &["names another media type than its descriptor"],
            ),
            (|f| f.layers[0].size += 1, &["bytes, its descriptor says"]),
            (|f| f.layers.push(f.layers[0].clone()), &["is a layer twice", "has 1 diff IDs for 2 layers"]),
            (
                |f| *f.layer.last_mut().unwrap() ^= 1,
                &[
                    "has content of digest",
                    "cannot be unpacked: corrupt gzip stream does not have a matching checksum",
                ],
            ),
            (
                |f| {
                    f.layer.pop();
                },
                &["bytes, its descriptor says", "has content of digest", "cannot be unpacked"],
            ),
            (
                |f| f.layer.extend(*b"trailer"),
                &["bytes, its descriptor says", "has content of digest", "cannot be unpacked"],
            ),
            (|f| f.layer.extend(*b"something behind"), &["cannot be read or unpacked: "]),
        ];
        for (at, (change, expected)) in cases.iter().enumerate() {
            let mut fixture = Fixture::new();
            change(&mut fixture);
            let found = fixture.violations(|_, _| ());
            assert_eq!(found.len(), expected.len(), "case {at}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.contains(expected), "case {at}: {found}");
            }
        }
        let mut empty = Fixture::new();
        empty.layer = members(&[0; 1024]);
        empty.layers = vec![Descriptor::of(MediaType::LayerTarGzip, &empty.layer)];
        empty.config.rootfs.diff_ids = vec![DiffId(Digest::of([0; 1024]))];
        assert_eq!(empty.violations(|_, _| ()), ["is an empty layer"]);
    }

    #[test]
    fn documents_are_verified() {
        let found = Fixture::new().violations(|blobs, index| {
            blobs.remove(&index.digest);
        });
        assert_eq!(found, ["cannot be read: not there"]);
        let found =
            Fixture::new().violations(|blobs, index| blobs.get_mut(&index.digest).unwrap().push(b' '));
        assert_eq!(found.len(), 2, "{found:?}");
        let found = Fixture::new().violations(|_, index| index.media_type = MediaType::Config);
        assert_eq!(found, ["is neither manifest nor index but `application/vnd.oci.image.config.v1+json`"]);
        let found = Fixture::new().violations(|blobs, index| {
            *index = Descriptor::of(MediaType::Index, b"[]");
            blobs.insert(index.digest, b"[]".to_vec());
        });
        assert!(found[0].starts_with("is not well-formed: the image index cannot be read: "), "{found:?}");
    }
}
