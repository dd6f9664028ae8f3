//! Carries out the steps of a launch below the sandbox's root.
//!
//! Every path is resolved by the kernel with that root as `/` (`openat2`, `RESOLVE_IN_ROOT`): a symbolic link of the
//! image, absolute or with `..`, leads to where it would lead inside. Mounts are attached to descriptors, not to
//! paths, so nothing that somebody swaps meanwhile in a volume can make a mount land elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat, openat2, readlinkat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::error::{Doing, SandboxError, cannot};
use super::kernel::{Attributes, restrict};
use super::root::{attach, tmpfs};
use crate::launch::{FileSystem, Step};

/// Copies of the host's mounts that the steps bind, in the order of the steps; taken before anything is mounted.
pub fn take_sources(steps: &[Step]) -> Result<Vec<Option<OwnedFd>>, SandboxError> {
    let take = |step: &Step| -> Result<Option<OwnedFd>, SandboxError> {
        let Step::Bind { source, how, .. } = step else { return Ok(None) };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount = match open_tree(CWD, source, flags) {
            Err(Errno::NOENT | Errno::NOTDIR) if how.optional => return Ok(None),
            result => result.doing(cannot("take from the host", source.display()))?,
        };
        let attributes = Attributes {
            read_only: how.read_only,
            no_suid: true,
            no_dev: !how.device,
            no_exec: how.no_exec || how.device,
        };
        restrict(mount.as_fd(), attributes, true).doing(cannot("restrict", source.display()))?;
        Ok(Some(mount))
    };
    steps.iter().map(take).collect()
}

/// Carries all of them out, in order.
pub fn carry_out(root: &OwnedFd, steps: &[Step], sources: Vec<Option<OwnedFd>>) -> Result<(), SandboxError> {
    let mut place = Place { root, hidden: None, mounted: Vec::new() };
    steps.iter().zip(sources).try_for_each(|(step, source)| place.step(step, source))
}

/// Resolves a path of the sandbox; `flags` as for openat.
pub fn open_inside(root: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed on the way.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

/// The directory at `path`, made with those above it where they are not there.
pub fn make_directory(root: &OwnedFd, path: &str, mode: u32) -> Result<OwnedFd, SandboxError> {
    target(root, path, Kind::Directory, mode)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

/// Links to nowhere that are followed on the way to a mount point.
const LINKS: u32 = 4;

/// What is at `path`, made where it is not there. A symbolic link to nowhere has what it points to made, as in docker's
/// containers: of an image with `/var/lock -> /run/lock`, `/var/lock/x` is a good place.
fn target(root: &OwnedFd, path: &str, kind: Kind, mode: u32) -> Result<OwnedFd, SandboxError> {
    target_over(root, path, kind, mode, LINKS)
}

fn target_over(
    root: &OwnedFd,
    path: &str,
    kind: Kind,
    mode: u32,
    links: u32,
) -> Result<OwnedFd, SandboxError> {
    let doing = || cannot("make the mount point", path.to_owned());
    match open_inside(root, path, OFlags::PATH) {
        Ok(there) => {
            let is_directory = file_type(&there).doing(doing())? == FileType::Directory;
            return match (kind, is_directory) {
                (Kind::Directory, true) | (Kind::File, false) => Ok(there),
                (Kind::Directory, false) => Err(Errno::NOTDIR).doing(doing()),
                (Kind::File, true) => Err(Errno::ISDIR).doing(doing()),
            };
        }
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error).doing(doing()),
    }
    let (above, name) = split(path);
    let parent = target_over(root, above, Kind::Directory, 0o755, links)?;
    let made = match kind {
        Kind::Directory => mkdirat(&parent, name, Mode::from_raw_mode(mode)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&parent, name, flags, Mode::from_raw_mode(mode)).map(drop)
        }
    };
    match made {
        Ok(()) => {}
        Err(Errno::EXIST) if links > 0 => {
            // It was not there a moment ago: no link means that somebody was faster.
            let to = readlinkat(&parent, name, Vec::new()).doing(doing())?;
            let to = to.to_str().map_err(|_| Errno::ILSEQ).doing(doing())?;
            let there = if to.starts_with('/') { to.to_owned() } else { format!("{above}/{to}") };
            return target_over(root, &there, kind, mode, links - 1);
        }
        Err(Errno::EXIST) => return Err(Errno::LOOP).doing(doing()),
        Err(error) => return Err(error).doing(doing()),
    }
    openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).doing(doing())
}

/// A path and its last part.
fn split(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path))
}

fn file_type(descriptor: &OwnedFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(descriptor)?.st_mode))
}

struct Place<'a> {
    root: &'a OwnedFd,
    /// An empty directory that hides others.
    hidden: Option<OwnedFd>,
    /// Where file systems were mounted, with their numbers.
    mounted: Vec<(&'a str, u64)>,
}

