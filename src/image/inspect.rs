//! What an image's documents say, as one value: for `mlbuild inspect`, as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::annotation;
use crate::digest::{DiffId, Digest};
use crate::oci::config::{History, RunConfig};
use crate::oci::{Descriptor, DocumentError, ImageConfig, ImageIndex, ImageManifest, MediaType};
use crate::size;

/// An image, or an index of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub digest: Digest,
    pub media_type: MediaType,
    pub images: Vec<ImageInspection>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInspection {
    /// Of the manifest.
    pub digest: Digest,
    /// `linux/amd64`; `unknown` for an artifact without a config.
    pub platform: String,
    /// What an artifact is that is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Of the config: what container engines call the image ID.
    pub config_digest: Digest,
    pub config: RunConfig,
    /// Of all layers as stored, in bytes.
    pub size: u64,
    pub layers: Vec<LayerInspection>,
    pub history: Vec<History>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerInspection {
    pub digest: Digest,
    /// As stored, in bytes.
    pub size: u64,
    pub media_type: MediaType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<DiffId>,
    /// `base`, `python`, `wheel`, `wheels`, `files`; none for a layer that is not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Why documents cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("document {0} is not there")]
    Missing(Digest),
    #[error("document {0} has other content than its digest says")]
    Corrupt(Digest),
    #[error("document {digest} is not well-formed")]
    Document { digest: Digest, source: DocumentError },
    #[error("{digest} is neither a manifest nor an index but `{media_type}`")]
    NoImage { digest: Digest, media_type: MediaType },
}

/// What `root` and the documents that it points to say. `documents` are manifests, configs and indexes by digest.
pub fn inspect(
    root: &Descriptor,
    documents: &BTreeMap<Digest, Vec<u8>>,
    reference: Option<&str>,
) -> Result<Inspection, InspectError> {
    let images = if root.media_type.is_index() {
        let mut found = Vec::new();
        manifests(root.digest, documents, &mut BTreeSet::new(), &mut found)?;
        found.iter().map(|entry| image(entry, documents)).collect::<Result<_, _>>()?
    } else {
        vec![image(root, documents)?]
    };
    Ok(Inspection {
        reference: reference.map(str::to_owned),
        digest: root.digest,
        media_type: root.media_type.clone(),
        images,
    })
}

/// Indexes below an index that are looked into.
const MOST_INDEXES: usize = 256;

/// The manifests of an index, and of those indexes below it that are there; each index once.
fn manifests(
    index: Digest,
    documents: &BTreeMap<Digest, Vec<u8>>,
    seen: &mut BTreeSet<Digest>,
    found: &mut Vec<Descriptor>,
) -> Result<(), InspectError> {
    for entry in parsed(index, documents, ImageIndex::parse)?.manifests {
        if entry.media_type.is_manifest() {
            found.push(entry);
        } else if documents.contains_key(&entry.digest)
            && entry.media_type.is_index()
            && seen.len() < MOST_INDEXES
            && seen.insert(entry.digest)
        {
            manifests(entry.digest, documents, seen, found)?;
        }
    }
    Ok(())
}

fn parsed<T>(
    digest: Digest,
    documents: &BTreeMap<Digest, Vec<u8>>,
    parse: fn(&[u8]) -> Result<T, DocumentError>,
) -> Result<T, InspectError> {
    let bytes = documents.get(&digest).ok_or(InspectError::Missing(digest))?;
    if Digest::of(bytes) != digest {
        return Err(InspectError::Corrupt(digest));
    }
    parse(bytes).map_err(|source| InspectError::Document { digest, source })
}

fn image(
    descriptor: &Descriptor,
    documents: &BTreeMap<Digest, Vec<u8>>,
) -> Result<ImageInspection, InspectError> {
    let digest = descriptor.digest;
    if !descriptor.media_type.is_manifest() {
        return Err(InspectError::NoImage { digest, media_type: descriptor.media_type.clone() });
    }
    let manifest = parsed(digest, documents, ImageManifest::parse)?;
    let config = match manifest.config.media_type.is_config() {
        true => Some(parsed(manifest.config.digest, documents, ImageConfig::parse)?),
        false => None,
    };
    let diff_ids = config.as_ref().map_or(&[][..], |config| &config.rootfs.diff_ids);
    let layer = |(at, layer): (usize, &Descriptor)| LayerInspection {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        diff_id: diff_ids.get(at).copied(),
        kind: layer.annotation(annotation::LAYER_KIND).map(str::to_owned),
        content: layer.annotation(annotation::LAYER_CONTENT).map(str::to_owned),
    };
    let layers: Vec<_> = manifest.layers.iter().enumerate().map(layer).collect();
    // An artifact without a type of its own has that of its config.
    let artifact_type = manifest.artifact_type.or(match &config {
        Some(_) => None,
        None => Some(manifest.config.media_type),
    });
    let platform = match &config {
        Some(config) => format!("{}/{}", config.os, config.architecture),
        None => "unknown".to_owned(),
    };
    let (created, run, history) =
        config.map(|config| (config.created, config.config, config.history)).unwrap_or_default();
    Ok(ImageInspection {
        digest,
        platform,
        artifact_type,
        created,
        config_digest: manifest.config.digest,
        config: run,
        size: layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
        layers,
        history,
        annotations: manifest.annotations,
    })
}

impl fmt::Display for Inspection {
    /// Sections of `key  value` lines and a table of layers; ends with a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reference) = &self.reference {
            field(f, "reference", reference)?;
        }
        field(f, "digest", self.digest)?;
        if self.media_type.is_index() {
            let platforms: Vec<_> = self.images.iter().map(|image| image.platform.as_str()).collect();
            field(f, "platforms", platforms.join(", "))?;
        }
        for image in &self.images {
            if self.media_type.is_index() {
                writeln!(f, "\n{}", printable(&image.platform))?;
                field(f, "digest", image.digest)?;
            } else {
                field(f, "platform", &image.platform)?;
            }
            fmt::Display::fmt(image, f)?;
        }
        Ok(())
    }
}

