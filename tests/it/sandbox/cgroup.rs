//! Control groups of the real kernel, as root: of version 1 or 2, whatever the machine has.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mlbuild::launch::Limits;
use mlbuild::sandbox::cgroup::{CgroupError, Facts, Group, Limit, create, plan};
use rustix::process::{Gid, Pid, Uid};

use super::{Host, Who};
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::{is_root, tool};

const MEMORY: Limits = Limits { memory: Some(64 << 20), milli_cpus: None, pids: None, best_effort: false };
const PIDS: Limits = Limits { memory: None, milli_cpus: None, pids: Some(12), best_effort: false };
const CPUS: Limits = Limits { memory: None, milli_cpus: Some(200), pids: None, best_effort: false };

fn facts_for(limits: &Limits) -> Result<Facts, Skip> {
    tool("python3")?;
    if !is_root() {
        return Err(Skip("only root may make control groups here".to_owned()));
    }
    let facts = Facts::gather().map_err(|error| Skip(error.to_string()))?;
    match &plan(&facts, limits).refused[..] {
        [] => Ok(facts),
        [first, ..] => Err(Skip(first.to_string())),
    }
}

/// A Python program that begins once it is in the group.
fn start(group: &Group, program: &str) -> Child {
    let mut child = Command::new("sh")
        .args(["-c", "read go; exec python3 -c \"$0\"", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    group.add(Pid::from_child(&child)).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn finish(group: &Group, program: &str) -> Output {
    start(group, program).wait_with_output().unwrap()
}

/// Directories of this name in any tree of control groups.
pub(super) fn left_behind(name: &str) -> Vec<PathBuf> {
    fn search(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str().is_some_and(|found| found.contains(name)) {
                    found.push(entry.path());
                }
                search(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

/// A group of the host's for other processes, as a job of a batch system has one.
pub(super) struct Nested(PathBuf);

impl Nested {
    pub fn new(test: &str) -> Result<Self, Skip> {
        let path = plan(&facts_for(&PIDS)?, &PIDS).groups[0].parent.join(name(test));
        fs::create_dir(&path).unwrap();
        Ok(Self(path))
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let start = Instant::now();
        // A process that has just ended may still be counted.
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

#[test]
fn a_memory_balloon_is_killed() {
    let facts = or_skip!("a limit of memory", facts_for(&MEMORY));
    let name = name("memory");
    let group = create(&facts, &MEMORY, &name).unwrap();
    assert_eq!(left_behind(&name).len(), 1);
    assert_eq!(finish(&group, "print(len(bytearray(8 << 20)))").status.code(), Some(0));
    assert_eq!(group.oom_kills(), 0);
    let balloon = finish(&group, "held = bytearray(256 << 20); print('held')");
    assert_eq!(balloon.status.signal(), Some(9), "{balloon:?}");
    assert!(group.oom_kills() >= 1, "the kernel says so");
    drop(group);
    assert_eq!(left_behind(&name), [] as [PathBuf; 0]);
}

#[test]
fn a_fork_bomb_stops_at_the_number() {
    let facts = or_skip!("a limit of processes", facts_for(&PIDS));
    let group = create(&facts, &PIDS, &name("pids")).unwrap();
    let program = "import os, signal
children = []
try:
    while len(children) < 100:
        pid = os.fork()
        if pid == 0: signal.pause()
        children.append(pid)
except BlockingIOError as error: print('stopped', len(children))
for pid in children: os.kill(pid, 9)";
    let output = finish(&group, program);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "stopped 11\n", "{output:?}");
}

#[test]
fn processor_time_is_shared_out() {
    let facts = or_skip!("a limit of processor time", facts_for(&CPUS));
    let group = create(&facts, &CPUS, &name("cpus")).unwrap();
    let program = "import time
start = time.monotonic()
while time.monotonic() < start + 1: pass
print(time.process_time())";
    let output = finish(&group, program);
    let used: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(used < 0.5, "{used} s of a second where 0.2 were given");
}

/// As the option has it; the control has no limit.
#[test]
fn a_run_has_the_processor_time_that_it_is_given() {
    let _ = or_skip!("a limit of processor time", facts_for(&CPUS));
    let host = or_skip!("a limit of processor time", Host::new(Who::Root, "hello"));
    let program = "import time
start = time.monotonic()
while time.process_time() < .3 and time.monotonic() < start + 20: pass
print(time.monotonic() - start)";
    let took = |options: &[&str]| -> f64 {
        host.python(options, program).expect(0).stdout().trim().parse().unwrap()
    };
    let limited = took(&["--cpus", "0.1"]);
    assert!(limited > 2.0, "{limited} s for 0.3 s of a tenth of a processor");
    let free = took(&["--cpus", "0"]);
    assert!(free < limited, "{free} s without a limit, {limited} s with one");
}

#[test]
fn all_are_killed_and_all_is_removed() {
    let facts = or_skip!("a group", facts_for(&PIDS));
    let name = name("kill");
    let group = create(&facts, &PIDS, &name).unwrap();
    let program = "import os, time
[os.fork() for _ in range(2)]
time.sleep(60)";
    let mut child = start(&group, program);
    // A group below, as a sandbox with its own control groups makes them, with a process in it.
    let below = left_behind(&name)[0].join("below");
    fs::create_dir(&below).unwrap();
    let mut nested = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(below.join("cgroup.procs"), nested.id().to_string()).unwrap();
    let procs = || fs::read_to_string(left_behind(&name)[0].join("cgroup.procs")).unwrap().lines().count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while procs() < 4 {
        assert!(Instant::now() < deadline, "only {} processes", procs());
        std::thread::sleep(Duration::from_millis(5));
    }
    group.kill();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(nested.wait().unwrap().signal(), Some(9));
    drop(group);
    assert_eq!(left_behind(&name), [] as [PathBuf; 0]);
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let facts = or_skip!("a group", facts_for(&PIDS));
    let parent = plan(&facts, &PIDS).groups[0].parent.clone();
    let stale = format!("mlbuild-stale-{}", std::process::id());
    fs::create_dir_all(parent.join(&stale).join("below")).unwrap();
    let first = create(&facts, &PIDS, &name("first")).unwrap();
    assert_eq!(left_behind(&stale), [] as [PathBuf; 0]);
    let second = create(&facts, &PIDS, &name("second")).unwrap();
    assert_eq!(left_behind(&name("first")).len(), 1, "one that lives stays");
    drop((first, second));
}

/// Somebody without rights, and then with a part of the tree that root has given them. On a thread: users belong to
/// threads. The process itself must be in the part for it to be found.
#[test]
fn another_user_needs_a_part_of_the_tree() {
    let limits = Limits { memory: Some(64 << 20), pids: Some(12), ..MEMORY };
    let facts = or_skip!("delegation", facts_for(&limits));
    let nobody = (Uid::from_raw(65534), Gid::from_raw(65534));
    fn as_nobody<T: Send>(user: (Uid, Gid), work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(user.1, user.1, user.1).unwrap();
                rustix::thread::set_thread_res_uid(user.0, user.0, user.0).unwrap();
                work()
            });
            thread.join().expect("no panic as another user")
        })
    }
    let gather = || Facts { uid: 65534, ..Facts::gather().unwrap() };
    let (refused, warned) = as_nobody(nobody, || {
        let best_effort = Limits { best_effort: true, ..limits };
        let group = create(&gather(), &best_effort, "nobody").unwrap();
        (create(&gather(), &limits, "nobody").unwrap_err(), group.warnings().to_vec())
    });
    assert!(matches!(&refused, CgroupError::Refused { refused, .. } if refused.len() == 2), "{refused}");
    assert!(refused.to_string().contains("--memory cannot be enforced"), "{refused}");
    assert!(refused.hints().iter().any(|hint| hint.contains("root")), "{:?}", refused.hints());
    assert!(refused.hints().iter().any(|hint| hint.contains("--best-effort-limits")));
    assert_eq!(warned.len(), 2, "{warned:?}");

    if facts.hierarchies.iter().all(|tree| tree.controllers.is_empty()) {
        return skip("delegation of version 1", &Skip("there is only version 2".to_owned()));
    }
    let parts: Vec<(PathBuf, PathBuf)> = plan(&facts, &limits)
        .groups
        .iter()
        .map(|group| (group.parent.clone(), group.parent.join(name("delegated"))))
        .collect();
    let myself = std::process::id().to_string();
    for (_, part) in &parts {
        fs::create_dir(part).unwrap();
        for path in [part.clone(), part.join("cgroup.procs"), part.join("tasks")] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        fs::write(part.join("cgroup.procs"), &myself).unwrap();
    }
    let result = std::panic::catch_unwind(|| {
        as_nobody(nobody, || {
            let group = create(&gather(), &limits, "nobody").unwrap();
            let inside = parts.iter().filter(|(_, part)| part.join("mlbuild-nobody").exists()).count();
            let balloon = finish(&group, "held = bytearray(256 << 20); print('held')");
            (inside, balloon.status.signal(), group.oom_kills())
        })
    });
    for (parent, part) in &parts {
        fs::write(parent.join("cgroup.procs"), &myself).unwrap();
        fs::remove_dir(part).unwrap();
    }
    let (inside, signal, kills) = result.unwrap();
    assert_eq!((inside, signal), (2, Some(9)));
    assert!(kills >= 1);
}

#[test]
fn a_value_that_the_kernel_refuses_is_named() {
    let facts = or_skip!("a group", facts_for(&PIDS));
    let name = name("value");
    let absurd = Limits { pids: Some(u64::MAX), ..PIDS };
    let error = create(&facts, &absurd, &name).unwrap_err();
    let CgroupError::Value { limit, path, .. } = &error else { panic!("{error}") };
    assert_eq!((*limit, path.file_name().unwrap().to_str()), (Limit::Pids, Some("pids.max")));
    assert_eq!(left_behind(&name), [] as [PathBuf; 0], "what failed leaves nothing");
}
