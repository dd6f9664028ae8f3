//! The vocabulary of an image's file tree: what every producer of content (wheels, .debs, Python archives, user
//! files) yields, and what the layer encoder takes.
//!
//! A path is relative to the image's root: `usr/bin/python3`, never with a leading slash, `.` or `..`. A tree is
//! made by inserting nodes; parents are added by the encoder. Owner is 0:0 and time is the epoch for all of them, so
//! neither is said here, but for directories that somebody else has made and that are only named again.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::blob::ReadAt;
use crate::digest::Digest;

/// A path below the image's root, in bytes' order. UTF-8, no empty, `.` or `..` part, no NUL, no leading or trailing
/// slash, no part that begins with `.wh.` (OCI's whiteouts).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Arc<str>);

/// Why a name cannot be a path of the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} {rule}")]
pub struct PathError {
    pub path: String,
    /// The rule broken, as the rest of a sentence: "leaves its root".
    pub rule: &'static str,
}

/// The longest path accepted, in bytes: Linux's `PATH_MAX` less the terminating NUL.
pub const PATH_MAX: usize = 4095;
/// The longest part of a path accepted, in bytes: Linux's `NAME_MAX`.
pub const NAME_MAX: usize = 255;

impl TreePath {
    /// From a relative path, exactly as it will stand in the image.
    pub fn new(path: &str) -> Result<Self, PathError> {
        let refuse = |rule| Err(PathError { path: path.to_owned(), rule });
        if path.is_empty() {
            return refuse("is empty");
        }
        if path.starts_with('/') {
            return refuse("is absolute");
        }
        if path.len() > PATH_MAX {
            return refuse("is longer than 4095 bytes");
        }
        if path.contains('\0') {
            return refuse("contains a NUL");
        }
        for part in path.split('/') {
            match part {
                "" => return refuse("has an empty part"),
                "." | ".." => return refuse("has a `.` or `..` part"),
                _ if part.len() > NAME_MAX => return refuse("has a part longer than 255 bytes"),
                _ if part.starts_with(".wh.") => return refuse("has a part that begins with `.wh.`"),
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// From an absolute path of the image, such as `/usr/bin`.
    pub fn from_absolute(path: &str) -> Result<Self, PathError> {
        match path.strip_prefix('/') {
            Some(relative) => Self::new(relative.trim_end_matches('/')),
            None => Err(PathError { path: path.to_owned(), rule: "is not absolute" }),
        }
    }

    /// This path with `name` (one or more parts) behind it.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        Self::new(&format!("{}/{name}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().expect("a path has at least one part")
    }

    /// All directories above, the outermost first.
    pub fn parents(&self) -> impl Iterator<Item = TreePath> + '_ {
        self.0.match_indices('/').map(|(at, _)| Self(self.0[..at].into()))
    }
}

/// A map of paths is asked by text: their order is that of their bytes.
impl Borrow<str> for TreePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What stands at a path.
#[derive(Clone, Debug)]
pub enum Node {
    /// `mode` is the permission bits; 0o755 unless Debian says otherwise (`tmp` is 0o1777).
    Dir { mode: u32 },
    /// A directory of the layers below, with the mode and the owner that it has there: something is put into it.
    Below { mode: u32, owner: (u32, u32) },
    /// `mode` is 0o644 or 0o755.
    File { mode: u32, content: Content },
    /// `target` as it stands in the link.
    Symlink { target: String },
    /// Another file of the same layer.
    Hardlink { target: TreePath },
}

/// Where a file's bytes are.
#[derive(Clone)]
pub enum Content {
    /// Made by us, or small.
    Bytes(Arc<[u8]>),
    /// A part of something at hand that is no blob of the store (an unpacked `data.tar`, a user's file).
    Slice { from: Arc<dyn ReadAt>, offset: u64, size: u64 },
    /// A part of a blob, as it is: a zip member of method "stored".
    Stored { blob: Digest, offset: u64, size: u64, crc32: u32 },
    /// A raw DEFLATE stream inside a blob: a zip member of method "deflated". `crc32` and `size` are the directory's
    /// claims about the inflated bytes; whoever inflates proves them.
    Deflated { blob: Digest, offset: u64, packed: u64, size: u64, crc32: u32 },
}

impl Content {
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Length of the file in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Slice { size, .. } | Self::Stored { size, .. } | Self::Deflated { size, .. } => *size,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Slice { offset, size, .. } => write!(f, "Slice({offset}+{size})"),
            Self::Stored { blob, offset, size, .. } => write!(f, "Stored({blob} {offset}+{size})"),
            Self::Deflated { blob, offset, packed, size, .. } => {
                write!(f, "Deflated({blob} {offset}+{packed} -> {size})")
            }
        }
    }
}

/// A tree, sorted by path bytes..
pub type Tree = BTreeMap<TreePath, Node>;

/// Every directory above `paths`, each once, with the first path below it. `paths` are sorted, so that what lies below a
/// directory stands together: this takes as long as the paths are, however deep and however many.
pub fn directories<'a>(
    paths: impl IntoIterator<Item = &'a TreePath>,
) -> impl Iterator<Item = (TreePath, &'a TreePath)> {
    let mut before = "";
    paths.into_iter().flat_map(move |path| {
        let new = new_slashes(std::mem::replace(&mut before, path.as_str()), path.as_str());
        new.map(move |at| (TreePath(path.0[..at].into()), path))
    })
}

