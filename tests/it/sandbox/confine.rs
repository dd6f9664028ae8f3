//! The walls of `sandbox::confine`, each with a control that shows the thing open without it. They bind a thread, and
//! what that thread starts.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use mlbuild::sandbox::confine::{capabilities, landlock, seccomp};
use rustix::thread::CapabilitySet;

use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::{is_root, tool};

/// Runs `work` on a thread of its own, behind `wall`.
fn behind<T: Send>(wall: impl FnOnce() + Send, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            wall();
            work()
        });
        thread.join().expect("no panic behind the wall")
    })
}

fn python(program: &str, arguments: &[&str]) -> Output {
    let path = "/usr/local/bin:/usr/bin:/bin";
    Command::new("python3")
        .args(["-c", program])
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .output()
        .unwrap()
}

/// What a program printed that went well.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn filter() {
    seccomp::program(false).unwrap().apply().unwrap();
}

/// One line a call: its name and the error number, 0 for success. Arguments are such that nothing happens.
const CALLS: &str = r#"
import ctypes, os, pty
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    print(name, ctypes.get_errno() if result == -1 else 0)
leader, follower = pty.openpty()
x86 = os.uname().machine == 'x86_64'
call('keyctl', 250 if x86 else 219, 0, -3, 0)
call('add_key', 248 if x86 else 217, 0, 0, 0, 0, 0)
call('unshare', 272 if x86 else 97, 0x10000000)
call('setns', 308 if x86 else 268, -1, 0)
call('mount', 165 if x86 else 40, 0, 0, 0, 0, 0)
call('bpf', 321 if x86 else 280, 0, 0, 0)
call('perf_event_open', 298 if x86 else 241, 0, 0, -1, -1, 0)
call('io_uring_setup', 425, 0, 0)
call('fsopen', 430, 0, 0)
call('pidfd_getfd', 438, -1, 0, 0)
call('set_mempolicy', 238 if x86 else 237, 0, 0, 0)
call('clone_newuser', 56 if x86 else 220, 0x10000000 | 0x40000000 | 0x00000800, 0, 0, 0, 0)
call('personality', 135 if x86 else 92, 0x0040000)
call('tiocsti', 16 if x86 else 29, follower, 0x5412, 0)
call('tiocsti_high', 16 if x86 else 29, follower, 0x700005412, 0)
call('tioclinux', 16 if x86 else 29, follower, 0x541c, 0)
call('af_vsock', 41 if x86 else 198, 40, 1, 0)
call('af_alg', 41 if x86 else 198, 38, 5, 0)
call('audit', 41 if x86 else 198, 16, 3, 9)
call('unknown', 1000)
"#;

const DENIED: i32 = 1;
const NO_CALL: i32 = 38;
const NO_PROTOCOL: i32 = 93;
const NO_FAMILY: i32 = 97;

/// What the filter says to each, and why a host may say the same without it; all others must say something else there.
const CLOSED: [(&str, i32, Option<&str>); 20] = [
    ("keyctl", DENIED, None),
    ("add_key", DENIED, None),
    ("unshare", DENIED, Some("hosts can close user namespaces")),
    ("setns", DENIED, None),
    ("mount", DENIED, None),
    ("bpf", DENIED, Some("kernel.unprivileged_bpf_disabled")),
    ("perf_event_open", DENIED, Some("kernel.perf_event_paranoid")),
    ("io_uring_setup", DENIED, Some("kernel.io_uring_disabled")),
    ("fsopen", DENIED, Some("it takes CAP_SYS_ADMIN before it looks at what it is given")),
    ("pidfd_getfd", DENIED, None),
    ("set_mempolicy", DENIED, Some("a kernel without NUMA has none")),
    ("clone_newuser", DENIED, Some("hosts can close user namespaces")),
    ("personality", DENIED, None),
    (
        "tiocsti",
        DENIED,
        Some("of another terminal than one's own it takes CAP_SYS_ADMIN; `interactive` has it open"),
    ),
    ("tiocsti_high", DENIED, Some("the same")),
    ("tioclinux", DENIED, None),
    ("af_vsock", NO_FAMILY, Some("the kernel may have none")),
    ("af_alg", NO_FAMILY, Some("the kernel may have none")),
    ("audit", NO_PROTOCOL, Some("the kernel may have none")),
    ("unknown", NO_CALL, Some("it is no call: a program must see that, not a refusal")),
];

