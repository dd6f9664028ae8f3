//! Documents of somebody else's image, a line each: manifest, config, index. What is locked of them can be written, read and
//! checked again, and an image upon it says what the base says of a run, once.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::base::manifest;
use mlbuild_fuzz::digest::Digest;
use mlbuild_fuzz::epoch::Epoch;
use mlbuild_fuzz::image::{BaseImage, ImageLayer, ImageRequest, assemble, search_path};
use mlbuild_fuzz::oci::{ImageConfig, ImageIndex, ImageManifest, Platform, canonical};
use mlbuild_fuzz::plan::LayerKind;
use mlbuild_fuzz::spec::model::Image;
use mlbuild_fuzz::{checks, lock};

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n').map(str::as_bytes);
    let mut line = || lines.next().unwrap_or_default();
    let (manifest, config, index) = (line(), line(), line());
    for platform in [Platform::LinuxAmd64, Platform::LinuxArm64] {
        if let Ok(index) = ImageIndex::parse(index)
            && let Ok(chosen) = manifest::choose(&index, platform)
        {
            assert!(index.manifests.contains(chosen) && chosen.media_type.is_manifest());
        }
        documents(platform, manifest, config);
    }
});

fn documents(platform: Platform, manifest: &[u8], config: &[u8]) {
    let Ok(mut parsed) = ImageManifest::parse(manifest) else { return };
    // No mutation finds a digest.
    (parsed.config.digest, parsed.config.size) = (Digest::of(config), config.len() as u64);
    let manifest = canonical::to_bytes(&parsed).expect("it was parsed");
    let base = match manifest::lock(platform, None, &manifest, config) {
        Ok(base) => base,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(ImageConfig::parse(config).is_ok_and(|config| config.architecture == platform.architecture()));
    let checked = manifest::check(&base, &manifest, config).expect("it is the lock of these");
    let mut other = base.clone();
    other.layers[0].size += 1;
    manifest::check(&other, &manifest, config).expect_err("another layer");

    let locked = checks::lock_upon(base.clone());
    let written = lock::write(&locked);
    let read = lock::read(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read, locked);

    assert!(search_path(&checked.config).iter().all(|directory| directory.starts_with('/')));
    upon(platform, &base, checked);
}

/// An image that has the base's layers and says nothing itself.
fn upon(platform: Platform, base: &lock::BaseLock, checked: manifest::Checked) {
    let layers: Vec<_> = base
        .layers
        .iter()
        .map(|layer| ImageLayer {
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
            media_type: layer.media_type.clone(),
            kind: LayerKind::Base,
            title: "base".to_owned(),
            contents: Vec::new(),
        })
        .collect();
    let below = BaseImage {
        reference: "registry.example/base:1".parse().expect("a constant"),
        manifest: base.manifest,
        config: checked.config.clone(),
        annotations: checked.annotations,
        scripts: Some("/opt/venv/bin".to_owned()),
    };
    let request = ImageRequest {
        platform,
        epoch: Epoch::default(),
        config: &Image::default(),
        default_env: Vec::new(),
        base: None,
        below: Some(&below),
        layers: &layers,
    };
    let Ok(image) = assemble(&request) else { return };
    assert_eq!(assemble(&request).expect("as before"), image);
    let config = ImageConfig::parse(&image.config).expect("what we write is read");
    assert_eq!(config.config.cmd, checked.config.config.cmd);
    assert_eq!(config.config.entrypoint, checked.config.config.entrypoint);
    assert!(config.history.is_empty() || of_layers(&config) == layers.len());
    let names: Vec<_> = config.config.env.iter().filter_map(|entry| entry.split_once('=')).collect();
    assert_eq!(names.len(), config.config.env.len(), "a variable without a name");
    let unique: BTreeSet<_> = names.iter().map(|(name, _)| name).collect();
    assert_eq!(unique.len(), names.len(), "a variable twice");
    let path = names.iter().find(|(name, _)| *name == "PATH").expect("there is a search path");
    assert!(path.1.split(':').any(|directory| directory.trim_end_matches('/') == "/opt/venv/bin"));
}

fn of_layers(config: &ImageConfig) -> usize {
    config.history.iter().filter(|entry| !entry.empty_layer).count()
}
