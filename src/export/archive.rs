//! Images as one tar file.
//!
//! `oci-archive` is an OCI layout in a tar. `docker-archive` is the same and has Docker's `manifest.json` beside it,
//! as `docker save` writes since version 25: whoever knows only Docker's form finds it (docker load, podman load,
//! skopeo's `docker-archive:`), and an engine that reads OCI keeps the digest. Layers stay gzip-compressed; all of
//! those readers detect that.
//!
//! The tar is deterministic: entries sorted by name, owner 0:0, the default epoch as time. All sizes are known before
//! the first byte is written, so that layers go into a file at their places, several at once; to standard output or a
//! pipe the same bytes are streamed. Memory does not grow with the image. What went to standard output cannot be taken
//! back, as a file the name appears when the archive is whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::layout::{self, failed};
use super::parallel::each_layer;
use super::region::Region;
use super::verify::{Verifier, settle};
use super::{Export, ExportError, LayerSource, Progress, tar};
use crate::digest::Digest;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, Reference, canonical};
use crate::scratch;

/// Bytes between small parts of the archive and a stream; a layer's pieces are larger and go past it.
const BUFFER: usize = 1 << 16;

pub(super) fn write_oci(
    path: &Path,
    tag: Option<&str>,
    image: &Export<'_>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
) -> Result<(), ExportError> {
    let entries = oci_entries(image, &layout::entry(image, tag)?)?;
    to_path(path, &entries, layers, jobs, progress)
}

pub(super) fn write_docker(
    path: &Path,
    name: Option<&str>,
    image: &Export<'_>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
) -> Result<(), ExportError> {
    let image = Export { root: single(image)?, reference: name.or(image.reference), ..image.clone() };
    let mut entries = oci_entries(&image, &layout::entry(&image, None)?)?;
    let listing = docker_listing(&image)?;
    entries.insert("manifest.json".to_owned(), Entry::Bytes(listing));
    to_path(path, &entries, layers, jobs, progress)
}

/// One member of the archive, by its name in the map.
enum Entry<'a> {
    Directory,
    Bytes(Vec<u8>),
    Document(Digest, &'a [u8]),
    Layer(Digest, u64),
}

fn oci_entries<'a>(
    image: &Export<'a>,
    entry: &Descriptor,
) -> Result<BTreeMap<String, Entry<'a>>, ExportError> {
    let mut entries = BTreeMap::from([
        ("blobs".to_owned(), Entry::Directory),
        ("blobs/sha256".to_owned(), Entry::Directory),
        ("index.json".to_owned(), Entry::Bytes(layout::index_of(entry)?)),
        ("oci-layout".to_owned(), Entry::Bytes(layout::LAYOUT.into())),
    ]);
    for (digest, size) in &image.layers {
        entries.insert(blob_name(digest), Entry::Layer(*digest, *size));
    }
    for (digest, bytes) in image.documents {
        entries.insert(blob_name(digest), Entry::Document(*digest, bytes));
    }
    Ok(entries)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The one image that a Docker archive can hold.
fn single(image: &Export<'_>) -> Result<Descriptor, ExportError> {
    if !image.root.media_type.is_index() {
        return Ok(image.root.clone());
    }
    let bytes = document(image, image.root.digest)?;
    let source = |source| ExportError::Document { path: image.root.digest.to_string().into(), source };
    let mut manifests = ImageIndex::parse(bytes).map_err(source)?.manifests;
    match (manifests.len(), manifests.pop()) {
        (1, Some(only)) => Ok(only),
        (platforms, _) => Err(ExportError::SeveralPlatforms { platforms }),
    }
}

fn document<'a>(image: &Export<'a>, digest: Digest) -> Result<&'a [u8], ExportError> {
    image.documents.get(&digest).map(Vec::as_slice).ok_or(ExportError::MissingDocument(digest))
}

/// An entry of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_listing(image: &Export<'_>) -> Result<Vec<u8>, ExportError> {
    let digest = image.root.digest;
    let source = |source| ExportError::Document { path: digest.to_string().into(), source };
    let manifest = ImageManifest::parse(document(image, digest)?).map_err(source)?;
    // A name by digest alone is no name that `docker load` could give.
    let tagged = |reference: &Reference| reference.tag().is_some() || reference.digest().is_none();
    let name = layout::reference(image)?.filter(tagged).map(|reference| vec![reference.tagged()]);
    let listing = [DockerImage {
        config: blob_name(&manifest.config.digest),
        repo_tags: name,
        layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    }];
    Ok(canonical::to_bytes(&listing).expect("texts only"))
}

