//! The libraries of NVIDIA's driver: found by the host's linker cache, and in the directories where they usually are.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{below, names};
use crate::blob::FileBlob;
use crate::elf::{self, cache_flags, machine, read_cache};
use crate::launch::Library;
use crate::oci::Platform;

/// The largest linker cache that is read, in bytes.
const CACHE_MAX: u64 = 16 << 20;
/// As many links are followed as the kernel follows.
const LINKS_MAX: usize = 40;

/// What the driver's libraries are called. Others of its version lie beside libcuda, whatever their names.
const PREFIXES: [&str; 9] = [
    "libcuda",
    "libnvidia-",
    "libnvcuvid.",
    "libnvoptix.",
    "libEGL_nvidia.",
    "libGLX_nvidia.",
    "libGLESv1_CM_nvidia.",
    "libGLESv2_nvidia.",
    "libvdpau_nvidia.",
];
/// Of no version, or of one of their own.
const OTHERS: [&str; 1] = ["libnvidia-nvvm70.so."];

/// The version of libcuda, and all libraries of that version.
pub(super) fn driver(
    root: &Path,
    platform: Platform,
    loaded: Option<&str>,
) -> (Option<String>, Vec<Library>) {
    let mut found = cached(root, platform);
    for directory in directories(platform) {
        found.extend(
            names(root, &directory)
                .into_iter()
                .filter(|name| is_drivers(name))
                .map(|name| directory.join(name)),
        );
    }
    let mut files: Vec<PathBuf> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut take = |path: PathBuf, files: &mut Vec<PathBuf>| {
        if let Some(real) = real(root, path)
            && seen.insert(real.clone())
        {
            files.push(real);
        }
    };
    for path in found {
        take(path, &mut files);
    }
    // The one of the loaded module first; else the newest.
    let mut versions: Vec<String> = files.iter().filter_map(|file| version(file, "libcuda.so.")).collect();
    versions.sort_by_key(|version| numbers(version));
    let version = match loaded {
        Some(loaded) if versions.iter().any(|version| version == loaded) => Some(loaded.to_owned()),
        _ => versions.pop(),
    };
    let Some(version) = version else { return (None, Vec::new()) };
    let beside: BTreeSet<PathBuf> = files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| *name == *format!("libcuda.so.{version}")))
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    let ending = format!(".so.{version}");
    for directory in beside {
        for name in names(root, &directory).into_iter().filter(|name| name.ends_with(&ending)) {
            take(directory.join(name), &mut files);
        }
    }
    let mut libraries: Vec<Library> = files
        .into_iter()
        .filter(|file| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(&ending) || OTHERS.iter().any(|other| name.starts_with(other))
        })
        .filter_map(|path| library(root, path, platform))
        .collect();
    libraries.sort_by(|a, b| a.path.cmp(&b.path));
    (Some(version), libraries)
}

/// Paths that the host's linker cache has for the driver's names.
fn cached(root: &Path, platform: Platform) -> Vec<PathBuf> {
    let Some(bytes) = open(&below(root, Path::new("/etc/ld.so.cache"))).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(CACHE_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }) else {
        return Vec::new();
    };
    let entries = read_cache(&bytes).unwrap_or_default();
    let ours =
        entries.into_iter().filter(|entry| entry.flags == cache_flags(platform) && is_drivers(&entry.name));
    ours.map(|entry| PathBuf::from(entry.path)).collect()
}

fn is_drivers(name: &str) -> bool {
    name.contains(".so") && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Where distributions and NVIDIA's own installer put them; in the pods of a Kubernetes whose nodes have the driver, a
/// directory of it is mounted on `/usr/local/nvidia`.
fn directories(platform: Platform) -> Vec<PathBuf> {
    let multiarch = platform.multiarch();
    let mut directories: Vec<_> =
        ["", "/nvidia", "/nvidia/current"].map(|below| format!("/usr/lib/{multiarch}{below}")).into();
    directories.extend(
        [
            "/usr/lib64",
            "/usr/lib64/nvidia",
            "/usr/lib",
            "/usr/lib/nvidia",
            "/run/opengl-driver/lib",
            "/usr/local/nvidia/lib64",
            "/usr/local/nvidia/lib",
        ]
        .map(str::to_owned),
    );
    directories.into_iter().map(PathBuf::from).collect()
}

/// Where the links at the path lead in the end; Debian's alternatives are absolute links.
fn real(root: &Path, mut path: PathBuf) -> Option<PathBuf> {
    for _ in 0..LINKS_MAX {
        match fs::read_link(below(root, &path)) {
            Ok(to) => path = path.parent()?.join(to),
            Err(_) => break,
        }
    }
    let file = fs::symlink_metadata(below(root, &path)).is_ok_and(|found| found.is_file());
    // `a/../b` would be one file under two names.
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    file.then(|| if plain { path } else { clean(&path) })
}

fn clean(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// `580.95.05` of `<prefix>580.95.05`.
fn version(path: &Path, prefix: &str) -> Option<String> {
    let version = path.file_name()?.to_str()?.strip_prefix(prefix)?;
    is_version(version).then(|| version.to_owned())
}

/// Two or three numbers.
pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    (2..=3).contains(&parts.len())
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// The library at `path`, if the file is one for the platform.
pub(super) fn library(root: &Path, path: PathBuf, platform: Platform) -> Option<Library> {
    let blob = FileBlob::new(open(&below(root, &path))?).ok()?;
    let facts = elf::facts(&blob)?;
    let fits = facts.class64 && facts.machine == machine(platform);
    fits.then_some(Library { path, soname: facts.soname })
}

/// A regular file; a FIFO in its place is not waited for.
fn open(path: &Path) -> Option<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}
