//! OCI image layout (image specification, "image-layout.md"):
//!
//! ```text
//! oci-layout                   {"imageLayoutVersion":"1.0.0"}
//! index.json                   the images in it, by tag
//! blobs/sha256/<hex>           documents and layers
//! ```
//!
//! **Writing into a layout that exists** keeps its other images, whoever made them: entries of `index.json` are
//! carried over as JSON values, with fields that we do not know. An entry of the same tag is replaced, and so is an
//! entry without a tag for the same digest or of the same whole reference; one with another tag keeps that alone. What is
//! wrong with an entry of ours, `entry` sees, and it is said. `index.json` is replaced last, by a rename, so that a reader
//! sees the old state or the new one. An interrupted export adds nothing but whole blobs that nothing refers to yet; they stay,
//! since the next export goes on from them. A killed one may leave files of [`scratch`], which the next export removes.
//! Two exporters take turns
//! by an advisory lock on the directory, where its file system has such locks. A directory that holds other things
//! is refused.
//!
//! **A blob that is already there** is kept if its content has its digest, and is written again otherwise. Hashing
//! costs less than writing, and a truncated blob of a killed tool must not become part of an image.
//!
//! **Names**: `org.opencontainers.image.ref.name` is the tag, which skopeo, podman and umoci look for;
//! `io.containerd.image.name` is the whole reference.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::entry as entries;
use super::parallel::each_layer;
use super::region::Region;
use super::verify::{Verifier, settle};
use super::{Export, ExportError, LayerSource, Progress};
use crate::digest::{Digest, hash_reader};
use crate::image::annotation;
use crate::oci::reference::is_tag;
use crate::oci::{Descriptor, MediaType, Reference, canonical};
use crate::scratch;
use crate::textfile;

/// Content of the file `oci-layout`.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// How often an export that waits for another looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The largest `index.json` that is extended, in bytes.
const MAX_INDEX: usize = 64 << 20;

pub(super) fn write(
    directory: &Path,
    tag: Option<&str>,
    image: &Export<'_>,
    layers: &dyn LayerSource,
    jobs: usize,
    progress: &Progress<'_>,
) -> Result<Vec<String>, ExportError> {
    let entry = entry(image, tag)?;
    refuse_other_directory(directory)?;
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
    let guard = File::open(directory).map_err(failed("open", directory))?;
    take_turn(&guard, layers).map_err(failed("lock", directory))?;
    // What a killed export has left.
    scratch::sweep(directory, scratch::is_scratch);
    let Extended { index, changed } = extended(existing_index(directory)?, &entry);
    let index = index_bytes(&index)?;
    let go_on = || layers.go_on();
    for (digest, bytes) in image.documents {
        let promised = (*digest, bytes.len() as u64);
        write_blob(directory, promised, &|out| out.write_all(bytes), &go_on, &|_| ())?;
    }
    each_layer(&image.layers, jobs, &|promised| {
        let produce = |out: &mut dyn Write| layers.write_layer(&promised.0, out);
        write_blob(directory, promised, &produce, &go_on, progress)
    })?;
    sync_directory(&blobs)?;
    sync_directory(&directory.join("blobs"))?;
    replace(&directory.join("oci-layout"), LAYOUT.as_bytes())?;
    replace(&directory.join("index.json"), &index)?;
    sync_directory(directory)?;
    let path = directory.display();
    let told = |name| {
        format!(
            "`{path}`: what its index.json said of `{name}` is not what mlbuild wrote there: another tool has renamed it, or \
             it is damaged"
        )
    };
    Ok(changed.into_iter().map(told).collect())
}

