//! What the base of a lock must keep when it is an image of a registry.
//!
//! That its layers are those of its manifest cannot be seen here: a build compares them with the manifest and the config,
//! which it has by their digests.

use std::collections::BTreeMap;

use super::model::{BaseDirectory, BaseLock, BasePaths, Lock, MAX_BASE_LAYERS, MAX_PATHS, OCI};
use super::rules::Check;
use crate::oci::{MAX_DOCUMENT, MediaType, Reference};
use crate::tree::{PATH_MAX, TreePath};

/// The reference behind `oci:`, which names its registry and is written in the one way there is.
pub(super) fn reference(base: &str) -> Option<Reference> {
    let text = base.strip_prefix(OCI)?;
    let reference: Reference = text.parse().ok()?;
    (reference.registry().is_some() && reference.to_string() == text).then_some(reference)
}

impl Check<'_> {
    pub(super) fn bases(&mut self, lock: &Lock) {
        let reference = reference(&lock.inputs.base);
        let platforms: Vec<_> = lock.bases.iter().map(|base| base.platform).collect();
        let expected = if reference.is_some() { self.platforms } else { &[] };
        self.require(
            platforms == expected,
            || format!("base `{}`", lock.inputs.base),
            match reference {
                Some(_) => "has not one table `base` for each platform, in their order",
                None => "has a table `base`, which only an image of a registry has",
            },
        );
        for base in &lock.bases {
            let item = || format!("the base for {}", base.platform);
            if let Some(asked) = reference.as_ref().and_then(Reference::digest) {
                self.require(
                    base.manifest == asked || base.index == Some(asked),
                    item,
                    format!("is not {asked}, which was asked for"),
                );
            }
            let known = base.glibc.is_some() && base.glibc().is_some_and(|(major, _)| major == 2);
            self.require(
                known || (base.glibc.is_none() && lock.python.is_none()),
                item,
                "has no version of glibc that Python packages could be chosen for",
            );
            for (what, size) in [("manifest", base.manifest_size), ("config", base.config_size)] {
                self.require(
                    (1..=MAX_DOCUMENT as u64).contains(&size),
                    item,
                    format!("has a {what} of {size} bytes"),
                );
            }
            self.layers(base, item);
            if let Some(paths) = &base.paths {
                self.paths(paths, item);
            }
        }
    }

    fn layers(&mut self, base: &BaseLock, item: impl Fn() -> String + Copy) {
        self.require(!base.layers.is_empty(), item, "has no layer");
        self.require(
            base.layers.len() <= MAX_BASE_LAYERS,
            item,
            format!("has {} layers, more than {MAX_BASE_LAYERS}", base.layers.len()),
        );
        let mut seen = BTreeMap::new();
        for layer in &base.layers {
            let item = || format!("layer {} of {}", layer.digest, item());
            self.size(layer.size, item);
            self.require(
                matches!(
                    layer.media_type,
                    MediaType::LayerTar | MediaType::LayerTarGzip | MediaType::LayerTarZstd
                ),
                item,
                format!("is of media type `{}`", layer.media_type.as_str().escape_debug()),
            );
            // Builders write one empty layer several times.
            let first = seen.entry(layer.digest).or_insert(layer);
            self.require(*first == layer, item, "is there twice, and differs");
        }
        let diff_ids: BTreeMap<_, _> =
            base.layers.iter().map(|layer| (layer.diff_id, layer.digest)).collect();
        self.require(
            diff_ids.len() == seen.len(),
            item,
            "has other layers of the same content, or other content of the same layer",
        );
    }

    fn paths(&mut self, paths: &BasePaths, item: impl Fn() -> String + Copy) {
        let (links, directories) = (&paths.links, &paths.directories);
        let count = links.len() + directories.len();
        self.require(count <= MAX_PATHS, item, format!("has {count} paths, more than {MAX_PATHS}"));
        let names = |list: Vec<&String>| list.into_iter().cloned().collect::<Vec<_>>();
        for (key, paths) in [
            ("links", names(links.iter().map(|(path, _)| path).collect())),
            ("directories", names(directories.iter().map(|directory| &directory.path).collect())),
        ] {
            self.sorted(&paths, || format!("`{key}` of {}", item()), |path| format!("`/{path}`"));
            for path in &paths {
                if let Err(error) = TreePath::new(path) {
                    self.require(false, || format!("path `/{path}` of {}", item()), error.rule);
                }
            }
        }
        for (path, target) in links {
            let plain = !target.is_empty() && target.len() <= PATH_MAX && !target.contains('\0');
            self.require(plain, || format!("link `/{path}` of {}", item()), "has a target that is none");
        }
        for BaseDirectory { path, mode, owner } in directories {
            let item = || format!("directory `/{path}` of {}", item());
            let noted = *mode != 0o755 || *owner != (0, 0);
            self.require(*mode <= 0o7777 && noted, item, "has a mode that is none to be noted");
            // The largest number means "leave it as it is" to the kernel.
            self.require(owner.0 != u32::MAX && owner.1 != u32::MAX, item, "has an owner that is none");
        }
    }
}
