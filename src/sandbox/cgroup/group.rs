//! A group that exists: made, entered, emptied, removed.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::CgroupError;
use super::facts::Version;
use super::plan::{Plan, Planned};
use super::settings::{Limit, Setting};

/// What our directories' names begin with.
const PREFIX: &str = "mlbuild-";
/// Where the process itself goes, where it must make room.
const SUPERVISOR: &str = "supervisor";
/// Names that are tried, where others have the first.
const ATTEMPTS: u32 = 100;
/// A process that is killed needs a moment before it is no longer counted.
const PATIENCE: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// One directory in version 2, one a controller in version 1. Removed when it is dropped, with all that is below: by then
/// its processes must have ended.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Part>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Part {
    version: Version,
    directory: PathBuf,
    /// The directory, open and locked: a sign that its owner lives.
    handle: OwnedFd,
    memory: bool,
}

impl Group {
    pub(super) fn create(plan: &Plan, name: &str, best_effort: bool) -> Result<Self, CgroupError> {
        let warnings = plan.refused.iter().map(ToString::to_string).collect();
        let mut group = Self { parts: Vec::new(), warnings };
        for planned in &plan.groups {
            match group.add_part(planned, name, best_effort) {
                Err(error) if best_effort => group.warnings.push(with_cause(&error)),
                result => result?,
            }
        }
        Ok(group)
    }

    fn add_part(&mut self, planned: &Planned, name: &str, best_effort: bool) -> Result<(), CgroupError> {
        let parent = &planned.parent;
        remove_leftovers(parent);
        if planned.leave {
            let below = parent.join(SUPERVISOR);
            let moved = match fs::create_dir(&below) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => write(&below.join("cgroup.procs"), "0"),
            };
            moved.map_err(|source| CgroupError::Io { operation: "leave", path: parent.clone(), source })?;
        }
        for controller in &planned.enable {
            let file = parent.join("cgroup.subtree_control");
            write(&file, &format!("+{controller}")).map_err(|source| CgroupError::Io {
                operation: "give controllers on in",
                path: parent.clone(),
                source,
            })?;
        }
        let (directory, handle) = make(parent, name).map_err(|source| CgroupError::Io {
            operation: "make",
            path: parent.join(name),
            source,
        })?;
        let memory = planned.settings.iter().any(|(limit, _)| *limit == Limit::Memory);
        // Owned from here on, so that a failure removes it.
        self.parts.push(Part { version: planned.version, directory, handle, memory });
        let directory = &self.parts[self.parts.len() - 1].directory;
        for (limit, settings) in &planned.settings {
            match apply(directory, *limit, settings) {
                Err(error) if best_effort => self.warnings.push(with_cause(&error)),
                result => result?,
            }
        }
        Ok(())
    }

    /// Limits that are not enforced, and why, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// For `CLONE_INTO_CGROUP`: a child that is made so is in the group from the beginning. None where the group has other
    /// parts than one of version 2: then [`add`](Self::add).
    pub fn dir_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.parts[..] {
            [only] if only.version == Version::Two => Some(only.handle.as_fd()),
            _ => None,
        }
    }

    /// Moves a process into the group; what it starts from then on is in it, too.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        for part in &self.parts {
            write(&part.directory.join("cgroup.procs"), &pid.as_raw_nonzero().to_string()).map_err(
                |source| CgroupError::Io { operation: "enter", path: part.directory.clone(), source },
            )?;
        }
        Ok(())
    }

    /// How many processes the kernel has killed because the memory was used up.
    pub fn oom_kills(&self) -> u64 {
        let count = |part: &Part| {
            let file = match part.version {
                Version::One => "memory.oom_control",
                Version::Two => "memory.events",
            };
            let text = fs::read_to_string(part.directory.join(file)).unwrap_or_default();
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.parts.iter().filter(|part| part.memory).map(count).sum()
    }

    /// Kills every process in the group and below it.
    pub fn kill(&self) {
        for part in &self.parts {
            // Linux 5.14 and version 2; atomic.
            if write(&part.directory.join("cgroup.kill"), "1").is_err() {
                kill_one_by_one(&part.directory);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            for _ in 0..PATIENCE {
                match remove(&part.directory) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PAUSE),
                    // What cannot be removed now is removed by a later run.
                    _ => break,
                }
            }
        }
    }
}

