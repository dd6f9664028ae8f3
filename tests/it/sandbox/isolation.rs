//! What is shut, each shown open without the sandbox: by the same Python program on the host itself.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::runtime::Victim;
use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};

/// The same program without a sandbox, as the same user.
fn outside(host: &Host, program: &str) -> String {
    host.launched(Run::new("python3").args(&["-c", program])).ok().stdout()
}

#[track_caller]
pub fn inside(host: &Host, options: &[&str], program: &str) -> String {
    host.python(options, program).expect(0).stdout()
}

/// `try: BODY` for each line: its name and `open`, or the name of the error.
pub fn attempts(lines: &[(&str, &str)]) -> String {
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

/// What takes root without a sandbox, too, each by its permissions or its capability.
const ROOTS: [&str; 9] = [
    // Files of root's.
    "core_pattern",
    "oom",
    "sys",
    "uevent",
    // CAP_MKNOD, CAP_SYS_ADMIN, CAP_SYS_CHROOT.
    "mknod",
    "fsopen",
    "chroot",
    // Everybody's without a namespace, but not on every host.
    "userfaultfd",
    "unshare-user",
];

/// Every line says something else than `open`; outside all are open to the same user, but for [`ROOTS`].
#[track_caller]
pub fn all_shut(host: &Host, options: &[&str], lines: &[(&str, &str)]) {
    let program = attempts(lines);
    let shut = inside(host, options, &program);
    assert_eq!(shut.lines().count(), lines.len(), "{shut}");
    assert!(!shut.contains(" open"), "{:?}: {shut}", host.who);
    let open = outside(host, &program);
    // A kernel may not have a family of sockets at all, which is also what the sandbox says of it.
    let is_open = |line: &str| {
        let (name, answer) = line.split_once(' ').unwrap();
        matches!(answer, "open" | "EAFNOSUPPORT") || (host.who == Who::User && ROOTS.contains(&name))
    };
    assert!(open.lines().count() == lines.len() && open.lines().all(is_open), "without a sandbox: {open}");
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
        let list = "import os; print(sorted(os.listdir('/dev')))";
        let devices = inside(&host, &[], list);
        let known = "['fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']";
        assert_eq!(devices.trim(), known);
        let all = outside(&host, list);
        let more = all.split('\'').filter(|name| name.len() > 2 && !known.contains(name));
        assert!(more.count() > 0, "without a sandbox: {all}");
        let keys = "print(*(len(open('/proc/' + name).read()) > 0 for name in ('keys', 'timer_list')))";
        assert_eq!(inside(&host, &[], keys).trim(), "False False");
        if host.who == Who::Root {
            assert_eq!(outside(&host, keys).trim(), "True True", "without a sandbox");
        }
        let heat = "import glob; print(glob.glob('/sys/devices/system/cpu/cpu*/thermal_throttle/*'))";
        assert_eq!(inside(&host, &[], heat).trim(), "[]");
    }
}

/// Whose cache the layers are in is nobody's business.
#[test]
fn paths_of_the_host_are_not_in_the_table_of_mounts() {
    let program = "print(*(line for line in open('/proc/self/mounts') if line.split()[1] == '/'))";
    for host in or_skip!("mounts", Host::both("hello")) {
        let name = format!("mounts-{}", std::process::id());
        for options in [&[][..], &["--keep", "--name", &name]] {
            let mount = inside(&host, options, program);
            assert!(mount.contains("lowerdir") && mount.contains("upperdir"), "{mount}");
            for part in [host.store.to_str().unwrap(), &name, "trees"] {
                assert!(!mount.contains(part), "{:?} {options:?}: {mount}", host.who);
            }
        }
        std::fs::remove_dir_all(host.store.join("runs").join(&name)).unwrap();
    }
}

#[test]
fn processes_and_sockets_of_the_host() {
    for host in or_skip!("processes of the host", Host::both("hello")) {
        let victim = Victim::new(&host);
        let pid = victim.id();
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
