//! `mlbuild inspect`.

use std::collections::BTreeMap;

use super::Session;
use super::named::{self, unknown};
use crate::blob::ReadAt as _;
use crate::cli::Exit;
use crate::cli::args::Inspect as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::engine::{Project, RemoteImage};
use crate::export::{ExportError, Layout, Target};
use crate::image::{self, InspectError};
use crate::oci::index::DEEPEST;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MAX_DOCUMENT, MediaType, Reference};
use crate::store::Store;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let opened = match args.image.as_deref() {
        Some(text) if text.starts_with("oci:") && args.remote => {
            return Err(Failure::request("an OCI layout is in no registry"));
        }
        Some(text) if text.starts_with("oci:") => from_layout(text)?,
        Some(text) if args.remote => from_registry(session, text)?,
        Some(text) => match from_store(&session.store()?, text)? {
            Some(opened) => opened,
            None if !args.offline && is_in_a_registry(text) => {
                session.note(&format!("{} is not in the store: its registry is asked", on_one_line(text)));
                from_registry(session, text)?
            }
            None => return Err(unknown(text)),
        },
        None => {
            let project = Project::open(&args.project.spec)?;
            let name = project.spec.image.name.ok_or_else(|| Failure::Request {
                message: "the spec names no image".into(),
                hint: Some("`mlbuild inspect NAME`; `mlbuild images` lists them".into()),
            })?;
            match args.remote {
                true => from_registry(session, &name)?,
                false => from_store(&session.store()?, &name)?.ok_or_else(|| unknown(&name))?,
            }
        }
    };
    if args.raw {
        out::bytes(&opened.documents[&opened.root.digest]);
        return Ok(Exit::Success);
    }
    let inspection = image::inspect(&opened.root, &opened.documents, opened.name.as_deref()).map_err(
        |error| match error {
            InspectError::NoImage { .. } => Failure::Request {
                message: error.to_string(),
                hint: Some("`--raw` prints it as it is".into()),
            },
            error => Failure::Integrity(crate::diagnostic::chain(&error)),
        },
    )?;
    if args.json {
        out::json(&inspection);
    } else {
        out::print(format_args!("{}", inspection));
    }
    Ok(Exit::Success)
}

/// Documents by digest, that of the root among them.
struct Opened {
    root: Descriptor,
    documents: BTreeMap<Digest, Vec<u8>>,
    name: Option<String>,
}

fn from_layout(text: &str) -> Result<Opened, Failure> {
    let target = Target::parse(text).map_err(|error| Failure::request(error.to_string()))?;
    let open = || {
        let layout = Layout::open(&target.path)?;
        let root = layout.find(target.tag.as_deref())?.clone();
        layout.image(&root)
    };
    let opened = open().map_err(of_layout)?;
    Ok(Opened { root: opened.root, documents: opened.documents, name: None })
}

fn from_store(store: &Store, text: &str) -> Result<Option<Opened>, Failure> {
    let Some(found) = named::find_root(store, text)? else { return Ok(None) };
    let (root, name) = (found.digest, found.record.map(|record| record.reference));
    let mut documents = BTreeMap::new();
    let root = collect(store, root, 0, &mut documents)?.ok_or_else(|| unknown(text))?;
    Ok(Some(Opened { root, documents, name }))
}

fn is_in_a_registry(text: &str) -> bool {
    text.parse::<Reference>().is_ok_and(|reference| reference.registry().is_some())
}

fn from_registry(session: &Session, text: &str) -> Result<Opened, Failure> {
    let reference: Reference = text.parse().map_err(|error| named::wrong(&error))?;
    let (engine, _progress) = session.engine(false, None)?;
    let RemoteImage { root, documents } = engine.remote_image(&reference)?;
    Ok(Opened { root, documents, name: Some(reference.to_string()) })
}

pub(super) fn of_layout(error: ExportError) -> Failure {
    match error.is_integrity() {
        true => Failure::Integrity(error.to_string()),
        false => Failure::request(error.to_string()),
    }
}

/// The documents of the image or index `digest`, each once, and its descriptor; none when the blob is something else or was
/// there before.
fn collect(
    store: &Store,
    digest: Digest,
    depth: usize,
    documents: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Option<Descriptor>, Failure> {
    if depth > DEEPEST || documents.contains_key(&digest) {
        return Ok(None);
    }
    let Some(bytes) = document(store, &digest)? else { return Ok(None) };
    // Before what is below it: an index cannot name itself, but a hundred can name one.
    documents.insert(digest, bytes.clone());
    let media_type = if let Ok(index) = ImageIndex::parse(&bytes) {
        for manifest in &index.manifests {
            collect(store, manifest.digest, depth + 1, documents)?;
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
    Ok(Some(Descriptor::new(media_type, digest, bytes.len() as u64)))
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
