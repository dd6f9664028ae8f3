//! What a registry says of an image, without its layers and without the store: documents, and what refers to it.

use std::collections::BTreeMap;

use super::pull::documents;
use super::registries::Place;
use super::{Engine, EngineError};
use crate::digest::Digest;
use crate::oci::{Descriptor, Reference};
use crate::registry::{Attached, Attachment, ManifestName, Repository};

/// An image or an index in a registry: what its descriptor leads to, layers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    pub root: Descriptor,
    /// Manifests, configs and the index, by digest.
    pub documents: BTreeMap<Digest, Vec<u8>>,
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
}

async fn subject(repository: &Repository, reference: &Reference) -> Result<Descriptor, EngineError> {
    let found = repository.head_manifest(&ManifestName::from(reference)).await?;
    found.ok_or_else(|| EngineError::NoSuchImage { reference: reference.to_string() })
}
