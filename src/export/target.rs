//! Where an image goes: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REFERENCE]`; `-` as FILE is
//! standard output. The words are those of skopeo and podman.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;
use crate::oci::{Reference, reference};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub format: Format,
    /// A directory for a layout, a file for an archive.
    pub path: PathBuf,
    /// What the image is called there, in place of the name it has: a tag, or for a Docker archive a reference.
    pub tag: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    OciLayout,
    OciArchive,
    DockerArchive,
}

impl Format {
    const ALL: [Self; 3] = [Self::OciLayout, Self::OciArchive, Self::DockerArchive];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OciLayout => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
        }
    }
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("`{0}` does not say a format: expected `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`")]
    Format(String),
    #[error("`{0}` names no path behind its format")]
    NoPath(String),
    #[error("`{0}` cannot go to standard output: a layout is a directory")]
    LayoutToOutput(String),
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let unknown = || TargetError::Format(text.to_owned());
        let (format, rest) = text.split_once(':').ok_or_else(unknown)?;
        let format = Format::ALL.into_iter().find(|known| known.as_str() == format).ok_or_else(unknown)?;
        let (path, tag) = match format {
            Format::OciLayout | Format::OciArchive => split_tag(rest),
            Format::DockerArchive => split_reference(rest),
        };
        if path.is_empty() {
            return Err(TargetError::NoPath(text.to_owned()));
        }
        if format == Format::OciLayout && path == "-" {
            return Err(TargetError::LayoutToOutput(text.to_owned()));
        }
        Ok(Self { format, path: path.into(), tag })
    }

    /// The archive goes to standard output, which then carries nothing else.
    pub fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }
}

/// A tag has no slash, hence `a:b/c` is a path and `a/b:c` a path with a tag; `a:sha256:<hex>` names what has no tag.
fn split_tag(text: &str) -> (&str, Option<String>) {
    if let Some((path, hex)) = text.rsplit_once(":sha256:")
        && !path.is_empty()
        && Digest::from_hex(hex).is_ok()
    {
        return (path, Some(format!("sha256:{hex}")));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !path.is_empty() && reference::is_tag(tag) => (path, Some(tag.to_owned())),
        _ => (text, None),
    }
}

/// The first colon ends the file's name, if a reference follows.
fn split_reference(text: &str) -> (&str, Option<String>) {
    match text.split_once(':') {
        Some((path, name)) if !path.is_empty() && Reference::from_str(name).is_ok() => {
            (path, Some(name.to_owned()))
        }
        _ => (text, None),
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.as_str(), self.path.display())?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        for (text, format, path, tag) in [
            ("oci:out", Format::OciLayout, "out", None),
            ("oci:/tmp/out:v1", Format::OciLayout, "/tmp/out", Some("v1")),
            ("oci:a:b/c", Format::OciLayout, "a:b/c", None),
            ("oci:out:sha256:a", Format::OciLayout, "out:sha256", Some("a")),
            ("oci-archive:-", Format::OciArchive, "-", None),
            ("oci-archive:out.tar:1.0", Format::OciArchive, "out.tar", Some("1.0")),
            ("docker-archive:out.tar", Format::DockerArchive, "out.tar", None),
            (
                "docker-archive:out.tar:registry.example:5000/a/b:c",
                Format::DockerArchive,
                "out.tar",
                Some("registry.example:5000/a/b:c"),
            ),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.format, target.path.to_str().unwrap()), (format, path), "{text}");
            assert_eq!(target.tag.as_deref(), tag, "{text}");
            assert_eq!(target.to_string(), text);
        }
        let digest = Digest::of("").to_string();
        let target = Target::parse(&format!("oci:a:b/c:{digest}")).unwrap();
        assert_eq!((target.path.to_str(), target.tag), (Some("a:b/c"), Some(digest)));
        for text in ["out", "tar:out", "oci:", "oci:-", "oci-archive:", ":x", "docker:x"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