/// Makes a directory and locks it.
fn make(parent: &Path, name: &str) -> io::Result<(PathBuf, OwnedFd)> {
    let tame = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(tame).take(100).collect();
    for attempt in 1..=ATTEMPTS {
        let suffix = if attempt == 1 { String::new() } else { format!(".{attempt}") };
        let directory = parent.join(format!("{PREFIX}{name}{suffix}"));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => result?,
        }
        // Between the two, another run may have taken it for a leftover.
        match lock(&directory) {
            Ok(Some(handle)) if directory.exists() => return Ok((directory, handle)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let _ = fs::remove_dir(&directory);
                return Err(error);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// None if somebody else holds it.
fn lock(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::open(directory, flags, Mode::empty())?;
    match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(handle)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes groups of ours that nobody holds any more and nobody is in.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours && matches!(lock(&entry.path()), Ok(Some(_))) {
            let _ = remove(&entry.path());
        }
    }
}

/// A group with those below it, deepest first. The files in it are the kernel's and go with it.
fn remove(directory: &Path) -> io::Result<()> {
    for below in below(directory) {
        remove(&below)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn apply(directory: &Path, limit: Limit, settings: &[Setting]) -> Result<(), CgroupError> {
    for setting in settings {
        let path = directory.join(setting.file);
        match write(&path, &setting.value) {
            Ok(()) => {}
            // An old kernel that has the file may still refuse the value.
            Err(_) if setting.optional => {}
            Err(source) => {
                return Err(CgroupError::Value { limit, value: setting.value.clone(), path, source });
            }
        }
    }
    Ok(())
}

/// In one call, which is how the kernel reads it, into a file that is there.
fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn kill_one_by_one(directory: &Path) {
    // What is started while we kill is found in the next round.
    for _ in 0..PATIENCE {
        if !kill_all(directory) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether there was anybody.
fn kill_all(directory: &Path) -> bool {
    let processes = || fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found = false;
    for pid in processes().lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        found = true;
        // The number may belong to another process by now; so hold on to it first, then look whether it is still in here.
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let number = pid.as_raw_nonzero().to_string();
        if processes().lines().any(|line| line == number) {
            let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    }
    below(directory).iter().fold(found, |found, below| kill_all(below) || found)
}

fn with_cause(error: &CgroupError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            below(parent).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_is_taken_once_and_tamed() {
        let parent = tempfile::tempdir().unwrap();
        let (first, held) = make(parent.path(), "a/b c\n").unwrap();
        assert_eq!(first.file_name().unwrap(), "mlbuild-a-b-c-");
        let (second, _) = make(parent.path(), "a/b c\n").unwrap();
        assert_eq!(second.file_name().unwrap(), "mlbuild-a-b-c-.2");
        drop(held);
    }

    #[test]
    fn leftovers_go_and_what_is_held_stays() {
        let parent = tempfile::tempdir().unwrap();
        let (_held, handle) = make(parent.path(), "held").unwrap();
        let (left, _) = make(parent.path(), "left").unwrap();
        fs::create_dir_all(left.join("made/inside")).unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        remove_leftovers(parent.path());
        assert_eq!(names(parent.path()), ["mlbuild-held", "other"]);
        drop(handle);
        remove_leftovers(parent.path());
        assert_eq!(names(parent.path()), ["other"]);
    }

    /// In a directory of version 2, which may not have a controller that we set; but it can be made, entered, left for a
    /// place below, emptied and removed.
    #[test]
    fn version_two_for_real() {
        let facts = super::super::Facts::gather().unwrap_or_default();
        let tree = facts.hierarchies.into_iter().find(|tree| tree.version == Version::Two);
        let Some(level) = tree.and_then(|tree| tree.levels.into_iter().find(|level| level.writable)) else {
            eprintln!("skipped: version 2: no directory of it that may be written to");
            return;
        };
        let myself = rustix::process::getpid();
        let enter =
            |directory: &Path| write(&directory.join("cgroup.procs"), &myself.as_raw_nonzero().to_string());
        let part = level.directory.join(format!("test-v2-{}", std::process::id()));
        fs::create_dir(&part).unwrap();
        enter(&part).unwrap();
        let work = || {
            let enable = ["memory", "pids", "hugetlb", "cpu"].into_iter();
            let known = |controller: &&str| level.controllers.contains(*controller);
            let planned = Planned {
                version: Version::Two,
                parent: part.clone(),
                leave: true,
                enable: enable.filter(known).filter(|one| level.enabled.contains(*one)).collect(),
                settings: Vec::new(),
            };
            let group =
                Group::create(&Plan { groups: vec![planned], ..Plan::default() }, "v2", false).unwrap();
            assert_eq!(names(&part), ["mlbuild-v2", SUPERVISOR]);
            assert!(group.dir_fd().is_some() && group.warnings().is_empty());
            #[expect(clippy::disallowed_methods, reason = "a test's process")]
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            group.add(Pid::from_child(&child)).unwrap();
            let inside = fs::read_to_string(part.join("mlbuild-v2/cgroup.procs")).unwrap();
            assert_eq!(inside.trim(), child.id().to_string());
            group.kill();
            assert!(!child.wait().unwrap().success());
            drop(group);
            assert_eq!(names(&part), [SUPERVISOR]);
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        enter(&level.directory).unwrap();
        remove(&part).unwrap();
        result.unwrap();
    }

    #[test]
    fn optional_files_may_be_missing_and_others_not() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("memory.max"), "max\n").unwrap();
        let settings = super::super::settings(Version::Two, Limit::Memory, 4096);
        apply(group.path(), Limit::Memory, &settings).unwrap();
        assert_eq!(fs::read_to_string(group.path().join("memory.max")).unwrap(), "4096");
        let error = apply(group.path(), Limit::Pids, &super::super::settings(Version::Two, Limit::Pids, 3));
        let error = error.unwrap_err();
        assert!(
            error.to_string().contains("--pids-limit") && error.to_string().contains("pids.max"),
            "{error}"
        );
        assert!(!group.path().join("pids.max").exists(), "files are the kernel's to make");
    }
}
