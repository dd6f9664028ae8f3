//! Layers unpacked for a run: those of an image that the store has no tree of, all at once.
//!
//! Files of all layers are written side by side, the largest first, and the wheels that they come from are hashed meanwhile:
//! a layer's tree appears when its last file is written and its last wheel has the right SHA-256. A layer that is a blob is
//! one piece of work. What another process is unpacking is waited for in the end.
//!
//! A layer that leaves parents to those below it is unpacked once more upon them ([`unpack`](crate::unpack), "Parents").

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rayon::prelude::*;

use super::{Cancel, Engine, EngineError, Event, Phase};
use crate::blob::{RangeReader, ReadAt};
use crate::digest::{DiffId, Digest, Mismatch};
use crate::export::Layout;
use crate::layer::Recipe;
use crate::oci::config::ImageConfig;
use crate::oci::media_type::Codec;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MAX_DOCUMENT, Platform};
use crate::store::{Claim, LayerSource, Store, StoreError, TreeRecord, TreeWriter, Trees, chain_of};
use crate::unpack::{self, Below, Context, Job, Limits, Packed, Passthrough, Stack, Summary, UnpackError};

/// Layers that are unpacked at the same time, so that a few large files do not keep a core waiting at the end.
const IN_FLIGHT: u64 = 64;
/// Descriptors of the process itself, of one thread, and of one layer that is being unpacked.
const DESCRIPTORS: (u64, u64, u64) = (44, 4, 4);
/// How much faster a byte is hashed than a byte of a file is inflated and written, about.
const HASHING: u64 = 4;
/// How often one looks whether another process has made a tree.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An image for one platform, of the store or of an OCI layout, whose layers can be unpacked.
#[derive(Debug, Clone)]
pub struct LayeredImage {
    /// Of the manifest.
    pub digest: Digest,
    pub config: ImageConfig,
    /// Of the config: the lowest layer first.
    layers: Vec<(Descriptor, DiffId)>,
    layout: Option<Layout>,
}

impl LayeredImage {
    /// The image or index of that digest; of an index, that of `platform`.
    pub fn in_store(store: &Store, root: Digest, platform: Platform) -> Result<Self, EngineError> {
        let read = |digest: &Digest| document(store, digest);
        Self::read(root, platform, &read, None)
    }

    /// The image `root` of a layout; of an index, that of `platform`.
    pub fn in_layout(layout: &Layout, root: &Descriptor, platform: Platform) -> Result<Self, EngineError> {
        let failed = |source| EngineError::Layout { source };
        let opened = layout.image(root).map_err(failed)?;
        let read = |digest: &Digest| {
            let bytes = opened.documents.get(digest).cloned();
            bytes.ok_or(EngineError::Store(StoreError::Missing { digest: *digest }))
        };
        Self::read(root.digest, platform, &read, Some(layout.clone()))
    }

    fn read(
        root: Digest,
        platform: Platform,
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, EngineError>,
        layout: Option<Layout>,
    ) -> Result<Self, EngineError> {
        let mut digest = root;
        let mut bytes = read(&root)?;
        if let Ok(index) = ImageIndex::parse(&bytes) {
            let is_wanted = |entry: &&Descriptor| {
                entry.media_type.is_manifest()
                    && entry.platform.as_ref().is_some_and(|found| found.known() == Some(platform))
            };
            let entry = index.manifests.iter().find(is_wanted);
            digest = entry.ok_or(EngineError::NotForPlatform { digest: root, platform })?.digest;
            bytes = read(&digest)?;
        }
        let refused = |digest: Digest| move |source| EngineError::Document { digest, source };
        let manifest = ImageManifest::parse(&bytes).map_err(refused(digest))?;
        let config =
            ImageConfig::parse(&read(&manifest.config.digest)?).map_err(refused(manifest.config.digest))?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(EngineError::LayerCount { digest, layers, diff_ids });
        }
        let layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids.iter().copied()).collect();
        Ok(Self { digest, config, layers, layout })
    }

    /// What [`Store::trees_ready`] asks for.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.config.rootfs.diff_ids
    }
}

