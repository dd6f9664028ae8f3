//! CDI files, and what the libraries that they mount are called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::libraries::library;
use super::names;
use crate::launch::cdi::Specification;
use crate::launch::{CdiFile, Library};
use crate::oci::Platform;
use crate::textfile;

/// The longest CDI file that is read, in bytes. One of eight partitioned GPUs has some hundred thousand.
const LONGEST: usize = 4 << 20;

/// Where CDI files are, the directory that wins last. Of the user's directory `$XDG_CONFIG_HOME`, or `$HOME`.
pub fn cdi_directories(config_home: Option<&Path>, home: Option<&Path>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).into();
    let config = config_home.filter(|path| path.is_absolute()).map(Path::to_owned);
    let config = config.or_else(|| home.filter(|path| path.is_absolute()).map(|home| home.join(".config")));
    directories.extend(config.map(|config| config.join("cdi")));
    directories
}

/// The files of these directories in the order in which a registry takes them, and why others cannot be read.
pub fn cdi_files(directories: &[PathBuf]) -> (Vec<CdiFile>, Vec<String>) {
    let (mut files, mut warnings) = (Vec::new(), Vec::new());
    for directory in directories {
        for name in names(Path::new("/"), directory) {
            let path = directory.join(&name);
            if !matches!(path.extension().and_then(|extension| extension.to_str()), Some("json" | "yaml")) {
                continue;
            }
            match textfile::read(&path, LONGEST) {
                Ok(text) => files.push(CdiFile { path, text }),
                Err(error) => warnings.push(format!("CDI file {} is not used: {error}", path.display())),
            }
        }
    }
    (files, warnings)
}

/// The libraries for `platform` that the valid ones of these files mount.
pub fn cdi_libraries(root: &Path, files: &[CdiFile], platform: Platform) -> Vec<Library> {
    let mut libraries = Vec::new();
    let mut seen = BTreeSet::new();
    for specification in files.iter().filter_map(|file| Specification::read(file).ok()) {
        let devices = specification.devices.iter().map(|device| &device.container_edits);
        for mount in devices.chain([&specification.container_edits]).flat_map(|edits| &edits.mounts) {
            let path = PathBuf::from(&mount.host_path);
            if mount.host_path.contains(".so") && seen.insert(path.clone()) {
                libraries.extend(library(root, path, platform));
            }
        }
    }
    libraries
}
