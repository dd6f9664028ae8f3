//! What is to be done for one platform: its plan, and what is known of the plan's layers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::seal::Seals;
use super::{Engine, EngineError};
use crate::digest::Digest;
use crate::lock::model::Lock;
use crate::plan::{LayerPlan, Plan, PlannedWheel};
use crate::store::LayerFacts;
use crate::wheel::{self, Installed};

/// Installed wheels by their digest.
pub(super) type Wheels = BTreeMap<Digest, Arc<Installed>>;

/// Whose word is enough for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The store's, whose records lead to the bytes.
    Bytes,
    /// The lock's seal, too, which does not.
    Seals,
    /// The lock's seal, and what this machine has formed; no registry's.
    Own,
}

/// What is remembered of a set of wheels that agree.
pub(super) const NO_COLLISION: &[u8] = b"no collision";

/// What is remembered of a set of wheels that agree, as the layer store at that place says.
pub(super) fn no_collision_says(place: &str) -> Vec<u8> {
    format!("no collision, says {place}").into_bytes()
}

/// A plan with what is known of its layers.
pub(super) struct Work {
    pub plan: Plan,
    pub trust: Trust,
    /// The layer store that this build believes: a hint is nothing to a build that has not asked for it.
    pub hints: Option<String>,
    /// What is known of each layer of the plan, in its order.
    pub known: Vec<Option<LayerFacts>>,
    pub reused: Vec<bool>,
    /// Which of them are known by their seals alone.
    pub sealed: Vec<bool>,
    /// What the lock says of the layers.
    pub seals: Seals,
    /// Wheels as they are installed, by their digest: each is read once, for its layer and for the check of them all.
    installed: Mutex<Wheels>,
    /// The wheels after preferences have taken files from them; made when the first layer needs it.
    merged: Mutex<Option<Arc<Wheels>>>,
}

impl Work {
    /// The work of a plan of which nothing is known yet.
    pub(super) fn new(lock: &Lock, plan: Plan) -> Self {
        let layers = plan.layers.len();
        let seals = Seals::of(lock, &plan);
        let (known, reused, sealed) = (vec![None; layers], vec![false; layers], vec![false; layers]);
        let (installed, merged) = (Mutex::default(), Mutex::default());
        let (trust, hints) = (Trust::Own, None);
        Self { plan, trust, hints, known, reused, sealed, seals, installed, merged }
    }

    /// What is known of the layers that are made here. Of those of an image below only its lock has a say: what this machine
    /// happens to know of them must change nothing.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&LayerPlan, &LayerFacts)> {
        let all = self.plan.layers.iter().zip(&self.known);
        all.filter(|(layer, _)| !layer.is_given()).filter_map(|(layer, facts)| Some((layer, facts.as_ref()?)))
    }

    /// The layer at `at` is to be formed, whatever is known of it.
    pub(super) fn forget(&mut self, at: usize) {
        self.known[at] = None;
        self.reused[at] = false;
        self.sealed[at] = false;
    }

    /// What `wheel` puts into the image.
    pub(super) fn installed(
        &self,
        engine: &Engine,
        wheel: &PlannedWheel,
    ) -> Result<Arc<Installed>, EngineError> {
        if !self.plan.prefer.is_empty() {
            return Ok(Arc::clone(&self.merged(engine)?[&wheel.sha256]));
        }
        self.whole(engine, wheel)
    }

    /// All files of `wheel`, whatever is preferred.
    fn whole(&self, engine: &Engine, wheel: &PlannedWheel) -> Result<Arc<Installed>, EngineError> {
        let scheme = self.plan.scheme.as_ref().expect("a plan with wheels has a scheme");
        let known = || self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installed) = known().get(&wheel.sha256) {
            return Ok(Arc::clone(installed));
        }
        // Two threads may both come here; then both find the same.
        let installed = Arc::new(engine.install(&self.plan, scheme, wheel)?);
        known().insert(wheel.sha256, Arc::clone(&installed));
        Ok(installed)
    }

    /// Refuses two wheels that write one path with different bytes. Gives the installed wheels, less what preferences
    /// took from them.
    pub(super) fn check_wheels(&self, engine: &Engine) -> Result<Wheels, EngineError> {
        let wheels: Vec<_> = self.plan.wheels().collect();
        let merged = || {
            let mut installed = Vec::new();
            for wheel in &wheels {
                installed.push((wheel.file.clone(), self.whole(engine, wheel)?));
            }
            let merged = wheel::merge(installed, &self.plan.prefer)?;
            engine.store.memo_put(&self.plan.wheel_set, NO_COLLISION)?;
            Ok(wheels.iter().map(|wheel| wheel.sha256).zip(merged).collect())
        };
        engine.or_damaged(wheels.iter().copied(), merged())
    }

    /// Made once; whoever comes meanwhile waits.
    fn merged(&self, engine: &Engine) -> Result<Arc<Wheels>, EngineError> {
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(merged) = &*merged {
            return Ok(Arc::clone(merged));
        }
        let made = Arc::new(self.check_wheels(engine)?);
        *merged = Some(Arc::clone(&made));
        Ok(made)
    }
}
