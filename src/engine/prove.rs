//! Proofs: layers made anew from their files, into nothing, and compared with what is said of them.
//!
//! [`Engine::prove_seals`] asks no network and proves what it can; [`Engine::verify`] downloads what it needs, and
//! compares with the store's records and the layer store as well. Neither believes a record: only files whose SHA-256 the lock
//! pins count.

use std::collections::{BTreeMap, BTreeSet};

use super::layer_store::LayerStore;
use super::prove_base::Bring;
use super::seal::{self, Breach, Witness};
use super::work::Work;
use super::{Engine, EngineError, Project, assemble};
use crate::digest::{DiffId, Digest};
use crate::lock::seal::SealedLayer;
use crate::lock::{self, Lock};
use crate::oci::Platform;
use crate::plan::LayerKind;
use crate::store::LayerFacts;

/// What became of the seals of a lock. Layers are counted for each platform.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// Layers that the lock means.
    pub layers: usize,
    /// Those of them that have a seal.
    pub sealed: usize,
    /// Seals that their files were compared with.
    pub proved: usize,
    /// Seals of which not all files are in the store.
    pub unproved: usize,
    /// Sentences about seals that are not of this lock's layers.
    pub stale: Vec<String>,
    pub breaches: Vec<Breach>,
}

#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// So many layers, by chance; none: all.
    pub sample: Option<usize>,
    /// Decides which layers the sample has.
    pub seed: u64,
    /// Name of the image, whose registry has the layer store; none takes the spec's.
    pub reference: Option<String>,
    /// As [`BuildRequest::layer_store`](super::BuildRequest::layer_store).
    pub layer_store: Option<String>,
}

/// What [`Engine::verify`] found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Layers of all platforms, one of several platforms once.
    pub of: usize,
    /// In the order of platforms and of the plan.
    pub layers: Vec<VerifiedLayer>,
    pub breaches: Vec<Breach>,
}

/// A layer as its files give it.
#[derive(Debug, Clone)]
pub struct VerifiedLayer {
    /// The first that has it.
    pub platform: Platform,
    pub kind: LayerKind,
    pub title: String,
    pub key: Digest,
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
    /// Whether the lock's seal says the same; none without a seal.
    pub as_sealed: Option<bool>,
    /// Whether the store's record says the same; none without a record, or where it only repeats a layer store.
    pub as_stored: Option<bool>,
    /// Whether the layer store says the same: now, and when this machine has heard of the layer from one.
    pub as_shared: Option<bool>,
}

impl Engine {
    /// Compares the seals of the lock with the files that the store has. None where the lock has no seals. Whether the
    /// lock satisfies the spec is [`Engine::check_lock`]'s to say.
    pub fn prove_seals(&self, project: &Project, lock: &Lock) -> Result<Option<Proof>, EngineError> {
        if lock.seals.is_empty() {
            return Ok(None);
        }
        let prove = || self.repairing(lock, || self.proof(project, lock));
        self.or_cancelled(prove()).map(Some)
    }

    fn proof(&self, project: &Project, lock: &Lock) -> Result<Proof, EngineError> {
        let works = self.unknown_works(project, lock)?;
        let mut proof = Proof::default();
        let mut anew = Vec::new();
        for (w, work) in works.iter().enumerate() {
            proof.stale.extend(seal::stale(lock, &work.plan));
            proof.layers += work.plan.layers.iter().filter(|layer| !layer.is_given()).count();
            for l in (0..work.plan.layers.len()).filter(|l| work.seals.layer(*l).is_some()) {
                proof.sealed += 1;
                match self.is_at_hand(&work.plan, l) {
                    true => anew.push((w, l)),
                    false => proof.unproved += 1,
                }
            }
        }
        // What was said of all wheels together, where all are here.
        let checked = |work: &Work| {
            work.seals.wheels_agree && work.plan.wheels().all(|wheel| self.store.has(&wheel.sha256))
        };
        let checks: Vec<_> = (0..works.len()).filter(|w| checked(&works[*w])).collect();
        let formed = by_key(&works, self.form_anew(project, lock, &works, &anew, &checks)?);
        for (w, l) in anew {
            let work = &works[w];
            let facts = &formed[&work.plan.layers[l].key];
            proof.proved += 1;
            proof.breaches.extend(work.seals.breach(&work.plan, l, facts)?);
        }
        Ok(proof)
    }

