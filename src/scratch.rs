//! Files that become others: written under a name of their own beside their place, renamed when they are complete.
//!
//! Whoever writes one holds its flock, which ends with the process, however that ends. A file of such a name that nobody
//! has locked is thus one that a killed process has left, and the next that writes there removes it ([`sweep`]). Until
//! then it is in nobody's way: `[[copy]]` takes no file of such a name.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

const PREFIX: &str = ".mlbuild-";
const SUFFIX: &str = ".part";

/// Whether a file of that name is one of [`create`].
pub fn is_scratch(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// A locked file in `directory`, removed when it is dropped before its rename. The user's mask takes from `mode`.
pub fn create(directory: &Path, mode: u32) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        match file.as_file().lock() {
            Ok(()) => {}
            // Without locks nothing is ever swept.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(error) => return Err(error),
        }
        // A sweeper may have taken it for left between its making and its lock.
        if file.as_file().metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes the files of `directory` that `which` names and whose writer is gone. What cannot be removed is left to the
/// next sweep: nobody's work depends on it.
pub fn sweep(directory: &Path, which: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file
            && which(&entry.file_name().to_string_lossy())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_without_a_writer_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at(".mlbuild-left.part"), "x").unwrap();
        fs::write(at("mine.part"), "x").unwrap();
        let held = create(directory.path(), 0o600).unwrap();
        let name = held.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(is_scratch(&name) && !is_scratch("mine.part"));
        sweep(directory.path(), is_scratch);
        assert!(!at(".mlbuild-left.part").exists() && at("mine.part").exists() && at(&name).exists());
        // A kill closes the file, and with it the lock, but does not remove it.
        let (file, path) = held.keep().unwrap();
        drop(file);
        sweep(directory.path(), is_scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_sweeper_at_the_wrong_moment_costs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            let sweeper = threads.spawn(|| (0..300).for_each(|_| sweep(directory.path(), is_scratch)));
            for turn in 0.. {
                let file = create(directory.path(), 0o600).unwrap();
                file.persist(directory.path().join("kept")).unwrap();
                if turn >= 300 && sweeper.is_finished() {
                    break;
                }
            }
        });
    }
}
