//! What is read of an image from the trees of its layers before they are mounted: its accounts, which shell it has, its linker
//! cache, and its CUDA compatibility libraries.
//!
//! A layer is the image's word. Each path is resolved below the layer's own tree (`openat2`) and through no link that the
//! kernel would follow: [`text`] and [`exists`] follow the image's links themselves, from layer to layer and never out of
//! the image; for the rest what is behind a link is as if it were not there. At worst the driver's libraries are found by
//! `LD_LIBRARY_PATH` then.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::tree::{Step, follow};

/// The largest linker cache of an image that is read, in bytes.
const CACHE_MAX: u64 = 4 << 20;
/// Names of one directory that are read at most.
const NAMES_MAX: usize = 1000;

/// The image's `/etc/ld.so.cache`. `layers` are directories, the lowest first.
pub fn ld_so_cache(layers: &[PathBuf]) -> Option<Vec<u8>> {
    let file = File::from(top(layers, "etc/ld.so.cache")?);
    let mut bytes = Vec::new();
    let regular = file.metadata().ok()?.is_file();
    file.take(CACHE_MAX + 1).read_to_end(&mut bytes).ok()?;
    (regular && bytes.len() as u64 <= CACHE_MAX).then_some(bytes)
}

/// The names in the image's `/usr/local/cuda/compat`, or in that of the only CUDA that it has.
pub fn cuda_compat(layers: &[PathBuf]) -> Vec<String> {
    // `/usr/local/cuda` is a link as a rule: of the image, hence not followed.
    let versions = top(layers, "usr/local").map(list).unwrap_or_default();
    let cudas: Vec<_> =
        versions.iter().filter(|name| name.starts_with("cuda-") && name.contains('.')).collect();
    let directory = match cudas.as_slice() {
        [] => "usr/local/cuda/compat".to_owned(),
        [one] => format!("usr/local/{one}/compat"),
        _ => return Vec::new(),
    };
    top(layers, &directory).map(list).unwrap_or_default()
}

/// A text file of the image of at most `limit` bytes. `layers` are directories, the lowest first; the path is relative.
pub fn text(layers: &[PathBuf], path: &str, limit: u64) -> Option<String> {
    let file = File::from(top(layers, &real_path(layers, path)?)?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let length = file.take(limit + 1).read_to_string(&mut text).ok()?;
    (length as u64 <= limit).then_some(text)
}

/// Whether the image has that file or directory.
pub fn exists(layers: &[PathBuf], path: &str) -> bool {
    real_path(layers, path).is_some()
}

/// Where a path leads inside the image when its links are followed as the kernel would, were it mounted.
fn real_path(layers: &[PathBuf], path: &str) -> Option<String> {
    follow(path, |at| {
        let found = top_with(layers, at, OFlags::PATH | OFlags::NOFOLLOW)?;
        let kind = File::from(found.try_clone().ok()?).metadata().ok()?;
        if is_whiteout(&kind) {
            return None;
        }
        if !kind.is_symlink() {
            return Some(Step::Other);
        }
        Some(Step::Link(readlinkat(&found, "", Vec::new()).ok()?.into_string().ok()?))
    })
}

/// What the highest layer that says something of the path has there.
fn top(layers: &[PathBuf], path: &str) -> Option<OwnedFd> {
    top_with(layers, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

fn top_with(layers: &[PathBuf], path: &str, flags: OFlags) -> Option<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for layer in layers.iter().rev() {
        let tree =
            openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        match openat2(&tree, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Ok(found) => return Some(found),
            Err(Errno::NOENT) if !hidden(&tree, path) => {}
            // A link, a whiteout, a file in a directory's place.
            Err(_) => return None,
        }
    }
    None
}

/// Does this layer hide what lower ones have there: by a whiteout, a file or an opaque directory on the way?
fn hidden(tree: &OwnedFd, path: &str) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let part = match openat2(tree, &path[..end], OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(part) => File::from(part),
            Err(Errno::NOENT) => return false,
            Err(_) => return true,
        };
        let Ok(found) = part.metadata() else { return true };
        if is_whiteout(&found) {
            return true;
        }
        if !found.is_dir() || opaque(tree, &path[..end]) {
            return true;
        }
    }
    false
}

fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

fn opaque(tree: &OwnedFd, path: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let Ok(directory) = openat2(tree, path, flags, Mode::empty(), resolve) else { return true };
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(&directory, *name, &mut value).is_ok_and(|len| value[..len] == *b"y")
    })
}

fn list(directory: OwnedFd) -> Vec<String> {
    let Ok(entries) = Dir::read_from(&directory) else { return Vec::new() };
    let names = entries
        .flatten()
        .take(NAMES_MAX)
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let mut names: Vec<_> = names.filter(|name| !matches!(name.as_str(), "." | "..")).collect();
    names.sort();
    names
}
