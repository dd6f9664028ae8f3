//! Index, manifest and config of a base: what of them a lock holds, and whether a lock still says it.

use std::collections::BTreeMap;

use super::BaseError;
use crate::digest::Digest;
use crate::lock::model::{BaseLayer, BaseLock, MAX_BASE_LAYERS};
use crate::oci::descriptor::MAX_SIZE;
use crate::oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform};

/// The entry of an index that is the image for `platform`. Of several the first counts, as it does for other tools;
/// attestations and images of another variant are for another platform.
pub fn choose(index: &ImageIndex, platform: Platform) -> Result<&Descriptor, BaseError> {
    let is_wanted = |entry: &&Descriptor| {
        entry.media_type.is_manifest()
            && entry.platform.as_ref().is_some_and(|found| found.known() == Some(platform))
    };
    index.manifests.iter().find(is_wanted).ok_or_else(|| {
        let mut found: Vec<_> = index
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(|platform| platform.to_string().chars().take(60).collect::<String>())
            .collect();
        found.sort();
        found.dedup();
        found.truncate(20);
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        BaseError::Platform { platform, found }
    })
}

/// The config that a manifest names.
pub fn config_of(manifest: &[u8]) -> Result<Descriptor, BaseError> {
    let manifest = ImageManifest::parse(manifest)?;
    match manifest.config.media_type.is_config() {
        true => Ok(manifest.config),
        false => Err(BaseError::NotAnImage(manifest.config.media_type.as_str().chars().take(100).collect())),
    }
}

/// Instructions that Docker carries out where another image is built upon this one (`ONBUILD`). They are its own, and no image
/// of ours has them done.
pub fn triggers(config: &[u8]) -> Vec<String> {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let listed = config.pointer("/config/OnBuild").and_then(serde_json::Value::as_array);
    let texts = listed.into_iter().flatten().filter_map(serde_json::Value::as_str);
    texts.map(|text| text.chars().take(100).collect()).collect()
}

/// What a lock holds of the image for `platform`; its C library and its paths are for others to find.
pub fn lock(
    platform: Platform,
    index: Option<Digest>,
    manifest: &[u8],
    config: &[u8],
) -> Result<BaseLock, BaseError> {
    let descriptor = config_of(manifest)?;
    let layers = ImageManifest::parse(manifest)?.layers;
    let parsed = ImageConfig::parse(config)?;
    let variant = parsed.variant.as_deref().filter(|variant| !variant.is_empty());
    let fits = parsed.os == platform.os()
        && parsed.architecture == platform.architecture()
        && (variant.is_none() || variant == platform.variant());
    if !fits {
        let parts = [Some(parsed.os.as_str()), Some(&parsed.architecture), variant];
        let found = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
        return Err(BaseError::ConfigPlatform { platform, found: found.chars().take(100).collect() });
    }
    let diff_ids = &parsed.rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        return Err(BaseError::Layers { layers: layers.len(), diff_ids: diff_ids.len() });
    }
    match layers.len() {
        0 => return Err(BaseError::Empty),
        layers if layers > MAX_BASE_LAYERS => {
            return Err(BaseError::TooMany { layers, max: MAX_BASE_LAYERS });
        }
        _ => {}
    }
    let mut seen = BTreeMap::new();
    let mut locked = Vec::new();
    for (layer, diff_id) in layers.into_iter().zip(diff_ids) {
        let (digest, size) = (layer.digest, layer.size);
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(BaseError::LayerSize { digest, size });
        }
        let layer = BaseLayer { media_type: layer_type(&layer)?, digest, size, diff_id: *diff_id };
        if *seen.entry(digest).or_insert_with(|| layer.clone()) != layer {
            return Err(BaseError::LayerTwice { digest });
        }
        locked.push(layer);
    }
    let packings: BTreeMap<_, _> = locked.iter().map(|layer| (layer.diff_id, layer.digest)).collect();
    if packings.len() != seen.len()
        && let Some(layer) = locked.iter().find(|layer| packings[&layer.diff_id] != layer.digest)
    {
        return Err(BaseError::LayerTwice { digest: layer.digest });
    }
    Ok(BaseLock {
        platform,
        index,
        manifest: Digest::of(manifest),
        manifest_size: manifest.len() as u64,
        config: descriptor.digest,
        config_size: descriptor.size,
        glibc: None,
        layers: locked,
        paths: None,
    })
}

/// OCI's name of the layer's type, since that is what our manifest is.
fn layer_type(layer: &Descriptor) -> Result<MediaType, BaseError> {
    let refuse = |rule| BaseError::LayerType {
        digest: layer.digest,
        media_type: layer.media_type.as_str().chars().take(100).collect(),
        rule,
    };
    match &layer.media_type {
        MediaType::DockerLayerTarGzip | MediaType::LayerTarGzip => Ok(MediaType::LayerTarGzip),
        MediaType::LayerTar => Ok(MediaType::LayerTar),
        MediaType::LayerTarZstd => Ok(MediaType::LayerTarZstd),
        MediaType::Other(text) => match &**text {
            "application/vnd.docker.image.rootfs.diff.tar" => Ok(MediaType::LayerTar),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(MediaType::LayerTarZstd),
            text if text.contains("nondistributable") || text.contains("foreign") => {
                Err(refuse("registries do not hold such layers"))
            }
            _ => Err(refuse("it is no layer that is known here")),
        },
        _ => Err(refuse("it is no layer")),
    }
}

/// What a build takes from the documents of its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub config: ImageConfig,
    /// Of each layer.
    pub annotations: Vec<BTreeMap<String, String>>,
}

/// Refuses a lock that says anything else of the base than its manifest and config do, which the caller has by their digests.
pub fn check(lock: &BaseLock, manifest: &[u8], config: &[u8]) -> Result<Checked, BaseError> {
    let found = self::lock(lock.platform, lock.index, manifest, config)?;
    let differs = |what| Err(BaseError::Differs { what, platform: lock.platform, manifest: lock.manifest });
    if (found.manifest, found.manifest_size) != (lock.manifest, lock.manifest_size) {
        return differs("manifest");
    }
    if (found.config, found.config_size) != (lock.config, lock.config_size)
        || Digest::of(config) != lock.config
    {
        return differs("config");
    }
    if found.layers != lock.layers {
        return differs("list of layers");
    }
    let layers = ImageManifest::parse(manifest)?.layers;
    let annotations = layers.into_iter().map(|layer| layer.annotations).collect();
    Ok(Checked { config: ImageConfig::parse(config)?, annotations })
}
