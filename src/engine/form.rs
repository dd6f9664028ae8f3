//! Forming one layer from sources that are in the store: pure work on one thread of the pool (a large layer takes
//! more), the result kept under the layer's key.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::cancel::{CancellableBlobs, CancellableWriter};
use super::lower::passages;
use super::work::Work;
use super::{Engine, EngineError};
use crate::blob::BlobSource as _;
use crate::debian::{self, Composition};
use crate::digest::Digest;
use crate::elf::ElfFacts;
use crate::epoch::Epoch;
use crate::layer::{self, LayerError, LayerFacts, Recipe, Threads};
use crate::lock::model::{DebLayer, PythonArchive};
use crate::oci::MediaType;
use crate::plan::{LayerPlan, Plan, PlannedWheel};
use crate::spec::model::{WheelException, WheelRule};
use crate::store::{LayerFacts as Known, LayerRecord, LayerSource as Stored, TrustedBlobs};
use crate::tree::{Node, Tree, TreePath};
use crate::wheel::{self, Installed, Scheme, Waivers};

/// What is remembered of a layer beside its digest: enough for the audit and the report of a later build that does not
/// look at the content again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerExtra {
    /// ELF files by path.
    pub elf: Vec<(String, ElfFacts)>,
    /// Links of both kinds by path, with their targets.
    pub links: Vec<(String, String)>,
    /// The symbolic links that the user's files may go through.
    pub passages: Vec<(String, String)>,
    /// Directories whose mode is not 0755, by path.
    pub directories: Vec<(String, u32)>,
    /// Files and bytes that `[prune]` left out.
    pub pruned_files: u64,
    pub pruned_bytes: u64,
    /// Worth telling each time the layer is used.
    pub notes: Vec<String>,
}

/// What becomes of a layer that is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The store keeps it under its key.
    InStore,
    /// Only its facts are wanted; what the store has of it is neither read nor replaced.
    Nothing,
}

impl LayerExtra {
    pub(super) fn parse(record: &Known) -> Result<Self, EngineError> {
        serde_json::from_str(&record.extra).map_err(|error| EngineError::Blob {
            name: format!("layer {}", record.digest),
            source: error.into(),
        })
    }

    /// What [`parse`](Self::parse) reads.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }
}

impl Engine {
    /// The trees of the Debian layers up to `part`.
    pub(super) fn compose(&self, plan: &Plan, part: DebLayer) -> Result<Composition, EngineError> {
        let debs: Vec<_> = plan.debs_of(part).collect();
        let suite = plan.suite.expect("a plan with a Debian layer has a suite");
        debian::compose(&debs, &self.blobs(), suite, plan.platform, &self.store.scratch_dir())
            .map_err(EngineError::Compose)
    }

    pub(super) fn form_debian(
        &self,
        plan: &Plan,
        layer: &LayerPlan,
        part: DebLayer,
        composed: &Composition,
        keep: Keep,
    ) -> Result<Known, EngineError> {
        let (tree, notes) = match part {
            DebLayer::Base => (&composed.base, &composed.base_notes),
            DebLayer::Python => (&composed.python, &composed.python_notes),
        };
        self.form_tree(plan, layer, tree, notes.clone(), keep)
    }

    pub(super) fn form_standalone(
        &self,
        plan: &Plan,
        layer: &LayerPlan,
        archive: &PythonArchive,
        keep: Keep,
    ) -> Result<Known, EngineError> {
        let tree = self.standalone_tree(archive)?.tree;
        self.form_tree(plan, layer, &tree, Vec::new(), keep)
    }

    fn form_tree(
        &self,
        plan: &Plan,
        layer: &LayerPlan,
        tree: &Tree,
        notes: Vec<String>,
        keep: Keep,
    ) -> Result<Known, EngineError> {
        if keep == Keep::InStore {
            return self.encode(plan.epoch, &layer.key, &layer.title, tree, notes);
        }
        let mut writer = CancellableWriter { inner: io::sink(), cancel: self.cancel.clone() };
        let facts = layer::encode(tree, plan.epoch, &mut writer)
            .map_err(|source| EngineError::Layer { title: layer.title.clone(), source })?;
        Ok(known(&facts, &extra(&facts, tree), Vec::new()))
    }

