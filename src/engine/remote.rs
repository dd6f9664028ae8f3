//! What a registry says of an image, without its layers and without the store: documents, and what refers to it.

use std::collections::BTreeMap;

use futures::stream::{StreamExt as _, TryStreamExt as _, iter};

use super::pull::documents;
use super::registries::Place;
use super::{Engine, EngineError};
use crate::digest::Digest;
use crate::oci::{Descriptor, ImageManifest, MediaType, Reference};
use crate::registry::{Attached, Attachment, ManifestName, Repository};

/// Artifacts whose manifests are read for one image, and at the same time.
const MOST_ARTIFACTS: usize = 1000;
const AT_ONCE: usize = 8;

/// An image or an index in a registry: what its descriptor leads to, layers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    pub root: Descriptor,
    /// Manifests, configs and the index, by digest.
    pub documents: BTreeMap<Digest, Vec<u8>>,
}

/// An artifact that refers to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// As the list of referrers has it.
    pub descriptor: Descriptor,
    /// What is in it; none where the registry lists the artifact, but has it no more.
    pub files: Option<Vec<Descriptor>>,
}

impl Engine {
    /// Reads the documents of an image in its registry.
    pub fn remote_image(&self, reference: &Reference) -> Result<RemoteImage, EngineError> {
        let source = self.registries()?.reading(&Place::of(reference)?)?;
        let documents = self.wait(documents(&source, reference))?;
        Ok(RemoteImage { root: documents.root, documents: documents.bytes })
    }

    /// Attaches something to an image or an index in its registry, whose descriptor is the first of the two.
    pub fn attach(
        &self,
        reference: &Reference,
        attachment: &Attachment,
    ) -> Result<(Descriptor, Attached), EngineError> {
        let repository = self.registries()?.repository(&Place::of(reference)?)?;
        self.wait(async {
            let subject = subject(&repository, reference).await?;
            let attached = repository.attach(&subject, attachment).await?;
            Ok((subject, attached))
        })
    }

    /// An image or an index in its registry, and the artifacts that refer to it.
    pub fn referrers(&self, reference: &Reference) -> Result<(Descriptor, Vec<Descriptor>), EngineError> {
        let repository = self.registries()?.repository(&Place::of(reference)?)?;
        self.wait(async {
            let subject = subject(&repository, reference).await?;
            let referrers = repository.referrers(&subject.digest).await?;
            Ok((subject, referrers))
        })
    }

    /// What is in artifacts of the image's repository; an index or a manifest of another kind has no files.
    pub fn artifacts(
        &self,
        image: &Reference,
        referrers: Vec<Descriptor>,
    ) -> Result<Vec<Artifact>, EngineError> {
        let repository = self.registries()?.repository(&Place::of(image)?)?;
        if referrers.len() > MOST_ARTIFACTS {
            let (count, name) = (referrers.len(), image.to_string());
            let text = format!(
                "{count} artifacts refer to {name}, more than {MOST_ARTIFACTS}: choose them by --artifact-type"
            );
            return Err(EngineError::Usage(text));
        }
        let read = referrers.into_iter().map(|descriptor| async {
            let found = repository.manifest(&descriptor.digest.into()).await?;
            let files = found.map(|found| match ImageManifest::parse(&found.bytes) {
                Ok(manifest) => {
                    manifest.layers.into_iter().filter(|file| file.media_type != MediaType::Empty).collect()
                }
                Err(_) => Vec::new(),
            });
            Ok(Artifact { descriptor, files })
        });
        self.wait(iter(read).buffered(AT_ONCE).try_collect())
    }

    /// A file of an artifact of the image's repository; the caller has bounded its size.
    pub fn attached(&self, image: &Reference, file: &Descriptor) -> Result<Vec<u8>, EngineError> {
        let repository = self.registries()?.repository(&Place::of(image)?)?;
        self.wait(async { Ok(repository.small_blob(file.digest, file.size).await?) })
    }
}

async fn subject(repository: &Repository, reference: &Reference) -> Result<Descriptor, EngineError> {
    let found = repository.head_manifest(&ManifestName::from(reference)).await?;
    found.ok_or_else(|| EngineError::NoSuchImage { reference: reference.to_string(), tags: None })
}
