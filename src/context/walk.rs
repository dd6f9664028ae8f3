//! One `[[copy]]`, from its `from` on the disk to nodes of the image.
//!
//! Directories are read one by one in the order of their names' bytes, so that the first complaint is the same
//! everywhere; no symlink is ever followed below `from`.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::Gitignore;

use super::file::{self, Budget};
use super::rules::{self, Rules};
use super::{ContextError, io_error};
use crate::scratch;
use crate::spec::model::Copy;
use crate::tree::{Node, PathError, TreePath};

/// Where a node goes: its path in the image, itself, and its path in the project.
type Take<'a> = dyn FnMut(TreePath, Node, String) -> Result<(), ContextError> + 'a;

/// Hands everything that `copy` takes to `take`, but for the paths `own`. `root` is canonical.
pub(super) fn walk(
    root: &Path,
    copy: &Copy,
    own: &[PathBuf],
    budget: &mut Budget,
    take: &mut Take<'_>,
) -> Result<(), ContextError> {
    let start = find(root, &copy.from)?;
    let metadata =
        fs::symlink_metadata(&start).map_err(|error| io_error("open", shown(root, &start), error))?;
    let is_dir = metadata.is_dir();
    let directory = if is_dir { start.as_path() } else { start.parent().unwrap_or(root) };
    let mut walk = Walk {
        root,
        exclude: rules::exclude(directory, &copy.exclude, &copy.from)?,
        destination: copy.to.trim_matches('/'),
        start: &start,
        own,
        budget,
        take,
        taken: 0,
        left_out: 0,
    };
    if is_dir {
        walk.directory(rules_above(root, &start)?)?;
    } else if walk.exclude.matched(&start, false).is_ignore() {
        walk.left_out += 1;
    } else {
        let name = start.file_name().unwrap_or_default();
        let name = name.to_str().ok_or_else(|| ContextError::NotUtf8(shown(root, &start)))?;
        let into = if copy.to.ends_with('/') { name } else { "" };
        walk.node(&start, &metadata, into)?;
    }
    match (walk.taken, walk.left_out) {
        (0, 0) => Err(ContextError::Empty { from: copy.from.clone() }),
        (0, left_out) => Err(ContextError::AllLeftOut { from: copy.from.clone(), left_out }),
        _ => Ok(()),
    }
}

/// Where `from` is, symlinks on the way resolved, and certainly below `root`.
pub fn find(root: &Path, from: &str) -> Result<PathBuf, ContextError> {
    let named = root.join(from);
    let start = named.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ContextError::Missing { from: from.to_owned() }
        }
        _ => io_error("open", PathBuf::from(from), error),
    })?;
    let Ok(relative) = start.strip_prefix(root) else {
        return Err(ContextError::LeavesProject { from: from.to_owned(), target: start });
    };
    if relative.iter().any(|part| part == ".git") {
        return Err(ContextError::GitDirectory { from: from.to_owned() });
    }
    Ok(start)
}

/// Git's own directory, and what mlbuild is writing now or a killed one has left.
fn is_never_taken(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name == ".git" || scratch::is_scratch(name))
}

/// The ignore files from `root` down to the parent of `start`.
fn rules_above(root: &Path, start: &Path) -> Result<Option<Arc<Rules>>, ContextError> {
    let mut rules = None;
    let mut between: Vec<&Path> =
        start.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect();
    between.reverse();
    for directory in between {
        rules = Some(Rules::enter(rules, directory, root)?);
    }
    Ok(rules)
}

struct Walk<'a, 'b> {
    root: &'a Path,
    start: &'a Path,
    /// Canonical paths that are passed over.
    own: &'a [PathBuf],
    exclude: Gitignore,
    /// Path in the image without slashes around it; empty for the root.
    destination: &'a str,
    budget: &'a mut Budget,
    take: &'a mut Take<'b>,
    taken: u64,
    left_out: u64,
}