/// A document of the store, verified.
fn document(store: &Store, digest: &Digest) -> Result<Vec<u8>, EngineError> {
    let blob = store.get(digest)?;
    // One byte more than a document may have is refused by whoever parses it.
    let len = blob.size().min(MAX_DOCUMENT as u64 + 1) as usize;
    blob.read_vec_at(0, len).map_err(|source| EngineError::Blob { name: digest.to_string(), source })
}

/// A tree that is to be made.
#[derive(Debug, Clone)]
struct Missing {
    /// Of the tree: the diff ID, or a chain ID.
    id: Digest,
    diff_id: DiffId,
    layer: Descriptor,
    source: Source,
    /// Bytes of the tar, or about that.
    weight: u64,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Recipe,
    Blob(Codec),
    /// A blob of the image's layout.
    Layout(Codec),
}

/// A tree that is being made.
struct Work {
    missing: Missing,
    writer: Mutex<Option<TreeWriter>>,
    /// None for a blob.
    passthrough: Option<Passthrough>,
    /// Tasks that are not done.
    left: AtomicUsize,
}

/// What one thread does without a break.
struct Task {
    work: usize,
    weight: u64,
    what: What,
}

enum What {
    Files(Job),
    Verify(Digest),
    Blob,
}

impl Engine {
    /// The trees of the image's layers, made where they are missing. When all are there no thread is started; a caller
    /// that has no engine yet asks [`Store::trees_ready`] for [`LayeredImage::diff_ids`].
    pub fn trees(&self, image: &LayeredImage) -> Result<Trees, EngineError> {
        match self.store.trees_ready(image.diff_ids())? {
            Some(trees) => Ok(trees),
            None => self.or_cancelled(self.make_trees(image)),
        }
    }

    fn make_trees(&self, image: &LayeredImage) -> Result<Trees, EngineError> {
        self.store.sweep_trees();
        let mut wanted = Vec::new();
        let mut seen = BTreeSet::new();
        for (layer, diff_id) in &image.layers {
            if seen.insert(*diff_id) && self.store.tree(&diff_id.0)?.is_none() {
                wanted.push((layer, *diff_id));
            }
        }
        if image.layout.is_none() {
            self.bring(&wanted.iter().map(|(layer, _)| layer.digest).collect::<Vec<_>>())?;
        }
        let missing = wanted.into_iter().map(|(layer, diff_id)| self.missing(image, layer, diff_id));
        let mut missing = missing.collect::<Result<Vec<_>, _>>()?;
        missing.sort_by_key(|missing| std::cmp::Reverse(missing.weight));
        self.reporter.event(Event::Phase(Phase::Unpack));
        let bytes = missing.iter().map(|missing| missing.weight).sum();
        self.reporter.event(Event::Unpacks { layers: missing.len() as u64, bytes });
        let mut busy = Vec::new();
        for some in missing.chunks(in_flight(self.jobs)) {
            busy.extend(self.unpack(image, some.to_vec(), &unpack::Nothing)?);
        }
        self.wait_for(image, busy, &unpack::Nothing)?;
        let layers = image.diff_ids();
        for (at, (layer, diff_id)) in image.layers.iter().enumerate() {
            let Some(record) = self.store.tree(&diff_id.0)? else { continue };
            if let (0, Some((path, target))) = (at, &record.linked) {
                let source = UnpackError::Hardlink { path: path.clone(), target: target.clone() };
                return Err(EngineError::Unpack { layer: layer.digest, source });
            }
            let Some(chain) = chain_of(&record, layers, at) else { continue };
            if self.store.tree(&chain)?.is_none() {
                let missing = Missing { id: chain, ..self.missing(image, layer, *diff_id)? };
                let below = Stack(self.store.trees_ready(&layers[..at])?.unwrap_or_default().layers);
                let busy = self.unpack(image, vec![missing], &below)?;
                self.wait_for(image, busy, &below)?;
            }
        }
        let vanished =
            || StoreError::Record { name: image.digest.to_string(), rule: "an unpacked layer vanished" };
        Ok(self.store.trees_ready(layers)?.ok_or_else(vanished)?)
    }