    /// Encodes `tree` into a blob of the store and keeps it under `key`.
    pub(super) fn encode(
        &self,
        epoch: Epoch,
        key: &Digest,
        title: &str,
        tree: &Tree,
        notes: Vec<String>,
    ) -> Result<Known, EngineError> {
        let failed = |source| EngineError::Layer { title: title.to_owned(), source };
        let mut writer = CancellableWriter { inner: self.store.writer()?, cancel: self.cancel.clone() };
        let facts = layer::encode(tree, epoch, &mut writer).map_err(failed)?;
        writer.flush().map_err(|source| EngineError::Blob { name: title.to_owned(), source })?;
        writer.inner.commit(Some((facts.digest, facts.size)))?;
        let extra = LayerExtra { notes, ..extra(&facts, tree) };
        self.keep(key, known(&facts, &extra, Vec::new()), Stored::Blob)
    }

    /// Forms a layer of wheels. Wheels that were not verified before are verified on the way; `threads` may be two when a
    /// core has nothing else to do.
    pub(super) fn form_wheels(
        &self,
        work: &Work,
        layer: &LayerPlan,
        wheels: &[PlannedWheel],
        threads: Threads,
        keep: Keep,
    ) -> Result<Known, EngineError> {
        let formed = self.form_from_unproven(work, layer, wheels, threads, keep);
        self.or_damaged(wheels, formed)
    }

    fn form_from_unproven(
        &self,
        work: &Work,
        layer: &LayerPlan,
        wheels: &[PlannedWheel],
        threads: Threads,
        keep: Keep,
    ) -> Result<Known, EngineError> {
        let (mut tree, mut record, mut extra) = (Tree::new(), BTreeMap::new(), LayerExtra::default());
        for wheel in wheels {
            let installed = work.installed(self, wheel)?;
            extra.pruned_files += installed.pruned.files;
            extra.pruned_bytes += installed.pruned.bytes;
            extra.notes.extend_from_slice(&installed.notes);
            // Equal bytes at one path: the check over all wheels says so.
            for (path, node) in &installed.tree {
                tree.entry(path.clone()).or_insert_with(|| node.clone());
            }
            record.extend(installed.record.iter().map(|(path, digest)| (path.clone(), *digest)));
        }
        for directory in &work.plan.directories {
            let below = format!("{}/", directory.path);
            let is_used = tree.keys().any(|path| path.as_str().starts_with(&below));
            if let Ok(path) = TreePath::new(&directory.path)
                && is_used
            {
                tree.entry(path).or_insert(directory.node());
            }
        }
        let scheme = work.plan.scheme.as_ref().expect("a plan with wheels has a scheme");
        let failed = |source| self.blame(&work.plan, scheme, layer, wheels, source);
        let recipe = Recipe::build(&tree, work.plan.epoch).map_err(failed)?;
        let mut unproven = recipe.blobs();
        unproven.retain(|digest| !self.store.is_verified(digest));
        let facts = layer::measure(&recipe, &tree, &record, &self.unproven_blobs(), &unproven, threads)
            .map_err(failed)?;
        unproven.iter().for_each(|digest| self.store.set_verified(digest));
        extra.elf = elf(&facts);
        let facts = known(&facts, &extra, recipe.blobs());
        match keep {
            Keep::InStore => self.keep(&layer.key, facts, Stored::Recipe(recipe.encode())),
            Keep::Nothing => Ok(facts),
        }
    }

