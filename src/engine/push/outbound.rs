//! The push of an image that is being built: its layers go as they are formed, to the first repository; the others take them
//! from there afterwards.

use std::sync::{Mutex, PoisonError};

use super::parcel::Source;
use super::{How, Parcel, PushImage, Pushed, Shipment, by_repository};
use crate::engine::assemble::Documents;
use crate::engine::work::Work;
use crate::engine::{Engine, EngineError, Event, Phase, Place};
use crate::oci::Reference;
use crate::store::LayerFacts;

pub struct Outbound {
    first: Mutex<Shipment>,
    others: Vec<(Place, Vec<Reference>)>,
}

impl Outbound {
    /// Sends what is known already. Of a layer that is known without its bytes the registry is asked; one that it has not is not
    /// known any more in `works`, so that it is made.
    pub fn begin(engine: &Engine, references: &[Reference], works: &mut [Work]) -> Result<Self, EngineError> {
        let mut others = by_repository(references)?;
        let (place, references) = others.remove(0);
        let mut first = Shipment::begin(engine, &place, references, How::default(), None)?;
        let mut unsure = Vec::new();
        for (w, work) in works.iter().enumerate() {
            for (l, (layer, known)) in work.plan.layers.iter().zip(&work.known).enumerate() {
                let Some(facts) = known else { continue };
                let parcel = Parcel::layer(engine, &layer.title, facts.digest, facts.size)?;
                match parcel.source {
                    Source::Nowhere => unsure.push((w, l, parcel)),
                    // A layer store is believed as far as it goes; a layer of the base has no other source.
                    Source::Elsewhere(_) if !layer.is_given() => unsure.push((w, l, parcel)),
                    _ => first.add(parcel),
                }
            }
        }
        let parcels: Vec<_> = unsure.iter().map(|(_, _, parcel)| parcel.clone()).collect();
        let there = first.can_do_without(engine, &parcels)?;
        for ((w, l, parcel), there) in unsure.into_iter().zip(there) {
            if there {
                first.add(parcel);
            } else {
                works[w].forget(l);
            }
        }
        Ok(Self { first: Mutex::new(first), others })
    }

    /// A layer has been formed.
    pub fn add(&self, engine: &Engine, title: &str, facts: &LayerFacts) -> Result<(), EngineError> {
        let parcel = Parcel::layer(engine, title, facts.digest, facts.size)?;
        self.first.lock().unwrap_or_else(PoisonError::into_inner).add(parcel);
        Ok(())
    }

    pub fn finish(self, engine: &Engine, documents: &Documents) -> Result<Vec<Pushed>, EngineError> {
        let mut image = PushImage::of_build(engine, documents)?;
        engine.reporter.event(Event::Phase(Phase::Push));
        let shipment = self.first.into_inner().unwrap_or_else(PoisonError::into_inner);
        let first = shipment.place().clone();
        let mut pushed = vec![shipment.finish(engine, &image)?];
        if !self.others.is_empty() {
            image.is_at(engine, &first)?;
        }
        for (place, references) in self.others {
            let root = Some(image.root.digest);
            let shipment = Shipment::begin(engine, &place, references, How::default(), root)?;
            pushed.push(shipment.finish(engine, &image)?);
        }
        Ok(pushed)
    }
}
