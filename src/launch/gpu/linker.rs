//! How the image's dynamic linker finds libraries that are not the image's.

use std::collections::BTreeSet;

use super::{GpuPlan, ImageFacts};
use crate::elf::{CacheEntry, cache_flags, read_cache, write_cache};
use crate::launch::Step;

const COMPAT: &str = "/usr/local/cuda/compat";

/// A name that is looked up, and the path where the library is then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Library {
    pub name: String,
    pub path: String,
}

/// Lets the linker find `libraries`, which lie in `folders`: by the image's own cache, in which these names are no
/// longer the image's, or by `LD_LIBRARY_PATH` where the image has none.
pub fn find(plan: &mut GpuPlan, libraries: &[Library], folders: &[String], image: ImageFacts<'_>) {
    if libraries.is_empty() {
        return;
    }
    let there = match image.ld_so_cache.map(read_cache) {
        Some(Some(there)) => there,
        unreadable => {
            if unreadable.is_some() {
                plan.warnings.push(
                    "the image's /etc/ld.so.cache is not understood: LD_LIBRARY_PATH names the driver's libraries"
                        .to_owned(),
                );
            }
            plan.appended.push(("LD_LIBRARY_PATH".to_owned(), folders.join(":")));
            return;
        }
    };
    let flags = cache_flags(image.platform);
    let names: BTreeSet<&str> = libraries.iter().map(|library| library.name.as_str()).collect();
    let mut entries: Vec<CacheEntry> = libraries
        .iter()
        .map(|library| CacheEntry {
            name: library.name.clone(),
            path: library.path.clone(),
            flags,
            hwcap: 0,
            subdirectory: None,
        })
        .collect();
    // Libraries of another architecture stay.
    entries.extend(
        there.into_iter().filter(|entry| entry.flags != flags || !names.contains(entry.name.as_str())),
    );
    plan.steps.push(Step::Data {
        target: "/etc/ld.so.cache".to_owned(),
        mode: 0o644,
        content: write_cache(&entries),
    });
}

/// CUDA's forward-compatibility libraries of the image, if it has some for a newer driver than the host's: they take
/// the place of the driver's libraries of the same names.
pub fn prefer_compat(libraries: &mut Vec<Library>, driver: &str, image: ImageFacts<'_>) {
    let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let theirs = image
        .compat
        .iter()
        .filter_map(|name| major(name.strip_prefix("libcuda.so.")?))
        .filter(|m| *m > 1)
        .max();
    let (Some(theirs), Some(hosts)) = (theirs, major(driver)) else { return };
    if theirs <= hosts {
        return;
    }
    for name in image.compat {
        // The links named by sonames are there: `libcuda.so.1`.
        let is_soname = name.split_once(".so.").is_some_and(|(_, version)| !version.contains('.'));
        if name.starts_with("lib") && is_soname {
            libraries.retain(|library| library.name != *name);
            libraries.push(Library { name: name.clone(), path: format!("{COMPAT}/{name}") });
        }
    }
}
