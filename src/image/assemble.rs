//! From layer facts and run settings to the bytes of config, manifest and index.

use std::collections::BTreeMap;

use super::annotation;
use super::created_by::created_by;
use super::inherit::BaseImage;
use crate::digest::{DiffId, Digest};
use crate::epoch::Epoch;
use crate::oci::config::{History, ImageConfig, Nothing, RootFs, RunConfig};
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType, Platform, canonical};
use crate::plan::LayerKind;
use crate::spec::model;

/// Where programs are looked for, in the order of Debian and of Docker's images.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// UTF-8 without a locale package.
const LANG: &str = "C.UTF-8";
/// Everything that decides an image's documents.
pub struct ImageRequest<'a> {
    pub platform: Platform,
    pub epoch: Epoch,
    /// The spec's run settings, labels and annotations.
    pub config: &'a model::Image,
    /// What the content needs in the environment, e.g. a `PATH` with the interpreter; the spec's `env` overrides it.
    pub default_env: Vec<(String, String)>,
    /// `debian:bookworm`, for the manifest's annotation; none for scratch.
    pub base: Option<String>,
    /// The image of somebody else below; then the lowest layers are its own, and what it says of a run holds.
    pub below: Option<&'a BaseImage>,
    /// Lowest first.
    pub layers: &'a [ImageLayer],
}

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
    pub media_type: MediaType,
    pub kind: LayerKind,
    /// One short line: `torch 2.9.1`, `12 wheels`.
    pub title: String,
    /// What it holds, sorted: names and versions, or paths.
    pub contents: Vec<String>,
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of the manifest; its platform is set, as an index needs it.
    pub descriptor: Descriptor,
    pub manifest: Vec<u8>,
    pub config_descriptor: Descriptor,
    pub config: Vec<u8>,
    /// Lowest first, as in the manifest.
    pub layers: Vec<Descriptor>,
}

/// Images for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// Why layers do not make an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the image for {0} has no layer: it needs a base, Python or files")]
    NoLayer(Platform),
    #[error("the layers `{first}` and `{second}` have the same content: one of the two is superfluous")]
    SameContent { first: String, second: String },
    #[error("the layer `{title}` is of media type `{media_type}`, which is none of a layer")]
    MediaType { title: String, media_type: MediaType },
    #[error("the index has two images for {0}")]
    SamePlatform(Platform),
    #[error("the {what} has {len} bytes, more than the {max} that registries accept", max = crate::oci::MAX_DOCUMENT)]
    TooLong { what: &'static str, len: usize },
}

/// The image that `request` describes.
pub fn assemble(request: &ImageRequest<'_>) -> Result<Image, ImageError> {
    check_layers(request)?;
    let config = document("config", &config(request))?;
    let config_descriptor = Descriptor::of(MediaType::Config, &config);
    let below = request.below.map(|below| below.annotations.as_slice()).unwrap_or_default();
    let below = below.iter().cloned().chain(std::iter::repeat_with(BTreeMap::new));
    let layers: Vec<_> =
        request.layers.iter().zip(below).map(|(layer, below)| layer_descriptor(layer, below)).collect();
    let manifest =
        ImageManifest::new(config_descriptor.clone(), layers.clone(), manifest_annotations(request));
    let manifest = document("manifest", &manifest)?;
    let mut descriptor = Descriptor::of(MediaType::Manifest, &manifest);
    descriptor.platform = Some(request.platform.into());
    Ok(Image { descriptor, manifest, config_descriptor, config, layers })
}

/// The index over `images`, in the order of platforms whatever the order given.
pub fn index(images: &[(Platform, &Image)]) -> Result<Index, ImageError> {
    let mut sorted = BTreeMap::new();
    for (platform, image) in images {
        let entry = Descriptor { platform: Some((*platform).into()), ..image.descriptor.clone() };
        if sorted.insert(*platform, entry).is_some() {
            return Err(ImageError::SamePlatform(*platform));
        }
    }
    let bytes = document("index", &ImageIndex::new(sorted.into_values().collect()))?;
    Ok(Index { descriptor: Descriptor::of(MediaType::Index, &bytes), bytes })
}

fn document(what: &'static str, document: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
    let bytes = canonical::to_bytes(document).expect("our documents hold texts, integers and lists only");
    match bytes.len() {
        len if len > crate::oci::MAX_DOCUMENT => Err(ImageError::TooLong { what, len }),
        _ => Ok(bytes),
    }
}

