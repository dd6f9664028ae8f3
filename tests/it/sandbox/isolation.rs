//! What is shut, each shown open without the sandbox: by the same Python program on the host itself.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};

/// The same program without a sandbox, as the same user.
fn outside(program: &str) -> String {
    Run::new("python3").args(&["-c", program]).ok().stdout()
}

#[track_caller]
fn inside(host: &Host, options: &[&str], program: &str) -> String {
    host.python(options, program).expect(0).stdout()
}

/// `try: BODY` for each line: its name and `open`, or the name of the error.
fn attempts(lines: &[(&str, &str)]) -> String {
    let mut program = String::from(
        "import ctypes, errno, fcntl, os, socket, sys\nlibc = ctypes.CDLL(None, use_errno=True)
kept = []
def at(bytes):
    kept.append(ctypes.create_string_buffer(bytes, max(len(bytes), 256)))
    return ctypes.addressof(kept[-1])
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments]) == -1:
        raise OSError(ctypes.get_errno(), '')\n",
    );
    for (name, body) in lines {
        program += &format!(
            "try:\n    {body}\n    print('{name} open')\nexcept OSError as e: print('{name}', errno.errorcode[e.errno])\n"
        );
    }
    program
}

/// Every line but those says something else than `open`; outside all are open.
#[track_caller]
fn all_shut(host: &Host, options: &[&str], lines: &[(&str, &str)]) {
    let program = attempts(lines);
    let shut = inside(host, options, &program);
    assert_eq!(shut.lines().count(), lines.len(), "{shut}");
    assert!(!shut.contains(" open"), "{:?}: {shut}", host.who);
    if host.who == Who::Root {
        let open = outside(&program);
        // A kernel may not have a family of sockets at all, which is also what the sandbox says of it.
        let is_open = |line: &str| line.ends_with(" open") || line.ends_with(" EAFNOSUPPORT");
        assert!(open.lines().all(is_open), "without a sandbox: {open}");
    }
}

#[test]
fn system_calls() {
    if !cfg!(target_arch = "x86_64") {
        return skip("system calls", &Skip("the numbers are those of x86-64".to_owned()));
    }
    for host in or_skip!("system calls", Host::both("hello")) {
        all_shut(
            &host,
            &[],
            &[
                ("keyctl", "call(250, 0, -3, 0)"),
                ("add_key", "call(248, at(b'user'), at(b'x'), at(b'y'), 1, -2)"),
                ("io_uring_setup", "call(425, 1, at(b''))"),
                ("userfaultfd", "call(323, 1)"),
                (
                    "unshare-user",
                    "pid = os.fork()\n    if pid == 0: os._exit(libc.unshare(0x10000000) and ctypes.get_errno())\n    code = os.waitstatus_to_exitcode(os.wait()[1])\n    if code: raise OSError(code, '')",
                ),
                ("af_alg", "socket.socket(38, socket.SOCK_SEQPACKET)"),
                ("af_vsock", "socket.socket(40, socket.SOCK_STREAM)"),
                (
                    "name_to_handle",
                    "call(303, -100, at(b'/etc'), at((128).to_bytes(4, 'little') + bytes(200)), at(b''), 0)",
                ),
            ],
        );
        // Not a number of any call: a program must see that, not a refusal.
        let unknown = inside(&host, &[], &attempts(&[("unknown", "call(2000)")]));
        assert_eq!(unknown.trim(), "unknown ENOSYS");
    }
}

#[test]
fn files_of_the_kernel() {
    for host in or_skip!("files of the kernel", Host::both("hello")) {
        all_shut(
            &host,
            &[],
            &[
                ("core_pattern", "open('/proc/sys/kernel/core_pattern', 'r+').close()"),
                ("oom", "open('/proc/sys/vm/overcommit_memory', 'r+').close()"),
                ("sys", "open('/sys/class/net/lo/mtu', 'r+').close()"),
                (
                    "uevent",
                    "open('/sys/kernel/uevent_helper' if os.path.exists('/sys/kernel/uevent_helper') else '/sys/kernel/profiling', 'r+').close()",
                ),
                (
                    "mknod",
                    "os.mknod('/tmp/mlbuild-node', 0o20600, os.makedev(1, 3)); os.remove('/tmp/mlbuild-node')",
                ),
                ("fsopen", "call(430, at(b'tmpfs'), 0)"),
                (
                    "chroot",
                    "pid = os.fork()\n    if pid == 0:\n        try: os.chroot('/tmp')\n        except OSError as e: os._exit(e.errno)\n        os._exit(0)\n    code = os.waitstatus_to_exitcode(os.wait()[1])\n    if code: raise OSError(code, '')",
                ),
            ],
        );
        // The host's disks are not there at all.
        let devices = inside(&host, &[], "import os; print(sorted(os.listdir('/dev')))");
        let known = "['fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']";
        assert_eq!(devices.trim(), known);
        let keys = "print(len(open('/proc/keys').read()), len(open('/proc/timer_list').read()))";
        assert_eq!(inside(&host, &[], keys).trim(), "0 0");
        let heat = "import glob; print(glob.glob('/sys/devices/system/cpu/cpu*/thermal_throttle/*'))";
        assert_eq!(inside(&host, &[], heat).trim(), "[]");
    }
}