/// The root's descriptor with the names that an index gives it.
pub(super) fn entry(image: &Export<'_>, tag: Option<&str>) -> Result<Descriptor, ExportError> {
    let mut entry = image.root.clone();
    if !image.documents.contains_key(&entry.digest) {
        return Err(ExportError::MissingDocument(entry.digest));
    }
    let reference = reference(image)?;
    let tag = tag.or_else(|| reference.as_ref().map(Reference::tag_or_default));
    if let Some(tag) = tag {
        if !is_tag(tag) {
            return Err(ExportError::Tag(tag.to_owned()));
        }
        entry.annotations.insert(annotation::REF_NAME.to_owned(), tag.to_owned());
    }
    if let Some(reference) = reference {
        entry.annotations.insert(annotation::CONTAINERD_NAME.to_owned(), reference.tagged());
    }
    Ok(entry)
}

/// What the image is called, if it is called anything.
pub(super) fn reference(image: &Export<'_>) -> Result<Option<Reference>, ExportError> {
    let parse = |text: &str| text.parse().map_err(|error| ExportError::Reference(text.to_owned(), error));
    image.reference.map(parse).transpose()
}

/// The `index.json` of this image alone.
pub(super) fn index_of(entry: &Descriptor) -> Result<Vec<u8>, ExportError> {
    let mut index = new_index();
    index.insert("manifests".to_owned(), Value::Array(vec![value(entry)]));
    index_bytes(&index)
}

/// An index with one image more, or with this one instead of the one of its name.
pub(super) struct Extended {
    pub(super) index: Map<String, Value>,
    /// Names of other images, and of one that was replaced, of which it did not say any more what was written.
    pub(super) changed: Vec<String>,
}

/// `None`: a new index.
pub(super) fn extended(index: Option<Map<String, Value>>, entry: &Descriptor) -> Extended {
    let mut index = index.unwrap_or_else(new_index);
    let mut new = value(entry);
    entries::vouch(&mut new);
    let mut old = match index.remove("manifests") {
        Some(Value::Array(manifests)) => manifests,
        _ => Vec::new(),
    };
    entries::release(&mut old);
    let tag = |entry: &Value| entries::name(entry, annotation::REF_NAME).map(str::to_owned);
    let reference = |entry: &Value| entries::name(entry, annotation::CONTAINERD_NAME).map(str::to_owned);
    let same_reference = |old: &Value| reference(old).is_some() && reference(old) == reference(&new);
    let is_replaced = |old: &Value| match tag(old) {
        Some(name) => tag(&new).is_some_and(|new| new == name),
        None => old["digest"] == new["digest"] || same_reference(old),
    };
    let (mut manifests, mut changed) = (Vec::new(), Vec::new());
    for entry in &old {
        let (replaced, same_image) = (is_replaced(entry), entry["digest"] == new["digest"]);
        let is_changed = entries::is_changed(entry, &old);
        // Of the same image under the same name, all is as it should be again.
        if is_changed && !(replaced && same_image) {
            changed.push(entries::shown(entry).to_owned());
        }
        if replaced {
            continue;
        }
        let mut kept = entry.clone();
        if is_changed {
            entries::mark_changed(&mut kept);
        }
        if same_reference(entry) && !same_image {
            entries::give_up_reference(&mut kept, &old);
        }
        manifests.push(kept);
    }
    manifests.push(new);
    index.insert("manifests".to_owned(), Value::Array(manifests));
    Extended { index, changed }
}

fn new_index() -> Map<String, Value> {
    let media_type = Value::from(MediaType::Index.as_str());
    Map::from_iter([("schemaVersion".to_owned(), Value::from(2)), ("mediaType".to_owned(), media_type)])
}

fn value(entry: &Descriptor) -> Value {
    serde_json::to_value(entry).expect("a descriptor has string keys")
}

fn index_bytes(index: &Map<String, Value>) -> Result<Vec<u8>, ExportError> {
    canonical::to_bytes(index)
        .map_err(|error| ExportError::NoLayout { path: "index.json".into(), problem: error.to_string() })
}

/// A directory of somebody's sources is not to be littered with blobs. The file `oci-layout` makes a layout of it; an
/// export killed before that has nothing but our own names.
fn refuse_other_directory(directory: &Path) -> Result<(), ExportError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<io::Result<_>>().map_err(failed("read", directory))?;
    let is_ours =
        |name: &String| matches!(name.as_str(), "blobs" | "index.json") || scratch::is_scratch(name);
    match names.iter().any(|name| name == "oci-layout") || names.iter().all(is_ours) {
        true => Ok(()),
        false => Err(ExportError::NoLayout {
            path: directory.to_owned(),
            problem: "it holds other files".to_owned(),
        }),
    }
}

