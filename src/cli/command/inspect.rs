//! `mlbuild inspect`.

use std::collections::BTreeMap;

use super::Session;
use crate::blob::ReadAt as _;
use crate::cli::Exit;
use crate::cli::args::Inspect as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::engine::Project;
use crate::export::{ExportError, Layout, Target};
use crate::image::{self, Inspection};
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MAX_DOCUMENT, MediaType, Reference};
use crate::store::Store;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let inspection = match args.image.as_deref() {
        Some(text) if text.starts_with("oci:") => from_layout(text)?,
        Some(text) => from_store(&session.store()?, text)?,
        None => {
            let project = Project::open(&args.project.spec)?;
            let name = project.spec.image.name.ok_or_else(|| Failure::Request {
                message: "the spec names no image".into(),
                hint: Some("`mlbuild inspect NAME`; `mlbuild images` lists them".into()),
            })?;
            from_store(&session.store()?, &name)?
        }
    };
    if args.json {
        out::json(&inspection);
    } else {
        out::print(format_args!("{}", inspection));
    }
    Ok(Exit::Success)
}

fn from_layout(text: &str) -> Result<Inspection, Failure> {
    let target = Target::parse(text).map_err(|error| Failure::request(error.to_string()))?;
    let open = || {
        let layout = Layout::open(&target.path)?;
        let root = layout.find(target.tag.as_deref())?.clone();
        layout.image(&root)
    };
    let opened = open().map_err(of_layout)?;
    inspect(&opened.root, &opened.documents, None)
}

fn from_store(store: &Store, text: &str) -> Result<Inspection, Failure> {
    let (root, name) = match text.parse::<Digest>() {
        Ok(digest) if store.has(&digest) => (digest, None),
        Ok(_) => return Err(unknown(text)),
        Err(_) => {
            let reference: Reference =
                text.parse().map_err(|error: crate::oci::reference::ReferenceError| {
                    Failure::request(error.to_string())
                })?;
            let record = store.image(&reference.tagged())?.ok_or_else(|| unknown(text))?;
            (record.digest, Some(record.reference))
        }
    };
    let mut documents = BTreeMap::new();
    let root = collect(store, root, &mut documents)?.ok_or_else(|| unknown(text))?;
    inspect(&root, &documents, name.as_deref())
}

pub(super) fn of_layout(error: ExportError) -> Failure {
    match error.is_integrity() {
        true => Failure::Integrity(error.to_string()),
        false => Failure::request(error.to_string()),
    }
}

pub(super) fn unknown(text: &str) -> Failure {
    Failure::Request {
        message: format!("no image `{}` in the store", on_one_line(text)),
        hint: Some(
            "`mlbuild images` lists them; `mlbuild build` makes the one of the spec, `mlbuild pull` brings one".into(),
        ),
    }
}

/// The documents of the image or index `digest`, and its descriptor; none when the blob is something else.
fn collect(
    store: &Store,
    digest: Digest,
    documents: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Option<Descriptor>, Failure> {
    let Some(bytes) = document(store, &digest)? else { return Ok(None) };
    let media_type = if let Ok(index) = ImageIndex::parse(&bytes) {
        for manifest in &index.manifests {
            collect(store, manifest.digest, documents)?;
        }
        MediaType::Index
    } else if let Ok(manifest) = ImageManifest::parse(&bytes) {
        if let Some(config) = document(store, &manifest.config.digest)? {
            documents.insert(manifest.config.digest, config);
        }
        MediaType::Manifest
    } else {
        return Ok(None);
    };
    let root = Descriptor::new(media_type, digest, bytes.len() as u64);
    documents.insert(digest, bytes);
    Ok(Some(root))
}

/// A blob that is small enough to be a document.
fn document(store: &Store, digest: &Digest) -> Result<Option<Vec<u8>>, Failure> {
    if store.blob_size(digest).is_none_or(|size| size > MAX_DOCUMENT as u64) {
        return Ok(None);
    }
    let blob = store.get(digest)?;
    let len = usize::try_from(blob.size()).unwrap_or(MAX_DOCUMENT);
    let unread = |source| Failure::Io { what: format!("cannot read {digest} in the store"), source };
    blob.read_vec_at(0, len).map(Some).map_err(unread)
}

fn inspect(
    root: &Descriptor,
    documents: &BTreeMap<Digest, Vec<u8>>,
    name: Option<&str>,
) -> Result<Inspection, Failure> {
    image::inspect(root, documents, name).map_err(|error| Failure::Integrity(error.to_string()))
}