#[test]
fn processes_and_sockets_of_the_host() {
    for host in or_skip!("processes of the host", Host::both("hello")) {
        let pid = std::process::id();
        let name = format!("mlbuild-test-{pid}-{:?}", host.who);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let connect = format!("s = socket.socket(socket.AF_UNIX); s.connect('\\0{name}')");
        let others = [("socket", connect.as_str()), ("signal", &format!("os.kill({pid}, 0)"))];
        all_shut(&host, &[], &others);
        all_shut(&host, &["--network", "none"], &others);
        // With the host's network the sockets' names are the host's too; Landlock holds them back where it can.
        let landlock = mlbuild::sandbox::confine::landlock::interface();
        if landlock >= 6 {
            all_shut(&host, &["--network", "host"], &others);
        } else {
            skip(
                "abstract sockets in the host's network",
                &Skip(format!("Landlock's interface is {landlock}")),
            );
        }
    }
}

#[test]
fn descriptors_and_environment_stay_outside() {
    for host in or_skip!("descriptors", Host::both("hello")) {
        let secret = host.write("secret", "do not tell");
        // The listing's own descriptor is closed again when the list is looked at.
        let program = "import os
fds = os.listdir('/proc/self/fd')
print(sorted(int(fd) for fd in fds if os.path.lexists('/proc/self/fd/' + fd)))
print('SECRET' in os.environ)";
        let run = host.run(&[], &["python", "-c", program]).env("SECRET", "do not tell");
        let leaking = format!("exec 7<{secret}; exec 19<{secret}; exec \"$@\"");
        let out = run.under(&["bash", "-c", &leaking, "bash"]).ok().stdout();
        assert_eq!(out.trim(), "[0, 1, 2]\nFalse");
        let plain = Run::new("python3").args(&["-c", program]).env("SECRET", "x");
        let open = plain.under(&["bash", "-c", &leaking, "bash"]).ok().stdout();
        assert!(
            open.contains("7, ") && open.contains("19") && open.contains("True"),
            "without a sandbox: {open}"
        );
    }
}

/// What runc had to learn (CVE-2019-5736): no process inside holds a program of the host's.
#[test]
fn the_programs_of_the_host_cannot_be_overwritten() {
    for host in or_skip!("overwriting the runtime", Host::both("hello")) {
        let before = fs::read(&host.program).unwrap();
        let program = "import os, glob
for path in ['/proc/self/exe', '/proc/1/exe'] + glob.glob('/proc/*/exe'):
    for mode in ('r+b', 'wb'):
        try: f = open(path, mode)
        except OSError as e: continue
        f.write(b'overwritten'); print(path, 'overwritten')";
        let out = inside(&host, &[], program);
        assert_eq!(out, "");
        assert!(fs::read(&host.program).unwrap() == before);
    }
}

/// A component of a volume's target is swapped for a link to a directory of the host, again and again.
#[test]
fn targets_that_are_swapped() {
    let starts = if std::env::var_os("MLBUILD_LONG").is_some() { 10_000 } else { 150 };
    for host in or_skip!("swapped targets", Host::both("hello")) {
        let (data, aside, forbidden) = (host.path("data"), host.path("data/aside"), host.path("forbidden"));
        for directory in [&data, &data.join("sub"), &forbidden, &host.path("source")] {
            fs::create_dir_all(directory).unwrap();
            host.give(directory);
        }
        let sub = data.join("sub");
        let stop = AtomicBool::new(false);
        let mut started = 0;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::rename(&sub, &aside);
                    let _ = std::os::unix::fs::symlink(&forbidden, &sub);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&sub);
                    let _ = fs::rename(&aside, &sub);
                }
            });
            let _end = End(&stop);
            for turn in 0..starts {
                // Through the volume, to a place that is made when it is not there.
                let target = format!("./source:/data/sub/made{}", turn % 7);
                let run = host
                    .run(&["-v", "./data:/data", "-v", &target], &["/usr/bin/python3", "-S", "-c", "1"])
                    .run();
                assert!(matches!(run.status(), 0 | 125), "{} {}", run.status(), run.stderr());
                started += usize::from(run.status() == 0);
                let left: Vec<_> = fs::read_dir(&forbidden).unwrap().collect();
                assert!(left.is_empty(), "made outside: {left:?}");
            }
        });
        assert!(started > 0, "no run came about");
    }
}

/// Tells the other thread to end, after a failed assertion too: a scope waits for its threads.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn limits_hold_or_are_refused() {
    let [root, user] = or_skip!("limits", Host::both("hello"));
    let balloon = "x = bytearray(1 << 30)";
    let killed = root.run(&["--memory", "96m"], &["python", "-c", balloon]).run().expect(137);
    assert!(!killed.stderr().contains("Traceback"), "{}", killed.stderr());
    let bomb = "import os
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            import time; time.sleep(30)
        made += 1
except BlockingIOError: print('stopped', made < 30)";
    assert_eq!(inside(&root, &["--pids-limit", "30"], bomb).trim(), "stopped True");
    // Without a control group of one's own.
    let refused = user.run(&["--memory", "96m"], &["python", "-c", balloon]).run().expect(125);
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
