//! Landlock: rules that a process sets itself, below those of the file system.
//!
//! What it adds here, each where the kernel has it (the number is that of Landlock's interface):
//!
//! - no signals to processes outside, and no abstract Unix sockets of others (6): in the host's network those of the host
//!   are in reach otherwise;
//! - no device node is made (2): it takes a capability as well, which nobody has;
//! - no program outside of the root is started (2): `/proc/self/exe` of the process that becomes the program is mlbuild, which
//!   an image could start that way with libraries of its own, to hold the host's file (CVE-2019-5736). Without this,
//!   what is left is that no file can be written to while it runs;
//! - with a read-only root, nothing is made, removed, cut off or opened for writing (3) but below what is mounted to be
//!   written to: a mount that should be read-only and is not stays shut;
//! - no process outside is traced (any), and nothing is mounted, whatever the capabilities (any but scopes alone).
//!
//! Interface 1 (Linux 5.13 to 5.18) gets nothing: it forbids every rename from one directory to another as soon as it
//! forbids anything. For the same reason that right is given on `/` from 2 on, as is starting what is there.
//!
//! Paths are opened after `pivot_root`; `/proc` is not needed.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictSelf, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::stdio::{stderr, stdin, stdout};
use serde::Serialize;

use crate::launch::{FileSystem, Launch, Step};

/// The interface that has scopes (Linux 6.12).
pub const SCOPES: u32 = 6;

/// What Landlock holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforced {
    /// Of the kernel's interface; 0 is a kernel without Landlock, or where it is not turned on.
    pub interface: u32,
    /// Signals and abstract sockets.
    pub scopes: bool,
    pub device_nodes: bool,
    /// Starting programs of the host.
    pub programs: bool,
    /// Writing outside of what may be written to.
    pub writes: bool,
}

/// What this kernel could do. Changes nothing.
pub fn interface() -> u32 {
    let query = RestrictSelf::default().no_new_privs(false);
    query.apply().map_or(0, |status| number(status.landlock))
}

/// What [`restrict`] holds with this interface.
pub const fn enforced(interface: u32, read_only: bool) -> Enforced {
    Enforced {
        interface,
        scopes: interface >= SCOPES,
        device_nodes: interface >= 2,
        programs: interface >= 2,
        writes: interface >= 3 && read_only,
    }
}

/// Where a run with a read-only root may write: the targets of all that is mounted to be written to. None where the root
/// may be written to itself.
pub fn writable(launch: &Launch) -> Option<Vec<&str>> {
    fn target(step: &Step) -> Option<&str> {
        match step {
            Step::Mount { what: FileSystem::Sysfs | FileSystem::Cgroup { .. }, .. } => None,
            Step::Mount { target, .. } => Some(target),
            Step::Bind { target, how, .. } if !how.read_only => Some(target),
            _ => None,
        }
    }
    launch.root.read_only.then(|| launch.steps.iter().filter_map(target).collect())
}

/// Binds the calling thread, for good, and sets no_new_privs. `writable` is that of [`writable`]; a path of it that is not
/// there is left out. Standard input, output and error can be opened again for writing (`/dev/stdout`).
pub fn restrict(writable: Option<&[&str]>) -> io::Result<Enforced> {
    let interface = interface();
    let enforced = enforced(interface, writable.is_some());
    if !enforced.device_nodes {
        return Ok(Enforced { interface, ..self::enforced(0, false) });
    }
    let mut handled = AccessFs::Refer | AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock;
    if enforced.writes {
        handled |= writing();
    }
    let mut ruleset = Ruleset::default().handle_access(handled).map_err(io::Error::other)?;
    if enforced.scopes {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6)).map_err(io::Error::other)?;
    }
    let mut ruleset = ruleset.create().map_err(io::Error::other)?;
    let mut allow = |path: &Path, access: BitFlags<AccessFs>| match PathFd::new(path) {
        Ok(opened) => {
            (&mut ruleset).add_rule(PathBeneath::new(opened, access)).map(|_| ()).map_err(io::Error::other)
        }
        // Optional, and not there.
        Err(_) => Ok(()),
    };
    allow(Path::new("/"), AccessFs::Refer | AccessFs::Execute)?;
    if let Some(paths) = writable.filter(|_| enforced.writes) {
        for path in paths {
            // For a file, the library takes of these what a file can have.
            allow(Path::new(path), writing())?;
        }
        for stream in [stdin(), stdout(), stderr()] {
            // Pipes and sockets are no files of a mounted file system: they need no rule, and can have none.
            let access = AccessFs::WriteFile | AccessFs::Truncate;
            let _ = (&mut ruleset).add_rule(PathBeneath::new(stream, access));
        }
    }
    let status = ruleset.restrict_self().map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Ok(self::enforced(0, false)),
        _ => Ok(enforced),
    }
}

/// All that changes a file or a directory's content, but device nodes.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_write(ABI::V3) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::Refer)
}

fn number(status: LandlockStatus) -> u32 {
    match status {
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.and_then(|newer| u32::try_from(newer).ok()).unwrap_or(effective_abi as u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{BindOptions, Identity, Limits, Network, NetworkMode, Process, Root, Upper};

    fn launch(read_only: bool) -> Launch {
        let target = |path: &str| path.to_owned();
        let bind = |path: &str, read_only| Step::Bind {
            target: path.to_owned(),
            source: "/srv".into(),
            how: BindOptions { read_only, ..BindOptions::default() },
        };
        Launch {
            identity: Identity::Same,
            network: Network { mode: NetworkMode::None, publish: Vec::new(), pasta: None },
            root: Root { layers: Vec::new(), upper: Upper::Memory, read_only },
            steps: vec![
                Step::Directory { target: target("/made"), mode: 0o755 },
                Step::Mount { target: target("/proc"), what: FileSystem::Proc },
                Step::Mount { target: target("/sys"), what: FileSystem::Sysfs },
                Step::Mount {
                    target: target("/sys/fs/cgroup"),
                    what: FileSystem::Cgroup { controllers: Vec::new() },
                },
                Step::Mount {
                    target: target("/tmp"),
                    what: FileSystem::Tmpfs { size: None, mode: 0o1777, no_exec: false },
                },
                bind("/data", true),
                bind("/out", false),
                Step::Hide { target: target("/proc/kcore") },
            ],
            process: Process {
                arguments: Vec::new(),
                environment: Vec::new(),
                directory: target("/"),
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                hostname: target("h"),
                terminal: false,
                interactive: false,
                init: true,
                stop_signal: target("SIGTERM"),
                capabilities: Vec::new(),
                rlimits: Vec::new(),
                timeout: None,
            },
            limits: Limits::default(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_read_only_root_is_written_where_something_is_mounted_for_it() {
        assert_eq!(writable(&launch(true)), Some(vec!["/proc", "/tmp", "/out"]));
        assert_eq!(writable(&launch(false)), None);
    }

    #[test]
    fn each_interface_holds_what_it_can() {
        let held = |interface| {
            let enforced = enforced(interface, true);
            assert_eq!(enforced.programs, enforced.device_nodes);
            (enforced.device_nodes, enforced.writes, enforced.scopes)
        };
        assert_eq!(held(0), (false, false, false));
        assert_eq!(held(1), (false, false, false));
        assert_eq!(held(2), (true, false, false));
        assert_eq!(held(3), (true, true, false));
        assert_eq!(held(5), (true, true, false));
        assert_eq!(held(6), (true, true, true));
        assert_eq!(held(9), (true, true, true));
        assert!(!enforced(9, false).writes);
    }
}