impl<'a> Place<'a> {
    fn step(&mut self, step: &'a Step, source: Option<OwnedFd>) -> Result<(), SandboxError> {
        match step {
            Step::Directory { target: path, mode } => make_directory(self.root, path, *mode).map(drop),
            Step::File { target, mode, content } => self.file(target, *mode, content.as_bytes()),
            Step::Data { target, mode, content } => self.file(target, *mode, content),
            Step::Symlink { target, to } => self.link(target, to),
            Step::Mount { target: path, what } => {
                let at = make_directory(self.root, path, 0o755)?;
                let mount = file_system(what)?;
                self.mounted.push((path, fstat(&mount).doing(cannot("look at", path))?.st_dev));
                attach(&mount, &at, "").doing(cannot("mount on", path))
            }
            Step::Bind { target: path, .. } => {
                let Some(source) = source else { return Ok(()) };
                let doing = || cannot("bind to", path.to_owned());
                let kind = match file_type(&source).doing(doing())? {
                    FileType::Directory => Kind::Directory,
                    _ => Kind::File,
                };
                let at = target(self.root, path, kind, 0o755)?;
                attach(&source, &at, "").doing(doing())
            }
            Step::Cover { target, with } => {
                let doing = || cannot("cover", target.to_owned());
                let Some(at) = self.there(target)? else { return Ok(()) };
                let own = open_inside(self.root, with, OFlags::PATH).doing(doing())?;
                let copy = clone_tree(&own).doing(doing())?;
                restrict(copy.as_fd(), Attributes { read_only: true, ..Attributes::default() }, true)
                    .doing(doing())?;
                attach(&copy, &at, "").doing(doing())
            }
            Step::Hide { target } => self.hide(target),
            Step::Protect { target } => {
                let doing = || cannot("protect", target.to_owned());
                let Some(at) = self.there(target)? else { return Ok(()) };
                let copy = clone_tree(&at).doing(doing())?;
                restrict(copy.as_fd(), Attributes { read_only: true, ..Attributes::default() }, true)
                    .doing(doing())?;
                attach(&copy, &at, "").doing(doing())
            }
            Step::Check { target, by } => self.check(target, by),
        }
    }

    fn check(&self, path: &str, by: &[String]) -> Result<(), SandboxError> {
        let expected = self.mounted.iter().rev().find(|(mounted, _)| *mounted == path);
        let found = match self.there(path)? {
            Some(there) => Some(fstat(&there).doing(cannot("look at", path))?.st_dev),
            None => None,
        };
        if expected.map(|(_, number)| *number) == found {
            return Ok(());
        }
        let what = format!("the volume on {} hides {path}, by a symbolic link of the image", by.join(" or "));
        Err(SandboxError::Setup { what, source: io::Error::other("mount it on another directory") })
    }

    fn there(&self, path: &str) -> Result<Option<OwnedFd>, SandboxError> {
        match open_inside(self.root, path, OFlags::PATH) {
            Ok(there) => Ok(Some(there)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).doing(cannot("look at", path)),
        }
    }

    /// Nothing is written through a link: what has the name gives way.
    fn file(&self, path: &str, mode: u32, content: &[u8]) -> Result<(), SandboxError> {
        let doing = || cannot("write", path.to_owned());
        let (parent, name) = split(path);
        let parent = make_directory(self.root, parent, 0o755)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = in_place_of(&parent, name, || openat(&parent, name, flags, Mode::from_raw_mode(mode)))
            .doing(doing())?;
        // Whatever the mask is.
        fchmod(&file, Mode::from_raw_mode(mode)).doing(doing())?;
        io::Write::write_all(&mut File::from(file), content).doing(doing())
    }

    fn link(&self, path: &str, to: &str) -> Result<(), SandboxError> {
        let doing = || cannot("link", path.to_owned());
        let (parent, name) = split(path);
        let parent = make_directory(self.root, parent, 0o755)?;
        in_place_of(&parent, name, || symlinkat(to, &parent, name)).doing(doing())
    }

    fn hide(&mut self, path: &str) -> Result<(), SandboxError> {
        let doing = || cannot("hide", path.to_owned());
        let Some(at) = self.there(path)? else { return Ok(()) };
        let over = if file_type(&at).doing(doing())? == FileType::Directory {
            match &self.hidden {
                Some(empty) => clone_tree(empty).doing(doing())?,
                None => {
                    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                        | MountAttrFlags::MOUNT_ATTR_NOSUID
                        | MountAttrFlags::MOUNT_ATTR_NODEV
                        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                    tmpfs(Some(0), 0o555, attributes)?
                }
            }
        } else {
            let null = open_inside(self.root, "/dev/null", OFlags::PATH).doing(doing())?;
            clone_tree(&null).doing(doing())?
        };
        attach(&over, &at, "").doing(doing())?;
        if self.hidden.is_none() && file_type(&over).doing(doing())? == FileType::Directory {
            self.hidden = Some(over);
        }
        Ok(())
    }
}

/// Makes what only an unused name can have. It is looked for in all layers when it is removed, so first as if there was
/// nothing.
fn in_place_of<T>(
    parent: &OwnedFd,
    name: &str,
    make: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => make(),
        Err(error) => Err(error),
    }
}

fn clone_tree(at: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(at, "", flags)
}

/// A mount of it, not attached.
fn file_system(what: &FileSystem) -> Result<OwnedFd, SandboxError> {
    let inert = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let named: Vec<_>;
    let (kind, options, attributes): (_, &[(&str, &str)], _) = match what {
        FileSystem::Tmpfs { size, mode, no_exec: false } => return tmpfs(*size, *mode, inert),
        FileSystem::Tmpfs { size, mode, no_exec: true } => return tmpfs(*size, *mode, inert | no_exec),
        FileSystem::Proc => ("proc", &[], inert | no_exec),
        FileSystem::Sysfs => ("sysfs", &[], inert | no_exec | read_only),
        // Nodes of its own are what it is for: no `nodev`.
        FileSystem::Devpts => (
            "devpts",
            &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")],
            MountAttrFlags::MOUNT_ATTR_NOSUID | no_exec,
        ),
        FileSystem::Mqueue => ("mqueue", &[], inert | no_exec),
        FileSystem::Cgroup { controllers } => {
            named = controllers.iter().map(|controller| (controller.as_str(), "")).collect();
            let kind = if named.is_empty() { "cgroup2" } else { "cgroup" };
            (kind, &named, inert | no_exec | read_only)
        }
    };
    let new = || {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            match value.is_empty() {
                true => fsconfig_set_flag(&fs, *key)?,
                false => fsconfig_set_string(&fs, *key, *value)?,
            }
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    new().doing(cannot("mount", kind))
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