    /// Where the layer comes from: the store's wheels, the store, the layout.
    fn missing(
        &self,
        image: &LayeredImage,
        layer: &Descriptor,
        diff_id: DiffId,
    ) -> Result<Missing, EngineError> {
        let missing =
            |source, weight| Ok(Missing { id: diff_id.0, diff_id, layer: layer.clone(), source, weight });
        let stored = self.store.layer_by_digest(&layer.digest)?;
        if let Some(record) = &stored {
            let (expected, actual) = (diff_id.0, record.facts.diff_id.0);
            if actual != expected {
                let size = record.facts.unpacked;
                let source = Mismatch { expected, expected_size: size, actual, actual_size: size };
                let source = UnpackError::Mismatch { what: "diff ID", source };
                return Err(EngineError::Unpack { layer: layer.digest, source });
            }
            let is_recipe = matches!(record.source, LayerSource::Recipe(_));
            if is_recipe && record.facts.sources.iter().all(|source| self.store.has(source)) {
                return missing(Source::Recipe, record.facts.unpacked);
            }
        }
        let codec = layer.media_type.codec();
        let codec = codec.ok_or_else(|| EngineError::LayerType(layer.media_type.to_string()));
        match &image.layout {
            _ if self.store.has(&layer.digest) => missing(Source::Blob(codec?), layer.size),
            Some(_) => missing(Source::Layout(codec?), layer.size),
            None => Err(EngineError::LayerAway { layer: layer.digest }),
        }
    }

