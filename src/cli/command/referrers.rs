//! `mlbuild referrers`.

use std::path::Path;

use serde::Serialize;

use super::attach::LONGEST;
use super::images::table;
use super::save::{self, Place};
use super::{Session, named};
use crate::cli::Exit;
use crate::cli::args::Referrers as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::engine::{Artifact, Engine};
use crate::image::annotation;
use crate::oci::{Descriptor, Reference};
use crate::size::human;

#[derive(Serialize)]
struct Report<'a> {
    /// Of the image.
    subject: Digest,
    /// Their manifests.
    referrers: Vec<ArtifactReport<'a>>,
}

#[derive(Serialize)]
struct ArtifactReport<'a> {
    #[serde(flatten)]
    descriptor: &'a Descriptor,
    /// Null where the registry has it no more.
    files: Option<Vec<FileReport<'a>>>,
}

#[derive(Serialize)]
struct FileReport<'a> {
    #[serde(flatten)]
    descriptor: &'a Descriptor,
    /// Where it was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let reference: Reference = args.image.parse().map_err(|error| named::wrong(&error))?;
    let (engine, _progress) = session.engine(false, None)?;
    let (subject, mut referrers) = engine.referrers(&reference)?;
    referrers.retain(|entry| args.artifact_type.is_none() || args.artifact_type == type_of(entry));
    referrers.sort_by_key(|entry| (type_of(entry), entry.digest));
    if session.global.quiet && args.output.is_none() && !args.json {
        for entry in referrers {
            out::line(format_args!("{}", entry.digest));
        }
        return Ok(Exit::Success);
    }
    let artifacts = engine.artifacts(&reference, referrers)?;
    let places = match &args.output {
        Some(directory) => write(session, &engine, &reference, &artifacts, directory)?,
        None => Vec::new(),
    };
    if args.json {
        let mut paths = places.iter().map(|place| place.path.display().to_string());
        let mut file = |descriptor| FileReport { descriptor, path: paths.next() };
        let mut referrers = Vec::new();
        for Artifact { descriptor, files } in &artifacts {
            let files = files.as_ref().map(|files| files.iter().map(&mut file).collect());
            referrers.push(ArtifactReport { descriptor, files });
        }
        out::json(&Report { subject: subject.digest, referrers });
    } else if args.output.is_some() {
        for place in &places {
            out::line(format_args!("{}", place.path.display()));
        }
    } else {
        let rows: Vec<_> = artifacts.iter().map(row).collect();
        out::print(format_args!("{}", table(["TYPE", "DIGEST", "SIZE", "FILE", "ANNOTATIONS"], &rows)));
    }
    Ok(Exit::Success)
}

fn type_of(entry: &Descriptor) -> Option<String> {
    entry.artifact_type.as_ref().map(ToString::to_string)
}

fn row(artifact: &Artifact) -> [String; 5] {
    let Artifact { descriptor, files } = artifact;
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { on_one_line(&text) };
    let size =
        files.as_ref().map(|files| files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size)));
    let names = files.iter().flatten().filter_map(|file| file.annotation(annotation::TITLE));
    let annotations = descriptor.annotations.iter().map(|(key, value)| format!("{key}={value}"));
    [
        or_none(type_of(descriptor).unwrap_or_default()),
        descriptor.digest.to_string(),
        size.map_or_else(|| "-".to_owned(), human),
        or_none(names.collect::<Vec<_>>().join(", ")),
        on_one_line(&annotations.collect::<Vec<_>>().join(", ")),
    ]
}

/// Writes all files into the directory, each where it is said to be then, in the order of the artifacts.
fn write(
    session: &Session,
    engine: &Engine,
    reference: &Reference,
    artifacts: &[Artifact],
    directory: &Path,
) -> Result<Vec<Place>, Failure> {
    for Artifact { descriptor, files } in artifacts {
        match files {
            None => {
                session.warn(&format!("{} is listed, but the registry has it no more", descriptor.digest))
            }
            Some(files) if files.is_empty() => session.note(&format!("{} has no file", descriptor.digest)),
            Some(_) => {}
        }
    }
    let files: Vec<_> = artifacts.iter().filter_map(|artifact| artifact.files.as_ref()).flatten().collect();
    if let Some(file) = files.iter().find(|file| file.size > LONGEST) {
        let (digest, size) = (file.digest, human(file.size));
        let message = format!("{digest} has {size}, more than the {} that can be attached", human(LONGEST));
        return Err(Failure::request(message));
    }
    let places = save::places(directory, &files)?;
    for (file, place) in files.iter().zip(&places).filter(|(_, place)| !place.there) {
        save::write(place, &engine.attached(reference, file)?)?;
    }
    Ok(places)
}