impl Walk<'_, '_> {
    /// A list of work, not recursion: the depth is the user's choice.
    fn directory(&mut self, above: Option<Arc<Rules>>) -> Result<(), ContextError> {
        let mut open = vec![(self.start.to_owned(), above)];
        while let Some((directory, above)) = open.pop() {
            let rules = Rules::enter(above, &directory, self.root)?;
            let mut below = Vec::new();
            for (path, kind) in self.entries(&directory)? {
                if is_never_taken(&path) || self.own.contains(&path) {
                    continue;
                }
                if rules.leave_out(&self.exclude, &path, kind.is_dir()) {
                    self.left_out += 1;
                    continue;
                }
                let relative = path.strip_prefix(self.start).expect("entries lie below the start");
                let relative =
                    relative.to_str().ok_or_else(|| ContextError::NotUtf8(shown(self.root, &path)))?;
                if kind.is_dir() {
                    self.image_path(relative)?;
                    below.push((path, Some(Arc::clone(&rules))));
                } else {
                    let metadata = fs::symlink_metadata(&path)
                        .map_err(|error| io_error("open", shown(self.root, &path), error))?;
                    self.node(&path, &metadata, relative)?;
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn entries(&self, directory: &Path) -> Result<Vec<(PathBuf, FileType)>, ContextError> {
        let list = || -> io::Result<Vec<_>> {
            fs::read_dir(directory)?
                .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
                .collect()
        };
        let mut entries = list().map_err(|error| io_error("list", shown(self.root, directory), error))?;
        entries.sort_by(|(one, _), (other, _)| {
            one.as_os_str().as_encoded_bytes().cmp(other.as_os_str().as_encoded_bytes())
        });
        Ok(entries)
    }

    /// Anything but a directory. `relative` is its path below `to`; empty: it is `to` itself.
    fn node(&mut self, path: &Path, metadata: &Metadata, relative: &str) -> Result<(), ContextError> {
        let target_path = self.image_path(relative)?;
        let source = shown(self.root, path).to_str().map(str::to_owned);
        let source = source.ok_or_else(|| ContextError::NotUtf8(shown(self.root, path)))?;
        let kind = metadata.file_type();
        let node = if kind.is_file() {
            // As in git, the owner's bit decides: the others depend on the umask of whoever checked it out.
            let mode = if metadata.mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            let content = file::content(path, metadata, self.budget)
                .map_err(|error| io_error("read", PathBuf::from(&source), error))?;
            Node::File { mode, content }
        } else if kind.is_symlink() {
            let target =
                fs::read_link(path).map_err(|error| io_error("read", PathBuf::from(&source), error))?;
            let target = target
                .to_str()
                .ok_or_else(|| ContextError::TargetNotUtf8(PathBuf::from(&source)))?
                .to_owned();
            match leaves(relative, &target) {
                Some(rule) => return Err(ContextError::Symlink { path: source, target, rule }),
                None => Node::Symlink { target },
            }
        } else {
            return Err(ContextError::Special { path: source, kind: special(kind) });
        };
        (self.take)(target_path, node, source)?;
        self.taken += 1;
        Ok(())
    }

    fn image_path(&self, relative: &str) -> Result<TreePath, PathError> {
        match (self.destination, relative) {
            (destination, "") => TreePath::new(destination),
            ("", relative) => TreePath::new(relative),
            (destination, relative) => TreePath::new(&format!("{destination}/{relative}")),
        }
    }
}

/// Why a symlink at `link` (below the copied directory) may lead out of it. Only a target whose `..` all stand at its
/// beginning can be judged without following other symlinks.
fn leaves(link: &str, target: &str) -> Option<&'static str> {
    if target.starts_with('/') {
        return Some("is absolute: it would lead elsewhere in the image");
    }
    let mut depth = link.split('/').count() - 1;
    let mut descended = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descended => return Some("has `..` behind a name"),
            ".." if depth == 0 => return Some("leaves the directory that is copied"),
            ".." => depth -= 1,
            _ => descended = true,
        }
    }
    None
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "of an unknown kind"
    }
}

fn shown(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(relative) if relative.as_os_str().is_empty() => PathBuf::from("."),
        Ok(relative) => relative.to_owned(),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::leaves;

    #[test]
    fn symlinks_that_stay_and_that_leave() {
        for (link, target, stays) in [
            ("a", "b", true),
            ("d/a", "../b", true),
            ("d/e/a", "../../b/c", true),
            ("a", "./b/./c", true),
            ("d/a", "..", true),
            ("a", "..", false),
            ("a", "../b", false),
            ("d/a", "../../b", false),
            ("a", "/etc/passwd", false),
            ("a", "b/../c", false),
            ("a", "b/../../c", false),
        ] {
            assert_eq!(leaves(link, target).is_none(), stays, "{link} -> {target}");
        }
    }
}