    /// Makes these trees but those that another process is making.
    fn unpack(
        &self,
        image: &LayeredImage,
        missing: Vec<Missing>,
        below: &dyn Below,
    ) -> Result<Vec<Missing>, EngineError> {
        let (mut mine, mut busy) = (Vec::new(), Vec::new());
        for missing in missing {
            match self.store.claim_tree(&missing.id)? {
                Claim::Ready => {}
                Claim::Busy => busy.push(missing),
                Claim::Mine(writer) => mine.push((missing, writer)),
            }
        }
        if mine.is_empty() {
            return Ok(busy);
        }
        let stop = Cancel::default();
        let go_on = || self.cancel.check().and_then(|()| stop.check());
        let progress = |bytes| self.reporter.event(Event::Unpacked { bytes });
        let context = Context { go_on: &go_on, progress: &progress };
        let pool = self.pool()?;
        let begun = pool.install(|| {
            let begun = mine.into_par_iter().map(|(missing, writer)| self.begin(missing, writer, context));
            begun.collect::<Result<Vec<_>, EngineError>>()
        });
        let works = begun?;
        let mut tasks = Vec::new();
        for (at, work) in works.iter().enumerate() {
            let before = tasks.len();
            self.tasks(at, work, &mut tasks)?;
            work.left.store(tasks.len() - before, Ordering::Relaxed);
        }
        tasks.sort_by_key(|task| std::cmp::Reverse(task.weight));
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while !stop.is_cancelled()
                && let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let work = &works[task.work];
                if let Err(error) = self.run_task(image, work, task, below, context) {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    stop.cancel();
                }
            }
        };
        pool.scope(|scope| (0..self.jobs).for_each(|_| scope.spawn(|_| work())));
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(busy),
        }
    }

    /// Makes what others were making, should they not have done so.
    fn wait_for(
        &self,
        image: &LayeredImage,
        mut busy: Vec<Missing>,
        below: &dyn Below,
    ) -> Result<(), EngineError> {
        while !busy.is_empty() {
            if self.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            std::thread::sleep(LOOK_AGAIN);
            busy = self.unpack(image, busy, below)?;
        }
        Ok(())
    }

    fn begin(&self, missing: Missing, writer: TreeWriter, context: Context<'_>) -> Result<Work, EngineError> {
        let passthrough = match missing.source {
            Source::Recipe => {
                let gone = || StoreError::Missing { digest: missing.layer.digest };
                let record = self.store.layer_by_digest(&missing.layer.digest)?.ok_or_else(gone)?;
                let LayerSource::Recipe(recipe) = record.source else { return Err(gone().into()) };
                let failed = |error| unpack_failed(&missing, &writer, error);
                let recipe = Recipe::decode(&recipe).map_err(|error| failed(error.into()))?;
                Some(Passthrough::begin(&recipe, writer.root()?, context).map_err(failed)?)
            }
            Source::Blob(_) | Source::Layout(_) => None,
        };
        Ok(Work { missing, writer: Mutex::new(Some(writer)), passthrough, left: AtomicUsize::new(0) })
    }

    fn tasks(&self, at: usize, work: &Work, tasks: &mut Vec<Task>) -> Result<(), EngineError> {
        let mut add = |weight, what| tasks.push(Task { work: at, weight, what });
        let Some(passthrough) = &work.passthrough else {
            add(work.missing.weight, What::Blob);
            return Ok(());
        };
        for job in passthrough.jobs() {
            add(job.weight, What::Files(job));
        }
        for blob in passthrough.blobs() {
            let size = self.store.blob_size(&blob).ok_or(StoreError::Missing { digest: blob })?;
            add(size / HASHING, What::Verify(blob));
        }
        Ok(())
    }

    fn run_task(
        &self,
        image: &LayeredImage,
        work: &Work,
        task: &Task,
        below: &dyn Below,
        context: Context<'_>,
    ) -> Result<(), EngineError> {
        let guard = || work.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| match &*guard() {
            Some(writer) => unpack_failed(&work.missing, writer, error),
            None => EngineError::Unpack { layer: work.missing.layer.digest, source: error },
        };
        let mut summary = None;
        match (&task.what, &work.passthrough) {
            (What::Verify(blob), _) => drop(self.store.get(blob)?),
            (What::Files(job), Some(passthrough)) => {
                passthrough.run(job, &self.store.trusted(), context).map_err(failed)?;
            }
            (What::Files(_) | What::Blob, _) => {
                let root = guard().as_ref().expect("its only task has just begun").root()?;
                summary =
                    Some(self.unpack_blob(image, &work.missing, root, below, context)?.map_err(failed)?);
            }
        }
        if work.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let summary = match (summary, &work.passthrough) {
            (Some(summary), _) => summary,
            (None, Some(passthrough)) => passthrough.finish(context).map_err(failed)?,
            (None, None) => unreachable!("a blob is one task, which has a summary"),
        };
        let writer = guard().take().expect("the last task ends it");
        Ok(writer.commit(record(work.missing.diff_id, summary))?)
    }

    fn unpack_blob(
        &self,
        image: &LayeredImage,
        missing: &Missing,
        root: std::os::fd::OwnedFd,
        below: &dyn Below,
        context: Context<'_>,
    ) -> Result<Result<Summary, UnpackError>, EngineError> {
        let Missing { layer: Descriptor { digest, size, .. }, diff_id, source, .. } = *missing;
        let stored;
        let (blob, codec): (Box<dyn Read + '_>, Codec) = match (source, &image.layout) {
            (Source::Layout(codec), Some(layout)) => {
                let opened = layout.open_blob(&digest);
                (
                    Box::new(
                        opened.map_err(|source| EngineError::Blob { name: digest.to_string(), source })?,
                    ),
                    codec,
                )
            }
            (Source::Blob(codec) | Source::Layout(codec), _) => {
                stored = self.store.open_trusted(&digest)?;
                (Box::new(RangeReader::all(&stored)), codec)
            }
            (Source::Recipe, _) => unreachable!("a recipe is no blob"),
        };
        let packed = Packed { blob, codec, digest, size, diff_id };
        Ok(unpack::unpack(packed, root, below, Limits::default(), context))
    }
}

fn record(diff_id: DiffId, summary: Summary) -> TreeRecord {
    let Summary { entries, bytes, content, owners, implied, linked, opaque } = summary;
    TreeRecord { diff_id, entries, bytes, content, owners, implied, linked, opaque }
}

/// What could not be written is trouble of the store, not of the layer.
fn unpack_failed(missing: &Missing, writer: &TreeWriter, error: UnpackError) -> EngineError {
    match error {
        UnpackError::File { path, source, .. } => {
            EngineError::Store(StoreError::Write { path: writer.path().join(path), source })
        }
        source => EngineError::Unpack { layer: missing.layer.digest, source },
    }
}

/// As many layers as the limit of open files admits.
fn in_flight(jobs: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let (others, thread, layer) = DESCRIPTORS;
    let rest = limit.saturating_sub(others + thread.saturating_mul(jobs as u64));
    (rest / layer).clamp(1, IN_FLIGHT) as usize
}