    /// Makes layers of the lock anew, downloading what is missing, and compares them with the lock's seals, with the store's
    /// records and with what the layer store says. Where one of the latter two is wrong, the store keeps the layer as its files
    /// give it.
    pub fn verify(&self, project: &Project, request: &VerifyRequest) -> Result<Verified, EngineError> {
        let lock = locked(project)?;
        let drift = lock::drift(&lock.inputs, &project.inputs());
        if !drift.is_empty() {
            return Err(EngineError::OutOfDate { path: project.lock_path(), drift });
        }
        let verify = || self.repairing(&lock, || self.verify_lock(project, &lock, request));
        self.or_cancelled(verify())
    }

    fn verify_lock(
        &self,
        project: &Project,
        lock: &Lock,
        request: &VerifyRequest,
    ) -> Result<Verified, EngineError> {
        let bring = if request.sample.is_none() { Bring::All } else { Bring::Documents };
        self.check_bases(project, lock, bring)?;
        let works = self.unknown_works(project, lock)?;
        let mut seen = BTreeSet::new();
        let all =
            works.iter().enumerate().flat_map(|(w, work)| (0..work.plan.layers.len()).map(move |l| (w, l)));
        let all = all.filter(|(w, l)| !works[*w].plan.layers[*l].is_given());
        let mut all: Vec<_> = all.filter(|(w, l)| seen.insert(works[*w].plan.layers[*l].key)).collect();
        let of = all.len();
        let checks: Vec<_> = match request.sample {
            Some(count) => {
                all = sample(all, count, request.seed);
                Vec::new()
            }
            None => (0..works.len()).filter(|w| works[*w].plan.scheme.is_some()).collect(),
        };
        // Who cannot be asked is known before the work is done.
        let layers = self.layer_store_of(project, request)?;
        let keys: Vec<_> = all.iter().map(|(w, l)| works[*w].plan.layers[*l].key).collect();
        let heard = match layers.as_ref().map(|layers| (layers, self.hear(layers, &keys))) {
            Some((_, Ok(heard))) => heard,
            Some((layers, Err(error))) if request.layer_store.is_none() => {
                self.without(layers, error)?;
                vec![None; keys.len()]
            }
            Some((_, Err(error))) => return Err(error),
            None => vec![None; keys.len()],
        };
        let formed = by_key(&works, self.form_anew(project, lock, &works, &all, &checks)?);
        let mut verified = Verified { of, layers: Vec::new(), breaches: Vec::new() };
        let mut wrong = Vec::new();
        for ((w, l), heard) in all.into_iter().zip(heard) {
            let work = &works[w];
            let layer = &work.plan.layers[l];
            let facts = &formed[&layer.key];
            let mut compare = |witness, place: Option<&String>, said: SealedLayer| {
                let breach = Breach::between(witness, &said, &work.plan, l, facts)?;
                let same = breach.is_none();
                let breach = breach.map(|breach| Breach { place: place.cloned(), ..breach });
                // What was heard before is mostly what is said now.
                if let Some(breach) = breach
                    && !verified.breaches.contains(&breach)
                {
                    verified.breaches.push(breach);
                }
                Ok::<_, EngineError>(same)
            };
            let as_sealed =
                work.seals.layer(l).map(|seal| compare(Witness::Seal, None, seal.clone())).transpose()?;
            let (mut as_stored, mut as_shared) = (None, None);
            let known = self.known(layer)?;
            for facts in known.iter().chain(&heard) {
                let said = seal::sealed(layer, facts)?;
                if facts.is_hearsay() {
                    let same = compare(Witness::LayerStore, facts.origins.first(), said)?;
                    as_shared = Some(same && as_shared.unwrap_or(true));
                } else {
                    as_stored = Some(compare(Witness::Store, None, said)?);
                }
            }
            if as_shared == Some(false)
                && let Some(layers) = &layers
            {
                self.is_to_mend(layers, &layer.key)?;
            }
            // What was made here and is right needs not be made again.
            if as_stored == Some(false) || (as_stored.is_none() && as_shared == Some(false)) {
                if let Some(record) = known {
                    self.store.forget_layer(&record.digest)?;
                }
                wrong.push((w, l));
            }
            let LayerFacts { digest, size, diff_id, .. } = *facts;
            verified.layers.push(VerifiedLayer {
                platform: work.plan.platform,
                kind: layer.kind,
                title: layer.title.clone(),
                key: layer.key,
                digest,
                size,
                diff_id,
                as_sealed,
                as_stored,
                as_shared,
            });
        }
        match self.keep_formed(project, lock, &works, &wrong) {
            Err(EngineError::Store(error)) if error.is_read_only() => {}
            kept => kept?,
        }
        Ok(verified)
    }

