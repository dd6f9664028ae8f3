//! `mlbuild inspect`.

use std::collections::BTreeMap;

use super::{Session, print_json};
use crate::cli::Exit;
use crate::cli::args::Inspect as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::printable;
use crate::digest::Digest;
use crate::engine::Project;
use crate::export::{Layout, Target};
use crate::image::{self, Inspection};
use crate::oci::{Descriptor, MediaType, Reference};
use crate::store::{ImageRecord, Store};

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
        print_json(&inspection);
    } else {
        out::print(format_args!("{}", printable(&inspection.to_string())));
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
    let opened = open().map_err(|error| match error.is_integrity() {
        true => Failure::Integrity(error.to_string()),
        false => Failure::request(error.to_string()),
    })?;
    inspect(&opened.root, &opened.documents, None)
}

fn from_store(store: &Store, text: &str) -> Result<Inspection, Failure> {
    let record = find(store, text)?.ok_or_else(|| Failure::Request {
        message: format!("no image `{}` in the store", printable(text)),
        hint: Some("`mlbuild images` lists them; `mlbuild build` makes the one of the spec".into()),
    })?;
    let mut documents = BTreeMap::new();
    for digest in &record.blobs {
        let blob = store.get(digest)?;
        let bytes = crate::blob::ReadAt::read_vec_at(&blob, 0, crate::blob::ReadAt::size(&blob) as usize);
        let unread = |source| Failure::Io { what: format!("cannot read {digest} in the store"), source };
        documents.insert(*digest, bytes.map_err(unread)?);
    }
    let size = documents.get(&record.digest).map_or(0, |bytes| bytes.len() as u64);
    let root = Descriptor::new(MediaType::from(record.media_type.as_str()), record.digest, size);
    inspect(&root, &documents, Some(&record.reference))
}

/// By name, or by the digest of manifest or index.
fn find(store: &Store, text: &str) -> Result<Option<ImageRecord>, Failure> {
    if let Ok(digest) = text.parse::<Digest>() {
        return Ok(store.images()?.into_iter().find(|image| image.digest == digest));
    }
    let reference: Reference = text
        .parse()
        .map_err(|error: crate::oci::reference::ReferenceError| Failure::request(error.to_string()))?;
    Ok(store.image(&reference.tagged())?)
}

fn inspect(
    root: &Descriptor,
    documents: &BTreeMap<Digest, Vec<u8>>,
    name: Option<&str>,
) -> Result<Inspection, Failure> {
    image::inspect(root, documents, name).map_err(|error| Failure::Integrity(error.to_string()))
}