#[test]
fn closed_system_calls_fail_and_do_nothing() {
    or_skip!("system calls", tool("python3"));
    let parse = |text: String| -> Vec<(String, i32)> {
        let line = |line: &str| {
            let (name, error) = line.split_once(' ').unwrap();
            (name.to_owned(), error.parse().unwrap())
        };
        text.lines().map(line).collect()
    };
    let control = parse(said(&python(CALLS, &[])));
    let filtered = parse(said(&behind(filter, || python(CALLS, &[]))));
    let wanted: Vec<_> = CLOSED.iter().map(|(name, error, _)| ((*name).to_owned(), *error)).collect();
    assert_eq!(filtered, wanted);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"])) {
        return skip("system calls without a filter", &Skip("there is one around the tests".to_owned()));
    }
    for ((name, open), (_, error, why)) in control.iter().zip(CLOSED) {
        match why {
            None => assert_ne!(*open, error, "{name} is as closed without the filter"),
            Some(why) if *open == error => eprintln!("{name} is as closed without the filter: {why}"),
            Some(_) => {}
        }
    }
}

#[test]
fn calls_of_32_bit_programs_end_the_process() {
    if !cfg!(target_arch = "x86_64") {
        return skip("32-bit calls", &Skip("this is no x86_64".to_owned()));
    }
    or_skip!("32-bit calls", tool("python3"));
    // getpid by the 32-bit table: mov eax, 20; int 0x80; ret
    let program = "import ctypes, mmap, os
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex('b814000000cd80c3'))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print(call() == os.getpid())";
    let control = python(program, &[]);
    if !control.status.success() {
        return skip("32-bit calls", &Skip("the kernel runs no 32-bit programs".to_owned()));
    }
    assert_eq!(said(&control), "True\n");
    let filtered = behind(filter, || python(program, &[]));
    assert_eq!(filtered.status.signal(), Some(31), "SIGSYS: {filtered:?}");
}