fn check_layers(request: &ImageRequest<'_>) -> Result<(), ImageError> {
    if request.layers.is_empty() {
        return Err(ImageError::NoLayer(request.platform));
    }
    let mut seen = BTreeMap::new();
    for layer in request.layers {
        if layer.media_type.codec().is_none() {
            let (title, media_type) = (layer.title.clone(), layer.media_type.clone());
            return Err(ImageError::MediaType { title, media_type });
        }
        // What is in an image below is not ours to put right, and may well be what we put above it: what lies between
        // the two may have changed it.
        let is_below = request.below.is_some() && layer.kind == LayerKind::Base;
        if !is_below && let Some(first) = seen.insert(layer.diff_id, &layer.title) {
            return Err(ImageError::SameContent { first: first.clone(), second: layer.title.clone() });
        }
    }
    Ok(())
}

fn config(request: &ImageRequest<'_>) -> ImageConfig {
    let ImageRequest { platform, epoch, config: spec, layers, .. } = request;
    let created = Some(epoch.to_string());
    let history = |layer: &ImageLayer| History {
        created: created.clone(),
        created_by: Some(created_by(layer)),
        comment: None,
        empty_layer: false,
    };
    let own = RunConfig {
        user: spec.user.clone(),
        exposed_ports: spec.ports.iter().map(|port| (port.clone(), Nothing {})).collect(),
        env: env(request),
        entrypoint: spec.entrypoint.clone().unwrap_or_default(),
        cmd: spec.cmd.clone().unwrap_or_default(),
        working_dir: spec.workdir.clone(),
        labels: spec.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
        ..RunConfig::default()
    };
    let of_base =
        layers.iter().filter(|layer| request.below.is_some() && layer.kind == LayerKind::Base).count();
    let below = request.below.map(|below| below.history(of_base)).unwrap_or_default();
    ImageConfig {
        created: created.clone(),
        architecture: platform.architecture().to_owned(),
        os: platform.os().to_owned(),
        variant: platform.variant().map(str::to_owned),
        config: match request.below {
            Some(below) => below.settings(own, spec, PATH),
            None => own,
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        },
        history: below.into_iter().chain(layers[of_base..].iter().map(history)).collect(),
    }
}

/// Sorted by name: ours, over them the content's, over them the spec's. An image below has its own word on the first.
fn env(request: &ImageRequest<'_>) -> Vec<String> {
    let mut env = match request.below {
        Some(_) => BTreeMap::new(),
        None => BTreeMap::from([("PATH", PATH), ("LANG", LANG)]),
    };
    env.extend(request.default_env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    env.extend(request.config.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// With annotations of ours over those that the layer had `below`.
fn layer_descriptor(layer: &ImageLayer, below: BTreeMap<String, String>) -> Descriptor {
    let mut descriptor = Descriptor::new(layer.media_type.clone(), layer.digest, layer.size);
    let content = match layer.contents.is_empty() {
        true => layer.title.clone(),
        false => annotation::join(&layer.contents, annotation::CONTENT_MAX),
    };
    descriptor.annotations = below;
    descriptor.annotations.extend([
        (annotation::LAYER_KIND.to_owned(), layer.kind.as_str().to_owned()),
        (annotation::LAYER_CONTENT.to_owned(), content),
    ]);
    descriptor
}

/// The spec's annotations over those that follow from the request.
fn manifest_annotations(request: &ImageRequest<'_>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(annotation::CREATED.to_owned(), request.epoch.to_string())]);
    if let Some(title) = request.config.name.as_deref().and_then(title) {
        annotations.insert(annotation::TITLE.to_owned(), title.to_owned());
    }
    if let Some(base) = &request.base {
        annotations.insert(annotation::BASE.to_owned(), base.clone());
    }
    if let Some(below) = request.below {
        annotations.insert(annotation::BASE_NAME.to_owned(), below.name());
        annotations.insert(annotation::BASE_DIGEST.to_owned(), below.manifest.to_string());
    }
    annotations.extend(request.config.annotations.clone());
    annotations
}

/// `trainer` of `registry.example/team/trainer:1.0`.
fn title(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split([':', '@']).next().filter(|title| !title.is_empty())
}
