//! Pushing images to registries.
//!
//! [`Engine::push`] sends an image of the store; a build with [`BuildRequest::push`](super::BuildRequest::push) begins to send a
//! layer as soon as it is formed, while others are still downloaded. Layers are streamed from their recipes: no layer file is
//! ever written.
//!
//! **What is not sent.** The manifest that the registry has under the tag names blobs that should be there; a blob that the
//! registry has in another repository, as far as we know, is mounted; of what is left, each blob is looked for before it is sent.
//!
//! **Order.** Blobs in parallel, then the manifests of the platforms, then the index, then the tags: no name ever stands for
//! something incomplete. At the end the registry is asked what the tag stands for now.
//!
//! What we believe a registry to have is never taken for granted: registries lose blobs that their manifests name. Before a
//! manifest or a tag is written, all blobs below it have been looked for, or sent, or mounted, and what is missing is sent; a
//! registry that refuses a manifest for lack of a blob is sent that blob, once. Only where the tag stands for the image already is
//! nothing looked for, unless somebody asks for it ([`How::check`]).

mod delivery;
mod image;
pub(super) mod knowledge;
mod outbound;
mod pace;
mod parcel;
mod shipment;
mod target;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use delivery::Delivery;
pub(super) use outbound::Outbound;

use image::PushImage;
use parcel::Parcel;
use shipment::Shipment;

use super::{Engine, EngineError, Event, Phase, Place};
use crate::digest::Digest;
use crate::oci::Reference;

/// Where an image goes.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// Each names a registry. Those of one repository are tags of one push.
    pub to: Vec<Reference>,
    pub how: How,
}

/// Besides the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Only look what would have to be sent.
    pub dry_run: bool,
    /// Look for every blob and manifest, also where the tag stands for the image already.
    pub check: bool,
}

/// What has become of a push to one repository.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub references: Vec<String>,
    /// Of the manifest or index that the references stand for now.
    pub digest: Digest,
    /// In the order of the image, each once.
    pub blobs: Vec<PushedBlob>,
    /// The time in which blobs were sent.
    pub took: Duration,
    /// Manifests and indexes that were written, counting each tag.
    pub written: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedBlob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub title: String,
    pub outcome: Outcome,
}

/// Of a blob; in a dry run, what would become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    /// The repository had it.
    There,
    /// The registry took it from another of its repositories.
    Mounted {
        from: String,
    },
    /// In a dry run alone: a repository may have it that does not say so.
    MayBeSent,
}

impl Pushed {
    /// Bytes of blobs that were sent.
    pub fn sent(&self) -> u64 {
        let sent = self.blobs.iter().filter(|blob| blob.outcome == Outcome::Sent);
        sent.map(|blob| blob.size).sum()
    }
}

impl Engine {
    /// Pushes the image or index `root` of the store.
    pub fn push(&self, root: Digest, request: &PushRequest) -> Result<Vec<Pushed>, EngineError> {
        self.or_cancelled(self.push_everywhere(root, request))
    }

    fn push_everywhere(&self, root: Digest, request: &PushRequest) -> Result<Vec<Pushed>, EngineError> {
        let mut image = PushImage::of_store(self, root)?;
        self.reporter.event(Event::Phase(Phase::Push));
        let mut pushed = Vec::new();
        for (place, references) in by_repository(&request.to)? {
            let shipment = Shipment::begin(self, &place, references, request.how, Some(root))?;
            pushed.push(shipment.finish(self, &image)?);
            if !request.how.dry_run {
                image.is_at(self, &place)?;
            }
        }
        Ok(pushed)
    }
}

/// The references of each repository, repositories in the order in which they are named first.
fn by_repository(references: &[Reference]) -> Result<Vec<(Place, Vec<Reference>)>, EngineError> {
    let mut order = Vec::new();
    let mut all: BTreeMap<Place, Vec<Reference>> = BTreeMap::new();
    for reference in references {
        let place = Place::of(reference)?;
        let named = all.entry(place.clone()).or_default();
        if named.is_empty() {
            order.push(place);
        }
        if !named.contains(reference) {
            named.push(reference.clone());
        }
    }
    Ok(order
        .into_iter()
        .map(|place| {
            let named = all.remove(&place).expect("it was put there above");
            (place, named)
        })
        .collect())
}