/// Threads, processes, sockets, locks, shared memory, clocks: what programs do all day.
#[test]
fn ordinary_programs_run_behind_all_walls() {
    or_skip!("ordinary programs", tool("python3"));
    let directory = tempfile::tempdir().unwrap();
    let program = r#"
import asyncio, multiprocessing, os, select, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, threading, time
from multiprocessing import shared_memory
os.chdir(sys.argv[1])
done = []
threads = [threading.Thread(target=done.append, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(done) == 4
assert subprocess.run(['sh', '-c', 'echo a | cat; (sleep 0 & wait)'], capture_output=True).stdout == b'a\n'
def square(n): return n * n
if __name__ == '__main__':
    with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
block = shared_memory.SharedMemory(create=True, size=4096); block.buf[0] = 1; block.close(); block.unlink()
server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())
client.sendall(b'x'); peer, _ = server.accept(); assert peer.recv(1) == b'x'
left, right = socket.socketpair(); left.send(b'y'); assert right.recv(1) == b'y'
socket.if_nameindex(); socket.getaddrinfo('127.0.0.1', 80)
async def tick(): await asyncio.sleep(0.001)
asyncio.run(tick())
open('f', 'w').write('1'); os.chmod('f', 0o600); os.utime('f'); os.link('f', 'g'); os.symlink('f', 's')
os.mkdir('d'); os.rename('g', 'd/g'); os.replace('d/g', 'h'); os.mkfifo('p'); os.truncate('f', 0); shutil.rmtree('d')
sqlite3.connect('db').execute('create table t (a)').close()
signal.setitimer(signal.ITIMER_REAL, 0); os.sched_setaffinity(0, os.sched_getaffinity(0)); os.getrandom(4)
select.epoll().close(); os.memfd_create('m'); os.pidfd_open(os.getpid()); os.kill(os.getpid(), 0); os.nice(0)
time.sleep(0.001); os.posix_fallocate(os.open('f', os.O_RDWR), 0, 100); os.copy_file_range
print('fine')
"#;
    let walls = || {
        capabilities::keep_only(CapabilitySet::empty(), || Ok(())).unwrap();
        landlock::restrict(None).unwrap();
        filter();
    };
    let path = directory.path().to_str().unwrap();
    assert_eq!(said(&behind(walls, || python(program, &[path]))), "fine\n");
}

#[test]
fn compiling_and_loading_the_filter_is_quick() {
    let started = std::time::Instant::now();
    let program = seccomp::program(false).unwrap();
    let compiled = started.elapsed();
    let loaded = behind(
        || (),
        || {
            let started = std::time::Instant::now();
            program.apply().unwrap();
            started.elapsed()
        },
    );
    eprintln!("{} instructions, compiled in {compiled:?}, loaded in {loaded:?}", program.len());
    assert!(program.len() < 400, "{} instructions", program.len());
    // A hundredth of a second is far too slow; a busy machine without optimisation is far below that.
    assert!(compiled.as_millis() < 10 && loaded.as_millis() < 50, "{compiled:?}, {loaded:?}");
}

fn needs_landlock(interface: u32) -> Result<(), Skip> {
    match landlock::interface() {
        found if found >= interface => Ok(()),
        found => Err(Skip(format!("the kernel has interface {found} of Landlock, not {interface}"))),
    }
}

#[test]
fn landlock_keeps_signals_sockets_and_devices_apart() {
    or_skip!("Landlock", tool("python3"));
    or_skip!("Landlock", needs_landlock(6));
    let directory = tempfile::tempdir().unwrap();
    let name = format!("mlbuild-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let program = r#"
import os, socket, stat, sys
def attempt(name, work):
    try: work(); print(name, 'open')
    except OSError as error: print(name, error.errno)
def connect(): socket.socket(socket.AF_UNIX).connect('\0' + sys.argv[2])
os.chdir(sys.argv[1])
attempt('socket', connect)
attempt('signal', lambda: os.kill(os.getppid(), 0))
attempt('device', lambda: (os.mknod('null', 0o600 | stat.S_IFCHR, os.makedev(1, 3)), os.unlink('null')))
attempt('pipe', lambda: (os.mkfifo('pipe'), os.unlink('pipe')))
os.makedirs('a', exist_ok=True); os.makedirs('b', exist_ok=True); open('a/f', 'w').close()
attempt('rename', lambda: os.rename('a/f', 'b/f'))
"#;
    let arguments = [directory.path().to_str().unwrap(), &name];
    let control = said(&python(program, &arguments));
    let device = if is_root() { "open" } else { "1" };
    assert_eq!(control, format!("socket open\nsignal open\ndevice {device}\npipe open\nrename open\n"));
    let wall = || {
        let enforced = landlock::restrict(None).unwrap();
        assert!(enforced.scopes && enforced.device_nodes && !enforced.writes);
    };
    let inside = said(&behind(wall, || python(program, &arguments)));
    assert_eq!(inside, "socket 1\nsignal 1\ndevice 13\npipe open\nrename open\n");
}

#[test]
fn landlock_lets_a_read_only_run_write_where_it_should() {
    or_skip!("Landlock", tool("python3"));
    or_skip!("Landlock", needs_landlock(3));
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["open", "shut"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("f"), "x").unwrap();
    }
    let program = r#"
import os, sys
def attempt(name, work):
    try: work(); print(name, 'open')
    except OSError as error: print(name, error.errno)
for place in ('open', 'shut'):
    path = os.path.join(sys.argv[1], place, '')
    attempt(place + ' write', lambda: open(path + 'f', 'a').close())
    attempt(place + ' make', lambda: open(path + 'g', 'w').close())
    attempt(place + ' directory', lambda: os.mkdir(path + 'd'))
    attempt(place + ' cut', lambda: os.truncate(path + 'f', 0))
    attempt(place + ' remove', lambda: os.unlink(path + 'f'))
    attempt(place + ' read', lambda: os.listdir(path))
attempt('null', lambda: open('/dev/null', 'w').close())
attempt('stdout', lambda: open('/dev/stdout', 'w').close())
"#;
    let (open, shut) = (at("open"), directory.path().to_str().unwrap());
    let wall = || {
        let writable = [open.to_str().unwrap(), "/dev", "/nowhere"];
        assert!(landlock::restrict(Some(&writable)).unwrap().writes);
    };
    let inside = said(&behind(wall, || python(program, &[shut])));
    let mut expected = String::new();
    for (place, answer) in [("open", "open"), ("shut", "13")] {
        for what in ["write", "make", "directory", "cut", "remove"] {
            expected += &format!("{place} {what} {answer}\n");
        }
        expected += &format!("{place} read open\n");
    }
    expected += "null open\nstdout open\n";
    assert_eq!(inside, expected);
    assert!(Path::new(shut).join("shut/f").exists());
}

#[test]
fn programs_that_are_started_have_the_capabilities_that_were_kept() {
    if !is_root() {
        return skip("capabilities", &Skip("only root has any".to_owned()));
    }
    let sets = |output: Output| -> Vec<String> {
        let text = said(&output);
        let lines = text.lines().filter(|line| line.starts_with("Cap") || line.starts_with("NoNewPrivs"));
        lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join("")).collect()
    };
    let status = || sets(Command::new("cat").arg("/proc/self/status").output().unwrap());
    assert_ne!(status()[2], "CapEff:0000000000000000", "the control has some");
    let none = behind(|| capabilities::keep_only(CapabilitySet::empty(), || Ok(())).unwrap(), status);
    let zero = |name: &str| format!("Cap{name}:0000000000000000");
    assert_eq!(
        none,
        [&["Inh", "Prm", "Eff", "Bnd", "Amb"].map(zero)[..], &["NoNewPrivs:1".to_owned()]].concat()
    );
    let keep = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::CHOWN;
    let some = behind(|| capabilities::keep_only(keep, || Ok(())).unwrap(), status);
    let kept = |name: &str| format!("Cap{name}:0000000000000401");
    assert_eq!(some[..5], ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(kept));
}
