//! One `[[copy]]`, from its `from` on the disk to nodes of the image.
//!
//! Directories are read one by one in the order of their names' bytes, so that the first complaint is the same
//! everywhere; no symlink is ever followed below `from`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Mode, Stat};

use super::file::{self, Budget};
use super::place::{Id, Place};
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
    let relative = start.strip_prefix(root).expect("what is found lies below the root");
    let unopened = |error| io_error("open", shown(root, &start), error);
    // Of the root itself there is no directory above that is ours to look at.
    let above = Place::open(root).map_err(unopened)?;
    let (above, below) = match relative.parent() {
        Some(parent) => (above.descend(parent).map_err(unopened)?, relative.file_name()),
        None => (above, None),
    };
    let stat = below.map(|name| above.stat(name)).transpose().map_err(unopened)?;
    let is_dir = stat.as_ref().is_none_or(|stat| kind(stat) == FileType::Directory);
    let directory = if is_dir { start.as_path() } else { start.parent().unwrap_or(root) };
    let mut walk = Walk {
        root,
        exclude: rules::exclude(directory, &copy.exclude, &copy.from)?,
        destination: copy.to.trim_matches('/'),
        into: copy.to.ends_with('/'),
        start: &start,
        own,
        budget,
        take,
        taken: 0,
        left_out: 0,
    };
    if is_dir {
        let place = match below {
            Some(name) => above.descend(name.as_ref()).map_err(unopened)?,
            None => above,
        };
        walk.directory(place, rules_above(root, relative)?)?;
    } else if let (Some(stat), Some(file_name)) = (stat, below) {
        walk.only(&above, stat, file_name)?;
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
fn is_never_taken(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name == ".git" || scratch::is_scratch(name))
}

/// The ignore files from `root` down to the parent of `below`, which is relative to it.
fn rules_above(root: &Path, below: &Path) -> Result<Option<Arc<Rules>>, ContextError> {
    let unopened = |error| io_error("open", shown(root, &root.join(below)), error);
    let (mut rules, mut path) = (None, root.to_owned());
    let mut place = Place::open(root).map_err(unopened)?;
    for name in below.iter() {
        rules = Some(Rules::enter(rules, &path, &place, root)?);
        path.push(name);
        if path != root.join(below) {
            place = place.descend(name.as_ref()).map_err(unopened)?;
        }
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
    /// A file that is named goes into the destination.
    into: bool,
    budget: &'a mut Budget,
    take: &'a mut Take<'b>,
    taken: u64,
    left_out: u64,
}

/// A directory that was listed and is still to be looked into.
struct Below {
    path: PathBuf,
    id: Id,
    rules: Arc<Rules>,
}

impl Walk<'_, '_> {
    /// A list of work, not recursion: the depth is the user's choice.
    fn directory(&mut self, start: Place, above: Option<Arc<Rules>>) -> Result<(), ContextError> {
        let mut open = self.list(&start, self.start, above)?;
        drop(start);
        while let Some(Below { path, id, rules }) = open.pop() {
            let place =
                Place::again(&path, id).map_err(|error| io_error("list", shown(self.root, &path), error))?;
            open.extend(self.list(&place, &path, Some(rules))?);
        }
        Ok(())
    }

    /// Takes everything in `directory`, which is `place`, but its directories: these are handed back, the last first.
    fn list(
        &mut self,
        place: &Place,
        directory: &Path,
        above: Option<Arc<Rules>>,
    ) -> Result<Vec<Below>, ContextError> {
        let rules = Rules::enter(above, directory, place, self.root)?;
        let names = place.names().map_err(|error| io_error("list", shown(self.root, directory), error))?;
        let mut below = Vec::new();
        for name in names {
            let path = directory.join(&name);
            if is_never_taken(name.as_ref()) || self.own.contains(&path) {
                continue;
            }
            let stat = place.stat(&name).map_err(|error| io_error("open", shown(self.root, &path), error))?;
            let is_dir = kind(&stat) == FileType::Directory;
            if rules.leave_out(&self.exclude, &path, is_dir) {
                self.left_out += 1;
                continue;
            }
            let relative = path.strip_prefix(self.start).expect("entries lie below the start");
            let relative = relative.to_str().ok_or_else(|| ContextError::NotUtf8(shown(self.root, &path)))?;
            if is_dir {
                self.image_path(relative)?;
                below.push(Below { id: Id::of(&stat), path, rules: Arc::clone(&rules) });
            } else {
                self.node(place, &path, &stat, relative)?;
            }
        }
        below.reverse();
        Ok(below)
    }

    /// The one thing that `from` names, when it is no directory.
    fn only(&mut self, place: &Place, stat: Stat, name: &OsStr) -> Result<(), ContextError> {
        if self.exclude.matched(self.start, false).is_ignore() {
            self.left_out += 1;
            return Ok(());
        }
        let name = name.to_str().ok_or_else(|| ContextError::NotUtf8(shown(self.root, self.start)))?;
        let into = if self.into { name } else { "" };
        self.node(place, self.start, &stat, into)
    }

    /// Anything but a directory. `relative` is its path below `to`; empty: it is `to` itself.
    fn node(&mut self, place: &Place, path: &Path, stat: &Stat, relative: &str) -> Result<(), ContextError> {
        let target_path = self.image_path(relative)?;
        let source = shown(self.root, path).to_str().map(str::to_owned);
        let source = source.ok_or_else(|| ContextError::NotUtf8(shown(self.root, path)))?;
        let kind = kind(stat);
        let node = if kind == FileType::RegularFile {
            // As in git, the owner's bit decides: the others depend on the umask of whoever checked it out.
            let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
            let mode = if executable { 0o755 } else { 0o644 };
            let content = file::content(path, stat, self.budget)
                .map_err(|error| io_error("read", PathBuf::from(&source), error))?;
            Node::File { mode, content }
        } else if kind == FileType::Symlink {
            let target = place
                .link(path.file_name().unwrap_or_default())
                .map_err(|error| io_error("read", PathBuf::from(&source), error))?;
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

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "of an unknown kind",
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
