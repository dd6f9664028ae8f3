//! `mlbuild tag`.

use serde::Serialize;

use super::{Session, named};
use crate::cli::Exit;
use crate::cli::args::Tag as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::digest::Digest;
use crate::oci::Reference;
use crate::store::ImageRecord;

#[derive(Serialize)]
struct Report {
    digest: Digest,
    /// The new names.
    references: Vec<String>,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let mut references = Vec::new();
    for target in &args.targets {
        let reference: Reference = target.parse().map_err(|error| named::wrong(&error))?;
        if reference.digest().is_some() {
            return Err(Failure::request(format!("`{reference}` has a digest: a name is given without one")));
        }
        references.push(reference.tagged());
    }
    let store = session.store()?;
    let source = named::find(&store, &args.source)?;
    for reference in &references {
        store.put_image(&ImageRecord { reference: reference.clone(), ..source.clone() })?;
    }
    if args.json {
        out::json(&Report { digest: source.digest, references });
    } else {
        for reference in references {
            out::line(format_args!("{reference} {}", source.digest));
        }
    }
    Ok(Exit::Success)
}
