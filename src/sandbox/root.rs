//! The root file system: an overlay of the layers' directories, mounted where nothing of the host is in the way.
//!
//! A tmpfs is laid over a directory of the sandbox's own mount namespace (`/tmp`); it holds what the sandbox writes, unless
//! that is to stay, and the place where the overlay is mounted. Layers are named by descriptors that are opened before, so
//! that it does not matter what the tmpfs hides, and no path of the host appears in the sandbox's `/proc/mounts`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, open, openat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    move_mount,
};

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

/// Directories of the host that become layers, the lowest first.
pub fn open_layers(root: &Root) -> Result<Vec<OwnedFd>, SandboxError> {
    let open =
        |path: &Path| open(path, DIRECTORY, Mode::empty()).doing(cannot("open the layer", path.display()));
    root.layers.iter().map(|path| open(path)).collect()
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
pub fn mount_root(layers: &[OwnedFd], upper: Option<(OwnedFd, OwnedFd)>) -> Result<OwnedFd, SandboxError> {
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
    let empty;
    let mut layers: Vec<&OwnedFd> = layers.iter().collect();
    if layers.is_empty() {
        empty = make("empty")?;
        layers.push(&empty);
    }
    let root = make("root")?;
    match overlay(&layers, &upper, &work) {
        Ok(overlay) => {
            attach(&overlay, &root, "").doing(|| "cannot attach the overlay".into())?;
            Ok(overlay)
        }
        // Before Linux 6.8.
        Err(Overlay::NoLowerdir) => classic(&base, &layers, &upper, &work, &format!("{place}/root")),
        Err(Overlay::Failed { source, kernel }) => {
            let said =
                if kernel.is_empty() { String::new() } else { format!(" (the kernel says: {kernel})") };
            let what = format!("cannot mount an overlay of {} layers{said}", layers.len());
            Err(SandboxError::Setup { what, source })
        }
    }
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

enum Overlay {
    /// The kernel does not know `lowerdir+`.
    NoLowerdir,
    Failed {
        source: io::Error,
        kernel: String,
    },
}

fn overlay(layers: &[&OwnedFd], upper: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd, Overlay> {
    let plain = |error: Errno| Overlay::Failed { source: error.into(), kernel: String::new() };
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(plain)?;
    let failed = |error: Errno| Overlay::Failed { source: error.into(), kernel: log(&fs) };
    for (index, layer) in layers.iter().rev().enumerate() {
        match fsconfig_set_string(&fs, "lowerdir+", name(layer)) {
            Err(Errno::INVAL) if index == 0 => return Err(Overlay::NoLowerdir),
            result => result.map_err(failed)?,
        }
    }
    fsconfig_set_string(&fs, "upperdir", name(upper)).map_err(failed)?;
    fsconfig_set_string(&fs, "workdir", name(work)).map_err(failed)?;
    fsconfig_set_flag(&fs, "userxattr").map_err(failed)?;
    fsconfig_create(&fs).map_err(failed)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)
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
/// which is the working directory of the call.
fn classic(
    base: &OwnedFd,
    layers: &[&OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
    target: &str,
) -> Result<OwnedFd, SandboxError> {
    let run = || -> io::Result<OwnedFd> {
        mkdirat(base, "layers", Mode::from_raw_mode(0o755))?;
        let links = openat(base, "layers", DIRECTORY, Mode::empty())?;
        let mut lower = Vec::new();
        for (index, layer) in layers.iter().enumerate().rev() {
            symlinkat(name(layer), &links, index.to_string())?;
            lower.push(index.to_string());
        }
        rustix::process::fchdir(&links)?;
        let options =
            format!("lowerdir={},upperdir={},workdir={},userxattr", lower.join(":"), name(upper), name(work));
        let options = CString::new(options).map_err(|_| io::ErrorKind::InvalidInput)?;
        mount(
            "overlay",
            target,
            "overlay",
            MountFlags::NOSUID | MountFlags::NODEV,
            Some(options.as_c_str()),
        )?;
        rustix::process::chdir("/")?;
        Ok(open(target, DIRECTORY, Mode::empty())?)
    };
    run().doing(|| format!("cannot mount an overlay of {} layers", layers.len()))
}
