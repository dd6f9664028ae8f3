//! The root file system: an overlay of the layers' directories, mounted where nothing of the host is in the way.
//!
//! A tmpfs is laid over a directory of the sandbox's own mount namespace (`/tmp`); it holds what the sandbox writes, unless
//! that is to stay, and the place where the overlay is mounted. Layers are named by descriptors that are opened before, so
//! that it does not matter what the tmpfs hides. The kernel shows their names in the sandbox's `/proc/mounts`: as this
//! process sees them from the directory that they are all in, which is its root for that moment, so that no path of the
//! host appears there. (Names like `/proc/self/fd/7` do as well, and take 0.2 ms more for 40 layers.)
//!
//! Limits: a directory of the image cannot be renamed (`EXDEV`): with `userxattr`, overlayfs has no redirections. Before Linux
//! 6.6 a tmpfs has no extended attributes of users, by which overlayfs marks a directory that hides one of the layers: there
//! one that had something in it can be emptied but not removed (`EIO`), unless what is written is kept: on a disk.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, open, openat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, move_mount,
};
use rustix::process::{chroot, fchdir};

use super::error::{Doing, SandboxError, cannot};
use crate::launch::{Root, Upper};

/// Directories that the tmpfs may be laid over, the first that is there.
const PLACES: [&str; 5] = ["/tmp", "/run", "/var", "/mnt", "/home"];
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Keeps what is mounted from now on to this namespace.
pub fn make_private() -> Result<(), SandboxError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).doing(|| "cannot make mounts private".into())
}

/// Directories of the host that become layers.
pub struct Layers {
    /// The lowest first.
    all: Vec<OwnedFd>,
    /// The directory that they are all in, and that of the host that is `/` now.
    within: OwnedFd,
    slash: OwnedFd,
}

pub fn open_layers(root: &Root) -> Result<Layers, SandboxError> {
    let open =
        |path: &Path| open(path, DIRECTORY, Mode::empty()).doing(cannot("open the layer", path.display()));
    let all = root.layers.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    Ok(Layers { all, within: open(within(&root.layers))?, slash: open(Path::new("/"))? })
}

/// The innermost directory that all of these are in.
fn within(paths: &[PathBuf]) -> &Path {
    let mut within = paths.first().and_then(|first| first.parent()).unwrap_or(Path::new("/"));
    while let Some(above) = within.parent()
        && !paths.iter().all(|path| path.starts_with(within))
    {
        within = above;
    }
    within
}

impl Layers {
    /// Gives them to an overlay, the uppermost first; false if this kernel does not take descriptors.
    fn by_descriptor(&self, fs: &OwnedFd) -> rustix::io::Result<bool> {
        let enter = |directory: &OwnedFd| fchdir(directory).and_then(|()| chroot("."));
        enter(&self.within)?;
        let set = self.all.iter().rev().try_for_each(|layer| fsconfig_set_fd(fs, "lowerdir+", layer));
        enter(&self.slash)?;
        match set {
            // Those that name a place only are taken from Linux 6.15 on. `EOPNOTSUPP` is what kernels say to any descriptor up
            // to 6.4.
            Err(Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP) => Ok(false),
            set => set.map(|()| true),
        }
    }
}

/// Where what is written goes, if it is to stay: the directories `upper` and `work`.
pub fn open_upper(upper: &Upper) -> Result<Option<(OwnedFd, OwnedFd)>, SandboxError> {
    let Upper::Directory { path } = upper else { return Ok(None) };
    let open = |name: &str| {
        let path = path.join(name);
        open(&path, DIRECTORY, Mode::empty()).doing(cannot("open", path.display()))
    };
    Ok(Some((open("upper")?, open("work")?)))
}

/// Mounts it and returns its root directory.
pub fn mount_root(mut layers: Layers, upper: Option<(OwnedFd, OwnedFd)>) -> Result<OwnedFd, SandboxError> {
    let is_directory = |path: &&str| {
        statat(CWD, *path, AtFlags::empty()).is_ok_and(|at| at.st_mode & 0o170_000 == 0o040_000)
    };
    let place = PLACES.into_iter().find(is_directory).unwrap_or("/");
    let mounted = tmpfs(None, 0o755, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)?;
    attach(&mounted, CWD, place).doing(cannot("mount memory on", place))?;
    let base = mounted;
    let make = |name: &str| {
        mkdirat(&base, name, Mode::from_raw_mode(0o755)).doing(cannot("make the directory", name))?;
        openat(&base, name, DIRECTORY, Mode::empty()).doing(cannot("open the directory", name))
    };
    let (upper, work) = match upper {
        Some(both) => both,
        None => (make("upper")?, make("work")?),
    };
    if layers.all.is_empty() {
        layers.all.push(make("empty")?);
    }
    let root = make("root")?;
    let overlay = match overlay(&layers, &upper, &work) {
        Ok(overlay) => attach(&overlay, &root, "").map(|()| overlay).map_err(Refused::from),
        Err(refused) if refused.may_be_old() => {
            classic(&base, &layers.all, &upper, &work, &format!("{place}/root"))
                .map_err(|error| Refused { error, ..refused })
        }
        Err(refused) => Err(refused),
    };
    overlay.map_err(|Refused { error, kernel }| {
        let said = if kernel.is_empty() { String::new() } else { format!(" (the kernel says: {kernel})") };
        let what = format!("cannot mount an overlay of {} layers{said}", layers.all.len());
        SandboxError::Setup { what, source: error }
    })
}

