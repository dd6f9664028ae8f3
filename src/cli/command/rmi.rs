//! `mlbuild rmi`.

use serde::Serialize;

use super::Session;
use super::named::{self, unknown};
use crate::cli::Exit;
use crate::cli::args::Rmi as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::oci::Reference;
use crate::store::{ImageRecord, Store};

#[derive(Serialize)]
struct Report {
    removed: Vec<Removed>,
}

#[derive(Serialize)]
struct Removed {
    reference: String,
    digest: Digest,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let store = session.store()?;
    // All are looked for before the first is removed.
    let mut meant: Vec<ImageRecord> = Vec::new();
    for text in &args.images {
        for record in names(&store, text, args.force)? {
            if !meant.contains(&record) {
                meant.push(record);
            }
        }
    }
    let mut removed = Vec::new();
    for record in meant {
        if store.remove_image(&record.reference)? {
            removed.push(Removed { reference: record.reference, digest: record.digest });
        }
    }
    if args.json {
        out::json(&Report { removed });
    } else {
        for Removed { reference, digest } in &removed {
            out::line(format_args!("removed {reference} {digest}"));
        }
        let left = store.images()?;
        if removed.iter().any(|gone| left.iter().all(|image| image.digest != gone.digest)) {
            session.note("`mlbuild cache prune` removes what no image needs any more");
        }
    }
    Ok(Exit::Success)
}

/// The names that `text` stands for: itself, or those of a digest.
fn names(store: &Store, text: &str, force: bool) -> Result<Vec<ImageRecord>, Failure> {
    let is_name = match text.parse::<Reference>() {
        Ok(reference) => store.image(&reference.tagged())?.is_some() || reference.digest().is_some(),
        Err(_) => false,
    };
    let found = match named::look_for(store, text)? {
        Some(found) => found,
        None if force => return Ok(Vec::new()),
        None => return Err(unknown(text)),
    };
    if is_name {
        return Ok(vec![found]);
    }
    let records = named::by_digest(store, text)?;
    if records.len() > 1 && !force {
        let names: Vec<_> = records.iter().map(|record| on_one_line(&record.reference)).collect();
        return Err(Failure::Request {
            message: format!("image {} has several names: {}", found.digest, names.join(", ")),
            hint: Some("name those to be removed, or give --force to remove all".into()),
        });
    }
    Ok(records)
}
