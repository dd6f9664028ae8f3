//! `mlbuild referrers`.

use serde::Serialize;

use super::images::table;
use super::{Session, named};
use crate::cli::Exit;
use crate::cli::args::Referrers as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::oci::{Descriptor, Reference};

#[derive(Serialize)]
struct Report {
    /// Of the image.
    subject: Digest,
    /// Their manifests.
    referrers: Vec<Descriptor>,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let reference: Reference = args.image.parse().map_err(|error| named::wrong(&error))?;
    let (engine, _progress) = session.engine(false, None)?;
    let (subject, mut referrers) = engine.referrers(&reference)?;
    let type_of = |entry: &Descriptor| entry.artifact_type.as_ref().map(ToString::to_string);
    referrers.retain(|entry| args.artifact_type.is_none() || args.artifact_type == type_of(entry));
    referrers.sort_by_key(|entry| (type_of(entry), entry.digest));
    if args.json {
        out::json(&Report { subject: subject.digest, referrers });
        return Ok(Exit::Success);
    }
    if session.global.quiet {
        for entry in referrers {
            out::line(format_args!("{}", entry.digest));
        }
        return Ok(Exit::Success);
    }
    let row = |entry: &Descriptor| {
        let annotations: Vec<_> =
            entry.annotations.iter().map(|(key, value)| format!("{key}={value}")).collect();
        [
            on_one_line(&type_of(entry).unwrap_or_else(|| "-".to_owned())),
            entry.digest.to_string(),
            on_one_line(&annotations.join(", ")),
        ]
    };
    let rows: Vec<_> = referrers.iter().map(row).collect();
    out::print(format_args!("{}", table(["TYPE", "DIGEST", "ANNOTATIONS"], &rows)));
    Ok(Exit::Success)
}
