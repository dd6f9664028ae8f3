//! Removing trees, whose directories may have any mode.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Removes the directory and all below it; one that is gone already counts as removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A directory of a layer need not be writable, not even for its owner.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            admit(path)?;
            fs::remove_dir_all(path)
        }
        done => done,
    }
}

/// Lets the owner into all directories.
fn admit(top: &Path) -> io::Result<()> {
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Removes what stands at `name`, with all below it. All directories are still those of [`writer`](super::writer), which
/// lets itself into each.
pub(super) fn remove_at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = openat(directory, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        let inside = entry.file_name().to_bytes();
        if matches!(inside, b"." | b"..") {
            continue;
        }
        match entry.file_type() {
            FileType::Directory | FileType::Unknown => remove_at(below.as_fd(), inside)?,
            _ => unlinkat(&below, inside, AtFlags::empty())?,
        }
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_directories_go_too() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("tree");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(home.path(), top.join("a/link")).unwrap();
        fs::set_permissions(top.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(top.join("a"), Permissions::from_mode(0o500)).unwrap();
        remove_tree(&top).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && home.path().exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("kept/below")).unwrap();
        fs::create_dir_all(home.path().join("gone/below")).unwrap();
        for name in ["gone/link", "gone/below/link", "single"] {
            std::os::unix::fs::symlink(home.path().join("kept"), home.path().join(name)).unwrap();
        }
        let directory = fs::File::open(home.path()).unwrap();
        remove_at(directory.as_fd(), b"gone").unwrap();
        remove_at(directory.as_fd(), b"single").unwrap();
        assert!(home.path().join("kept/below").exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
