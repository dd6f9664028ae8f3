//! From formed layers to images: documents, their place in the store, the name.

use std::collections::BTreeMap;

use super::build::{BuiltImage, BuiltLayer};
use super::files::FilesLayer;
use super::work::Work;
use super::{Engine, EngineError, Event, Project};
use crate::digest::Digest;
use crate::image::{self, BaseImage, Image, ImageLayer, ImageRequest};
use crate::lock::model::Lock;
use crate::oci::{Descriptor, Platform, Reference};
use crate::store::ImageRecord;
use crate::wheel::Pruned;

/// The image of one platform.
pub(super) struct Assembled {
    pub platform: Platform,
    pub image: Image,
    pub layers: Vec<BuiltLayer>,
    pub pruned: Option<Pruned>,
    /// Documents of the image below, kept for as long as this one: a build reads them.
    below: Vec<Digest>,
}

impl Assembled {
    pub(super) fn new(
        project: &Project,
        lock: &Lock,
        work: Work,
        below: Option<&BaseImage>,
        files: &[FilesLayer],
        pruned: Option<Pruned>,
    ) -> Result<Self, EngineError> {
        let Work { plan, known, reused, sealed, .. } = work;
        let planned = plan.layers.into_iter().zip(known).zip(reused.into_iter().zip(sealed));
        let mut layers: Vec<_> = planned
            .map(|((layer, known), (reused, sealed))| {
                let facts = known.expect("every layer of the plan has been formed");
                let built = BuiltLayer::new(layer.kind, layer.title, layer.contents, &facts, reused);
                BuiltLayer { sealed, ..built }
            })
            .collect();
        layers.extend(files.iter().map(FilesLayer::built));
        let of_image: Vec<_> = layers.iter().map(BuiltLayer::of_image).collect();
        let request = ImageRequest {
            platform: plan.platform,
            epoch: plan.epoch,
            config: &project.spec.image,
            default_env: Vec::new(),
            base: plan.suite.map(|_| lock.inputs.base.clone()),
            below,
            layers: &of_image,
        };
        let of_base = lock.bases.iter().filter(|base| base.platform == plan.platform);
        let below = of_base.flat_map(|base| [base.manifest, base.config]).collect();
        Ok(Self { platform: plan.platform, image: image::assemble(&request)?, layers, pruned, below })
    }

    pub(super) fn built(&self) -> BuiltImage {
        BuiltImage {
            platform: self.platform,
            manifest: self.image.descriptor.digest,
            config: self.image.config_descriptor.digest,
            layers: self.layers.clone(),
            pruned: self.pruned,
        }
    }
}

impl BuiltLayer {
    fn of_image(&self) -> ImageLayer {
        ImageLayer {
            digest: self.digest,
            size: self.size,
            diff_id: self.diff_id,
            media_type: self.media_type.clone(),
            kind: self.kind,
            title: self.title.clone(),
            contents: self.contents.clone(),
        }
    }
}

/// All that is written of an image but its layers.
pub(super) struct Documents {
    pub root: Descriptor,
    pub by_digest: BTreeMap<Digest, Vec<u8>>,
    /// Digest and size, each once.
    pub layers: BTreeMap<Digest, u64>,
}

impl Documents {
    pub(super) fn new(images: &[Assembled]) -> Result<Self, EngineError> {
        let (mut by_digest, mut layers) = (BTreeMap::new(), BTreeMap::new());
        for Assembled { image, layers: built, .. } in images {
            by_digest.insert(image.descriptor.digest, image.manifest.clone());
            by_digest.insert(image.config_descriptor.digest, image.config.clone());
            layers.extend(built.iter().map(|layer| (layer.digest, layer.size)));
        }
        let root = match images {
            [only] => only.image.descriptor.clone(),
            several => {
                let several: Vec<_> = several.iter().map(|one| (one.platform, &one.image)).collect();
                let index = image::index(&several)?;
                by_digest.insert(index.descriptor.digest, index.bytes);
                index.descriptor
            }
        };
        Ok(Self { root, by_digest, layers })
    }
}

impl Engine {
    /// Keeps the documents, and the image under its names. In a store that cannot be written to the names are lost, which is
    /// no matter when the image is also `elsewhere`, or is there under that name already.
    pub(super) fn save(
        &self,
        (project, lock): (&Project, &Lock),
        references: &[Reference],
        images: &[Assembled],
        documents: &Documents,
        elsewhere: bool,
    ) -> Result<(), EngineError> {
        for bytes in documents.by_digest.values() {
            self.store.put_bytes(bytes)?;
        }
        let made_from = Some(project.made_from(lock));
        for reference in references {
            let record = ImageRecord {
                reference: reference.tagged(),
                digest: documents.root.digest,
                media_type: documents.root.media_type.to_string(),
                platforms: images.iter().map(|image| image.platform.to_string()).collect(),
                spec: project.whole_path(),
                layers: documents.layers.keys().copied().collect(),
                blobs: images
                    .iter()
                    .flat_map(|image| &image.below)
                    .chain(documents.by_digest.keys())
                    .copied()
                    .collect(),
                size: documents.layers.values().sum(),
                made_from,
            };
            self.name(&record, elsewhere)?;
        }
        Ok(())
    }

    fn name(&self, record: &ImageRecord, elsewhere: bool) -> Result<(), EngineError> {
        // A record that cannot be read is as good as none.
        let before = self.store.image(&record.reference).ok().flatten();
        if before.as_ref() == Some(record) {
            return Ok(());
        }
        let same = before.is_some_and(|before| before.digest == record.digest);
        match self.store.put_image(record) {
            Err(error) if error.is_read_only() && same => Ok(()),
            Err(error) if error.is_read_only() && elsewhere => {
                let text = format!("the store cannot be written to: it does not know {}", record.reference);
                self.reporter.event(Event::Warning(text));
                Ok(())
            }
            done => Ok(done?),
        }
    }
}

/// The name of an image, checked; a digest in it is refused, since the digest is what the build finds out.
pub(super) fn reference(name: &str) -> Result<Reference, EngineError> {
    let reference: Reference =
        name.parse().map_err(|source| EngineError::Reference { reference: name.to_owned(), source })?;
    if reference.digest().is_some() {
        return Err(EngineError::Usage(format!("`{name}` has a digest: the build decides the digest")));
    }
    Ok(reference)
}
