//! What the kernel really lets an ordinary process do. A process that has tried it is of no other use afterwards: it has
//! left its namespaces.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::launch;
use crate::sandbox::error::SandboxError;
use crate::sandbox::identity;

/// One step after the other; after one that fails, those that need it are not tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// Namespaces of its own, with the users that a plain run has there.
    pub namespaces: Outcome,
    /// An empty file system in memory.
    pub mount: Outcome,
    /// An overlay whose layers are named one by one (Linux 6.8).
    pub overlay_by_layer: Outcome,
    /// An overlay whose layers are one text.
    pub overlay: Outcome,
    /// `/proc` of the processes inside.
    pub proc: Outcome,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "error")]
pub enum Outcome {
    #[default]
    NotTried,
    Works,
    /// The error number.
    Fails(i32),
}

impl Outcome {
    pub fn works(self) -> bool {
        self == Self::Works
    }
}

impl<T> From<io::Result<T>> for Outcome {
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Works,
            Err(error) => Self::Fails(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())),
        }
    }
}

/// Where things are mounted: any directory will do, in a mount namespace that goes with the process.
const PLACE: &str = "/tmp";

/// Tries, in this process, which must have one thread only. `map` lets a process that was started before call
/// [`attempt_map`] now, and gives its answer: users are given to a namespace from outside. `proc` starts a program in the
/// namespaces that calls [`attempt_proc`], and gives its answer: a process is never in the PID namespace that it has made.
pub fn attempt(map: impl FnOnce() -> Outcome, proc: impl FnOnce() -> Outcome) -> Attempt {
    let namespaces = match Outcome::from(namespaces()) {
        Outcome::Works => map(),
        fails => fails,
    };
    let mut attempt = Attempt { namespaces, ..Attempt::default() };
    if !attempt.namespaces.works() {
        return attempt;
    }
    attempt.mount = scratch().into();
    if !attempt.mount.works() {
        return attempt;
    }
    attempt.overlay_by_layer = overlay_by_layer().into();
    attempt.overlay = overlay().into();
    attempt.proc = proc();
    attempt
}

/// The part of [`attempt`] that is done by a child of the process in the caller's namespaces: as a run does it.
pub fn attempt_map() -> Outcome {
    let Some(parent) = rustix::process::getppid() else { return Outcome::NotTried };
    match identity::map(parent, &launch::plain_identity(&super::caller())) {
        Ok(()) => Outcome::Works,
        Err(SandboxError::Setup { source, .. }) => Err::<(), _>(source).into(),
        Err(_) => Outcome::Fails(Errno::IO.raw_os_error()),
    }
}

/// The part of [`attempt`] that is done by the first process of the new PID namespace.
pub fn attempt_proc() -> Outcome {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", Path::new(PLACE).join("proc"), "proc", flags, None)
        .map_err(io::Error::from)
        .into()
}

fn namespaces() -> io::Result<()> {
    let kinds = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    #[expect(
        deprecated,
        reason = "its successor is `unsafe` for the sake of CLONE_FILES, which is not asked for"
    )]
    Ok(rustix::thread::unshare(kinds)?)
}

fn scratch() -> io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount("tmpfs", PLACE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    for directory in ["a", "b", "upper", "work", "root", "upper2", "work2", "root2", "proc"] {
        fs::create_dir(Path::new(PLACE).join(directory))?;
    }
    Ok(())
}

fn overlay_by_layer() -> io::Result<()> {
    let at = |name: &str| Path::new(PLACE).join(name);
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in ["b", "a"] {
        rustix::mount::fsconfig_set_string(&overlay, "lowerdir+", at(layer))?;
    }
    rustix::mount::fsconfig_set_string(&overlay, "upperdir", at("upper"))?;
    rustix::mount::fsconfig_set_string(&overlay, "workdir", at("work"))?;
    rustix::mount::fsconfig_set_flag(&overlay, "userxattr")?;
    rustix::mount::fsconfig_create(&overlay)?;
    let mounted = rustix::mount::fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&mounted, "", rustix::fs::CWD, at("root"), flags)?;
    fs::write(at("root/file"), "x")
}

fn overlay() -> io::Result<()> {
    let at = |name: &str| Path::new(PLACE).join(name);
    let data =
        format!("lowerdir={PLACE}/b:{PLACE}/a,upperdir={PLACE}/upper2,workdir={PLACE}/work2,userxattr");
    let data = std::ffi::CString::new(data).expect("no byte of it is 0");
    rustix::mount::mount("overlay", at("root2"), "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
    fs::write(at("root2/file"), "x")
}
