//! Proving that everything in the store is what its name says: hashes all blobs, reads all records.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use rayon::prelude::*;

use crate::digest::{Digest, hash_reader};

use super::gc::{self, Item, Kind};
use super::{Store, StoreError, TreeRecord, images, layers, trees, write};
use crate::unpack::{self, Context};

/// A file that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub kind: Kind,
    pub path: PathBuf,
    /// A lower-case fragment: "its bytes are sha256:…".
    pub why: String,
    /// It was removed. What it held is downloaded or made again when it is needed.
    pub removed: bool,
}

/// What was looked at, and what of it is bad, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    pub bad: Vec<Bad>,
}

/// Checks blobs, layer records, unpacked layers and image records, in parallel. `progress` is told the bytes read, as they
/// are.
///
/// With `repair` bad blobs, layer records and unpacked layers are removed, while nobody else has the store: `repair` is called
/// if others have to be waited for. An image's record never is: it is the person's, who builds the image again or removes its
/// name.
pub fn verify(
    store: &Store,
    repair: Option<&mut dyn FnMut()>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, StoreError> {
    let mut items = gc::list(store)?;
    items.retain(|item| matches!(item.kind, Kind::Blob | Kind::Layer | Kind::Tree | Kind::Image));
    // The largest first, so that no core ends alone with one of them.
    items.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let found: Vec<Option<Bad>> = items
        .par_iter()
        .with_max_len(1)
        .map(|item| {
            let Some(why) = check(store, item, progress)? else { return Ok(None) };
            Ok(Some(Bad { kind: item.kind, path: item.path.clone(), why, removed: false }))
        })
        .collect::<Result<_, StoreError>>()?;
    let mut bad: Vec<Bad> = found.into_iter().flatten().collect();
    bad.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(waiting) = repair
        && bad.iter().any(|bad| bad.kind != Kind::Image)
    {
        gc::alone(store, waiting, || {
            for bad in bad.iter_mut().filter(|bad| bad.kind != Kind::Image) {
                match bad.kind {
                    Kind::Tree => trees::remove(&bad.path)?,
                    _ => write::remove(bad.path.clone())?,
                }
                bad.removed = true;
            }
            Ok(())
        })?;
    }
    Ok(Report {
        files: items.iter().map(|item| item.files).sum(),
        bytes: items.iter().map(|item| item.bytes).sum(),
        bad,
    })
}

/// What is wrong with it.
fn check(store: &Store, item: &Item, progress: &(dyn Fn(u64) + Sync)) -> Result<Option<String>, StoreError> {
    let failed = |source| StoreError::Read { path: item.path.clone(), source };
    match item.kind {
        Kind::Blob => {
            let name = item.path.file_name().and_then(|name| name.to_str()).map(Digest::from_hex);
            let Some(Ok(digest)) = name else { return Ok(Some("its name is not a digest".to_owned())) };
            // An unreadable file, as from a failing disk, is one bad file and no reason to stop.
            let hashed = File::open(&item.path).and_then(|file| hash_reader(Counted { file, progress }));
            match hashed {
                Ok((actual, _)) if actual == digest => Ok(None),
                Ok((actual, _)) => Ok(Some(format!("its bytes are {actual}"))),
                // Moved away or pruned since the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Ok(Some(format!("it cannot be read: {error}"))),
            }
        }
        Kind::Layer => match layers::read_layer(&item.path)? {
            Some(_) => Ok(None),
            None if !item.path.exists() => Ok(None),
            None => Ok(Some("its checksum does not fit".to_owned())),
        },
        Kind::Tree => check_tree(item, progress),
        Kind::Image => {
            let bytes = match fs::read(&item.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                read => read.map_err(failed)?,
            };
            let image = match images::parse(&bytes, "the image") {
                Ok(image) => image,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let missing = image.blobs.iter().find(|blob| !store.has(blob));
            Ok(missing.map(|blob| format!("{} needs {blob}, which is missing", image.reference)))
        }
        _ => Ok(None),
    }
}

/// Reads the whole tree.
fn check_tree(item: &Item, progress: &(dyn Fn(u64) + Sync)) -> Result<Option<String>, StoreError> {
    let Some(record) = trees::record_in(&item.path)? else {
        let gone = !item.path.exists();
        return Ok((!gone).then(|| "its record cannot be read".to_owned()));
    };
    let context = Context { go_on: &|| Ok(()), progress };
    match unpack::survey(&trees::root_in(&item.path), context) {
        Ok(found) if found.content == record.content => Ok(None),
        Ok(found) => {
            let unpack::Survey { entries, bytes, .. } = found;
            let TreeRecord { entries: promised, bytes: promised_bytes, .. } = record;
            Ok(Some(match (entries, bytes) == (promised, promised_bytes) {
                true => "its files are not those of its layer".to_owned(),
                false => format!(
                    "it has {entries} names and {bytes} bytes, its layer {promised} and {promised_bytes}"
                ),
            }))
        }
        // Some layers have files that their owner cannot read; nothing is known against them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Ok(Some(format!("it cannot be read: {error}"))),
    }
}

struct Counted<'a> {
    file: File,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::tests::{image, store};

    #[test]
    fn each_bad_file_is_named_and_can_be_removed() {
        let (_home, store) = store();
        let good = store.put_bytes(b"good").unwrap();
        let bad = store.put_bytes(b"bad").unwrap();
        let gone = store.put_bytes(b"gone").unwrap();
        store.put_image(&image("a.example/x:1", &[], &[good, gone])).unwrap();
        assert_eq!(verify(&store, None, &|_| {}).unwrap().bad, []);

        fs::set_permissions(store.path(&bad), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(store.path(&bad), "bud").unwrap();
        fs::remove_file(store.path(&gone)).unwrap();
        fs::write(store.root().join("layers").join(good.hex()), "mlbuild-layer 1\nnonsense").unwrap();
        let hashed = AtomicU64::new(0);
        let count = |bytes| {
            hashed.fetch_add(bytes, Ordering::Relaxed);
        };
        let report = verify(&store, None, &count).unwrap();
        assert_eq!(hashed.into_inner(), 7);
        let kinds: Vec<_> = report.bad.iter().map(|bad| (bad.kind, bad.removed)).collect();
        assert_eq!(kinds, [(Kind::Blob, false), (Kind::Image, false), (Kind::Layer, false)]);
        assert!(report.bad[0].why.contains(&Digest::of(b"bud").to_string()));
        assert!(report.bad[1].why.contains(&gone.to_string()));

        verify(&store, Some(&mut || {}), &|_| {}).unwrap();
        let left = verify(&store, None, &|_| {}).unwrap();
        assert_eq!(left.bad.len(), 1, "{left:?}");
        assert!(store.has(&good) && !store.has(&bad));
    }
}
