//! Limits of a run: they hold, which without them nothing would, or are refused; and the program sees them.

use std::fs;
use std::path::Path;

use super::isolation::inside;
use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;

/// Takes 256 MiB.
const BALLOON: &str = "x = bytearray(256 << 20); print('held', x[::4096].count(0) == 1 << 16)";

/// As many processes as it is given, up to 60.
const BOMB: &str = "import os, time
made = 0
try:
    while made < 60:
        if os.fork() == 0: time.sleep(30)
        made += 1
except BlockingIOError: print('stopped', made < 30)
else: print('made', made)";

#[test]
fn limits_hold_or_are_refused() {
    let [root, user] = or_skip!("limits", Host::both("hello"));
    let balloon = ["python", "-c", BALLOON];
    for host in [&root, &user] {
        assert_eq!(host.run(&[], &balloon).ok().stdout().trim(), "held True", "without a limit");
        assert_eq!(inside(host, &[], BOMB).trim(), "made 60", "without a limit");
    }
    let killed = root.run(&["--memory", "96m"], &balloon).run().expect(137);
    assert!(!killed.stderr().contains("Traceback"), "{}", killed.stderr());
    assert_eq!(inside(&root, &["--pids-limit", "30"], BOMB).trim(), "stopped True");
    // Without a control group of one's own.
    let refused = user.run(&["--memory", "96m"], &balloon).run().expect(125);
    assert!(refused.stderr().contains("--memory cannot be enforced"), "{}", refused.stderr());
    assert!(refused.stderr().contains("--best-effort-limits"), "{}", refused.stderr());
    let _ = user.run(&["--memory", "96m", "--best-effort-limits"], &["python", "-c", ""]).ok();
    // Nothing of ours is left.
    for entry in walk(Path::new("/sys/fs/cgroup"), 3) {
        assert!(!entry.starts_with(&format!("mlbuild-limits-{}", std::process::id())), "{entry}");
    }
}

fn walk(directory: &Path, depth: usize) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        found.push(entry.file_name().to_string_lossy().into_owned());
        if depth > 0 {
            found.extend(walk(&entry.path(), depth - 1));
        }
    }
    found
}

/// Where the JVM and others look; the first that is there.
const SEEN: &str = "import errno, os
def first(*names):
    for name in names:
        path = '/sys/fs/cgroup/' + name
        if os.path.exists(path): return path
print(open(first('memory.max', 'memory/memory.limit_in_bytes')).read().strip())
print(open(first('pids.max', 'pids/pids.max')).read().strip())
quota = first('cpu.max', 'cpu/cpu.cfs_quota_us')
print(open(quota).read().split()[0])
for path, mode in ((first('memory.max', 'memory/memory.limit_in_bytes'), 'r+'), (first('cgroup.procs', 'memory/cgroup.procs'), 'r+')):
    try: open(path, mode).close(); print('open')
    except OSError as e: print('shut' if e.errno in (errno.EROFS, errno.EACCES) else e)
try: os.mkdir(os.path.dirname(quota) + '/more'); print('open')
except OSError as e: print('shut' if e.errno in (errno.EROFS, errno.EACCES) else e)
print(all(line.split(':')[2] == '/\\n' for line in open('/proc/self/cgroup')))";

#[test]
fn a_program_sees_its_limits_and_cannot_change_them() {
    let [root, user] = or_skip!("limits", Host::both("hello"));
    let limits = ["--memory", "200m", "--pids-limit", "77", "--cpus", "0.5"];
    for more in [&[][..], &["--network", "host"], &["--read-only"], &["-u", "1000"]] {
        let seen = inside(&root, &[&limits[..], more].concat(), SEEN);
        let expected = format!("{}\n77\n50000\nshut\nshut\nshut\nTrue\n", 200 << 20);
        assert_eq!(seen, expected, "{more:?}");
    }
    // Nobody pays for what nobody has asked for; and the plan says what there is.
    for host in [&root, &user] {
        assert_eq!(inside(host, &[], "import os; print(os.listdir('/sys/fs/cgroup'))").trim(), "[]");
    }
    let plan = |options: &[&str]| {
        let plan = root.run(&[options, &["--dry-run"]].concat(), &["true"]).ok().stdout();
        plan.lines().filter(|line| line.contains("/sys/fs/cgroup")).count()
    };
    assert!(plan(&limits) > 0 && plan(&[]) == 0);
}

/// The path of a group names whoever made it: jobs, users, other containers.
#[test]
fn the_groups_of_the_host_have_no_names_inside() {
    let program = "print(sorted({line.split(':', 2)[2].strip() for line in open('/proc/self/cgroup')}))";
    for host in or_skip!("control group namespaces", Host::both("hello")) {
        assert_eq!(inside(&host, &[], program).trim(), "['/']", "{:?}", host.who);
        if host.who == Who::User {
            continue;
        }
        assert_eq!(inside(&host, &["--memory", "96m", "--name", "told"], program).trim(), "['/']");
        // The same in a group, without a namespace of its own.
        let group = super::cgroup::Nested::new("names");
        let group = or_skip!("a control group", group);
        let outside = Run::new("python3").args(&["-c", program]);
        let outside = outside.under(&["sh", "-c", "echo $$ > $0/cgroup.procs && exec \"$@\"", &group.path()]);
        let outside = outside.ok().stdout();
        assert!(outside.contains("test-names-"), "without a sandbox: {outside}");
        let inside = host.run(&[], &["python", "-c", program]);
        let inside = inside.under(&["sh", "-c", "echo $$ > $0/cgroup.procs && exec \"$@\"", &group.path()]);
        assert_eq!(inside.ok().stdout().trim(), "['/']");
    }
}
