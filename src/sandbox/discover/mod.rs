//! Looks facts of the host up that GPUs and what is hidden need: in `/proc`, `/sys`, `/dev` and the usual directories, below a root that is
//! `/` but in tests. No program is run, and what cannot be read is as if it were not there.

mod cdi;
mod image;
mod libraries;
mod nvidia;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

pub use cdi::{cdi_directories, cdi_files, cdi_libraries};
pub use image::{cuda_compat, exists, ld_so_cache, text};
pub use nvidia::gpu_facts;

use crate::textfile;

/// The largest file of the kernel or of a driver that is read, in bytes.
const SMALL: usize = 256 * 1024;

/// The processors of which the kernel tells when heat slows them down: those of most real machines, of no virtual one.
pub fn thermal_cpus(root: &Path) -> Vec<u32> {
    let directory = Path::new("/sys/devices/system/cpu");
    let tells = |cpu: &u32| below(root, directory).join(format!("cpu{cpu}/thermal_throttle")).exists();
    let names = names(root, directory);
    let numbers = names.iter().filter_map(|name| name.strip_prefix("cpu")?.parse().ok());
    let mut cpus: Vec<_> = numbers.filter(tells).collect();
    cpus.sort_unstable();
    cpus
}

/// `path` is absolute: where it is below the root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A short text of the kernel.
fn read(root: &Path, path: &str) -> Option<String> {
    textfile::read(&below(root, Path::new(path)), SMALL).ok()
}

/// The names in a directory, in order.
fn names(root: &Path, directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(below(root, directory)) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
