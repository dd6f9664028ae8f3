//! Images written to disk for other tools: an OCI layout, an OCI archive, a Docker archive.
//!
//! An edge: it knows files, and gets documents as bytes and layers as streams. Every blob is hashed while it is
//! written, and a stream that yields other bytes than its digest promises is an error of integrity, never an image.
//! Nothing half-written is left behind: files and blobs appear under their name by a rename when they are whole.
//!
//! [`layout`] owns the OCI layout, [`archive`] the two tar forms, [`read`] opens a layout again, and `entry` knows what
//! an entry of its index said when it was written.
//!
//! **Speed.** A layer is copied twice, from the store into one buffer and from there into the file, and is hashed in
//! between while it is in the processor's cache. [`parallel`] writes several layers at once, also those of one archive:
//! each has its [`region`] of the file, and what was written goes to the disk while the next is read, so that the final
//! sync finds little to do.

pub mod archive;
mod entry;
pub mod layout;
mod parallel;
pub mod read;
mod region;
mod tar;
pub mod target;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, Mismatch};
use crate::oci::{Descriptor, DocumentError};

pub use read::{Layout, OpenedImage};
pub use target::{Format, Target, TargetError};

/// An image, or an index of images, that is to be written.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// The manifest or the index.
    pub root: Descriptor,
    /// Configs, manifests and index, by digest; the root is among them.
    pub documents: &'a BTreeMap<Digest, Vec<u8>>,
    /// Every layer with its size, in any order; repetitions are fine.
    pub layers: Vec<(Digest, u64)>,
    /// What the image is called: `registry.example/team/app:1.0`.
    pub reference: Option<&'a str>,
}

/// Where layers' bytes come from.
pub trait LayerSource: Sync {
    /// Streams the layer as it is stored in an image, from first byte to last. Pieces are written as they come: some
    /// 100 KB each are right.
    fn write_layer(&self, digest: &Digest, out: &mut dyn io::Write) -> io::Result<()>;

    /// Asked between layers and while the export waits or reads: an error ends it.
    fn go_on(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Called with the number of layer bytes written since the last call, from any thread.
pub type Progress<'a> = dyn Fn(u64) + Sync + 'a;

/// Why an image could not be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot {action} `{}`", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot produce layer {digest}")]
    Layer { digest: Digest, source: io::Error },
    /// A recipe or a store gave other bytes than it promised.
    #[error("blob {digest} is not what it should be")]
    Integrity { digest: Digest, source: Mismatch },
    #[error("`{}` is not an OCI image layout: {problem}", path.display())]
    NoLayout { path: PathBuf, problem: String },
    #[error("`{}` has no image `{wanted}`; it has {}", path.display(), names(found))]
    NoImage { path: PathBuf, wanted: String, found: Vec<String> },
    #[error("`{}` has several images; name one: {}", path.display(), names(found))]
    SeveralImages { path: PathBuf, found: Vec<String> },
    #[error("`{}` has several images `{wanted}`; name one by its digest: {}", path.display(), names(found))]
    SeveralOfThatName { path: PathBuf, wanted: String, found: Vec<String> },
    /// What an index says of an image is not what was written there.
    #[error(
        "`{}`: what its index.json says of `{name}` is not what mlbuild wrote there: another tool has renamed it, or it is \
         damaged; by its digest it can be had as it is: `{digest}`",
        path.display()
    )]
    Changed { path: PathBuf, name: String, digest: Digest },
    #[error("`{}` does not read as an image", path.display())]
    Document { path: PathBuf, source: DocumentError },
    #[error(
        "a docker-archive holds one platform and the image has {platforms}: build with one `--platform`, or use `oci-archive:`"
    )]
    SeveralPlatforms { platforms: usize },
    #[error("`{0}` is not a reference that an archive can carry")]
    Reference(String, #[source] crate::oci::reference::ReferenceError),
    #[error("`{0}` is no tag to give to an image")]
    Tag(String),
    #[error("document {0} of the image was not handed over")]
    MissingDocument(Digest),
}

fn names(found: &[String]) -> String {
    match found.is_empty() {
        true => "none with a name".to_owned(),
        false => format!("`{}`", found.join("`, `")),
    }
}

impl ExportError {
    /// Whether content was not what its digest promised, which no retry of ours mends.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Integrity { .. } | Self::Changed { .. } | Self::SeveralOfThatName { .. })
    }
}

/// Writes the image to `target` with up to `jobs` threads.
///
/// An OCI layout that exists is extended: its other images stay, an image of the same name is replaced. An archive
/// that exists is replaced. An archive that is not a file (a pipe, a device) is one stream, for which `jobs` has no
/// bearing.
///
/// Yields what is wrong with other images of the layout, for whoever reads it.
pub fn export(
    target: &Target,
    image: &Export<'_>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
) -> Result<Vec<String>, ExportError> {
    match target.format {
        Format::OciLayout => {
            layout::write(&target.path, target.tag.as_deref(), image, layers, jobs, progress)
        }
        Format::OciArchive => {
            archive::write_oci(&target.path, target.tag.as_deref(), image, layers, jobs, progress)?;
            Ok(Vec::new())
        }
        Format::DockerArchive => {
            archive::write_docker(&target.path, target.tag.as_deref(), image, layers, jobs, progress)?;
            Ok(Vec::new())
        }
    }
}
