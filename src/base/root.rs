//! The file system that the layers of an image come to, without a file of it on the disk.

use std::collections::BTreeMap;

use super::{BaseError, Entry, FileFacts, Listing};
use crate::elf;
use crate::lock::model::{BaseDirectory, BasePaths, MAX_PATHS};
use crate::oci::Platform;
use crate::tree::{Step, TreePath, follow};

/// The most bytes of paths and targets that a lock holds.
const PATHS_BYTES: usize = 64 << 10;

/// What stands at each path.
#[derive(Debug, Default)]
pub struct Root {
    entries: BTreeMap<String, Entry>,
}

impl Root {
    /// The layers, the lowest first.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a Listing>) -> Self {
        let mut root = Self::default();
        for layer in layers {
            root.apply(layer);
        }
        root
    }

    fn apply(&mut self, layer: &Listing) {
        // What a layer hides is in those below it, never in itself.
        for directory in &layer.opaque {
            self.remove_below(&self.place(directory));
        }
        for path in &layer.whiteouts {
            let place = self.place(path);
            self.remove_below(&place);
            self.entries.remove(&place);
        }
        // Most entries lie in the directory of the one before.
        let mut last: Option<(&str, String)> = None;
        for (path, entry) in &layer.entries {
            let place = match (path.rsplit_once('/'), &last) {
                (Some((parent, name)), Some((before, real))) if parent == *before => join(real, name),
                (Some((parent, name)), _) => {
                    let real = self.real(parent).unwrap_or_else(|| parent.to_owned());
                    let place = join(&real, name);
                    last = Some((parent, real));
                    place
                }
                (None, _) => path.clone(),
            };
            if place.is_empty() {
                continue;
            }
            // A directory without an entry of its own is one all the same.
            let merges = matches!(
                (self.entries.get(&place), entry),
                (Some(Entry::Directory { .. }) | None, Entry::Directory { .. })
            );
            if !merges {
                self.remove_below(&place);
            }
            self.entries.insert(place, entry.clone());
        }
    }

    /// Where an entry of a layer goes: the links of its parents are followed, its own name is not.
    fn place(&self, path: &str) -> String {
        match path.rsplit_once('/') {
            Some((parent, name)) => join(&self.real(parent).unwrap_or_else(|| parent.to_owned()), name),
            None => path.to_owned(),
        }
    }

    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            return self.entries.clear();
        }
        // `/` is followed by `0`.
        let below: Vec<_> = self
            .entries
            .range(format!("{path}/")..format!("{path}0"))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    /// Where the path leads when all links on it are followed; what is not there is taken as it is written. None for a loop.
    pub fn real(&self, path: &str) -> Option<String> {
        follow(path, |at| {
            Some(match self.entries.get(at) {
                Some(Entry::Symlink { target }) => Step::Link(target.clone()),
                _ => Step::Other,
            })
        })
    }

    /// What the path leads to.
    pub fn get(&self, path: &str) -> Option<(String, &Entry)> {
        let real = self.real(path)?;
        let entry = self.entries.get(&real)?;
        Some((real, entry))
    }

    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.get(path), Some((_, Entry::File { .. })))
    }

    /// A directory, of its own or because something lies in it.
    fn is_directory(&self, real: &str) -> bool {
        let below = format!("{real}/");
        real.is_empty()
            || matches!(self.entries.get(real), Some(Entry::Directory { .. }))
            || self.entries.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// Files of whose content something is known, by their real path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileFacts)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { facts: Some(facts), .. } => Some((path.as_str(), &**facts)),
            _ => None,
        })
    }

    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::Symlink { target } => Some((path.as_str(), target.as_str())),
            _ => None,
        })
    }

    /// What whoever puts files upon this root has to know. None where it is more than a lock should hold.
    pub fn paths(&self) -> Option<BasePaths> {
        let paths = self.all_paths();
        let count = paths.links.len() + paths.directories.len();
        let links = paths.links.iter().map(|(path, target)| path.len() + target.len());
        let bytes = links.sum::<usize>()
            + paths.directories.iter().map(|directory| directory.path.len()).sum::<usize>();
        (count <= MAX_PATHS && bytes <= PATHS_BYTES).then_some(paths)
    }

    /// The same, however much it is.
    pub fn all_paths(&self) -> BasePaths {
        // Names that no lock may have: nothing of ours goes there either.
        let is_path = |path: &str| TreePath::new(path).is_ok();
        let leads_on = |path: &str| {
            self.real(path).is_some_and(|real| self.is_directory(&real) || !self.entries.contains_key(&real))
        };
        let links =
            self.links().filter(|(path, target)| is_path(path) && !target.is_empty() && leads_on(path));
        let directory = |(path, entry): (&String, &Entry)| match entry {
            Entry::Directory { mode, owner } if (*mode, *owner) != (0o755, (0, 0)) && is_path(path) => {
                Some(BaseDirectory { path: path.clone(), mode: *mode, owner: *owner })
            }
            _ => None,
        };
        BasePaths {
            links: links.map(|(path, target)| (path.to_owned(), target.to_owned())).collect(),
            directories: self.entries.iter().filter_map(directory).collect(),
        }
    }

    /// Version of the C library that its programs run on.
    pub fn glibc(&self, platform: Platform) -> Result<(u16, u16), BaseError> {
        let directories = library_directories(platform);
        let found =
            directories.iter().find_map(|directory| match self.get(&format!("{directory}/libc.so.6"))?.1 {
                Entry::File { facts: Some(facts), .. } => {
                    let fits = facts.elf.as_ref().is_some_and(|elf| elf.machine == elf::machine(platform));
                    facts.glibc.filter(|_| fits)
                }
                _ => None,
            });
        if let Some(version) = found {
            return Ok(version);
        }
        let musl = format!("ld-musl-{}.so.1", platform.machine());
        match ["lib", "usr/lib"].iter().any(|directory| self.get(&format!("{directory}/{musl}")).is_some()) {
            true => Err(BaseError::Musl { platform }),
            false => Err(BaseError::NoGlibc { platform }),
        }
    }
}

/// Where glibc's linker looks without being told, in the layouts of the distributions.
pub(super) fn library_directories(platform: Platform) -> [String; 6] {
    let multiarch = platform.multiarch();
    [
        format!("lib/{multiarch}"),
        format!("usr/lib/{multiarch}"),
        "lib64".to_owned(),
        "usr/lib64".to_owned(),
        "lib".to_owned(),
        "usr/lib".to_owned(),
    ]
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}