/// [`directories`] of names that may be none of the image.
pub fn directories_of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut before = "";
    names.into_iter().flat_map(move |name| {
        new_slashes(std::mem::replace(&mut before, name), name).map(move |at| &name[..at])
    })
}

/// Where the directories above `path` end that are not above `before`.
fn new_slashes<'a>(before: &str, path: &'a str) -> impl Iterator<Item = usize> + use<'a> {
    let shared = before.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
    path.bytes().enumerate().skip(shared).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at)
}

/// As many links on the way to a file as the kernel follows (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;
/// As many steps: the kernel has no such limit but by the length of names, and no one's paths come near.
const STEPS_MAX: usize = 1024;

/// What stands at a path that is gone through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A symbolic link, with its target.
    Link(String),
    /// Anything else, or nothing that matters.
    Other,
}

/// Where `path` leads below the root once `.`, `..` and the links that `at` knows are followed as the kernel would in that root;
/// without a leading slash, empty for the root itself. None for too many links or steps, or where `at` says that there is no way.
pub fn follow(path: &str, mut at: impl FnMut(&str) -> Option<Step>) -> Option<String> {
    let parts = |path: &str| path.rsplit('/').map(str::to_owned).collect::<Vec<_>>();
    let (mut rest, mut real, mut links, mut steps) = (parts(path), String::new(), 0, 0);
    while let Some(part) = rest.pop() {
        let above = real.len();
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                real.truncate(real.rfind('/').unwrap_or(0));
                continue;
            }
            part if real.is_empty() => real.push_str(part),
            part => {
                real.push('/');
                real.push_str(part);
            }
        }
        steps += 1;
        if steps > STEPS_MAX {
            return None;
        }
        if let Step::Link(target) = at(&real)? {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            real.truncate(if target.starts_with('/') { 0 } else { above });
            rest.extend(parts(&target));
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, rule) in [
            ("", "is empty"),
            ("/etc", "is absolute"),
            ("a//b", "has an empty part"),
            ("a/", "has an empty part"),
            ("a/../b", "has a `.` or `..` part"),
            ("./a", "has a `.` or `..` part"),
            ("a\0b", "contains a NUL"),
            ("a/.wh.b", "has a part that begins with `.wh.`"),
        ] {
            assert_eq!(TreePath::new(path).unwrap_err().rule, rule, "{path}");
        }
        assert!(TreePath::new(&"a".repeat(256)).is_err());
        assert_eq!(TreePath::from_absolute("/app/").unwrap().as_str(), "app");
        assert!(TreePath::from_absolute("app").is_err());
    }

    #[test]
    fn parents_come_outermost_first() {
        let path = TreePath::new("usr/lib/python3").unwrap();
        let parents: Vec<_> = path.parents().map(|p| p.as_str().to_owned()).collect();
        assert_eq!(parents, ["usr", "usr/lib"]);
        assert_eq!(path.name(), "python3");
    }

    #[test]
    fn directories_come_once_with_the_first_below() {
        let paths = ["a", "a-b", "a/b", "a/b/c", "a/b/d/e", "a/b/d/f", "b/c/d"]
            .map(|path| TreePath::new(path).unwrap());
        let found: Vec<_> =
            directories(&paths).map(|(directory, path)| format!("{directory} {path}")).collect();
        assert_eq!(found, ["a a/b", "a/b a/b/c", "a/b/d a/b/d/e", "b b/c/d", "b/c b/c/d"]);
        let names: Vec<_> = directories_of_names(["", "/x", "a//b", "a/b/", "é/x", "ê/x"]).collect();
        assert_eq!(names, ["", "a", "a/", "a/b", "é", "ê"]);
    }

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let links = BTreeMap::from([
            ("bin", "usr/bin"),
            ("usr/bin/python", "python3"),
            ("usr/bin/python3", "/opt/./py//bin/../python3.11"),
            ("out", "../../../etc"),
            ("a", "b"),
            ("b", "a"),
            ("deep/x", "../bin/.."),
        ]);
        let at = |path: &str| {
            if path == "gone" {
                return None;
            }
            Some(links.get(path).map_or(Step::Other, |target| Step::Link((*target).to_owned())))
        };
        for (path, real) in [
            ("bin/python", Some("opt/py/python3.11")),
            ("/bin/./ls", Some("usr/bin/ls")),
            ("out/passwd", Some("etc/passwd")),
            ("../../x", Some("x")),
            // `..` leaves where the link has led to.
            ("bin/..", Some("usr")),
            ("deep/x/y", Some("usr/y")),
            ("/", Some("")),
            ("a/x", None),
            ("gone/x", None),
        ] {
            assert_eq!(follow(path, at).as_deref(), real, "{path}");
        }
        let chain = |count: usize| {
            let next = move |path: &str| {
                let number: usize = path.parse().ok()?;
                Some(if number < count { Step::Link((number + 1).to_string()) } else { Step::Other })
            };
            follow("0", next)
        };
        assert_eq!(chain(LINKS_MAX).as_deref(), Some("40"));
        assert_eq!(chain(LINKS_MAX + 1), None);
        let deep = |steps: usize| follow(&"a/".repeat(steps), |_| Some(Step::Other));
        assert!(deep(STEPS_MAX).is_some() && deep(STEPS_MAX + 1).is_none());
    }
}
