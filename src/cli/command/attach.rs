//! `mlbuild attach`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;

use super::{Session, named};
use crate::cli::Exit;
use crate::cli::args::Attach as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::oci::Reference;
use crate::registry::{Attachment, CYCLONEDX, LOCK, SPDX};

/// The longest file, in bytes; it is held in memory.
pub(super) const LONGEST: u64 = 256 << 20;

#[derive(Serialize)]
struct Report<'a> {
    /// Of the image.
    subject: Digest,
    /// Of the artifact's manifest.
    digest: Digest,
    artifact_type: &'a str,
    size: usize,
    /// It was not attached before.
    new: bool,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let reference: Reference = args.image.parse().map_err(|error| named::wrong(&error))?;
    let artifact_type = match &args.artifact_type {
        Some(text) if is_media_type(text) => text.as_str(),
        Some(text) => {
            let text = on_one_line(text);
            return Err(Failure::request(format!(
                "`{text}` is no media type, such as `application/spdx+json`"
            )));
        }
        None => known_type(&args.file)?,
    };
    let mut annotations = BTreeMap::new();
    for text in &args.annotation {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = pair else {
            return Err(Failure::request(format!("annotation `{}` is not KEY=VALUE", on_one_line(text))));
        };
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let attachment = Attachment { annotations, ..attachment(&args.file, artifact_type)? };
    let (engine, _progress) = session.engine(false, None)?;
    let (subject, attached) = engine.attach(&reference, &attachment)?;
    if !attached.new {
        session.note("it was attached already");
    }
    let digest = attached.descriptor.digest;
    if args.json {
        let size = attachment.bytes.len();
        out::json(&Report { subject: subject.digest, digest, artifact_type, size, new: attached.new });
    } else {
        out::line(format_args!("{digest}"));
    }
    Ok(Exit::Success)
}

/// The file, to be attached.
pub(super) fn attachment(file: &Path, artifact_type: &str) -> Result<Attachment, Failure> {
    let bytes = read(file).map_err(|source| Failure::unread(file, source))?;
    let title = file.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Attachment { title, ..Attachment::new(artifact_type, bytes) })
}

/// What a file is, or who can say it.
pub(super) fn known_type(file: &Path) -> Result<&'static str, Failure> {
    // The name of a file that is not there says nothing.
    if let Err(source) = fs::metadata(file) {
        return Err(Failure::unread(file, source));
    }
    type_of(file).ok_or_else(|| Failure::Request {
        message: format!("what is {}? Its name does not say it", file.display()),
        hint: Some("`mlbuild attach --artifact-type TYPE/SUBTYPE` says it".into()),
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {LONGEST} bytes"))),
        false => Ok(bytes),
    }
}

/// What a file is, by the name that such files have.
fn type_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    [("mlbuild.lock", LOCK), (".spdx.json", SPDX), (".cdx.json", CYCLONEDX)]
        .into_iter()
        .find(|(end, _)| name.ends_with(end))
        .map(|(_, artifact_type)| artifact_type)
}

/// RFC 6838, 4.2.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let others = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        first && name.len() <= 127 && name.bytes().all(others)
    };
    text.split_once('/').is_some_and(|(kind, sub)| is_name(kind) && is_name(sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_or_said() {
        for (name, artifact_type) in [
            ("mlbuild.lock", Some(LOCK)),
            ("a/b.spdx.json", Some(SPDX)),
            ("sbom.cdx.json", Some(CYCLONEDX)),
            ("spdx.json", None),
            ("x", None),
            ("..", None),
        ] {
            assert_eq!(type_of(Path::new(name)), artifact_type, "{name}");
        }
        for text in ["application/spdx+json", "a/b", "application/vnd.x-y_z.v1+toml"] {
            assert!(is_media_type(text), "{text}");
        }
        for text in ["", "a", "/b", "a/", "a/b/c", "a/b c", "a/b;c=d", "a/\u{1b}", ".a/b"] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