/// A mount of a new tmpfs, not attached anywhere. `size` in bytes.
pub fn tmpfs(size: Option<u64>, mode: u32, attributes: MountAttrFlags) -> Result<OwnedFd, SandboxError> {
    let new = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "mode", format!("{mode:o}"))?;
        if let Some(size) = size {
            fsconfig_set_string(&fs, "size", size.to_string())?;
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    new().doing(|| "cannot make a file system in memory".into())
}

/// Attaches a mount at `path` below `directory`, or at `directory` itself for an empty path.
pub fn attach(mount: &OwnedFd, directory: impl std::os::fd::AsFd, path: &str) -> rustix::io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(mount, "", directory, path, flags)
}

/// The overlay is not mounted, and what the kernel says to that.
struct Refused {
    error: io::Error,
    kernel: String,
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self { error: error.into(), kernel: String::new() }
    }
}

impl Refused {
    /// `lowerdir+` is of Linux 6.8. From 6.5 on the first one is refused; before, the kernel collects whatever it is given,
    /// a page of it, and refuses that page or, in the end, all.
    fn may_be_old(&self) -> bool {
        self.error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
    }
}

fn overlay(layers: &Layers, upper: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd, Refused> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mounted = || -> rustix::io::Result<OwnedFd> {
        if !layers.by_descriptor(&fs)? {
            for layer in layers.all.iter().rev() {
                fsconfig_set_string(&fs, "lowerdir+", name(layer))?;
            }
        }
        fsconfig_set_string(&fs, "upperdir", name(upper))?;
        fsconfig_set_string(&fs, "workdir", name(work))?;
        fsconfig_set_flag(&fs, "userxattr")?;
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    mounted().map_err(|error| Refused { error: error.into(), kernel: log(&fs) })
}

/// What the kernel has to say, by fsopen's descriptor: `e overlay: ...`.
fn log(fs: &OwnedFd) -> String {
    let mut buffer = [0; 1024];
    let length = rustix::io::read(fs, &mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).trim_start_matches("e ").trim().to_owned()
}

/// The path of a descriptor: short, and valid whatever is mounted over what it names.
fn name(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// By one string of at most a page. So that hundreds of layers fit, they have numbers: symbolic links in a directory
/// which is the working directory of the call. With the 500 layers that overlayfs takes it has 2,000 characters.
fn classic(
    base: &OwnedFd,
    layers: &[OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
    target: &str,
) -> io::Result<OwnedFd> {
    mkdirat(base, "layers", Mode::from_raw_mode(0o755))?;
    let links = openat(base, "layers", DIRECTORY, Mode::empty())?;
    let mut lower = Vec::new();
    for (index, layer) in layers.iter().enumerate().rev() {
        symlinkat(name(layer), &links, index.to_string())?;
        lower.push(index.to_string());
    }
    fchdir(&links)?;
    let options =
        format!("lowerdir={},upperdir={},workdir={},userxattr", lower.join(":"), name(upper), name(work));
    let options = CString::new(options).map_err(|_| io::ErrorKind::InvalidInput)?;
    mount("overlay", target, "overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
    rustix::process::chdir("/")?;
    Ok(open(target, DIRECTORY, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_that_all_layers_are_in() {
        let of = |paths: &[&str]| within(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).to_owned();
        for (paths, expected) in [
            (&[][..], "/"),
            (&["/home/ann/trees/aa/root"], "/home/ann/trees/aa"),
            (&["/home/ann/trees/aa/root", "/home/ann/trees/bb/root"], "/home/ann/trees"),
            (&["/home/ann/trees/aa/root", "/home/annette/trees/bb/root"], "/home"),
            (&["/a", "/b"], "/"),
        ] {
            assert_eq!(of(paths), Path::new(expected));
        }
    }
}
