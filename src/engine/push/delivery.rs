//! Single blobs into a repository beside the image's own.

use std::sync::Arc;

use super::Parcel;
use super::target::Target;
use crate::engine::{Engine, EngineError, Place};
use crate::oci::{Descriptor, MediaType};
use crate::registry::Repository;
use crate::store::LayerFacts;

pub struct Delivery<'e> {
    engine: &'e Engine,
    target: Target,
    /// What has them already.
    image: Place,
}

impl<'e> Delivery<'e> {
    pub fn new(engine: &'e Engine, place: &Place, repository: Repository, image: &Place) -> Self {
        let reporter = Arc::clone(&engine.reporter);
        let target = (place.clone(), repository);
        let target = Target::new(target, engine.store().clone(), reporter, engine.cancel.clone(), false);
        Self { engine, target, image: image.clone() }
    }

    pub async fn layer(&self, title: &str, facts: &LayerFacts) -> Result<(), EngineError> {
        let mut parcel = Parcel::layer(self.engine, title, facts.digest, facts.size)?;
        parcel.origins.insert(0, self.image.clone());
        self.target.deliver(parcel).await?;
        Ok(())
    }

    pub async fn bytes(&self, media_type: MediaType, bytes: Vec<u8>) -> Result<Descriptor, EngineError> {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.target.deliver(Parcel::bytes("facts", bytes)).await?;
        Ok(descriptor)
    }
}