    /// The layer store that layers are compared with. One that the user has set for the registry can be done without.
    fn layer_store_of(
        &self,
        project: &Project,
        request: &VerifyRequest,
    ) -> Result<Option<LayerStore>, EngineError> {
        let name = request.reference.as_ref().or(project.spec.image.name.as_ref());
        let reference = name.map(|name| assemble::reference(name)).transpose()?;
        let asked = request.layer_store.as_deref();
        let found = self.layer_store(asked, true, reference.as_ref())?.map(|(layers, _)| layers);
        if found.is_none() && asked.is_some() {
            return Err(EngineError::Usage(
                "a layer store is in the registry of the image: `name` of [image], or -t, says which".into(),
            ));
        }
        Ok(found)
    }

    /// The plans of all platforms of the lock, as if nothing were known of their layers.
    fn unknown_works(&self, project: &Project, lock: &Lock) -> Result<Vec<Work>, EngineError> {
        let platforms = lock.inputs.platforms.iter();
        platforms.map(|platform| Ok(Work::new(lock, self.plan(project, lock, *platform)?))).collect()
    }
}

pub(super) fn locked(project: &Project) -> Result<Lock, EngineError> {
    match project.read_lock()? {
        Some((lock, _)) => Ok(lock),
        None => Err(EngineError::NoLock { path: project.lock_path() }),
    }
}

/// A layer of several platforms was formed once.
fn by_key(works: &[Work], formed: Vec<(usize, usize, LayerFacts)>) -> BTreeMap<Digest, LayerFacts> {
    formed.into_iter().map(|(w, l, facts)| (works[w].plan.layers[l].key, facts)).collect()
}

/// `count` of `all`, in their order. The same `seed` gives the same sample on every machine.
fn sample<T>(all: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    let mut left = all.len() as u64;
    let mut wanted = count as u64;
    let mut state = seed;
    all.into_iter()
        .filter(|_| {
            // Knuth's selection sampling: each subset of that size is as likely as any other.
            let chosen = below(&mut state, left) < wanted;
            left -= 1;
            wanted -= u64::from(chosen);
            chosen
        })
        .collect()
}

/// A number below `bound`: SplitMix64, whose bias for some hundred layers nobody can see.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_fair_and_repeat_themselves() {
        let all = || (0..10).collect::<Vec<_>>();
        assert_eq!(sample(all(), 3, 7), sample(all(), 3, 7));
        assert_eq!(sample(all(), 10, 7), all());
        assert_eq!(sample(all(), 99, 7), all());
        assert!(sample(all(), 0, 7).is_empty());
        assert!(sample(Vec::<u8>::new(), 3, 7).is_empty());
        let mut counts = [0; 10];
        for seed in 0..2_000 {
            let sample = sample(all(), 3, seed);
            assert!(sample.len() == 3 && sample.is_sorted());
            sample.iter().for_each(|item| counts[*item] += 1);
        }
        // 600 each; five standard deviations are 102.
        assert!(counts.iter().all(|count| (498..=702).contains(count)), "{counts:?}");
    }
}