    /// `result`, unless it is an error and a wheel in the store is to blame, which is told then instead.
    pub(super) fn or_damaged<'a, T>(
        &self,
        wheels: impl IntoIterator<Item = &'a PlannedWheel>,
        result: Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let error = match result {
            Err(error) if !self.cancel.is_cancelled() => error,
            result => return result,
        };
        for wheel in wheels {
            let verified = self.blobs().open(&wheel.sha256);
            verified.map_err(|source| EngineError::Blob { name: wheel.file.clone(), source })?;
        }
        Err(error)
    }

    /// The files that `wheel` puts into the image. Its bytes need not be verified yet: the caller sees to that.
    pub(super) fn install(
        &self,
        plan: &Plan,
        scheme: &Scheme,
        wheel: &PlannedWheel,
    ) -> Result<Installed, EngineError> {
        let blob = self
            .unproven_blobs()
            .open(&wheel.sha256)
            .map_err(|source| EngineError::Blob { name: wheel.file.clone(), source })?;
        wheel::open(&wheel.file, wheel.sha256, &*blob, Waivers::new(&wheel.allow))
            .and_then(|opened| wheel::install(&opened, &*blob, scheme, plan.prune))
            .map_err(|source| EngineError::Wheel {
                file: wheel.file.clone(),
                exception: source.waivable().map(|rule| exception(wheel, rule)),
                source,
            })
    }

    /// Says which wheel is to blame for content that is not what its archive or `RECORD` says.
    fn blame(
        &self,
        plan: &Plan,
        scheme: &Scheme,
        layer: &LayerPlan,
        wheels: &[PlannedWheel],
        source: LayerError,
    ) -> EngineError {
        let brought = match &source {
            LayerError::Record { path, .. } | LayerError::Damaged { path, .. } => {
                wheels.iter().find(|wheel| {
                    self.install(plan, scheme, wheel).is_ok_and(|installed| installed.tree.contains_key(path))
                })
            }
            _ => None,
        };
        let Some(wheel) = brought else { return EngineError::Layer { title: layer.title.clone(), source } };
        let mut waived = None;
        if let LayerError::Record { .. } = source {
            let exception = exception(wheel, WheelRule::RecordMismatch);
            let allowed = PlannedWheel { allow: exception.allow.clone(), ..wheel.clone() };
            // That all content is read shows whether `RECORD` is wrong, or the archive itself.
            if let Err(error) = self.install(plan, scheme, &allowed) {
                return error;
            }
            waived = Some(exception);
        }
        EngineError::WheelContent { file: wheel.file.clone(), exception: waived, source }
    }

    fn unproven_blobs(&self) -> CancellableBlobs<TrustedBlobs> {
        CancellableBlobs { blobs: self.store.trusted(), cancel: self.cancel.clone() }
    }

    pub(super) fn blobs(&self) -> CancellableBlobs<crate::store::Store> {
        CancellableBlobs { blobs: self.store.clone(), cancel: self.cancel.clone() }
    }

    fn keep(&self, key: &Digest, facts: Known, source: Stored) -> Result<Known, EngineError> {
        let record = LayerRecord { facts, source };
        self.store.put_layer(key, &record)?;
        Ok(record.facts)
    }
}

fn known(facts: &LayerFacts, extra: &LayerExtra, sources: Vec<Digest>) -> Known {
    Known {
        digest: facts.digest,
        size: facts.size,
        diff_id: facts.diff_id,
        unpacked: facts.unpacked,
        entries: facts.entries,
        sources,
        media_type: MediaType::LayerTarGzip,
        origins: Vec::new(),
        extra: extra.text(),
    }
}

/// What the spec would have to say for the wheel to be taken.
fn exception(wheel: &PlannedWheel, rule: WheelRule) -> WheelException {
    let mut allow = wheel.allow.clone();
    allow.push(rule);
    allow.sort();
    WheelException { sha256: wheel.sha256, allow }
}

fn extra(facts: &LayerFacts, tree: &Tree) -> LayerExtra {
    LayerExtra {
        elf: elf(facts),
        links: links(tree),
        passages: passages(tree),
        directories: directories(tree),
        ..LayerExtra::default()
    }
}

fn elf(facts: &LayerFacts) -> Vec<(String, ElfFacts)> {
    facts.elf.iter().map(|(path, facts)| (path.to_string(), facts.clone())).collect()
}

fn directories(tree: &Tree) -> Vec<(String, u32)> {
    let directory = |(path, node): (&TreePath, &Node)| match node {
        Node::Dir { mode } if *mode != 0o755 => Some((path.to_string(), *mode)),
        _ => None,
    };
    tree.iter().filter_map(directory).collect()
}

fn links(tree: &Tree) -> Vec<(String, String)> {
    let link = |(path, node): (&TreePath, &Node)| match node {
        Node::Symlink { target } => Some((path.to_string(), target.clone())),
        Node::Hardlink { target } => Some((path.to_string(), format!("/{target}"))),
        Node::Dir { .. } | Node::Below { .. } | Node::File { .. } => None,
    };
    tree.iter().filter_map(link).collect()
}
