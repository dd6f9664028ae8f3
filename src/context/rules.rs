//! Which files stay out: `exclude`, then `.mlbuildignore`, then `.gitignore`; among those of a kind the deepest first.
//!
//! The patterns are git's (`ignore`'s matcher). A line of a `.gitignore` that is no pattern is passed over, as git
//! does; in the files that are ours it is an error. Ignore files that are symlinks do not count, as with git.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::FileType;

use super::place::Place;
use super::{ContextError, io_error};
use crate::textfile;

/// Git's own file of patterns.
const GITIGNORE: &str = ".gitignore";
/// Ours, stronger.
const MLBUILDIGNORE: &str = ".mlbuildignore";
/// Longest ignore file that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// The ignore files of one directory and of all above it.
pub(super) struct Rules {
    above: Option<Arc<Rules>>,
    own: Gitignore,
    git: Gitignore,
}

impl Rules {
    /// Reads the ignore files of `directory` (absolute, below `root`), which is `place`.
    pub(super) fn enter(
        above: Option<Arc<Self>>,
        directory: &Path,
        place: &Place,
        root: &Path,
    ) -> Result<Arc<Self>, ContextError> {
        let own = read(directory, place, MLBUILDIGNORE, root, true)?;
        let git = read(directory, place, GITIGNORE, root, false)?;
        match above {
            Some(above) if own.is_empty() && git.is_empty() => Ok(above),
            above => Ok(Arc::new(Self { above, own, git })),
        }
    }

    /// Whether `path` (absolute) stays out.
    pub(super) fn leave_out(&self, exclude: &Gitignore, path: &Path, is_dir: bool) -> bool {
        let chain = || std::iter::successors(Some(self), |rules| rules.above.as_deref());
        let mut matchers = std::iter::once(exclude)
            .chain(chain().map(|rules| &rules.own))
            .chain(chain().map(|rules| &rules.git));
        matchers
            .find_map(|matcher| match matcher.matched(path, is_dir) {
                ignore::Match::None => None,
                ignore::Match::Ignore(_) => Some(true),
                ignore::Match::Whitelist(_) => Some(false),
            })
            .unwrap_or(false)
    }
}

/// The patterns of a `[[copy]]`'s `exclude`, relative to `directory`.
pub(super) fn exclude(directory: &Path, patterns: &[String], from: &str) -> Result<Gitignore, ContextError> {
    let refuse =
        |error: ignore::Error| ContextError::Exclude { from: from.to_owned(), reason: error.to_string() };
    let mut builder = GitignoreBuilder::new(directory);
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(refuse)?;
    }
    builder.build().map_err(refuse)
}

fn read(
    directory: &Path,
    place: &Place,
    name: &str,
    root: &Path,
    strict: bool,
) -> Result<Gitignore, ContextError> {
    let path = directory.join(name);
    let shown = || path.strip_prefix(root).unwrap_or(&path).to_owned();
    match place.stat(name.as_ref()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        Ok(_) => return Ok(Gitignore::empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Gitignore::empty()),
        Err(error) => return Err(io_error("read", shown(), error)),
    }
    let text = place
        .file(name)
        .and_then(|file| textfile::read_open(file, MAX_BYTES))
        .map_err(|error| io_error("read", shown(), error))?;
    let mut builder = GitignoreBuilder::new(directory);
    for (at, line) in text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate() {
        if let Err(error) = builder.add_line(None, line)
            && strict
        {
            return Err(ContextError::IgnoreFile { path: shown(), line: at + 1, reason: error.to_string() });
        }
    }
    builder.build().map_err(|error| ContextError::IgnoreFile {
        path: shown(),
        line: 0,
        reason: error.to_string(),
    })
}