fn to_path(
    path: &Path,
    entries: &BTreeMap<String, Entry<'_>>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
) -> Result<(), ExportError> {
    if path.as_os_str() == "-" {
        return stream(io::stdout().lock(), entries, layers, progress, ExportError::Output);
    }
    // A link stays a link; a device or a pipe takes the stream and is not replaced by a file.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
        return stream(file, entries, layers, progress, |error| failed("write", path)(error));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    scratch::sweep(parent, scratch::is_scratch);
    let file = layout::temporary(parent).map_err(failed("create a file in", parent))?;
    at_places(file.as_file(), entries, layers, jobs, progress, |error| failed("write", path)(error))?;
    file.as_file().sync_all().map_err(failed("write", path))?;
    file.persist(path).map_err(|error| failed("write", path)(error.error))?;
    layout::sync_directory(parent)
}

impl Entry<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Directory => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Document(_, bytes) => bytes.len() as u64,
            Self::Layer(_, size) => *size,
        }
    }

    fn header(&self, name: &str) -> [u8; tar::BLOCK] {
        match self {
            Self::Directory => tar::directory_header(name),
            _ => tar::file_header(name, self.size()),
        }
    }

    /// Writes all that is not a layer.
    fn write_to(
        &self,
        out: &mut impl Write,
        failed: &impl Fn(io::Error) -> ExportError,
    ) -> Result<(), ExportError> {
        match self {
            Self::Directory | Self::Layer(..) => Ok(()),
            Self::Bytes(bytes) => out.write_all(bytes).map_err(failed),
            Self::Document(digest, bytes) => {
                let mut verifier = Verifier::new(out, *digest, self.size(), &|_| ());
                let written = verifier.write_all(bytes);
                settle(verifier, written, *digest, failed).map(drop)
            }
        }
    }
}

/// To a new file: what is small first, then the layers. Padding and end are what is never written: zeros.
fn at_places(
    file: &File,
    entries: &BTreeMap<String, Entry<'_>>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
    failed: impl Fn(io::Error) -> ExportError + Sync,
) -> Result<(), ExportError> {
    let mut at = 0;
    let mut places = BTreeMap::new();
    for (name, entry) in entries {
        let mut region = Region::new(file, at);
        region.write_all(&entry.header(name)).map_err(&failed)?;
        entry.write_to(&mut region, &failed)?;
        at += tar::BLOCK as u64;
        if let Entry::Layer(digest, size) = entry {
            places.insert((*digest, *size), at);
        }
        at += entry.size() + tar::padding(entry.size()) as u64;
    }
    file.set_len(at + tar::END.len() as u64).map_err(&failed)?;
    let wanted: Vec<_> = places.keys().copied().collect();
    each_layer(&wanted, jobs, &|layer| {
        let region = Region::new(file, places[&layer]);
        write_layer(region, layer, layers, progress, &failed)
    })
}

/// From first byte to last.
fn stream(
    out: impl Write,
    entries: &BTreeMap<String, Entry<'_>>,
    layers: &dyn LayerSource,
    progress: &Progress<'_>,
    failed: impl Fn(io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    for (name, entry) in entries {
        out.write_all(&entry.header(name)).map_err(&failed)?;
        match entry {
            Entry::Layer(digest, size) => {
                write_layer(&mut out, (*digest, *size), layers, progress, &failed)?;
            }
            _ => entry.write_to(&mut out, &failed)?,
        }
        out.write_all(&[0; tar::BLOCK][..tar::padding(entry.size())]).map_err(&failed)?;
    }
    out.write_all(&tar::END).map_err(&failed)?;
    out.flush().map_err(&failed)
}

fn write_layer(
    out: impl Write,
    (digest, size): (Digest, u64),
    layers: &dyn LayerSource,
    progress: &Progress<'_>,
    failed: &impl Fn(io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let mut verifier = Verifier::new(out, digest, size, progress);
    let produced = layers.write_layer(&digest, &mut verifier);
    settle(verifier, produced, digest, failed).map(drop)
}