fn field(f: &mut fmt::Formatter<'_>, key: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{key:<12} {}", printable(&value.to_string()))
}

/// Texts of an image are its maker's: nothing in them may steer a terminal.
fn printable(text: &str) -> String {
    let safe = |char: char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    };
    text.chars().map(safe).collect()
}

/// As a shell would take it, roughly: words with spaces in quotes.
fn words(words: &[String]) -> String {
    let word = |word: &String| match word.is_empty() || word.contains([' ', '"', '\'']) {
        true => format!("{word:?}"),
        false => word.clone(),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for ImageInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        if let Some(artifact_type) = &self.artifact_type {
            field(f, "type", artifact_type)?;
        }
        field(f, "config", self.config_digest)?;
        let maybe = |f: &mut fmt::Formatter<'_>, key: &str, value: &str| match value.is_empty() {
            true => Ok(()),
            false => field(f, key, value),
        };
        maybe(f, "created", self.created.as_deref().unwrap_or_default())?;
        maybe(f, "entrypoint", &words(&config.entrypoint))?;
        maybe(f, "cmd", &words(&config.cmd))?;
        maybe(f, "workdir", config.working_dir.as_deref().unwrap_or_default())?;
        maybe(f, "user", config.user.as_deref().unwrap_or_default())?;
        maybe(f, "ports", &config.exposed_ports.keys().cloned().collect::<Vec<_>>().join(", "))?;
        maybe(f, "stop signal", config.stop_signal.as_deref().unwrap_or_default())?;
        for (at, variable) in config.env.iter().enumerate() {
            field(f, if at == 0 { "env" } else { "" }, variable)?;
        }
        for (at, (key, value)) in config.labels.iter().enumerate() {
            field(f, if at == 0 { "labels" } else { "" }, format!("{key}={value}"))?;
        }
        for (at, (key, value)) in self.annotations.iter().enumerate() {
            field(f, if at == 0 { "annotations" } else { "" }, format!("{key}={value}"))?;
        }
        field(
            f,
            "size",
            format!("{} in {}", size::human(self.size), size::counted(self.layers.len(), "layer")),
        )?;
        writeln!(f, "\n{:>3}  {:<7} {:>10}  {:<14} CONTENT", "", "KIND", "SIZE", "DIGEST")?;
        for (at, layer) in self.layers.iter().enumerate() {
            let kind = layer.kind.as_deref().unwrap_or("-");
            let content =
                shorten(&printable(layer.content.as_deref().unwrap_or(layer.media_type.as_str())), 80);
            let digest = &layer.digest.hex()[..12];
            let line = format!(
                "{:>3}  {:<7} {:>10}  {digest:<14} {content}",
                at + 1,
                printable(kind),
                size::human(layer.size)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// At most `max` characters, the last of them an ellipsis when something was cut.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}
