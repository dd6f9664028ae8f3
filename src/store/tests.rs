//! The store's contract: what is put is found, what is damaged is noticed, and no crash or crowd leaves a half file.

#![expect(clippy::disallowed_methods, reason = "ages of files are tested")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use super::*;

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    (home, store)
}

pub(super) fn image(reference: &str, layers: &[Digest], blobs: &[Digest]) -> ImageRecord {
    ImageRecord {
        reference: reference.to_owned(),
        digest: Digest::of(reference),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        platforms: vec!["linux/amd64".to_owned()],
        spec: None,
        layers: layers.to_vec(),
        blobs: blobs.to_vec(),
        size: 1,
        made_from: None,
    }
}

fn read(store: &Store, digest: &Digest) -> io::Result<Vec<u8>> {
    let blob = store.open(digest)?;
    blob.read_vec_at(0, blob.size() as usize)
}

fn damage(store: &Store, digest: &Digest, bytes: &[u8]) {
    fs::set_permissions(store.path(digest), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(store.path(digest), bytes).unwrap();
}

fn files_in(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn what_is_put_is_found() {
    let (home, store) = store();
    let digest = store.put_bytes(b"abc").unwrap();
    assert_eq!(digest, Digest::of(b"abc"));
    assert_eq!(store.put_bytes(b"abc").unwrap(), digest);
    let mut writer = store.writer().unwrap();
    writer.write_all(b"de").unwrap();
    writer.write_all(b"f").unwrap();
    assert_eq!(writer.commit(Some((Digest::of(b"def"), 3))).unwrap(), (Digest::of(b"def"), 3));
    let again = Store::open(home.path()).unwrap();
    assert_eq!(read(&again, &digest).unwrap(), b"abc");
    assert_eq!(read(&again, &Digest::of(b"def")).unwrap(), b"def");
    assert_eq!(again.blob_size(&digest), Some(3));
    let absent = Digest::of(b"absent");
    assert_eq!(read(&again, &absent).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!((again.has(&absent), again.blob_size(&absent)), (false, None));
    let mode = fs::metadata(store.path(&digest)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    assert_eq!(files_in(&home.path().join(layout::TMP)), 0);
}

#[test]
fn wrong_content_is_not_put() {
    let (home, store) = store();
    for expected in [(Digest::of(b"other"), 3), (Digest::of(b"abc"), 4)] {
        let mut writer = store.writer().unwrap();
        writer.write_all(b"abc").unwrap();
        let error = writer.commit(Some(expected)).unwrap_err();
        assert!(matches!(error, StoreError::Mismatch(_)), "{error}");
    }
    drop(store.writer().unwrap());
    assert!(!store.has(&Digest::of(b"abc")));
    assert_eq!(files_in(&home.path().join(layout::TMP)), 0);
}

#[test]
fn a_damaged_blob_is_moved_away_once_and_can_be_put_again() {
    let (home, store) = store();
    let digest = store.put_bytes(b"abc").unwrap();
    let other = Store::open(home.path()).unwrap();
    damage(&store, &digest, b"abd");
    // What this process wrote it takes as verified; another one hashes.
    assert_eq!(read(&store, &digest).unwrap(), b"abd");
    assert_eq!(other.open_trusted(&digest).unwrap().read_vec_at(0, 3).unwrap(), b"abd");
    let error = read(&other, &digest).unwrap_err();
    assert_eq!(corrupt_blob(&error), Some(digest));
    assert!(!other.has(&digest));
    assert_eq!(files_in(&home.path().join(layout::CORRUPT)), 1);
    assert_eq!(read(&other, &digest).unwrap_err().kind(), io::ErrorKind::NotFound);
    other.put_bytes(b"abc").unwrap();
    assert_eq!(read(&other, &digest).unwrap(), b"abc");

    // Also when putting finds the damage.
    damage(&other, &digest, b"");
    let third = Store::open(home.path()).unwrap();
    third.put_bytes(b"abc").unwrap();
    assert_eq!(read(&third, &digest).unwrap(), b"abc");
}

#[test]
fn a_crowd_puts_and_reads_the_same_content() {
    let (home, _store) = store();
    let content: Vec<Vec<u8>> = (0..8_u8).map(|i| vec![i; 200_000]).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (home, content) = (home.path(), &content);
            scope.spawn(move || {
                // A store of its own stands for a process: nothing but the file system is shared.
                let store = Store::open(home).unwrap();
                for turn in 0..content.len() {
                    let bytes = &content[(turn + thread) % content.len()];
                    if thread % 2 == 0 {
                        assert_eq!(store.put_bytes(bytes).unwrap(), Digest::of(bytes));
                    } else {
                        let mut writer = store.writer().unwrap();
                        writer.write_all(bytes).unwrap();
                        writer.commit(None).unwrap();
                    }
                    assert_eq!(&read(&store, &Digest::of(bytes)).unwrap(), bytes);
                }
            });
        }
    });
    assert_eq!(files_in(&home.path().join(layout::TMP)), 0);
    let report = verify::verify(&Store::open(home.path()).unwrap(), None, &|_| {}).unwrap();
    assert_eq!((report.files, report.bad.len()), (8, 0));
}

#[test]
fn what_a_killed_writer_leaves_is_swept() {
    let (home, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"half").unwrap();
    let tmp = home.path().join(layout::TMP);
    Store::open(home.path()).unwrap();
    assert_eq!(files_in(&tmp), 1, "a living writer's file was taken");
    // A kill closes the handle, and with it the lock, but leaves the file.
    fs::write(tmp.join("left"), "half").unwrap();
    Store::open(home.path()).unwrap();
    assert_eq!(files_in(&tmp), 1);
    writer.commit(None).unwrap();
    assert!(store.has(&Digest::of(b"half")));
}

#[test]
fn a_partial_has_one_writer() {
    let (home, store) = store();
    let first = store.partial("name").unwrap().unwrap();
    (&mut first.file()).write_all(b"abc").unwrap();
    let other = Store::open(home.path()).unwrap();
    assert!(other.partial("name").unwrap().is_none());
    assert!(other.partial("another").unwrap().is_some());
    drop(first);
    let second = other.partial("name").unwrap().unwrap();
    assert_eq!(second.file().metadata().unwrap().len(), 3);
    second.install(&Digest::of(b"abc")).unwrap();
    assert_eq!(read(&store, &Digest::of(b"abc")).unwrap(), b"abc");
    assert_eq!(store.partial("name").unwrap().unwrap().file().metadata().unwrap().len(), 0);
}

#[test]
fn use_is_noted_for_pruning_by_age() {
    let (_home, store) = store();
    let digest = store.put_bytes(b"abc").unwrap();
    let used = || fs::metadata(store.path(&digest)).unwrap().modified().unwrap();
    let old = SystemTime::now() - Duration::from_secs(90 * 24 * 3600);
    fs::File::open(store.path(&digest)).unwrap().set_modified(old).unwrap();
    assert_eq!(used(), old);
    read(&store, &digest).unwrap();
    assert!(used().elapsed().unwrap() < Duration::from_secs(3600));
}

#[test]
fn the_store_is_the_owners() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("a/b/store");
    Store::open(&root).unwrap();
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), format!("{STORE_VERSION}\n"));
}
