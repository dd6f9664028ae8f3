//! Looking things up.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::caller;
use crate::launch::{Caller, CdiFile, GpuFacts, Library};
use crate::oci::Platform;
use crate::sandbox::confine::landlock;
use crate::sandbox::{cgroup, discover};

/// What is known of a host. Recorded ones are fixtures of the tests (`fixtures/doctor`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Release of the kernel: `6.1.0-18-amd64`.
    pub kernel: String,
    pub architecture: String,
    pub caller: Caller,
    /// The caller's name, where it is known.
    pub user: Option<String>,
    /// In the container of which engine we run, if in one.
    pub container: Option<String>,
    /// The process's root is not that of its mount namespace.
    pub chroot: bool,
    pub sysctl: Sysctl,
    /// Mount points below `/proc` that hide something of it.
    pub proc_masks: Vec<PathBuf>,
    /// The kernel has the overlay file system, or a module of it.
    pub overlay: bool,
    /// What was tried, if anything was.
    pub attempt: Attempt,
    pub cgroups: cgroup::Facts,
    pub newuidmap: Option<PathBuf>,
    pub newgidmap: Option<PathBuf>,
    pub pasta: Option<PathBuf>,
    /// `/dev/net/tun` can be opened: pasta needs it.
    pub tun: bool,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// Interface of Landlock; 0 is none.
    pub landlock: u32,
    pub gpu: Option<GpuFacts>,
    /// CDI specifications, the directory that wins last.
    pub cdi: Vec<CdiFile>,
    pub cdi_libraries: Vec<Library>,
    /// Why others are not used.
    pub cdi_warnings: Vec<String>,
}

/// Settings of the kernel; none is a kernel without the setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sysctl {
    /// `user.max_user_namespaces`
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`: of Debian and Arch.
    pub unprivileged_userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`: of Ubuntu.
    pub apparmor_restrict_unprivileged_userns: Option<u64>,
}

/// Those of this host, with what was tried. `cdi` are the directories of CDI specifications.
pub fn gather(attempt: Attempt, cdi: &[PathBuf]) -> Facts {
    let system = rustix::system::uname();
    let mounts = text("/proc/self/mountinfo");
    let actions = text("/proc/sys/kernel/seccomp/actions_avail");
    let (cdi, cdi_warnings) = discover::cdi_files(cdi);
    Facts {
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        caller: caller::caller(),
        user: caller::user(),
        container: container(),
        chroot: is_chroot(),
        sysctl: Sysctl {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict_unprivileged_userns: number(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            ),
        },
        proc_masks: masks(&mounts),
        overlay: has_overlay(&text("/proc/filesystems"), system.release().to_str().unwrap_or_default()),
        attempt,
        cgroups: cgroup::Facts::gather().unwrap_or_default(),
        newuidmap: caller::program("newuidmap"),
        newgidmap: caller::program("newgidmap"),
        pasta: caller::program("pasta"),
        tun: fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
        seccomp: actions.split_ascii_whitespace().any(|action| action == "errno"),
        landlock: landlock::interface(),
        gpu: Some(discover::gpu_facts(Path::new("/"), Platform::HOST)),
        cdi_libraries: discover::cdi_libraries(Path::new("/"), &cdi, Platform::HOST),
        cdi,
        cdi_warnings,
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    text(path).trim().parse().ok()
}

/// Files that engines leave in their containers.
fn container() -> Option<String> {
    let signs = [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")];
    let named = signs.iter().find(|(path, _)| Path::new(path).exists()).map(|(_, engine)| *engine);
    let kubernetes = Path::new("/var/run/secrets/kubernetes.io").exists().then_some("kubernetes");
    kubernetes.or(named).map(str::to_owned)
}

/// In a mount namespace that is ours, `/` is a mount point; in a changed root it mostly is none.
fn is_chroot() -> bool {
    let mounts = text("/proc/self/mountinfo");
    !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// What an engine has mounted over parts of `/proc`. Not counted is what any host has there.
fn masks(mounts: &str) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let masked = points.filter(|point| point.starts_with("/proc/"));
    let ordinary = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/xen"];
    masked.filter(|point| !ordinary.contains(point)).map(PathBuf::from).collect()
}

/// Built in, loaded, or a module that can be loaded.
fn has_overlay(filesystems: &str, release: &str) -> bool {
    let directory = Path::new("/lib/modules").join(release).join("kernel/fs/overlayfs");
    filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") || directory.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_an_engine() {
        let mounts = "22 1 0:21 / /proc rw - proc proc rw\n\
                      23 22 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
                      24 22 0:21 /sys /proc/sys ro - proc proc rw\n\
                      25 22 0:5 /null /proc/kcore rw - tmpfs tmpfs rw\n";
        assert_eq!(masks(mounts), [Path::new("/proc/sys"), Path::new("/proc/kcore")]);
    }

    #[test]
    fn overlay_in_the_list_of_the_kernel() {
        assert!(has_overlay("nodev\tsysfs\nnodev\toverlay\n\text4\n", "none"));
        assert!(!has_overlay("nodev\toverlayfs\n", "none"));
    }

    /// The facts of the machine that the tests run on can be recorded, and read again.
    #[test]
    fn this_host() {
        let facts = gather(Attempt::default(), &[]);
        assert!(!facts.kernel.is_empty() && facts.caller.uid == rustix::process::getuid().as_raw());
        let recorded = serde_json::to_string_pretty(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&recorded).unwrap(), facts);
    }
}