fn existing_index(directory: &Path) -> Result<Option<Map<String, Value>>, ExportError> {
    let path = directory.join("index.json");
    let no_layout = |problem: String| ExportError::NoLayout { path: directory.to_owned(), problem };
    let bytes = match textfile::read_bytes(&path, MAX_INDEX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(no_layout(format!("its index.json cannot be read: {error}")));
        }
        Err(error) => return Err(failed("read", &path)(error)),
    };
    parse_index(&bytes).map(Some).map_err(no_layout)
}

/// The index to be extended, or why it is none.
pub(super) fn parse_index(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(bytes) {
        // Both fields are the specification's demand; some writers say `null` for no images.
        Ok(Value::Object(index))
            if index.get("schemaVersion").is_some_and(|version| *version == 2)
                && index.get("mediaType").is_none_or(is_index)
                && matches!(index.get("manifests"), Some(Value::Array(_) | Value::Null)) =>
        {
            Ok(index)
        }
        Ok(_) => Err("its index.json is no image index".to_owned()),
        Err(error) => Err(format!("its index.json is not JSON: {error}")),
    }
}

fn is_index(media_type: &Value) -> bool {
    media_type.as_str().is_some_and(|name| MediaType::from(name).is_index())
}

/// Makes sure that the blob is there, with the content that its name promises.
fn write_blob(
    directory: &Path,
    (digest, size): (Digest, u64),
    produce: &dyn Fn(&mut dyn Write) -> io::Result<()>,
    go_on: &dyn Fn() -> io::Result<()>,
    progress: &Progress<'_>,
) -> Result<(), ExportError> {
    let path = directory.join("blobs/sha256").join(digest.hex());
    if is_whole(&path, digest, size, go_on) {
        progress(size);
        return Ok(());
    }
    let file = temporary(directory).map_err(failed("create a file in", directory))?;
    let mut verifier = Verifier::new(Region::new(file.as_file(), 0), digest, size, progress);
    let produced = produce(&mut verifier);
    settle(verifier, produced, digest, failed("write", &path))?;
    file.as_file().sync_all().map_err(failed("write", &path))?;
    file.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
    Ok(())
}

fn is_whole(path: &Path, digest: Digest, size: u64, go_on: &dyn Fn() -> io::Result<()>) -> bool {
    let Ok(file) = textfile::open(path) else { return false };
    file.metadata().is_ok_and(|metadata| metadata.len() == size)
        && hash_reader(Stoppable { file, go_on }).is_ok_and(|found| found == (digest, size))
}

/// A file that cannot be read any more once the work is to stop.
struct Stoppable<'a> {
    file: File,
    go_on: &'a dyn Fn() -> io::Result<()>,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.go_on)()?;
        self.file.read(buffer)
    }
}

/// Waits for other exporters into the directory. Where its file system has no locks, everybody goes at once.
fn take_turn(guard: &File, layers: &dyn LayerSource) -> io::Result<()> {
    while let Err(TryLockError::WouldBlock) = guard.try_lock() {
        layers.go_on()?;
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// A file beside its final place, with the permissions that the user's mask leaves: others may read images.
pub(super) fn temporary(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    scratch::create(directory, 0o666)
}

/// Puts `bytes` at `path` so that a reader sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(directory).map_err(failed("create a file in", directory))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed("write", path))?;
    file.persist(path).map_err(|error| failed("write", path)(error.error))?;
    Ok(())
}

/// Makes renames in `directory` last.
pub(super) fn sync_directory(directory: &Path) -> Result<(), ExportError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
}

/// For `map_err`: what was done to which path.
pub(super) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.into();
    move |source| ExportError::File { action, path, source }
}
